"""Pose values: arrays for the frame path, named keypoints for people and JSON."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.skeletons import Skeleton

PoseArray = NDArray[np.float32]
"""``(person, keypoint, 3)``: x, y in pixels of the space the holder names, score in 0..1."""

UNTRACKED = -1
"""The track id of a person that no tracker has seen."""


@dataclass(frozen=True, slots=True)
class Keypoint:
    """One named body point; x and y in pixels of the original frame."""

    name: str
    x: float
    y: float
    score: float


@dataclass(frozen=True, slots=True)
class Pose:
    """The keypoints of one person and how sure the network is of the whole."""

    score: float
    keypoints: tuple[Keypoint, ...]
    track_id: int | None = None


@dataclass(frozen=True, slots=True)
class PoseSet:
    """All persons of one frame as arrays; coordinates are pixels of the original frame."""

    skeleton: Skeleton
    scores: NDArray[np.float32]
    """``(person,)``, 0..1, highest first."""
    keypoints: PoseArray
    track_ids: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    """``(person,)``; empty, or `UNTRACKED` where no tracker ran."""

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Pose]:
        for person in range(len(self)):
            track_id = int(self.track_ids[person]) if len(self.track_ids) else UNTRACKED
            yield Pose(
                score=float(self.scores[person]),
                keypoints=tuple(
                    Keypoint(name, *(float(value) for value in self.keypoints[person, index]))
                    for index, name in enumerate(self.skeleton.keypoints)
                ),
                track_id=None if track_id == UNTRACKED else track_id,
            )


class PoseBuffer:
    """Where a decoder writes the poses of one frame: allocated once a lane, reused every frame."""

    __slots__ = ("count", "keypoints", "scores")

    def __init__(self, capacity: int, keypoint_count: int) -> None:
        self.keypoints: PoseArray = np.zeros((capacity, keypoint_count, 3), np.float32)
        """``(capacity, keypoint, 3)``: x, y in pixels of the network's input, score; rows below
        `count` are valid."""
        self.scores: NDArray[np.float32] = np.zeros(capacity, np.float32)
        self.count = 0
