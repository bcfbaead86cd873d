"""The OpenPose decoder's reference mode against recorded results of the public one."""

import cv2
import numpy as np
import pytest
from twins import openpose_twin

from models.decoders import make_decoder
from models.decoders.openpose_kernel import compile_group, make_scratch
from models.poses import PoseBuffer

CASES = (
    "real_bus", "real_couple", "real_walking000", "real_walking120",
    "synthetic_01_101", "synthetic_01_102", "synthetic_05_101", "synthetic_05_102",
    "synthetic_20_101", "synthetic_20_102", "synthetic_50_101", "synthetic_50_102",
)  # fmt: skip
STRIDE = 8


@pytest.fixture(params=CASES)
def case(request, shared):
    with np.load(shared / f"models/golden/grouping/paf_{request.param}.npz") as arrays:
        return dict(arrays)


def maps_of(case):
    """Channel-last, as the decoder takes them."""
    return {
        "heatmap": np.ascontiguousarray(case["heatmaps"].transpose(1, 2, 0)),
        "paf": np.ascontiguousarray(case["pafs"].transpose(1, 2, 0)),
    }


def expected_poses(case):
    """The recorded entries as poses in input pixels, best first."""
    keypoints, entries = case["x4_keypoints"], case["x4_pose_entries"]
    poses = np.zeros((len(entries), 18, 3))
    for pose, entry in zip(poses, entries, strict=True):
        found = entry[:18] >= 0
        rows = keypoints[entry[:18][found].astype(int)]
        pose[found, :2] = (rows[:, :2] + 0.5) * STRIDE / 4 - 0.5
        pose[found, 2] = np.minimum(rows[:, 2], 1)
    scores = np.minimum(entries[:, 18] / 35, 1)
    best_first = np.argsort(-scores, kind="stable")
    return scores[best_first], poses[best_first]


def test_reproduces_the_poses_of_the_reference(case):
    decoder = make_decoder("openpose", "openpose18", STRIDE, {"mode": "reference"})
    poses = PoseBuffer(decoder.capacity, 18)
    decoder.decode(maps_of(case), poses)
    scores, keypoints = expected_poses(case)
    assert poses.count == len(scores)
    np.testing.assert_allclose(poses.scores[: poses.count], scores, atol=1e-5)
    np.testing.assert_allclose(poses.keypoints[: poses.count], keypoints, atol=1e-5)


def test_reproduces_every_peak_and_entry_of_the_reference(case):
    maps = maps_of(case)
    height, width = maps["heatmap"].shape[:2]
    scratch = make_scratch("reference", height, width, 64, 100)
    poses = PoseBuffer(100, 18)
    output = np.arange(18), poses.keypoints, poses.scores
    settings = (0.1, 0.05, STRIDE / 4, 0.2, 3, 64, True, False)
    compile_group("reference")((maps["heatmap"], maps["paf"]), settings, scratch, output)
    *_, (xs, ys, scores, counts), _, _, (_, parts, totals, sizes, _) = scratch[-1]
    np.testing.assert_array_equal(counts, case["x4_counts"])
    found = np.concatenate(
        [np.stack([xs[k, :n], ys[k, :n], scores[k, :n]], -1) for k, n in enumerate(counts)]
    )
    np.testing.assert_allclose(found, case["x4_keypoints"][:, :3], atol=1e-6)
    first = np.cumsum(counts) - counts
    whole = (sizes >= 3) & (totals >= 0.2 * sizes)
    ids = np.where(parts[whole] < 0, -1, parts[whole] + first)
    entries = np.column_stack([ids, totals[whole], sizes[whole]])
    np.testing.assert_allclose(entries, case["x4_pose_entries"], atol=1e-5)


def test_the_twin_reproduces_the_reference_too(case):
    found = openpose_twin.decode(maps_of(case), STRIDE, mode="reference")
    scores, keypoints = expected_poses(case)
    np.testing.assert_allclose([pose.score for pose in found], scores, atol=1e-5)
    np.testing.assert_allclose([pose.keypoints for pose in found], keypoints, atol=1e-5)


def test_the_twin_upsamples_as_opencv_does(case):
    heat = maps_of(case)["heatmap"]
    expected = cv2.resize(heat, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(openpose_twin.upsample(heat), expected, atol=1e-6)


def test_fast_mode_finds_the_confident_persons_of_the_reference(case):
    decoder = make_decoder("openpose", "openpose18", STRIDE, {})
    poses = PoseBuffer(decoder.capacity, 18)
    decoder.decode(maps_of(case), poses)
    found = poses.keypoints[: poses.count]
    scores, keypoints = expected_poses(case)
    for person in keypoints[scores > 0.6]:
        known = person[:, 2] > 0
        distance = np.hypot(*np.moveaxis(found[:, known, :2] - person[known, :2], -1, 0))
        assert (np.median(distance, 1) < STRIDE / 2).any()
