"""The compiled half of the pose report encoder: one pass over the keypoints of a frame.

Only `PoseEncoder` imports it, by name, so that a consumer that merely decodes never loads numba.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

LIMIT = 32767
"""Coordinates are clamped to this many quanta on both sides of the frame's center."""

_HALF_MAX = np.float32(65504)
_HALF_SMALLEST_NORMAL = np.float32(2.0**-14)
_HALF_SUBNORMAL_SCALE = np.float32(2.0**24)
# Moves a float32 exponent (bias 127) to that of a float16 (bias 15), after the shift by 13 bits.
_REBIAS = np.int32((127 - 15) << 10)


def half_bits(value: np.float32) -> Any:
    """Return the IEEE 754 binary16 bits of a score, rounded to nearest even.

    Not a number and negative become 0; what is too large becomes the largest finite value.
    numba has no float16 on the CPU.
    """
    if not value > 0:
        return np.int16(0)
    if value >= _HALF_MAX:
        return np.int16(0x7BFF)
    if value < _HALF_SMALLEST_NORMAL:
        return np.int16(np.rint(value * _HALF_SUBNORMAL_SCALE))
    bits = np.float32(value).view(np.int32)
    return np.int16(((bits + 0xFFF + ((bits >> 13) & 1)) >> 13) - _REBIAS)


def quantize(value: float) -> Any:
    """Round to whole quanta; out of range is clamped, not a number goes to the low end."""
    if not value > -LIMIT:
        return np.int16(-LIMIT)
    if value >= LIMIT:
        return np.int16(LIMIT)
    return np.int16(np.rint(value))


def pack_body(
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    count: int,
    affine: NDArray[np.float64],
    body: NDArray[np.int16],
) -> None:
    """Write ``count`` person scores, then x, y, score of every keypoint.

    Args:
        keypoints: ``(capacity, keypoint, 3)``, input pixels.
        scores: ``(capacity,)``.
        count: Persons to write.
        affine: ``(ax, bx, ay, by)`` from input pixels to quanta around the frame's center.
        body: At least ``count * (1 + 3 * keypoint)`` words.
    """
    ax, bx, ay, by = affine[0], affine[1], affine[2], affine[3]
    for person in range(count):
        body[person] = _half_bits(scores[person])
    at = count
    for person in range(count):
        for index in range(keypoints.shape[1]):
            body[at] = _quantize(keypoints[person, index, 0] * ax + bx)
            body[at + 1] = _quantize(keypoints[person, index, 1] * ay + by)
            body[at + 2] = _half_bits(keypoints[person, index, 2])
            at += 3


_half_bits = numba.njit(inline="always")(half_bits)
_quantize = numba.njit(inline="always")(quantize)
# Keeps the interpreter lock: giving it up for 2 us means waiting up to the switch interval of 5 ms
# to get it back whenever another thread computes.
compiled_pack_body: Any = numba.njit(
    "void(f4[:,:,::1], f4[::1], i8, f8[::1], i2[::1])", cache=True
)(pack_body)
