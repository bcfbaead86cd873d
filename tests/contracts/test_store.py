"""One behaviour suite for every FleetStore: the one in memory and the one on a real server."""

import pytest
from builders import make_assignment, make_heartbeat, make_stream, make_throughput
from pose_reports import make_advert, make_event

from agents.telemetry.memory_sink import MemorySink
from agents.telemetry.redis_sink import RedisSink
from agents.wire.keys import EVENTS_MAXLEN
from fleet.store.embedded import EmbeddedRedis
from fleet.store.memory_store import MemoryStore
from fleet.store.redis_store import RedisStore


class MemoryRecord:
    """A store in memory and the sink through which nodes report to it."""

    def __init__(self):
        self.now = 100.0
        self.sink = MemorySink(clock=lambda: self.now)
        self.store = MemoryStore(self.sink)

    def arrive(self):
        pass

    def outlive(self, kind):
        self.now += 60

    def close(self):
        self.store.close()


class RedisRecord:
    """A store on the server and a sink with the rights of an agent."""

    def __init__(self, server):
        self.server = server
        self.store = RedisStore(server.url("coordinator"))
        self.sink = RedisSink(server.url("agent"))

    def arrive(self):
        """Wait until everything that was reported is in Redis."""
        self.sink.close(5)
        self.sink = RedisSink(self.server.url("agent"))

    def outlive(self, kind):
        """Let the lifetime of a kind of key end, without waiting for it."""
        for key in self.store._client.scan_iter(match=f"fleet:{kind}:*"):
            assert self.store._client.ttl(key) > 0
            self.store._client.pexpire(key, 0)

    def close(self):
        self.sink.close(5)
        for key in self.store._client.scan_iter(match="fleet:*"):
            self.store._client.delete(key)
        self.store.close()


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory):
    server = EmbeddedRedis(folder=tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", "redis"])
def record(request, server):
    record = MemoryRecord() if request.param == "memory" else RedisRecord(server)
    yield record
    record.close()


def test_a_new_record_is_empty(record):
    store = record.store
    assert store.streams() == ()
    assert dict(store.assignments()) == {}
    assert store.adverts() == ()
    assert dict(store.heartbeats()) == {}
    assert dict(store.throughput()) == {}
    assert store.events() == ()


def test_streams_are_kept_in_order_of_id_and_replaced_by_id(record):
    record.store.put_stream(make_stream(id="yard"))
    record.store.put_stream(make_stream(id="door", fps=5.0))
    record.store.put_stream(make_stream(id="door", fps=7.5, origin="added"))

    assert record.store.streams() == (
        make_stream(id="door", fps=7.5, origin="added"),
        make_stream(id="yard"),
    )


def test_a_removed_stream_is_gone_and_removing_it_again_says_so(record):
    record.store.put_stream(make_stream(id="door"))

    assert record.store.remove_stream("door") is True
    assert record.store.remove_stream("door") is False
    assert record.store.streams() == ()


def test_assignments_are_replaced_as_a_whole(record):
    door, yard = make_stream(id="door"), make_stream(id="yard")
    record.store.put_assignments([make_assignment(stream=door), make_assignment(stream=yard)])
    moved = make_assignment(stream=yard, accelerator="pi/gpu:GPU", epoch=9)
    record.store.put_assignments(iter([moved]))

    assert dict(record.store.assignments()) == {"yard": moved}

    record.store.put_assignments([])
    assert dict(record.store.assignments()) == {}


def test_what_is_returned_does_not_change_the_record(record):
    record.store.put_assignments([make_assignment()])
    dict(record.store.assignments()).clear()
    assert len(record.store.assignments()) == 1


def test_events_are_read_in_order_and_from_a_place_on(record):
    for number in range(5):
        record.store.append_event(make_event(f"event {number}"))

    latest = record.store.events(limit=2)
    assert [each.event.message for each in latest] == ["event 3", "event 4"]
    everything = record.store.events()
    assert [each.event.message for each in everything] == [f"event {n}" for n in range(5)]
    following = record.store.events(after=everything[1].id, limit=2)
    assert [each.event.message for each in following] == ["event 2", "event 3"]
    assert record.store.events(after=everything[-1].id) == ()


def test_the_oldest_events_are_forgotten(record):
    for number in range(EVENTS_MAXLEN + 300):
        record.store.append_event(make_event(f"event {number}"))

    kept = record.store.events(limit=10 * EVENTS_MAXLEN)
    # Redis trims by whole nodes of its tree, 100 entries each.
    assert EVENTS_MAXLEN <= len(kept) <= EVENTS_MAXLEN + 100
    assert kept[-1].event.message == f"event {EVENTS_MAXLEN + 299}"


def test_nodes_are_known_by_their_latest_advert(record):
    record.sink.publish_advert(make_advert(node="pi", cores=2))
    record.sink.publish_advert(make_advert(node="pi", cores=4))
    record.sink.publish_advert(make_advert(node="big"))
    record.arrive()

    assert record.store.adverts() == (make_advert(node="big"), make_advert(node="pi", cores=4))


def test_an_advert_that_is_not_renewed_disappears(record):
    record.sink.publish_advert(make_advert())
    record.arrive()
    record.outlive("advert")

    assert record.store.adverts() == ()


def test_heartbeats_are_the_latest_and_end_with_their_lifetime(record):
    record.sink.publish_heartbeat(make_heartbeat(at=1.0))
    record.arrive()
    record.sink.publish_heartbeat(make_heartbeat(at=2.0))
    record.sink.publish_heartbeat(make_heartbeat(accelerator="pi/gpu:GPU", at=3.0))
    record.arrive()

    found = record.store.heartbeats()
    assert {name: beat.at for name, beat in found.items()} == {"pi/cpu:CPU": 2.0, "pi/gpu:GPU": 3.0}

    record.outlive("heartbeat")
    assert dict(record.store.heartbeats()) == {}


def test_throughput_is_the_last_report_of_every_accelerator(record):
    for at in (1.0, 2.0):
        record.sink.publish_throughput(make_throughput(at=at))
    record.sink.publish_throughput(make_throughput(accelerator="pi/gpu:GPU", at=1.5))
    record.arrive()

    found = record.store.throughput()
    assert {name: each.at for name, each in found.items()} == {"pi/cpu:CPU": 2.0, "pi/gpu:GPU": 1.5}
    assert found["pi/cpu:CPU"] == make_throughput(at=2.0)


def test_closing_twice_is_allowed(record):
    record.store.close()
    record.store.close()
