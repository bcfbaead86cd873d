"""Skeletons drawn into a picture; pictures with captions drawn into one sheet."""

import math
from collections.abc import Sequence

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
_CAPTION = 24
"""Pixels of the strip for a line of text."""
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


def contact_sheet(
    pictures: Sequence[tuple[NDArray[np.uint8], str]], side: int = 224
) -> NDArray[np.uint8]:
    """Return one picture of all, in rows of nearly equal length, each above its caption.

    Args:
        pictures: ``(height, width, 3)`` of any size and color order, and what to write below.
        side: Pixels that the longer side of each gets.
    """
    columns = max(1, math.ceil(math.sqrt(len(pictures))))
    rows = max(1, math.ceil(len(pictures) / columns))
    cell = side + _CAPTION
    sheet = np.full((rows * cell, columns * side, 3), 255, np.uint8)
    for number, (pixels, caption) in enumerate(pictures):
        top, left = number // columns * cell, number % columns * side
        scale = side / max(pixels.shape[:2])
        width, height = (max(1, round(scale * length)) for length in pixels.shape[1::-1])
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        down, along = top + (side - height) // 2, left + (side - width) // 2
        sheet[down : down + height, along : along + width] = small
        at = (left + 4, top + cell - 8)
        cv2.putText(sheet, caption, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet
