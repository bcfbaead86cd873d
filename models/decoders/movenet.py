"""MoveNetDecoder: the persons that a MoveNet has found -> poses, best first.

The network does its own grouping. What is left: leave out weak persons and sort the others.
Coordinates: y and x come in 0..1 of the input's height and width, which the converter makes input
pixels of (`normalized` in the manifest). Pictures and their mirror images show that what comes out
lies .15 px (lightning) to .35 px (thunder) right of pixel centers, median of 96 to 518 keypoints:
less than these networks' own error, and left as it is.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import numba
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.decoders.base import Outputs
from models.decoders.checks import check_buffer, checked_options
from models.errors import DecodeError, ManifestError
from models.poses import PoseBuffer
from models.skeletons import COCO17, Skeleton

KEYPOINTS = 17
"""The keypoints of COCO, in its order."""

Select: TypeAlias = Callable[
    [
        NDArray[np.float32],
        NDArray[np.float32],
        float,
        NDArray[np.float32],
        NDArray[np.float32],
        NDArray[np.int64],
    ],
    int,
]
"""The type of `select`."""


class MoveNetOptions(BaseModel):
    """What a manifest may set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    max_poses: int = Field(default=6, ge=1, le=100)
    """Most persons that the network gives: 6 the multipose one, 1 the others (model cards)."""
    min_pose_score: float = Field(default=0.25, ge=0, le=1)
    """Lowest score of a person; the default of TensorFlow.js's pose-detection package."""


class MoveNetDecoder:
    """Take persons as a MoveNet gives them.

    Outputs: ``keypoints``, ``(persons, 51)`` or ``(1, 17, 3)``: y, x in input pixels and score of
    each keypoint; ``score``, ``(persons, 1)``, where the network scores persons; elsewhere a
    person's score is the mean of its keypoints'. A person with a value that is not finite is left
    out.
    """

    def __init__(self, skeleton: Skeleton, _stride: int, options: Mapping[str, Any]) -> None:
        """Check the options; nothing is compiled yet. The stride is of no use here.

        Raises:
            ManifestError: a skeleton other than COCO's, or options that are unknown or out of
                range.
        """
        if skeleton.keypoints != COCO17.keypoints:
            raise ManifestError(
                f"the movenet decoder cannot fill skeleton {skeleton.name!r}",
                hint=f"MoveNet has the keypoints of {COCO17.name!r}",
            )
        settings = checked_options("movenet", MoveNetOptions, options)
        self.skeleton = skeleton
        self.capacity = settings.max_poses
        self._min_pose_score = settings.min_pose_score
        self._order = np.zeros(self.capacity, np.int64)
        self._means = np.zeros((self.capacity, 1), np.float32)

    def decode(self, outputs: Outputs, into: PoseBuffer) -> None:
        """Write the persons of one frame, best first, in input pixels.

        Raises:
            DecodeError: an output is missing, has another shape or type than the class says, or
                the buffer is too small.
        """
        check_buffer(into, self.capacity, KEYPOINTS)
        keypoints = self._keypoints(outputs)
        scores = outputs.get("score")
        if scores is None:
            scores = self._means[: len(keypoints)]
            np.mean(keypoints[:, :, 2], axis=1, out=scores[:, 0])
        elif scores.shape != (len(keypoints), 1) or scores.dtype != np.float32:
            raise DecodeError(f"output 'score' is {scores.dtype} {scores.shape}, not one a person")
        into.count = compile_select()(
            keypoints, np.ascontiguousarray(scores), self._min_pose_score,
            into.keypoints, into.scores, self._order,
        )  # fmt: skip

    def warm(self) -> None:
        """Compile the kernel or load it from its cache."""
        compile_select()

    def _keypoints(self, outputs: Outputs) -> NDArray[np.float32]:
        tensor = outputs.get("keypoints")
        if tensor is None:
            raise DecodeError("output 'keypoints' is missing", hint="the manifest must name it")
        count = len(tensor) if tensor.ndim else 0
        fits = tensor.size == count * KEYPOINTS * 3 and tensor.dtype == np.float32
        if not fits or not 1 <= count <= self.capacity:
            raise DecodeError(
                f"output 'keypoints' is {tensor.dtype} {tensor.shape}",
                hint=f"MoveNet's is float32 (persons, {KEYPOINTS * 3}), of at most {self.capacity}",
            )
        return np.ascontiguousarray(tensor).reshape(count, KEYPOINTS, 3)


def select(
    persons: NDArray[np.float32],
    scores: NDArray[np.float32],
    least: float,
    keypoints: NDArray[np.float32],
    into_scores: NDArray[np.float32],
    order: NDArray[np.int64],
) -> int:
    """Rank the persons that are good enough and copy them; equal scores keep their order.

    Args:
        persons: ``(person, 17, 3)`` of y, x, score.
        scores: ``(person, 1)``.
        least: lowest score to keep.
        keypoints: ``(capacity, 17, 3)``, written: x, y, score.
        into_scores: ``(capacity,)``, written.
        order: ``(capacity,)``, scratch.

    Returns:
        How many were written.
    """
    count = 0
    for person in range(len(persons)):
        score = scores[person, 0]
        if not score >= least or not np.isfinite(score):
            continue
        is_whole = True
        for keypoint in range(KEYPOINTS):
            for axis in range(3):
                is_whole &= np.isfinite(persons[person, keypoint, axis])
        if not is_whole:
            continue
        place = count
        while place > 0 and into_scores[place - 1] < score:
            into_scores[place] = into_scores[place - 1]
            order[place] = order[place - 1]
            place -= 1
        into_scores[place] = score
        order[place] = person
        count += 1
    for rank in range(count):
        person = order[rank]
        for keypoint in range(KEYPOINTS):
            keypoints[rank, keypoint, 0] = persons[person, keypoint, 1]
            keypoints[rank, keypoint, 1] = persons[person, keypoint, 0]
            keypoints[rank, keypoint, 2] = persons[person, keypoint, 2]
    return count


@functools.cache
def compile_select() -> Select:
    """Return `select` compiled, or loaded from the cache on disk."""
    types: Any = numba.types
    readable = [types.Array(types.float32, rank, "C", readonly=True) for rank in (3, 2)]
    signature = types.int64(
        *readable, types.float64, types.float32[:, :, ::1], types.float32[::1], types.int64[::1]
    )
    return cast(Select, numba.njit(signature, nogil=True, cache=True)(select))
