"""``synthetic:`` streams: a deterministic scene of walking figures whose true poses are known.

The figures are drawings: PoseNet 075 finds about three of five (measured). Good for plumbing and
geometry, no measure of a network's accuracy. Three of them at 640x480 take 1.2 CPU ms (measured).
"""

import math
from collections.abc import Iterable
from functools import cached_property, partial

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.streams.base import ColorOrder, Frame, Pixels
from agents.streams.closing import Closing
from agents.streams.images import in_order
from agents.streams.pacing import Pacer, captured_now
from agents.streams.urls import LocalUrl
from agents.streams.walkers import HEAD, LEFT_TOE, RIGHT_TOE, Points, Walkers
from models.poses import PoseArray

MAX_PEOPLE = 50
OPTIONS = ("people", "size", "fps", "seed", "frames", "pace")

_SHIFT = 4
"""Fractional bits of the coordinates that are drawn: edges move by 1/16 pixel."""
# Limbs as pairs of points, with their width as a part of the body's height and who colors them.
_LEGS = (
    (11, 13, 0.085, "trousers"), (13, 15, 0.062, "trousers"), (15, LEFT_TOE, 0.045, "shoes"),
    (12, 14, 0.085, "trousers"), (14, 16, 0.062, "trousers"), (16, RIGHT_TOE, 0.045, "shoes"),
)  # fmt: skip
_ARMS = (
    (5, 7, 0.055, "shirt"), (7, 9, 0.042, "skin"), (6, 8, 0.055, "shirt"), (8, 10, 0.042, "skin"),
)  # fmt: skip
_SHIRTS = ((52, 73, 190), (158, 96, 40), (70, 140, 60), (60, 160, 205), (140, 60, 130))
_SKINS = ((150, 180, 225), (110, 145, 200), (70, 100, 150), (45, 65, 100))
_TROUSERS = ((92, 66, 48), (60, 60, 64), (78, 96, 118))

Color = tuple[float, float, float]
Limb = tuple[int, int, float, str]


class Scene:
    """Draws walkers in front of a plain room; a pure function of seed and frame index."""

    def __init__(
        self, people: int = 3, size: tuple[int, int] = (640, 480), fps: float = 30.0, seed: int = 1
    ) -> None:
        self.size = size
        self.fps = fps
        self._walkers = Walkers(people, *size, seed)
        rng = np.random.default_rng(seed + 1)
        self._clothes = [
            {
                "shirt": _SHIRTS[rng.integers(len(_SHIRTS))],
                "skin": _SKINS[rng.integers(len(_SKINS))],
                "trousers": _TROUSERS[rng.integers(len(_TROUSERS))],
                "shoes": (30, 30, 34),
            }
            for _ in range(people)
        ]
        self._seed = seed

    def poses_at(self, index: int) -> PoseArray:
        """Return the true poses of a frame, ``(person, 17, 3)`` in pixels of the frame."""
        return self._walkers.poses_at(index / self.fps)

    def render(self, index: int, color: ColorOrder) -> Pixels:
        """Draw a frame, ``(height, width, 3)``."""
        picture = self._background.copy()
        points = self._walkers.points_at(index / self.fps)
        for person in np.argsort(points[:, 15:17, 1].max(axis=1)):
            height = self._walkers.heights[person]
            _draw_person(picture, points[person], height, self._clothes[person])
        return in_order(picture, color)

    @cached_property
    def _background(self) -> Pixels:
        """A wall and a floor that get lighter toward the viewer, with a little grain."""
        width, height = self.size
        horizon = round(0.45 * height)
        rows = np.empty((height, 1, 3))
        rows[:horizon, 0] = np.linspace((168, 172, 170), (192, 196, 194), horizon)
        rows[horizon:, 0] = np.linspace((112, 126, 138), (150, 166, 180), height - horizon)
        grain = np.random.default_rng(self._seed).normal(0, 2.5, (height, width, 1))
        return np.clip(rows + grain, 0, 255).astype(np.uint8)


def _draw_person(picture: Pixels, points: Points, height: float, clothes: dict[str, Color]) -> None:
    """Draw shadow, legs, far arm, trunk and head, near arm."""
    depth = points[:, 2]
    trunk = float(depth[[5, 6, 11, 12]].mean())
    feet = points[15:17].mean(axis=0) + np.array((0, 0.035 * height, 0))
    axes = (_length(0.2 * height), _length(0.05 * height))
    cv2.ellipse(picture, _fixed(feet), axes, 0, 0, 360, (98, 108, 118), -1, cv2.LINE_AA, _SHIFT)

    def nearness(limb: Limb) -> float:
        return float(depth[limb[0]] + depth[limb[1]]) / 2 - trunk

    def draw(limbs: Iterable[Limb]) -> None:
        for limb in sorted(limbs, key=nearness):
            _draw_limb(picture, points, limb, height, clothes[limb[3]], nearness(limb) > 0)

    draw(_LEGS)
    draw(limb for limb in _ARMS if nearness(limb) <= 0)
    _draw_trunk(picture, points, height, clothes)
    _draw_head(picture, points, height, clothes["skin"])
    draw(limb for limb in _ARMS if nearness(limb) > 0)


def _draw_limb(
    picture: Pixels, points: Points, limb: Limb, height: float, color: Color, is_near: bool
) -> None:
    """Draw a limb: one on the far side darker, one on the near side with a streak of light."""
    width = limb[2] * height
    start, end = _fixed(points[limb[0]]), _fixed(points[limb[1]])
    body = color if is_near else _shade(color, 0.78)
    cv2.line(picture, start, end, body, _thickness(width), cv2.LINE_AA, _SHIFT)
    if is_near:
        aside = _length(width / 5)
        start, end = (start[0] - aside, start[1]), (end[0] - aside, end[1])
        light = _shade(color, 1.15)
        cv2.line(picture, start, end, light, _thickness(width / 4), cv2.LINE_AA, _SHIFT)


def _draw_trunk(picture: Pixels, points: Points, height: float, clothes: dict[str, Color]) -> None:
    outline = np.array([_fixed(points[corner]) for corner in (5, 6, 12, 11)])
    shirt = clothes["shirt"]
    neck, pelvis = outline[:2].mean(axis=0), outline[2:].mean(axis=0)
    top = (round(neck[0]), round(neck[1]))
    bottom = (round(pelvis[0]), round(pelvis[1]))
    cv2.line(picture, top, bottom, shirt, _thickness(0.14 * height), cv2.LINE_AA, _SHIFT)
    cv2.fillConvexPoly(picture, outline, shirt, cv2.LINE_AA, _SHIFT)
    cv2.polylines(picture, [outline], True, shirt, _thickness(0.06 * height), cv2.LINE_AA, _SHIFT)
    above = (top[0], top[1] - _length(0.06 * height))
    cv2.line(picture, top, above, clothes["skin"], _thickness(0.055 * height), cv2.LINE_AA, _SHIFT)


def _draw_head(picture: Pixels, points: Points, height: float, skin: Color) -> None:
    axes = (_length(0.06 * height), _length(0.077 * height))
    center = points[HEAD]
    cv2.ellipse(picture, _fixed(center), axes, 0, 0, 360, skin, -1, cv2.LINE_AA, _SHIFT)
    # Hair covers the top, and from behind the whole head; it sits away from the face.
    facing = (points[0, 2] - center[2]) / (0.075 * height)
    behind = center + (center - points[0]) * 0.45 - (0, (0.035 + 0.02 * facing) * height, 0)
    hair = (_length(0.06 * height), _length((0.055 - 0.015 * facing) * height))
    cv2.ellipse(picture, _fixed(behind), hair, 0, 0, 360, (38, 44, 52), -1, cv2.LINE_AA, _SHIFT)
    for point, size in ((0, 0.009), (1, 0.009), (2, 0.009)):
        if points[point, 2] > center[2] - 0.01 * height:
            dark = _shade(skin, 0.75) if point == 0 else (30, 30, 30)
            radius = _length(size * height)
            cv2.circle(picture, _fixed(points[point]), radius, dark, -1, cv2.LINE_AA, _SHIFT)


def _fixed(point: NDArray[np.float64]) -> tuple[int, int]:
    return _length(point[0]), _length(point[1])


def _length(pixels: float) -> int:
    return round(pixels * (1 << _SHIFT))


def _thickness(pixels: float) -> int:
    return max(1, round(pixels))


def _shade(color: Color, factor: float) -> Color:
    return tuple(min(255.0, channel * factor) for channel in color)  # type: ignore[return-value]


class SyntheticSource:
    """Plays a scene at its frame rate."""

    is_live = False

    def __init__(
        self, scene: Scene, first_sequence: int, *, frames: float = math.inf, is_paced: bool = True
    ) -> None:
        self.scene = scene
        self.rate_hz = scene.fps
        self._first_sequence = first_sequence
        self._frames = frames
        self._index = 0
        self._closing = Closing(lambda: None)
        self._pacer = Pacer(self._closing, is_paced=is_paced)

    def read(self) -> Frame | None:
        """Return the next frame when it is due; it is drawn when its pixels are taken."""
        with self._closing.reading() as is_open:
            index = self._index
            if not is_open or index >= self._frames:
                return None
            if not self._pacer.wait(index / self.scene.fps):
                return None
            self._index += 1
            render = partial(self.scene.render, index)
            return captured_now(self._first_sequence + index, self.scene.size, render)

    def close(self) -> None:
        """Release the source; idempotent."""
        self._closing.close()


def open_synthetic(url: str, first_sequence: int, _timeout_s: float) -> SyntheticSource:
    """Open ``synthetic:?people=3&size=640x480&fps=30&seed=1``; a `StreamOpener`.

    It is endless unless ``frames`` is given; ``pace=max`` draws as fast as it can.

    Raises:
        StreamRefused: unknown options or values.
    """
    where = LocalUrl.parse(url, OPTIONS)
    scene = Scene(
        people=round(where.number("people", 3, 0, MAX_PEOPLE)),
        size=where.size("size", (640, 480)),
        fps=where.number("fps", 30, 0.1, 1000),
        seed=round(where.number("seed", 1, 0, 2**31)),
    )
    frames = where.number("frames", math.inf, 1, math.inf)
    return SyntheticSource(scene, first_sequence, frames=frames, is_paced=where.pace())
