"""The agent of one accelerator, from an order to poses in Redis, and without any Redis."""

import threading

import pytest
import redis
import tiny_network
import yaml
from builders import make_assignment, make_stream

from agents.actor import Agent, AgentSettings
from agents.errors import AcceleratorError
from agents.probe import find_accelerator, make_advert
from agents.wire.messages import ThroughputReport
from agents.wire.poses import decode
from fleet.store.embedded import EmbeddedRedis

pytestmark = pytest.mark.integration

NOBODY = "redis://agent:secret@127.0.0.1:1/0"
"""Port 1 refuses at once: nothing listens there."""


@pytest.fixture
def server(tmp_path):
    server = EmbeddedRedis(folder=tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tiny(home):
    """The path of the manifest of a tiny network."""
    manifest = tiny_network.write(home / "published").model_dump(mode="json")
    manifest["sources"] = [{"folder": "published"}]
    path = home / "tiny.yaml"
    path.write_text(yaml.safe_dump(manifest))
    return path


def settings_for(url, accelerator, **fields):
    defaults = {
        "namespace": "fleet", "size": None, "precision": "f32", "lanes": 2, "log_file": "",
        "advert": make_advert("pi", [accelerator]),
    }  # fmt: skip
    return AgentSettings(redis_url=url, **(defaults | fields))


def first_report(reader, key):
    """Wait for the first throughput report that knows of a published frame."""
    last = "0"
    while True:
        found = reader.xread({key: last}, block=20_000)
        assert found, "no throughput report came"
        last = found[0][1][-1][0]
        for _, fields in found[0][1]:
            report = ThroughputReport.from_json(fields[b"r"])
            if any(stream.published for stream in report.streams):
                return report


def order(tiny, **fields):
    stream = make_stream(model=str(tiny), **{"url": "synthetic:?size=64x48&fps=100", **fields})
    return make_assignment(stream=stream).to_json()


def test_an_order_becomes_poses_in_redis(server, tiny):
    accelerator = find_accelerator("CPU")
    agent = Agent(settings_for(server.url("agent"), accelerator, size=(113, 97)), accelerator)
    reader = redis.Redis.from_url(server.url("consumer"))
    try:
        agent.order([order(tiny)])
        poses = []
        while len(poses) < 20:
            last = poses[-1][0] if poses else "0"
            found = reader.xread({"fleet:poses:door": last}, block=20_000)
            assert found, "no pose report came"
            poses += found[0][1]
        report = first_report(reader, f"fleet:throughput:{accelerator.id}")
        agent.stop(10)
        reports = [decode(fields[b"p"]) for _, fields in reader.xrange("fleet:poses:door")]
        assert [report.index for report in reports] == list(range(len(reports)))
        assert {(report.model, report.accelerator) for report in reports} == {
            ("tiny", accelerator.id)
        }
        assert reports[0].frame_size == (64, 48)
        assert min(report.latency_ms for report in reports) > 0
        assert report.precision == "f32"
        (stream,) = report.streams
        dropped = sum(stream.dropped.values())
        assert stream.captured == stream.published + dropped + stream.in_flight
        assert reader.exists("fleet:advert:pi", f"fleet:heartbeat:{accelerator.id}") == 2
    finally:
        agent.stop(10)
        reader.close()


def test_without_redis_it_serves_all_the_same_and_ends_in_time(tiny):
    accelerator = find_accelerator("CPU")
    agent = Agent(settings_for(NOBODY, accelerator), accelerator)
    try:
        agent.order([order(tiny, url="synthetic:?size=64x48&frames=5&pace=max")])
        serving = agent._runner._serving
        pause = threading.Event()
        while not ("door" in serving and serving["door"].run.ledger.sent):
            pause.wait(0.005)
        assert serving["door"].run.ledger.in_flight >= 1
    finally:
        agent.stop(1)


def test_a_device_that_is_not_there_is_refused_before_anything_starts():
    accelerator = find_accelerator("CPU").model_copy(update={"device": "GPU.9"})
    with pytest.raises(AcceleratorError, match=r"GPU\.9"):
        Agent(settings_for(NOBODY, accelerator), accelerator)
