"""Redis dies and comes back: nothing queued is lost, nothing is out of order, nobody hangs."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from builders import make_heartbeat, make_stream
from pose_reports import make_payload

from agents.telemetry.redis_sink import RedisSink
from agents.wire.poses import stamp_index
from fleet.client import connect
from fleet.errors import StoreError
from fleet.store.embedded import EmbeddedRedis
from fleet.store.redis_store import RedisStore

pytestmark = [pytest.mark.integration, pytest.mark.fault]


@pytest.fixture
def server(tmp_path):
    server = EmbeddedRedis(folder=tmp_path / "redis")
    server.start()
    yield server
    server.stop()


class Published:
    """Counts what has been acknowledged; can be waited for."""

    def __init__(self):
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self, stream, latency_s):
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, timeout=20)


def kill(server):
    """Take the server away as a crash would, and wait until it is gone."""
    psutil.Process(server.pid).kill()
    server._process.wait(5)


def test_reports_of_an_outage_arrive_afterwards_in_order_and_exactly_once(server):
    published = Published()
    sink = RedisSink(server.url("agent"), on_published=published)
    fleet = connect(server.url("consumer"))
    deliveries = fleet.poses("door", count=700, timeout_s=30)
    received = []
    reader = threading.Thread(target=lambda: received.extend(deliveries), name="fleet-test-reader")
    reader.start()
    for index in range(200):
        sink.publish_poses("door", make_payload(index), time.monotonic())
    published.wait_for(200)
    # Once a second the append-only file reaches the disk; a crash of the process alone loses none.
    kill(server)
    for index in range(200, 600):
        sink.publish_poses("door", make_payload(index), time.monotonic())
    assert sink.backlog == (400, 0)

    server.restart()
    published.wait_for(600)
    for index in range(600, 700):
        sink.publish_poses("door", make_payload(index), time.monotonic())
    reader.join(30)
    sink.close(5)
    fleet.close()

    assert [each.report.index for each in received] == list(range(700))
    assert sum(each.missed for each in received) == 0
    assert sink.backlog == (0, 0)


def test_reports_published_while_the_server_dies_are_all_delivered(server):
    """A batch may be cut anywhere; what is sent twice is delivered once."""
    sink = RedisSink(server.url("agent"))
    total, empty = 3000, make_payload(people=0)
    killed = threading.Event()

    def publish():
        for index in range(total):
            payload = bytearray(empty)
            stamp_index(payload, index)
            sink.publish_poses("door", payload, time.monotonic())
            if index == total // 3:
                killed.set()

    publisher = threading.Thread(target=publish, name="fleet-test-publisher")
    publisher.start()
    assert killed.wait(10)
    kill(server)
    publisher.join()
    server.restart()
    sink.close(20)

    with connect(server.url("consumer")) as fleet:
        received = list(fleet.poses("door", since="first", follow=False))
    indices = [each.report.index for each in received]
    assert indices == list(range(total))[-len(indices) :]
    assert indices[-1] == total - 1
    assert sum(each.missed for each in received) == 0


def test_what_does_not_fit_the_buffer_is_told_to_the_consumer(server):
    published = Published()
    sink = RedisSink(server.url("agent"), on_published=published, max_reports=50)
    fleet = connect(server.url("consumer"))
    sink.publish_poses("door", make_payload(0), time.monotonic())
    published.wait_for(1)
    kill(server)
    for index in range(1, 201):
        sink.publish_poses("door", make_payload(index), time.monotonic())
    server.restart()
    published.wait_for(51)
    sink.close(5)

    received = list(fleet.poses("door", since="first", follow=False))
    fleet.close()
    assert [each.report.index for each in received] == [0, *range(151, 201)]
    assert [each.missed for each in received][:3] == [0, 150, 0]
    assert sink.backlog == (0, 150)


def test_a_heartbeat_of_an_outage_is_replaced_by_the_newest(server):
    sink = RedisSink(server.url("agent"))
    kill(server)
    for at in (1.0, 2.0, 3.0):
        sink.publish_heartbeat(make_heartbeat(at=at))
    server.restart()
    sink.close(10)

    store = RedisStore(server.url("coordinator"))
    assert [beat.at for beat in store.heartbeats().values()] == [3.0]
    store.close()


def test_a_server_that_hangs_holds_up_neither_publishing_nor_closing(server):
    sink = RedisSink(server.url("agent"))
    sink.publish_heartbeat(make_heartbeat())
    psutil.Process(server.pid).suspend()
    try:
        for index in range(1000):
            sink.publish_poses("door", make_payload(index, people=0), 0.0)
        assert sink.backlog == (1000, 0)
        sink.close(0.1)
        assert not sink._thread.is_alive()
        assert sink.backlog[0] == 1000
    finally:
        psutil.Process(server.pid).resume()


def test_the_store_says_so_while_redis_is_away_and_works_again_afterwards(server):
    store = RedisStore(server.url("coordinator"))
    store.put_stream(make_stream(id="door"))
    kill(server)
    for call in (store.streams, store.heartbeats, lambda: store.put_assignments([])):
        with pytest.raises(StoreError, match="cannot be reached"):
            call()
    server.restart()
    assert [spec.id for spec in store.streams()] == ["door"]
    store.close()


def test_a_consumer_whose_redis_stays_away_is_told_when_its_time_is_over(server):
    fleet = connect(server.url("consumer"))
    deliveries = fleet.poses("door", timeout_s=0.2)
    kill(server)
    with pytest.raises(StoreError, match="cannot be reached"):
        next(deliveries)
    with pytest.raises(StoreError, match="cannot be reached"):
        fleet.poses("door")
    fleet.close()


def test_the_server_ends_with_a_process_that_is_killed(tmp_path):
    """The next start finds the folder free and the record whole."""
    code = (
        "import sys, pathlib\n"
        "from fleet.store.embedded import EmbeddedRedis\n"
        "from fleet.store.redis_store import RedisStore\n"
        "from agents.wire.messages import StreamSpec\n"
        "server = EmbeddedRedis(folder=pathlib.Path(sys.argv[1]))\n"
        "server.start()\n"
        "store = RedisStore(server.url('coordinator'))\n"
        "store.put_stream(StreamSpec(id='door', url='synthetic:', model='m'))\n"
        "print(server.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "redis")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        orphan = psutil.Process(int(owner.stdout.readline()))
        assert orphan.name() == "valkey-server"
        os.kill(owner.pid, signal.SIGKILL)
        psutil.wait_procs([orphan], timeout=10)
    assert not orphan.is_running()

    server = EmbeddedRedis(folder=tmp_path / "redis")
    server.start()
    store = RedisStore(server.url("coordinator"))
    assert [spec.id for spec in store.streams()] == ["door"]
    store.close()
    server.stop()
