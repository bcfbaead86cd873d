"""One behaviour suite for every ReportSink, and what only the one over Redis must do."""

import threading
import time

import pytest
import redis
from builders import make_heartbeat, make_throughput
from pose_reports import make_advert, make_payload

from agents.telemetry.memory_sink import MemorySink
from agents.telemetry.redis_sink import RedisSink
from agents.wire.keys import POSES_MAXLEN, REPORT_TTL_S
from agents.wire.poses import decode
from fleet.store.embedded import EmbeddedRedis

NOBODY = "redis://agent:secret@127.0.0.1:1/0"
"""Port 1 refuses at once: nothing listens there."""


class MemoryTarget:
    """Reports in memory."""

    def __init__(self):
        self.published = Published()
        self.sink = MemorySink(on_published=self.published)

    def poses(self, stream):
        return [sent.payload for sent in self.sink.poses() if sent.stream == stream]

    def throughput(self):
        return list(self.sink.throughput())

    def close(self):
        self.sink.close(5)


class RedisTarget:
    """Reports on the server, read with the rights of a consumer."""

    def __init__(self, server):
        self.published = Published()
        self.sink = RedisSink(server.url("agent"), on_published=self.published)
        self.reader = redis.Redis.from_url(server.url("consumer"))
        self.cleaner = redis.Redis.from_url(server.url("coordinator"))

    def poses(self, stream):
        return [fields[b"p"] for _, fields in self.reader.xrange(f"fleet:poses:{stream}")]

    def throughput(self):
        self.sink.close(5)
        entries = self.reader.xrange("fleet:throughput:pi/cpu:CPU")
        return [type(make_throughput()).from_json(fields[b"r"]) for _, fields in entries]

    def close(self):
        self.sink.close(5)
        for key in self.cleaner.scan_iter(match="fleet:*"):
            self.cleaner.delete(key)
        self.reader.close()
        self.cleaner.close()


class Published:
    """Counts what the sink says it has published; can be waited for."""

    def __init__(self):
        self.calls = []
        self._changed = threading.Condition()

    def __call__(self, stream, latency_s):
        with self._changed:
            self.calls.append((stream, latency_s))
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= count, timeout=10)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory):
    server = EmbeddedRedis(folder=tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "redis"])
def target(request, server):
    target = MemoryTarget() if request.param == "memory" else RedisTarget(server)
    yield target
    target.close()


@pytest.fixture
def lonely_sink():
    """Make sinks whose server is away, and close them."""
    sinks = []

    def make(**options):
        sinks.append(RedisSink(NOBODY, **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close(0)


def test_pose_reports_arrive_in_order_stream_by_stream(target):
    for index in range(600):
        target.sink.publish_poses("door", make_payload(index), 0.0)
        target.sink.publish_poses("yard", make_payload(index, epoch=2), 0.0)
    target.published.wait_for(1200)

    assert [decode(payload).index for payload in target.poses("door")] == list(range(600))
    assert {decode(payload).epoch for payload in target.poses("yard")} == {2}


def test_the_latency_is_stamped_and_told(target):
    captured = time.monotonic()
    target.sink.publish_poses("door", make_payload(), captured - 2)
    target.published.wait_for(1)

    (stream, latency_s) = target.published.calls[0]
    stamped_ms = decode(target.poses("door")[0]).latency_ms
    assert stream == "door"
    assert 2000 <= stamped_ms <= latency_s * 1000 + 0.001


def test_throughput_reports_arrive_in_order(target):
    for at in (1.0, 2.0, 3.0):
        target.sink.publish_throughput(make_throughput(at=at))

    assert [report.at for report in target.throughput()] == [1.0, 2.0, 3.0]


def test_nothing_waits_after_close(target):
    target.sink.publish_poses("door", make_payload(), 0.0)
    target.sink.close(5)
    target.sink.close(5)

    assert target.sink.backlog == (0, 0)
    assert len(target.poses("door")) == 1


def test_report_keys_are_capped_and_have_a_lifetime(server):
    target = RedisTarget(server)
    total = POSES_MAXLEN + 500
    payload = make_payload(people=0)
    for _ in range(total):
        target.sink.publish_poses("door", payload, 0.0)
    target.published.wait_for(total)

    # Redis trims by whole nodes of its tree, 100 entries each.
    assert POSES_MAXLEN <= target.reader.xlen("fleet:poses:door") <= POSES_MAXLEN + 100
    assert 0 < target.reader.ttl("fleet:poses:door") <= REPORT_TTL_S
    target.close()


def test_publishing_never_waits_and_the_oldest_reports_give_way(lonely_sink):
    dropped = Published()
    sink = lonely_sink(max_reports=10, on_dropped=lambda stream: dropped(stream, 0.0))
    for index in range(25):
        sink.publish_poses("door" if index < 20 else "yard", make_payload(index), 0.0)
    dropped.wait_for(15)

    assert sink.backlog == (10, 15)
    assert {stream for stream, _ in dropped.calls} == {"door"}
    sink.close(0)
    kept = [decode(waiting.payload).index for waiting in sink._poses]
    assert kept == list(range(15, 25))


def test_the_buffer_is_bounded_in_bytes_too(lonely_sink):
    payload = make_payload(people=5)
    sink = lonely_sink(max_bytes=3 * len(payload))
    for _ in range(8):
        sink.publish_poses("door", bytearray(payload), 0.0)

    waiting, lost = sink.backlog
    assert waiting + lost == 8
    # A batch that is being tried does not count while it is out.
    sink.close(0)
    assert sink.backlog == (3, 5)


def test_closing_without_a_server_ends_and_says_what_was_not_sent(lonely_sink, caplog):
    sink = lonely_sink()
    sink.publish_poses("door", make_payload(), 0.0)
    sink.publish_throughput(make_throughput())
    sink.close(0.1)

    assert not sink._thread.is_alive()
    assert sink.backlog == (2, 0)
    assert "unsent" in caplog.text


def test_what_the_server_refuses_is_counted_and_does_not_stop_the_rest(server):
    cleaner = redis.Redis.from_url(server.url("coordinator"))
    cleaner.set("fleet:poses:door", "not a stream")
    published, dropped = Published(), Published()
    sink = RedisSink(
        server.url("agent"),
        on_published=published,
        on_dropped=lambda stream: dropped(stream, 0.0),
    )
    sink.publish_poses("door", make_payload(), 0.0)
    sink.publish_poses("yard", make_payload(), 0.0)
    published.wait_for(1)
    dropped.wait_for(1)
    sink.close(5)

    assert [stream for stream, _ in published.calls] == ["yard"]
    assert [stream for stream, _ in dropped.calls] == ["door"]
    assert sink.backlog == (0, 1)
    cleaner.delete("fleet:poses:door", "fleet:poses:yard")
    cleaner.close()


def test_a_heartbeat_goes_before_a_long_backlog():
    """The first batch after an outage holds the heartbeat, though it was given last."""
    sink = RedisSink(NOBODY)
    for index in range(2000):
        sink.publish_poses("door", make_payload(index), 0.0)
    sink.publish_heartbeat(make_heartbeat())
    sink.publish_advert(make_advert())
    sink.publish_throughput(make_throughput())
    sink.close(0)

    batch = sink_batch(sink)
    assert set(batch.latest) == {"fleet:heartbeat:pi/cpu:CPU", "fleet:advert:pi"}
    assert len(batch.throughput) == 1
    assert [decode(waiting.payload).index for waiting in batch.poses] == list(range(256))


def sink_batch(sink):
    sink._closing_at = None
    return sink._next_batch()
