"""The PoseNet decoder against recorded results of a public reference decoder."""

import numpy as np
import pytest
from twins import posenet_twin

from models.decoders import make_decoder
from models.poses import PoseBuffer

CASES = (
    "real_bus", "real_couple", "real_walking000", "real_walking120",
    "synthetic_01_513s16", "synthetic_05_257s16", "synthetic_05_513s16",
    "synthetic_20_257s8", "synthetic_20_513s16", "synthetic_50_513s16",
)  # fmt: skip
REFERENCE = {
    "max_poses": 100,
    "score_threshold": 0.5,
    "nms_radius": 20.0,
    "min_pose_score": 0.25,
}
ROLES = {
    "heatmap": "heatmap_logits",
    "offset": "offsets",
    "displacement_forward": "displacement_fwd",
    "displacement_backward": "displacement_bwd",
}


@pytest.fixture(params=CASES)
def case(request, shared):
    with np.load(shared / f"models/golden/grouping/posenet_{request.param}.npz") as arrays:
        return dict(arrays)


def expected(case):
    best_first = np.argsort(-case["pose_scores"], kind="stable")
    keypoints = np.concatenate(
        [case["keypoint_yx"][..., ::-1], case["keypoint_scores"][..., None]], -1
    )
    return case["pose_scores"][best_first], keypoints[best_first]


def test_reproduces_the_reference(case):
    stride = int(case["stride"])
    decoder = make_decoder("posenet", "coco17", stride, REFERENCE)
    poses = PoseBuffer(decoder.capacity, 17)
    decoder.decode({role: case[name] for role, name in ROLES.items()}, poses)
    scores, keypoints = expected(case)
    assert poses.count == len(scores)
    np.testing.assert_allclose(poses.scores[: poses.count], scores, atol=1e-6)
    np.testing.assert_allclose(poses.keypoints[: poses.count], keypoints, rtol=1e-6, atol=1e-6)


def test_the_twin_reproduces_the_reference_too(case):
    found = posenet_twin.decode(
        {role: case[name] for role, name in ROLES.items()}, int(case["stride"]), **REFERENCE
    )
    np.testing.assert_allclose([pose.score for pose in found], case["pose_scores"], atol=1e-6)
    np.testing.assert_allclose(
        [pose.keypoints[:, 1::-1] for pose in found], case["keypoint_yx"], rtol=1e-6, atol=1e-6
    )
