"""Reads PoseNet's maps between cells, as Coral's PosenetDecoderOp does; compiled, checks no shapes.

The nearest cell, which `posenet_kernel` reads otherwise, is what the published PoseNet decoders
read. Values between cells are linear in both directions; beyond the border the border counts.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

_Function = TypeVar("_Function", bound=Callable[..., Any])

# error_model: no test for division by zero, 4 % of the decoder. No fastmath: it takes NaN for a
# number.
COMPILER: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


def jit(function: _Function) -> _Function:
    """Compile a function as every kernel of PoseNet is compiled."""
    return cast(_Function, numba.njit(**COMPILER)(function))


@jit
def _split(position: float, last: int) -> tuple[np.uint64, np.uint64, float]:
    """Return the cells on both sides of a position in cells, and the part of the second one."""
    position = min(max(position, 0.0), float(last))
    low = np.floor(position)
    return np.uint64(low), np.uint64(min(low + 1.0, float(last))), position - low


@jit
def read_linear(maps: NDArray[np.float32], y: float, x: float, channel: np.uint64) -> float:
    """Return a channel of maps at a finite position in cells."""
    top, bottom, down = _split(y, maps.shape[0] - 1)
    left, right, along = _split(x, maps.shape[1] - 1)
    upper = maps[top, left, channel] * (1.0 - along) + maps[top, right, channel] * along
    lower = maps[bottom, left, channel] * (1.0 - along) + maps[bottom, right, channel] * along
    return float(upper * (1.0 - down) + lower * down)


@jit
def move_linear(
    moves: NDArray[np.float32], edge: np.uint64, stride: float, start: tuple[float, float]
) -> tuple[float, float]:
    """Return where a displacement leads from a position in input pixels."""
    y, x = start
    if not (np.isfinite(y) and np.isfinite(x)):
        return y, x
    cell_y, cell_x = y / stride, x / stride
    y += read_linear(moves, cell_y, cell_x, edge)
    x += read_linear(moves, cell_y, cell_x, np.uint64(moves.shape[2] // 2) + edge)
    return y, x


@jit
def refine_linear(
    heat: NDArray[np.float32],
    offset: NDArray[np.float32],
    keypoint: np.uint64,
    stride: float,
    start: tuple[float, float],
    refinements: int,
) -> tuple[float, float, np.float32]:
    """Follow the offsets from a position in input pixels; return where they end, and the logit.

    The offsets are followed at least once. What is not finite on the way ends it.
    """
    y, x = start
    half = np.uint64(offset.shape[2] // 2)
    for _ in range(max(refinements, 1)):
        if not (np.isfinite(y) and np.isfinite(x)):
            return y, x, np.float32(np.nan)
        cell_y, cell_x = y / stride, x / stride
        y += read_linear(offset, cell_y, cell_x, keypoint)
        x += read_linear(offset, cell_y, cell_x, half + keypoint)
    # Sums of several offsets: finite, and yet beyond the numbers that poses are written in.
    if not (np.isfinite(np.float32(y)) and np.isfinite(np.float32(x))):
        return y, x, np.float32(np.nan)
    return y, x, np.float32(read_linear(heat, y / stride, x / stride, keypoint))
