"""`fleet status` and `fleet nodes` say what runs, how well, and what is wrong."""

import json

import pytest
from builders import (
    make_accelerator,
    make_heartbeat,
    make_stream,
    make_stream_report,
    make_throughput,
)
from typer.testing import CliRunner

from agents.wire.messages import NodeAdvert
from fleet import app as fleet_app
from fleet import cli
from fleet.cli.shapes import status_json
from fleet.client import AcceleratorView, FleetView, StreamView
from fleet.errors import ExitCode

ADVERT = NodeAdvert(
    node="pi", posefleet="0.1.0", python="3.11.2", ray="2.60.0", system="Linux",
    machine="aarch64", cores=4, memory_bytes=4 << 30, accelerators=(make_accelerator(),),
)  # fmt: skip


class Client:
    """A client of a fleet that never changes."""

    def __init__(self, view):
        self._view = view

    def state(self):
        return self._view

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def make_view(**fields):
    reports = (
        make_stream_report(stream="door", fps_out=9.0, people=2.0, dropped={"replaced": 1}),
        make_stream_report(
            stream="hall", state="reconnecting", error="no answer", fps_out=0.0, people=0.0,
            latency_ms=None, dropped={"replaced": 2, "failed": 3},
        ),
    )  # fmt: skip
    throughput = make_throughput(streams=reports)
    defaults = {
        "streams": tuple(
            StreamView(make_stream(id=each.stream), "pi/cpu:CPU", each, each.state)
            for each in reports
        ),
        "accelerators": (AcceleratorView(make_accelerator(), "pi", make_heartbeat(), throughput),),
        "nodes": (ADVERT,),
    }
    return FleetView(**{**defaults, **fields})


@pytest.fixture
def show(monkeypatch):
    """Run a command against a fleet in a given state."""

    def run(view, *args):
        monkeypatch.setattr(fleet_app, "open_client", lambda: Client(view))
        result = CliRunner().invoke(cli.app, args)
        assert result.exit_code == ExitCode.OK, result.stderr
        return result

    return run


def test_status_adds_up(show):
    found = json.loads(show(make_view(), "status", "--json").stdout)
    assert set(found) == {
        "at", "streams", "accelerators", "fps", "people", "dropped", "warnings",
    }  # fmt: skip
    assert [stream["id"] for stream in found["streams"]] == ["door", "hall"]
    assert (found["fps"], found["people"]) == (9.0, 2.0)
    assert found["dropped"] == {"replaced": 3, "failed": 3}
    assert found["warnings"] == ["stream hall is reconnecting: no answer"]
    assert found["accelerators"] == [
        {
            "id": "pi/cpu:CPU", "node": "pi", "kind": "cpu", "name": "A processor",
            "is_emulated": False, "state": "ready", "error": "", "precision": "f32",
            "streams": ["door", "hall"], "fps": 9.0, "unsent": 0, "lost": 0,
        }
    ]  # fmt: skip


def test_status_for_people_keeps_warnings_apart(show):
    result = show(make_view(), "status")
    assert result.stderr == "warning: stream hall is reconnecting: no answer\n"
    lines = result.stdout.splitlines()
    assert "10.0" in lines[1]
    assert "failed 3, replaced 2" in lines[2]
    assert lines[-1].split()[0] == "pi/cpu:CPU"


def test_an_empty_fleet_has_something_to_say(show):
    result = show(FleetView((), (), ()), "status")
    assert "`fleet stream add URL` adds one" in result.stdout
    assert result.stderr == "warning: no node advertises an accelerator\n"
    assert show(FleetView((), (), ()), "nodes").stdout == "no nodes\n"


@pytest.mark.parametrize(
    ("heartbeat", "throughput", "warning"),
    [
        (None, None, "accelerator pi/cpu:CPU is silent"),
        (
            make_heartbeat(state="failed", error="out of memory"),
            None,
            "accelerator pi/cpu:CPU is failed: out of memory",
        ),
        (
            make_heartbeat(),
            make_throughput(unsent=70),
            "accelerator pi/cpu:CPU: 70 reports wait for Redis",
        ),
        (
            make_heartbeat(),
            make_throughput(lost=4),
            "accelerator pi/cpu:CPU: 4 reports lost while Redis was away",
        ),
    ],
)
def test_trouble_of_an_accelerator_is_a_warning(heartbeat, throughput, warning):
    accelerator = AcceleratorView(make_accelerator(), "pi", heartbeat, throughput)
    view = make_view(streams=(), accelerators=(accelerator,))
    assert status_json(view, 0.0)["warnings"] == [warning]


def test_emulated_figures_are_marked(show):
    info = make_accelerator(name="A stick", is_emulated=True)
    view = make_view(accelerators=(AcceleratorView(info, "pi", make_heartbeat(), None),))
    assert "A stick (emulated)" in show(view, "status").stdout


def test_nodes(show):
    [node] = json.loads(show(make_view(), "nodes", "--json").stdout)["nodes"]
    assert node == {
        "node": "pi", "system": "Linux", "machine": "aarch64", "cores": 4,
        "memory_bytes": 4 << 30, "posefleet": "0.1.0", "python": "3.11.2", "ray": "2.60.0",
        "accelerators": [make_accelerator().model_dump(mode="json")],
    }  # fmt: skip
    _, row = show(make_view(), "nodes").stdout.splitlines()
    assert row.split() == [
        "pi", "Linux", "aarch64", "4", "4.0", "GiB", "0.1.0", "3.11.2", "2.60.0", "pi/cpu:CPU",
    ]  # fmt: skip
