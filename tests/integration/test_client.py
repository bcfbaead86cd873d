"""What a consumer sees: poses in order, what it missed, and the state of the fleet."""

import os
import subprocess
import sys
import threading
import time

import pytest
import redis
from builders import (
    make_assignment,
    make_heartbeat,
    make_stream,
    make_stream_report,
    make_throughput,
)
from pose_reports import make_advert, make_payload

from agents.errors import WireError
from agents.telemetry.redis_sink import RedisSink
from fleet.client import connect
from fleet.errors import NoFleetError, StoreError
from fleet.run_file import RunFile, write_run_file
from fleet.store.embedded import EmbeddedRedis
from fleet.store.redis_store import RedisStore

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory):
    server = EmbeddedRedis(folder=tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def raw(server):
    client = redis.Redis.from_url(server.url("coordinator"), protocol=2)
    yield client
    for key in client.scan_iter(match="fleet:*"):
        client.delete(key)
    client.close()


@pytest.fixture
def fleet(server, raw):
    with connect(server.url("consumer")) as fleet:
        yield fleet


def put(raw, *indices, stream="door", epoch=1):
    return [
        raw.xadd(f"fleet:poses:{stream}", {"p": bytes(make_payload(index, epoch=epoch))}).decode()
        for index in indices
    ]


def seen(deliveries):
    return [(each.report.epoch, each.report.index, each.missed) for each in deliveries]


def test_everything_that_redis_holds_is_delivered_and_the_end_ends_it(fleet, raw):
    ids = put(raw, *range(250))
    deliveries = list(fleet.poses("door", since="first", follow=False))

    assert seen(deliveries) == [(1, index, 0) for index in range(250)]
    assert [each.id for each in deliveries] == ids
    assert {each.stream for each in deliveries} == {"door"}
    assert len(deliveries[0].report.poses) == 1


def test_by_default_only_what_comes_after_the_call_is_delivered(fleet, raw):
    put(raw, 0, 1)
    deliveries = fleet.poses("door", count=2, timeout_s=10)
    put(raw, 2, 3, 4)

    assert seen(deliveries) == [(1, 2, 0), (1, 3, 0)]


def test_following_waits_for_what_is_not_there_yet(fleet, raw):
    deliveries = fleet.poses("door", count=3, timeout_s=10)
    writer = threading.Thread(target=put, args=(raw, 0, 1, 2))
    writer.start()
    assert seen(deliveries) == [(1, 0, 0), (1, 1, 0), (1, 2, 0)]
    writer.join()


def test_silence_ends_the_iteration_when_asked_to(fleet, raw):
    put(raw, 0)
    assert list(fleet.poses("door", timeout_s=0.05)) == []
    assert list(fleet.poses("nowhere", since="first", follow=False)) == []


def test_a_consumer_goes_on_from_where_it_left(fleet, raw):
    put(raw, 0, 1, 2, 3)
    first = list(fleet.poses("door", since="first", count=2))
    rest = list(fleet.poses("door", since=first[-1].id, follow=False))

    assert seen(rest) == [(1, 2, 0), (1, 3, 0)]


def test_what_was_trimmed_before_it_was_read_is_counted(fleet, raw):
    put(raw, 0)
    deliveries = fleet.poses("door", since="first", timeout_s=10)
    assert seen([next(deliveries)]) == [(1, 0, 0)]
    put(raw, *range(1, 50))
    raw.xtrim("fleet:poses:door", maxlen=5, approximate=False)

    assert seen([next(deliveries)]) == [(1, 45, 44)]
    assert seen([next(deliveries)]) == [(1, 46, 0)]


def test_a_report_that_never_reached_redis_is_counted(fleet, raw):
    put(raw, 0, 1, 5)
    assert seen(fleet.poses("door", since="first", follow=False)) == [
        (1, 0, 0), (1, 1, 0), (1, 5, 3),
    ]  # fmt: skip


def test_what_came_between_the_last_report_and_the_call_is_counted(fleet, raw):
    put(raw, 4)
    deliveries = fleet.poses("door", count=1, timeout_s=10)
    put(raw, 7)
    assert seen(deliveries) == [(1, 7, 2)]


def test_a_report_that_was_sent_twice_is_delivered_once(fleet, raw):
    put(raw, 0, 1, 2, 1, 2, 3)
    assert seen(fleet.poses("door", since="first", follow=False)) == [
        (1, 0, 0), (1, 1, 0), (1, 2, 0), (1, 3, 0),
    ]  # fmt: skip


def test_a_new_epoch_counts_from_its_own_beginning(fleet, raw):
    put(raw, 8, 9)
    put(raw, 2, 3, epoch=5)
    put(raw, 10)  # late, from the accelerator that lost the stream

    assert seen(fleet.poses("door", since="first", follow=False)) == [
        (1, 8, 0), (1, 9, 0), (5, 2, 2), (5, 3, 0),
    ]  # fmt: skip


def test_several_streams_are_each_in_their_own_order(fleet, raw):
    put(raw, 0, 1)
    put(raw, 0, 4, stream="yard", epoch=3)
    deliveries = list(fleet.poses(["door", "yard"], since="first", follow=False))

    assert seen(each for each in deliveries if each.stream == "door") == [(1, 0, 0), (1, 1, 0)]
    assert seen(each for each in deliveries if each.stream == "yard") == [(3, 0, 0), (3, 4, 3)]


def test_a_report_of_another_schema_is_an_error_not_a_gap(fleet, raw):
    raw.xadd("fleet:poses:door", {"p": b"\xff" + bytes(make_payload())[1:]})
    with pytest.raises(WireError, match="schema version 255"):
        list(fleet.poses("door", since="first", follow=False))


def test_what_an_agent_sends_is_what_a_consumer_reads(fleet, server):
    sink = RedisSink(server.url("agent"))
    deliveries = fleet.poses("door", count=3, timeout_s=10)
    for index in range(3):
        sink.publish_poses("door", make_payload(index, people=4), time.monotonic())
    reports = [each.report for each in deliveries]
    sink.close(5)

    assert [report.sequence for report in reports] == [0, 2, 4]
    assert [len(report.poses) for report in reports] == [4, 4, 4]
    assert all(report.latency_ms > 0 for report in reports)


def test_the_state_of_a_fleet_at_work(fleet, server):
    store = RedisStore(server.url("coordinator"))
    door, yard, gate = (make_stream(id=name) for name in ("door", "yard", "gate"))
    for stream in (door, yard, gate):
        store.put_stream(stream)
    store.put_assignments(
        [
            make_assignment(stream=door),
            make_assignment(stream=gate),
            make_assignment(stream=yard, accelerator="gone/cpu:CPU"),
        ]
    )
    sink = RedisSink(server.url("agent"))
    sink.publish_advert(make_advert())
    sink.publish_heartbeat(make_heartbeat())
    sink.publish_throughput(make_throughput())
    sink.publish_throughput(make_throughput(accelerator="gone/cpu:CPU"))
    sink.close(5)

    view = fleet.state()

    by_id = {stream.spec.id: stream for stream in view.streams}
    assert list(by_id) == ["door", "gate", "yard"]
    assert by_id["door"].state == "streaming"
    assert by_id["door"].report == make_stream_report()
    assert (by_id["door"].fps, by_id["door"].latency_ms) == (9.0, (10.0, 20.0, 30.0))
    assert by_id["door"].accelerator == "pi/cpu:CPU"
    assert (by_id["gate"].state, by_id["gate"].fps) == ("starting", 0.0)
    assert (by_id["yard"].state, by_id["yard"].accelerator) == ("waiting", None)
    assert by_id["yard"].latency_ms is None
    (accelerator,) = view.accelerators
    assert (accelerator.info.id, accelerator.node) == ("pi/cpu:CPU", "pi")
    assert accelerator.heartbeat == make_heartbeat()
    assert accelerator.report == make_throughput()
    assert view.nodes == (make_advert(),)
    store.close()


def test_a_message_of_a_newer_node_does_not_hide_the_others(fleet, raw, server, caplog):
    raw.set("fleet:advert:new", '{"node": "new", "quantum_cores": 3}')
    sink = RedisSink(server.url("agent"))
    sink.publish_advert(make_advert())
    sink.close(5)

    assert fleet.state().nodes == (make_advert(),)
    assert fleet.state().nodes == (make_advert(),)
    assert caplog.text.count("cannot read what a node reports") == 1


def test_a_decision_that_cannot_be_read_is_an_error_that_names_it(fleet, raw):
    raw.hset("fleet:streams", "door", '{"id": "door"}')
    with pytest.raises(StoreError, match="fleet:streams") as caught:
        fleet.state()
    assert caught.value.hint


def test_the_fleet_of_this_machine_is_found_by_itself(home, server, raw):
    with pytest.raises(NoFleetError) as caught:
        connect()
    assert "fleet up" in caught.value.hint

    write_run_file(
        RunFile(pid=os.getpid(), started=time.time(), redis={"consumer": server.url("consumer")})
    )
    put(raw, 0)
    with connect() as fleet:
        assert seen(fleet.poses("door", since="first", count=1)) == [(1, 0, 0)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://consumer:hunter2@127.0.0.1:1/0", "cannot be reached"),
        ("redis://consumer:hunter2@127.0.0.1:{port}/0", "refuses user or password"),
        ("redis://127.0.0.1:{port}/0", "refuses user or password"),
        ("rediss://consumer:hunter2@127.0.0.1:{port}/0", "TLS"),
        ("rediss://consumer:hunter2@127.0.0.1:{port}/0?ssl_ca_certs=/none.pem", "/none.pem"),
        ("redis://consumer:hunter2@127.0.0.1:{port}/0?ssl_ca=x", "not a usable Redis URL"),
        ("redis://consumer:hunter2@127.0.0.1:none/0", "not a usable Redis URL"),
        ("http://consumer:hunter2@127.0.0.1/0", "not a usable Redis URL"),
    ],
)
def test_a_record_that_cannot_be_opened_is_named_without_its_password(server, url, message):
    with pytest.raises(StoreError, match=message) as caught:
        connect(url.format(port=server.port))
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.__cause__ is None


def test_a_record_of_another_schema_is_refused(server, raw):
    raw.hset("fleet:meta", "schema_version", "99")
    with pytest.raises(StoreError, match="schema 99") as caught:
        connect(server.url("consumer"))
    assert "namespace" in caught.value.hint


def test_the_coordinator_claims_its_namespace(server, raw):
    RedisStore(server.url("coordinator"), started=12.5).close()
    meta = raw.hgetall("fleet:meta")
    assert meta[b"schema_version"] == b"1"
    assert float(meta[b"started"]) == 12.5
    assert b"posefleet" in meta


def test_a_user_without_the_rights_is_told_at_once(server):
    with pytest.raises(StoreError, match="forbids") as caught:
        RedisStore(server.url("consumer"), started=1.0)
    assert "ACL SETUSER" in caught.value.hint
    with pytest.raises(StoreError, match="forbids"):
        RedisStore(server.url("coordinator"), "other")


def test_a_consumer_does_not_load_what_it_does_not_need():
    code = (
        "import sys, fleet.client; "
        "print(*({'ray', 'openvino', 'cv2', 'av', 'numba'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
