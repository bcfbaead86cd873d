"""`fleet tail` prints the reports that are there, or waits for new ones, a line each."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from builders import make_stream
from typer.testing import CliRunner

from agents.wire.poses import PoseReport
from fleet import app as fleet_app
from fleet import cli
from fleet.client import Delivery, FleetView, StreamView
from fleet.errors import ExitCode
from models.poses import PoseSet
from models.skeletons import COCO17


def make_delivery(sequence, *, missed=0):
    keypoints = np.full((1, 17, 3), 0.5, np.float32)
    keypoints[0, 0] = (12.25, 7.5, 0.75)
    report = PoseReport(
        epoch=1, index=sequence, sequence=sequence, captured_at=1_700_000_000.25,
        latency_ms=41.25, durations={}, accelerator="pi/cpu:CPU", model="posenet-mobilenet-075",
        frame_size=(640, 480), poses=PoseSet(COCO17, np.array([0.875], np.float32), keypoints),
    )  # fmt: skip
    return Delivery("door", f"{sequence}-0", report, missed)


class Client:
    """A client of a fleet whose record holds some reports and will get some more."""

    def __init__(self, held, coming=()):
        self.held, self.coming = list(held), list(coming)

    def state(self):
        return FleetView((StreamView(make_stream(id="door"), None, None, "waiting"),), (), ())

    def poses(self, stream, *, follow=True, count=None, since="now", timeout_s=None) -> Iterator:
        if stream != "door":
            return
        if since == "first":
            found = list(self.held)
        elif since == "now":
            found = []
        else:
            ids = [each.id for each in self.held]
            found = self.held[ids.index(since) + 1 :]
        if follow:
            found += self.coming
        yield from found[:count]
        if follow and (count is None or count > len(found)):
            raise KeyboardInterrupt

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def tail(monkeypatch):
    """Run `fleet tail` against a client."""

    def run(client, *args):
        monkeypatch.setattr(fleet_app, "open_client", lambda: client)
        return CliRunner().invoke(cli.app, ["tail", *args])

    return run


def sequences(result):
    return [json.loads(line)["sequence"] for line in result.stdout.splitlines()]


def test_it_shows_the_last_ten_and_ends(tail):
    result = tail(Client(map(make_delivery, range(25))), "door", "--json")
    assert result.exit_code == ExitCode.OK
    assert sequences(result) == list(range(15, 25))


def test_count_waits_for_so_many_new_ones(tail):
    client = Client(map(make_delivery, range(3)), map(make_delivery, range(3, 9)))
    result = tail(client, "door", "--count", "2", "--json")
    assert result.exit_code == ExitCode.OK
    assert sequences(result) == [3, 4]


def test_follow_goes_on_from_the_last_ten_until_ctrl_c(tail):
    client = Client(map(make_delivery, range(12)), map(make_delivery, range(12, 14)))
    result = tail(client, "door", "--follow", "--json")
    assert result.exit_code == ExitCode.INTERRUPTED
    assert sequences(result) == list(range(2, 14))


def test_follow_starts_with_the_first_report_of_a_new_stream(tail):
    result = tail(Client([], [make_delivery(0)]), "door", "-f", "--json")
    assert sequences(result) == [0]


def test_a_report_is_a_contract(tail):
    [line] = tail(Client([make_delivery(31)]), "door", "--json").stdout.splitlines()
    report = json.loads(line)
    [pose] = report.pop("poses")
    assert report == {
        "stream": "door", "sequence": 31, "captured_at": 1_700_000_000.25, "latency_ms": 41.25,
        "accelerator": "pi/cpu:CPU", "model": "posenet-mobilenet-075",
    }  # fmt: skip
    assert set(pose) == {"score", "track_id", "keypoints"}
    assert (pose["score"], pose["track_id"]) == (0.875, None)
    assert [keypoint["name"] for keypoint in pose["keypoints"]] == list(COCO17.keypoints)
    assert pose["keypoints"][0] == {"name": "nose", "x": 12.25, "y": 7.5, "score": 0.75}


def test_a_line_for_people(tail):
    assert tail(Client([make_delivery(31)]), "door").stdout == (
        "22:13:20.250Z  #31  1 person (0.88)  41.2 ms  pi/cpu:CPU\n"
    )


def test_what_was_missed_is_said_aside(tail):
    for args in (["door"], ["door", "--json"]):
        result = tail(Client([make_delivery(1), make_delivery(5, missed=3)]), *args)
        assert result.stderr == "warning: missed 3 reports of door\n"
        assert len(result.stdout.splitlines()) == 2


def test_a_stream_without_reports_yet(tail):
    result = tail(Client([]), "door")
    assert result.exit_code == ExitCode.OK
    assert result.stdout == ""
    assert "no pose reports of door yet" in result.stderr


@pytest.mark.parametrize("args", [["dor"], ["dor", "--count", "1"], ["dor", "--follow"]])
def test_an_unknown_stream_is_named_with_the_nearest(tail, args):
    result = tail(Client([]), *args)
    assert result.exit_code == ExitCode.INPUT
    assert result.stderr == "error: there is no stream `dor`\nhint: did you mean `door`?\n"
