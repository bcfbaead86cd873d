"""The MoveNet decoder by hand: shapes, scores, order, and what it refuses."""

import numpy as np
import pytest

from models.decoders import make_decoder
from models.errors import DecodeError, ManifestError
from models.poses import PoseBuffer
from models.skeletons import COCO17, Skeleton


def person(y, x, score):
    return np.tile(np.array([y, x, score], np.float32), 17)


def decode(outputs, **options):
    decoder = make_decoder("movenet", "coco17", 4, options)
    decoder.warm()
    buffer = PoseBuffer(decoder.capacity, 17)
    decoder.decode(outputs, buffer)
    return buffer


def test_persons_come_best_first_with_x_before_y():
    keypoints = np.stack([person(10, 20, 0.5), person(30, 40, 0.9), person(1, 2, 0.1)])
    scores = np.array([[0.4], [0.8], [0.1]], np.float32)
    poses = decode({"keypoints": keypoints, "score": scores})
    assert poses.count == 2
    np.testing.assert_allclose(poses.scores[:2], [0.8, 0.4])
    np.testing.assert_allclose(poses.keypoints[0, 16], [40, 30, 0.9])
    np.testing.assert_allclose(poses.keypoints[1, 0], [20, 10, 0.5])


def test_the_network_for_one_person_scores_by_its_keypoints():
    keypoints = person(5, 6, 0.5).reshape(1, 17, 3)
    keypoints[0, 0, 2] = 0.9
    poses = decode({"keypoints": keypoints}, max_poses=1)
    assert poses.count == 1
    assert poses.scores[0] == pytest.approx((16 * 0.5 + 0.9) / 17)
    assert decode({"keypoints": keypoints}, max_poses=1, min_pose_score=0.6).count == 0


def test_read_only_outputs_are_taken_as_they_are():
    keypoints = person(5, 6, 0.5)[None]
    keypoints.flags.writeable = False
    assert decode({"keypoints": keypoints}).count == 1


@pytest.mark.parametrize(
    ("outputs", "complaint"),
    [
        ({}, "'keypoints' is missing"),
        ({"keypoints": np.zeros((6, 56), np.float32)}, r"'keypoints' is float32 \(6, 56\)"),
        ({"keypoints": np.zeros((7, 51), np.float32)}, r"'keypoints' is float32 \(7, 51\)"),
        ({"keypoints": np.zeros((0, 51), np.float32)}, "'keypoints' is"),
        ({"keypoints": np.float32(1)}, "'keypoints' is"),
        ({"keypoints": np.zeros((6, 51))}, "'keypoints' is float64"),
        (
            {"keypoints": np.zeros((6, 51), np.float32), "score": np.zeros(6, np.float32)},
            "'score' is float32",
        ),
    ],
)
def test_outputs_of_another_shape_are_refused(outputs, complaint):
    with pytest.raises(DecodeError, match=complaint):
        decode(outputs)


def test_a_buffer_that_is_too_small_is_refused():
    decoder = make_decoder("movenet", "coco17", 4, {})
    with pytest.raises(DecodeError, match="the pose buffer has room") as caught:
        decoder.decode({"keypoints": np.zeros((6, 51), np.float32)}, PoseBuffer(2, 17))
    assert "PoseBuffer(6, 17)" in caught.value.hint


@pytest.mark.parametrize("options", [{"max_pose": 1}, {"max_poses": 0}, {"min_pose_score": 2}])
def test_unknown_options_are_refused(options):
    with pytest.raises(ManifestError, match="bad options of the movenet decoder") as caught:
        decode({}, **options)
    assert "min_pose_score" in caught.value.hint


def test_another_skeleton_is_refused(monkeypatch):
    other = Skeleton("two", ("a", "b"), ())
    monkeypatch.setitem(__import__("models.skeletons").skeletons.SKELETONS, "two", other)
    with pytest.raises(ManifestError, match="cannot fill skeleton 'two'") as caught:
        make_decoder("movenet", "two", 4, {})
    assert COCO17.name in caught.value.hint
