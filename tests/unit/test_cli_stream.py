"""`fleet stream add|rm|list` change the record of the running fleet and name every mistake."""

import json

import pytest
from builders import make_accelerator, make_heartbeat, make_stream, make_stream_report
from typer.testing import CliRunner

from agents.wire.messages import StreamSpec
from fleet import app as fleet_app
from fleet import cli
from fleet.cli import complete
from fleet.client import AcceleratorView, FleetView, StreamView
from fleet.errors import ExitCode, NoFleetError
from fleet.store.memory_store import MemoryStore


def run(*args):
    return CliRunner().invoke(cli.app, ["stream", *map(str, args)])


@pytest.fixture
def store(monkeypatch) -> MemoryStore:
    """The record of a running fleet, in this process."""
    record = MemoryStore()
    monkeypatch.setattr(fleet_app, "open_store", lambda: record)
    return record


def test_add_records_the_stream(store):
    result = run("add", "rtsp://viewer:secret@10.0.0.7/door", "--id", "door", "--fps", "7.5")
    assert result.exit_code == ExitCode.OK, result.stderr
    assert store.streams() == (
        StreamSpec(
            id="door", url="rtsp://viewer:secret@10.0.0.7/door", fps=7.5,
            model="posenet-mobilenet-075", origin="added",
        ),
    )  # fmt: skip
    assert "door" in result.stdout


def test_add_makes_an_id_from_the_url(store):
    for expected in ("10.0.0.7-door", "10.0.0.7-door-2"):
        result = run("add", "rtsp://10.0.0.7/door", "--json")
        assert json.loads(result.stdout)["stream"]["id"] == expected
    assert len(store.streams()) == 2


def test_add_shows_no_password(store):
    result = run("add", "rtsp://viewer:secret@10.0.0.7/door", "--json")
    assert json.loads(result.stdout)["stream"] == {
        "id": "10.0.0.7-door", "url": "rtsp://***@10.0.0.7/door", "model": "posenet-mobilenet-075",
        "fps": None, "track": True, "origin": "added",
    }  # fmt: skip


def test_add_can_do_without_track_ids(store):
    result = run("add", "rtsp://h/1", "--no-track", "--json")
    assert json.loads(result.stdout)["stream"]["track"] is False
    assert [spec.track for spec in store.streams()] == [False]


def test_add_resolves_paths_and_aliases(store, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").touch()
    monkeypatch.chdir(tmp_path)
    assert run("add", "a.mp4?loop=1", "--model", "posenet-100").exit_code == ExitCode.OK
    [spec] = store.streams()
    assert (spec.id, spec.url) == ("a", f"{tmp_path}/a.mp4?loop=1")
    assert spec.model == "posenet-mobilenet-100"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["rtsp://h/1", "--id", "door"], ExitCode.CONFLICT, "already a stream `door`"),
        (["rtsp://h/1", "--id", "a b"], ExitCode.INPUT, "`a b` is no stream id"),
        (["rtsp://h/1", "--fps", "0"], ExitCode.USAGE, "fps"),
        (["rtsp://h/1", "--fps", "nan"], ExitCode.USAGE, "fps"),
        (["rtsp://h/1", "--model", "nonsense"], ExitCode.MODEL, "nonsense"),
        (["ftp://h/1"], ExitCode.INPUT, "unknown stream scheme `ftp`"),
        (["none.mp4"], ExitCode.INPUT, "no file or folder none.mp4"),
    ],
)
def test_a_wrong_add_changes_nothing(store, args, code, words):
    store.put_stream(make_stream(id="door"))
    result = run("add", *args)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert [spec.id for spec in store.streams()] == ["door"]


def test_rm_forgets_the_stream(store):
    store.put_stream(make_stream(id="door"))
    assert json.loads(run("rm", "door", "--json").stdout) == {"removed": "door"}
    assert store.streams() == ()


def test_rm_of_an_unknown_stream_names_the_nearest(store):
    store.put_stream(make_stream(id="door"))
    result = run("rm", "dor")
    assert result.exit_code == ExitCode.INPUT
    assert result.stderr == "error: there is no stream `dor`\nhint: did you mean `door`?\n"
    assert [spec.id for spec in store.streams()] == ["door"]


def test_the_shell_completes_streams(store, monkeypatch):
    store.put_stream(make_stream(id="door"))
    store.put_stream(make_stream(id="hall"))
    assert complete.streams("") == ["door", "hall"]
    assert complete.streams("h") == ["hall"]

    def no_fleet():
        raise NoFleetError("no fleet")

    monkeypatch.setattr(fleet_app, "open_store", no_fleet)
    assert complete.streams("") == []


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


@pytest.fixture
def fleet(monkeypatch):
    """A fleet with one stream that runs and one that nobody serves."""
    info = make_accelerator(id="pi/cpu:CPU")
    door = make_stream(id="door", url="rtsp://viewer:secret@h/1", fps=15.0)
    report = make_stream_report(stream="door", fps_out=9.0, dropped={"replaced": 1})
    view = FleetView(
        streams=(
            StreamView(door, "pi/cpu:CPU", report, "streaming"),
            StreamView(make_stream(id="hall"), None, None, "waiting"),
        ),
        accelerators=(AcceleratorView(info, "pi", make_heartbeat(), None),),
        nodes=(),
    )
    monkeypatch.setattr(fleet_app, "open_client", lambda: Client(view))


def test_list_is_a_contract(fleet):
    door, hall = json.loads(run("list", "--json").stdout)["streams"]
    assert door == {
        "id": "door", "url": "rtsp://***@h/1", "model": "posenet-mobilenet-075", "fps": 15.0,
        "track": True, "origin": "config", "state": "streaming", "error": "",
        "accelerator": "pi/cpu:CPU",
        "fps_in": 10.0, "fps_out": 9.0, "people": 2.0,
        "latency_ms": {"p50": 10.0, "p95": 20.0, "p99": 30.0}, "durations_ms": {"infer": 7.0},
        "captured": 10, "published": 9, "in_flight": 0, "dropped": {"replaced": 1},
        "gaps": 0, "last_gap_s": 0.0,
    }  # fmt: skip
    assert hall["state"] == "waiting"
    assert hall["accelerator"] is None
    assert hall["latency_ms"] is None
    assert hall.keys() == door.keys()


def test_list_for_people(fleet):
    header, door, hall = run("list").stdout.splitlines()
    assert header.split()[:3] == ["STREAM", "STATE", "ACCELERATOR"]
    assert door.split()[:5] == ["door", "streaming", "pi/cpu:CPU", "10.0", "9.0"]
    assert door.split()[-2:] == ["replaced", "1"]
    assert hall.split()[:3] == ["hall", "waiting", "-"]
