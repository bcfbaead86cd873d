"""Walking people as keypoints: a pure function of seed and time, for scenes of known poses.

Each person is a jointed figure that walks in a circle, seen from the side and a little from above
without perspective: it shows both profiles, its front and its back in turn.
"""

import math

import numpy as np
from numpy.typing import NDArray

from models.poses import PoseArray
from models.skeletons import COCO17

# Lengths as parts of the body's height: D. A. Winter, Biomechanics and Motor Control of Human
# Movement, 4th edition, figure 4.1.
SHANK, THIGH, TRUNK = 0.246, 0.245, 0.288
UPPER_ARM, FOREARM = 0.186, 0.146
HALF_SHOULDERS, HALF_HIPS = 0.129, 0.0955
ANKLE_HEIGHT, EYES_ABOVE_SHOULDERS = 0.039, 0.118
STRIDE = 0.8
"""Two steps; the same book gives about .8 of the height for unhurried walking."""

# Our choice, by eye: swing of thigh and arm, bend of knee and elbow, radians.
THIGH_SWING, KNEE_BEND, ARM_SWING, ELBOW_BEND = 0.42, 0.9, 0.5, 0.35
ELEVATION = 0.25
"""How far above the horizon the camera looks from, radians."""

KEYPOINTS = len(COCO17.keypoints)
HEAD, LEFT_TOE, RIGHT_TOE = KEYPOINTS, KEYPOINTS + 1, KEYPOINTS + 2
"""Points that only the drawing needs; they follow the keypoints of COCO17."""
_NOSE, _EYES, _EARS, _SHOULDERS, _ELBOWS, _WRISTS, _HIPS, _KNEES, _ANKLES = 0, *range(1, 17, 2)
"""Of a pair the left one; the right one follows it."""

Angles = NDArray[np.float64]
Points = NDArray[np.float64]
"""``(person, point, 3)``: forward, left and up of the body; later x, y and nearness in pixels."""


class Walkers:
    """Who walks where; the same for the same seed, number and size."""

    def __init__(self, people: int, width: int, height: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows = max(1, math.ceil(people / 6))
        columns = max(1, math.ceil(people / rows))
        row, column = np.divmod(np.arange(people), columns)
        cell = width / columns
        self.heights = min(0.72 * height / (1 + 0.3 * (rows - 1)), 1.7 * cell) * rng.uniform(
            0.85, 1.0, people
        )
        """Body heights in pixels."""
        reach = np.minimum(0.3 * cell, 0.45 * self.heights)
        self._radius = reach * rng.uniform(0.7, 1.0, people)
        room = 0.35 * self.heights + self._radius
        self._x = np.clip((column + 0.5) * cell, room, np.maximum(room, width - room))
        lowest = 0.97 * height - self._radius * math.sin(ELEVATION)
        step = (lowest.min(initial=height) - 1.05 * self.heights.max(initial=0)) / max(1, rows - 1)
        self._ground = lowest - (rows - 1 - row) * max(0.0, step)
        self._start = rng.uniform(0, 2 * math.pi, people)
        self._turns_hz = rng.choice((-1, 1), people) * rng.uniform(0.05, 0.08, people)

    def points_at(self, seconds: float) -> Points:
        """Return x, y in pixels and nearness of all points; ``(person, KEYPOINTS + 3, 3)``."""
        circled = 2 * math.pi * self._turns_hz * seconds
        stride = STRIDE * self.heights
        gait = self._start + 2 * math.pi * np.abs(circled) * self._radius / stride
        angle = self._start + circled
        heading = angle + np.where(self._turns_hz < 0, math.pi, 0.0)
        body = _body(gait) * self.heights[:, None, None]
        forward, left, up = np.moveaxis(body, 2, 0)
        cos, sin = np.cos(heading)[:, None], np.sin(heading)[:, None]
        # On the ground: x to the right, z toward the camera. The figure's left is z turned from x.
        x = (self._x + self._radius * np.sin(angle))[:, None] + forward * cos + left * sin
        z = (-self._radius * np.cos(angle))[:, None] + forward * sin - left * cos
        y = self._ground[:, None] + z * math.sin(ELEVATION) - up * math.cos(ELEVATION)
        return np.stack((x, y, z), axis=2)

    def poses_at(self, seconds: float) -> PoseArray:
        """Return the true poses; every score is 1, also where a body hides its own keypoint."""
        points = self.points_at(seconds)[:, :KEYPOINTS].astype(np.float32)
        points[:, :, 2] = 1.0
        return points


def _body(gait: Angles) -> Points:
    """Return figures of height 1 that stand on 0 and face forward, at this phase of their gait."""
    points = np.zeros((len(gait), KEYPOINTS + 3, 3))
    for side, lateral in ((0, 1.0), (1, -1.0)):
        phase = gait + side * math.pi
        points[:, _HIPS + side, 1] = lateral * HALF_HIPS
        points[:, _SHOULDERS + side] = (0.0, lateral * HALF_SHOULDERS, TRUNK)
        thigh = THIGH_SWING * np.sin(phase)
        # The knee bends while the leg swings forward.
        shank = thigh - 0.1 - KNEE_BEND * np.maximum(0.0, np.cos(phase)) ** 2
        arm = -ARM_SWING * np.sin(phase)
        for joint, parent, length, swing in (
            (_KNEES, _HIPS, THIGH, thigh),
            (_ANKLES, _KNEES, SHANK, shank),
            (_ELBOWS, _SHOULDERS, UPPER_ARM, arm),
            (_WRISTS, _ELBOWS, FOREARM, arm + ELBOW_BEND),
        ):
            points[:, joint + side] = points[:, parent + side]
            points[:, joint + side, 0] += length * np.sin(swing)
            points[:, joint + side, 2] -= length * np.cos(swing)
        points[:, LEFT_TOE + side] = points[:, _ANKLES + side]
        points[:, LEFT_TOE + side, 0] += 0.1 * np.cos(shank)
        points[:, LEFT_TOE + side, 2] += 0.1 * np.sin(shank) - 0.6 * ANKLE_HEIGHT
    eyes = TRUNK + EYES_ABOVE_SHOULDERS
    points[:, HEAD, 2] = eyes
    points[:, _NOSE] = (0.062, 0.0, eyes - 0.022)
    for side, lateral in ((0, 1.0), (1, -1.0)):
        points[:, _EYES + side] = (0.048, lateral * 0.022, eyes)
        points[:, _EARS + side] = (0.0, lateral * 0.055, eyes - 0.008)
    # The lower ankle stands on the ground.
    points[:, :, 2] += ANKLE_HEIGHT - points[:, _ANKLES : _ANKLES + 2, 2].min(axis=1)[:, None]
    return points
