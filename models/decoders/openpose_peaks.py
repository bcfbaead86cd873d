"""The OpenPose decoder's peaks, compiled: heatmaps -> the highest peaks of each keypoint.

`find_cell_peaks` looks at the cells of the maps as they are, `select` takes the highest, `refine`
moves each to the top of a parabola through the logarithms of its neighbors.

Nothing here allocates, holds the GIL or reads outside its arrays, whatever values the maps hold. A
NaN is never a peak.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

PARTS = 18
"""The keypoints of OpenPose with COCO's annotations: those 17 and the neck."""
CHANNELS = PARTS + 1
"""Heatmaps of a network: one a keypoint, the last is background."""
FIELDS = 19
"""Part affinity fields of a network, one a kind of limb; each has two channels, x and y."""
FLOOR = 1e-3
"""Heatmap values below count as this before their logarithm is taken."""

# An unsigned index needs no test for "counts from the end"; mixed with a signed integer it would
# become a float, hence these.
_CHANNELS = np.uint64(CHANNELS)
_PARTS = np.uint64(PARTS)
_ZERO, _ONE, _TWO, _THREE, _FOUR = (np.uint64(i) for i in range(5))
_EIGHT = np.uint64(8)

Peaks: TypeAlias = tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]
]
"""x, y and score ``(18, capacity)`` and their number ``(18,)``, for each keypoint."""
Found: TypeAlias = tuple[
    NDArray[np.uint32], NDArray[np.uint32], NDArray[np.float32], NDArray[np.int64]
]
"""The same before selection: column, row and score, and their number."""
CellRows: TypeAlias = tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint64]
]

Index: TypeAlias = np.uint64 | int
"""An index that is unsigned where it is compiled: see `_CHANNELS`."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

# error_model: no test for division by zero. No fastmath: it takes NaN for a number.
COMPILER: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


def jit(function: _Function) -> _Function:
    """Compile on first use, for whatever types it is called with by compiled code."""
    return cast(_Function, numba.njit(**COMPILER)(function))


def make_peaks(capacity: int) -> Peaks:
    """Allocate room for so many peaks a keypoint; a multiple of 16, for the sake of SIMD."""
    room = -(-capacity // 16) * 16
    return (
        np.zeros((PARTS, room), np.float32),
        np.zeros((PARTS, room), np.float32),
        np.zeros((PARTS, room), np.float32),
        np.zeros(PARTS, np.int64),
    )


def make_found(height: int, width: int) -> Found:
    """Allocate room for every second of ``height`` x ``width``: of neighbors one is a peak."""
    most = -(-height * width // 2)
    return (
        np.empty((PARTS, most), np.uint32),
        np.empty((PARTS, most), np.uint32),
        np.empty((PARTS, most), np.float32),
        np.zeros(PARTS, np.int64),
    )


def make_cell_rows(width: int) -> CellRows:
    """Allocate what `find_cell_peaks` works on.

    Thresholds; maxima of a row, with a cell more on both sides; marks, one by one and as words.
    """
    row = width * CHANNELS
    words = np.zeros(-(-row // 8), np.uint64)
    highest = np.zeros(row + 2 * CHANNELS, np.float32)
    return np.zeros(row, np.float32), highest, words.view(np.uint8), words


@jit
def _mark_cells(
    lines: NDArray[np.float32],
    y: Index,
    lowest: NDArray[np.float32],
    highest: NDArray[np.float32],
    is_peak: NDArray[np.uint8],
) -> None:
    """Mark the values of row ``y`` over the lowest that no neighbor in 3 x 3 cells exceeds.

    Vertically first, into ``highest``, whose first and last cell stay 0: no border is special.
    """
    above = y - _ONE if y > _ZERO else y
    below = y + _ONE if y + _ONE < np.uint64(len(lines)) else y
    size = np.uint64(lines.shape[1])
    for i in range(size):
        high = lowest[i]
        high = lines[above, i] if lines[above, i] > high else high
        high = lines[y, i] if lines[y, i] > high else high
        high = lines[below, i] if lines[below, i] > high else high
        highest[i + _CHANNELS] = high
    for i in range(size):
        high = highest[i]
        high = highest[i + _CHANNELS] if highest[i + _CHANNELS] > high else high
        right = i + _CHANNELS + _CHANNELS
        high = highest[right] if highest[right] > high else high
        is_peak[i] = lines[y, i] >= high


@jit
def _is_first(lines: NDArray[np.float32], y: int, i: int) -> bool:
    """Say whether no neighbor that comes earlier in the map is as high."""
    value, row = lines[y, i], lines.shape[1]
    if i >= CHANNELS and lines[y, i - CHANNELS] >= value:
        return False
    if y == 0:
        return True
    before, after = i >= CHANNELS, i + CHANNELS < row
    return not (
        lines[y - 1, i] >= value
        or (before and lines[y - 1, i - CHANNELS] >= value)
        or (after and lines[y - 1, i + CHANNELS] >= value)
    )


@jit
def find_cell_peaks(
    heat: NDArray[np.float32], threshold: float, rows: CellRows, found: Found
) -> None:
    """Fill ``found`` with the cells that none of 8 neighbors exceeds, of equal ones the first."""
    lowest, highest, is_peak, words = rows
    columns, rows_of, scores, counts = found
    lines = heat.reshape(heat.shape[0], heat.shape[1] * CHANNELS)
    lowest[:] = threshold
    lowest[PARTS::CHANNELS] = np.inf
    counts[:] = 0
    for y in range(np.uint64(len(lines))):
        _mark_cells(lines, y, lowest, highest, is_peak)
        for word in range(np.uint64(len(words))):
            if words[word] == 0:  # eight marks at once
                continue
            for i in range(word * _EIGHT, word * _EIGHT + _EIGHT):
                if not is_peak[i]:
                    continue
                part = i % _CHANNELS
                if part != _PARTS and _is_first(lines, int(y), int(i)):
                    at = np.uint64(counts[part])
                    columns[part, at] = i // _CHANNELS
                    rows_of[part, at] = y
                    scores[part, at] = lines[y, i]
                    counts[part] += 1


@jit
def _lowest_kept(
    scores: NDArray[np.uint32], order: NDArray[np.uint32], count: int, capacity: int
) -> tuple[np.uint32, int]:
    """Return the bits of the lowest score that is kept, and how many that have it are.

    Scores are positive, so their bits are in their order.
    """
    if count <= capacity:
        return np.uint32(0), 0
    lowest = np.uint32(0)
    for bit in range(31):
        trial = lowest | np.uint32(1) << np.uint32(30 - bit)
        enough = 0
        for i in range(count):
            enough += scores[order[i]] >= trial
        if enough >= capacity:
            lowest = trial
    higher = 0
    for i in range(count):
        higher += scores[order[i]] > lowest
    return lowest, capacity - higher


@jit
def select(
    found: Found, part: int, order: NDArray[np.uint32], count: int, capacity: int, peaks: Peaks
) -> None:
    """Copy the highest of a keypoint, at most ``capacity``, in the order given."""
    columns, lines, values = found[0][part], found[1][part], found[2][part]
    scores = values.view(np.uint32)
    lowest, quota = _lowest_kept(scores, order, count, capacity)
    kept = 0
    for i in range(count):
        index = order[i]
        if scores[index] == lowest:
            if quota == 0:
                continue
            quota -= 1
        if scores[index] >= lowest:
            peaks[0][part, kept] = columns[index]
            peaks[1][part, kept] = lines[index]
            peaks[2][part, kept] = values[index]
            kept += 1
    peaks[3][part] = kept


@jit
def mark_highest(
    scores: NDArray[np.float32], count: int, most: int, is_high: NDArray[np.uint8]
) -> None:
    """Mark the highest of the first ``count`` scores, of equal ones the first."""
    for i in range(np.uint64(count)):
        before = 0
        for j in range(np.uint64(count)):
            before += (scores[j] > scores[i]) | ((scores[j] == scores[i]) & (j < i))
        is_high[i] = before < most


@jit
def refine(heat: NDArray[np.float32], peaks: Peaks) -> None:
    """Move peaks that are on cells to the top of the parabolas through their neighbors."""
    height, width = heat.shape[0], heat.shape[1]
    for part in range(PARTS):
        for i in range(peaks[3][part]):
            x, y = int(peaks[0][part, i]), int(peaks[1][part, i])
            here = heat[y, x, part]
            if 0 < x < width - 1:
                peaks[0][part, i] += _top(heat[y, x - 1, part], here, heat[y, x + 1, part])
            if 0 < y < height - 1:
                peaks[1][part, i] += _top(heat[y - 1, x, part], here, heat[y + 1, x, part])


@jit
def _top(before: np.float32, here: np.float32, after: np.float32) -> np.float32:
    """Return where the parabola through three logarithms has its top: exact for a Gaussian."""
    floor = np.float32(FLOOR)
    low = before if before > floor else floor  # also where it is NaN
    middle = here if here > floor else floor
    high = after if after > floor else floor
    bend = np.log(middle / low * (middle / high))
    if not bend > 0 or np.isinf(bend):
        return np.float32(0)
    top: np.float32 = np.log(high / low) / (np.float32(2) * bend)
    return min(max(top, np.float32(-0.5)), np.float32(0.5))
