"""Named keypoint sets and their edges."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The keypoints of one annotation scheme, in the order of its arrays."""

    name: str
    keypoints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    """Pairs of keypoint indices that a drawing connects."""


COCO17 = Skeleton(
    name="coco17",
    # COCO keypoint challenge, category "person"; PoseNet's part order is the same.
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_wrist", "right_wrist", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    edges=(
        (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
        (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    ),
)  # fmt: skip

OPENPOSE18 = Skeleton(
    name="openpose18",
    # OpenPose's COCO model (CMU-Perceptual-Computing-Lab/openpose, doc/output.md), background left
    # out: COCO's 17 keypoints and the neck, which is the middle of the shoulders.
    keypoints=(
        "nose", "neck",
        "right_shoulder", "right_elbow", "right_wrist",
        "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
    ),
    edges=(
        (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
        (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
    ),
)  # fmt: skip

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO17, OPENPOSE18)}
"""Every skeleton that a manifest may name."""
