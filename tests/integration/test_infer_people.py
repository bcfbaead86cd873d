"""`fleet infer` with the default network on real pictures and videos: who is found, and where."""

import csv
import json
import statistics

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from fleet import cli
from models.catalog import DEFAULT_MODEL, load_manifest
from models.convert.openvino_ir import ensure_ir
from models.errors import ArtifactError

pytestmark = [pytest.mark.integration, pytest.mark.network]

MEDIAN_PEOPLE = {"one": 1, "two": 2, "three": 4, "five": 5, "seven": 7}
"""Number in a video's name -> median number of people found in its 30 frames, f32 at 481x353.
Measured, not wished: in "three", 28 frames show a fourth person, behind the right one, with a score
of .25, just the least that counts; at 353x257 and 641x481 it is three. In bf16 the medians are the
same but for "three", 3.5."""


@pytest.fixture(scope="session")
def network():
    """The default network, fetched and converted once."""
    try:
        ensure_ir(load_manifest(DEFAULT_MODEL))
    except ArtifactError as error:
        pytest.skip(f"the default network cannot be had: {error}")


@pytest.fixture
def infer(network):
    def run(*args):
        result = CliRunner().invoke(cli.app, ["infer", *map(str, args), "--json"])
        assert result.exit_code == 0, (result.stderr, result.exception)
        return [json.loads(line) for line in result.stdout.splitlines()]

    return run


def test_the_two_people_of_the_couple_are_where_they_are(infer, shared):
    """Coral's own network of the same kind, in int8 and on a stretched picture, is the witness."""
    folder = shared / "models" / "coral"
    (found,) = infer(folder / "test_couple.jpg")
    assert (found["model"], found["precision"]) == (DEFAULT_MODEL, "f32")
    assert len(found["poses"]) == 2
    height, width = cv2.imread(str(folder / "test_couple.jpg")).shape[:2]
    reference = folder / "posenet_mobilenet_v1_075_353_481_quant_decoder_reference.csv"
    distances = []
    for row in csv.DictReader(reference.read_text().splitlines()):
        if int(row["pose_id"]) >= 2 or float(row["keypoint_score"]) < 0.5:
            continue
        at = np.array([float(row["keypoint_x"]), float(row["keypoint_y"])])
        at *= (width / 481, height / 353)
        points = {one["name"]: one for one in found["poses"][int(row["pose_id"])]["keypoints"]}
        point = points[row["keypoint_label"].lower()]
        distances.append(np.hypot(*(at - (point["x"], point["y"]))))
    assert len(distances) > 25
    # Measured: 9.1 and 19.7 pixels of a picture of 1920, 2 and 5 of the network's input.
    assert statistics.median(distances) < 12
    assert max(distances) < 26


@pytest.mark.parametrize("name", MEDIAN_PEOPLE)
def test_people_found_in_a_video_that_is_named_after_them(infer, shared, name):
    noun = "person" if name == "one" else "persons"
    frames = infer(shared / "data" / "videos" / f"{name}_{noun}_1024x768.mp4")
    counts = [len(frame["poses"]) for frame in frames]
    assert len(counts) == 30
    assert abs(statistics.median(counts) - MEDIAN_PEOPLE[name]) <= 0.5
    assert statistics.pstdev(counts) < 0.6, "the number must not flicker"
