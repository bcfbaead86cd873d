"""Skeletons drawn into a picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.poses import UNTRACKED, PoseSet

MIN_KEYPOINT_SCORE = 0.3
"""Keypoints below are guesses more often than sights: limbs that are not there."""

_PALETTE = (
    (255, 99, 71), (64, 196, 255), (255, 214, 10), (105, 240, 105), (224, 130, 255),
    (255, 145, 200), (0, 229, 200), (255, 167, 38), (150, 160, 255), (190, 230, 60),
)  # fmt: skip
"""RGB, bright on most scenes and told apart by most eyes; person by person, then again."""
_SUBPIXEL_BITS = 4
"""OpenCV draws at 1/16 px with this shift, so that skeletons do not jitter by whole pixels."""


def draw_poses(
    pixels: NDArray[np.uint8], poses: PoseSet, min_score: float = MIN_KEYPOINT_SCORE
) -> None:
    """Draw every pose into ``(height, width, 3)`` RGB pixels, in place.

    Limbs whose two keypoints both reach ``min_score`` are drawn; line width follows the picture's
    size.
    """
    size = max(1, round(max(pixels.shape[:2]) / 320))
    for person in range(len(poses)):
        color = _PALETTE[_number(poses, person) % len(_PALETTE)]
        keypoints = poses.keypoints[person]
        is_seen = keypoints[:, 2] >= min_score
        points = np.round(keypoints[:, :2] * (1 << _SUBPIXEL_BITS)).astype(int).tolist()
        for start, end in poses.skeleton.edges:
            if is_seen[start] and is_seen[end]:
                cv2.line(
                    pixels, points[start], points[end], color, size, cv2.LINE_AA, _SUBPIXEL_BITS
                )
        for index in np.flatnonzero(is_seen):
            radius = (size + 1) << _SUBPIXEL_BITS
            cv2.circle(
                pixels, points[index], radius, (255, 255, 255), -1, cv2.LINE_AA, _SUBPIXEL_BITS
            )
            cv2.circle(
                pixels, points[index], radius, color, max(1, size // 2), cv2.LINE_AA, _SUBPIXEL_BITS
            )


def _number(poses: PoseSet, person: int) -> int:
    """Return the track id, so that a person keeps a color; the place where nobody tracks."""
    track_id = int(poses.track_ids[person]) if len(poses.track_ids) else UNTRACKED
    return person if track_id == UNTRACKED else track_id
