"""The first half of the OpenPose decoder, compiled: heatmaps -> peaks of each keypoint.

Two ways. `find_cell_peaks` looks at the cells of the map and moves each peak to the top of a
parabola through the logarithms of its neighbors. `find_pixel_peaks` looks at the pixels of the map
upsampled 4 times by OpenCV's cubic, of which it only ever holds three rows.

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
UPSAMPLING = 4
"""As the reference does; half of the 8 pixels a cell."""
SUPPRESSION = 6
"""Pixels of the upsampled map within which the reference keeps one peak."""
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
PixelRows: TypeAlias = tuple[
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.uint8],
    NDArray[np.uint64],
]

_Function = TypeVar("_Function", bound=Callable[..., Any])

# error_model: no test for division by zero. No fastmath: it takes NaN for a number.
COMPILER: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


def jit(function: _Function) -> _Function:
    """Compile on first use, for whatever types it is called with by compiled code."""
    return cast(_Function, numba.njit(**COMPILER)(function))


@jit
def _round_up(size: int) -> int:
    return (size + 15) // 16 * 16


def _cubic(fraction: float) -> list[float]:
    """Return the weights of the neighbors at -1, 0, 1 and 2 of a position (Keys, a = -.75)."""
    a = -0.75  # OpenCV's
    weights = []
    for tap in (-1, 0, 1, 2):
        d = abs(fraction - tap)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        weights.append(near if d <= 1 else ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
    return weights


# Pixel 4 * cell + phase is at (phase + .5) / 4 - .5 cells from the cell's center.
WEIGHTS = np.array([_cubic(fraction) for fraction in (0.625, 0.875, 0.125, 0.375)], np.float32)
"""Cubic weights ``(phase, tap)``; phases 0 and 1 start 2 cells before theirs, 2 and 3 one."""
_FAR = tuple(WEIGHTS[0])
_NEAR = tuple(WEIGHTS[1])
# A pixel is at most this times the largest of its 4 cells in a row, its square of its 4 x 4 cells.
_GAIN = float(np.abs(WEIGHTS).sum(1).max()) * (1 + 1e-5)
_QUIET_PIXEL = np.float32(1 / _GAIN)
_QUIET_CELL = np.float32(1 / _GAIN**2)


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


def make_pixel_rows(height: int, width: int) -> PixelRows:
    """Allocate what `find_pixel_peaks` works on.

    The cells of each keypoint with 2 more on both sides; a row of these; three rows of pixels, each
    as 4 rows of one phase with a pixel more on both sides; flags, one by one and as words. The rows
    are longer than needed, in multiples of 16, for the sake of SIMD. An odd number of rows keeps
    the planes from sharing cache lines, which costs 90 us.
    """
    room = _round_up(width + 4)
    words = np.zeros(room // 8, np.uint64)
    return (
        np.zeros((PARTS, height | 1, room), np.float32),
        np.zeros(room + 16, np.float32),
        np.zeros((3, UPSAMPLING, room + 16), np.float32),
        words.view(np.uint8),
        words,
    )


@jit
def _mark_cells(
    lines: NDArray[np.float32],
    y: np.uint64,
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
                if part != _PARTS and _is_first(lines, np.int64(y), np.int64(i)):
                    at = np.uint64(counts[part])
                    columns[part, at] = i // _CHANNELS
                    rows_of[part, at] = y
                    scores[part, at] = lines[y, i]
                    counts[part] += 1


@jit
def _split(heat: NDArray[np.float32], planes: NDArray[np.float32]) -> None:
    """Copy the map of each keypoint into a plane of its own whose border repeats."""
    width = np.uint64(heat.shape[1])
    for y in range(np.uint64(heat.shape[0])):
        line_of_all = heat[y]
        for x in range(width):
            for part in range(_PARTS):
                planes[part, y, x + _TWO] = line_of_all[x, part]
        for part in range(_PARTS):
            line = planes[part, y]
            line[0] = line[1] = line[2]
            line[width + _TWO] = line[width + _TWO + _ONE] = line[width + _ONE]


@jit
def _is_loud(line: NDArray[np.float32], bound: np.float32) -> bool:
    """Say whether a value of a row is NaN or as far from 0 as the bound."""
    hits = 0
    for x in range(np.uint64(len(line))):
        hits += not np.abs(line[x]) < bound
    return hits > 0


@jit
def _upsample_down(
    planes: NDArray[np.float32],
    part: np.uint64,
    target: int,
    last: int,
    cells: NDArray[np.float32],
) -> None:
    """Interpolate row ``target`` of pixels, still cell by cell; ``last`` is the last of cells."""
    phase = target % UPSAMPLING
    first = target // UPSAMPLING - (2 if phase < 2 else 1)
    a = np.uint64(min(max(first, 0), last))
    b = np.uint64(min(max(first + 1, 0), last))
    c = np.uint64(min(max(first + 2, 0), last))
    d = np.uint64(min(max(first + 3, 0), last))
    w0, w1, w2, w3 = WEIGHTS[phase, 0], WEIGHTS[phase, 1], WEIGHTS[phase, 2], WEIGHTS[phase, 3]
    for x in range(np.uint64(planes.shape[2])):
        above = w0 * planes[part, a, x] + w1 * planes[part, b, x]
        cells[x] = above + w2 * planes[part, c, x] + w3 * planes[part, d, x]


@jit
def _upsample_across(
    cells: NDArray[np.float32],
    threshold: np.float32,
    ring: NDArray[np.float32],
    slot: np.uint64,
    width: int,
) -> None:
    """Interpolate the 4 pixels of each cell of a row; what is under the threshold becomes 0.

    The weights of the last two phases are those of the first two backwards.
    """
    for x in range(np.uint64(_round_up(width))):
        i = x + _ONE
        a, b, c = cells[x], cells[i], cells[x + _TWO]
        d, e = cells[x + _THREE], cells[x + _FOUR]
        value = _FAR[0] * a + _FAR[1] * b + _FAR[2] * c + _FAR[3] * d
        ring[slot, _ZERO, i] = np.float32(0) if value < threshold else value
        value = _NEAR[0] * a + _NEAR[1] * b + _NEAR[2] * c + _NEAR[3] * d
        ring[slot, _ONE, i] = np.float32(0) if value < threshold else value
        value = _NEAR[3] * b + _NEAR[2] * c + _NEAR[1] * d + _NEAR[0] * e
        ring[slot, _TWO, i] = np.float32(0) if value < threshold else value
        value = _FAR[3] * b + _FAR[2] * c + _FAR[1] * d + _FAR[0] * e
        ring[slot, _THREE, i] = np.float32(0) if value < threshold else value
    ring[slot, 0, width + 1] = 0


@jit
def _mark_pixels(
    ring: NDArray[np.float32], line: int, width: int, has_peak: NDArray[np.uint8]
) -> None:
    """Mark the cells of a row that hold a pixel higher than its four neighbors."""
    u, h, d = np.uint64((line + 2) % 3), np.uint64(line % 3), np.uint64((line + 1) % 3)
    for x in range(np.uint64(_round_up(width))):
        i = x + _ONE
        p0, p1, p2, p3 = ring[h, _ZERO, i], ring[h, _ONE, i], ring[h, _TWO, i], ring[h, _THREE, i]
        has_peak[x] = (
            (
                (p0 > ring[h, _THREE, x])
                & (p0 > p1)
                & (p0 > ring[u, _ZERO, i])
                & (p0 > ring[d, _ZERO, i])
            )
            | ((p1 > p0) & (p1 > p2) & (p1 > ring[u, _ONE, i]) & (p1 > ring[d, _ONE, i]))
            | ((p2 > p1) & (p2 > p3) & (p2 > ring[u, _TWO, i]) & (p2 > ring[d, _TWO, i]))
            | (
                (p3 > p2)
                & (p3 > ring[h, _ZERO, x + _TWO])
                & (p3 > ring[u, _THREE, i])
                & (p3 > ring[d, _THREE, i])
            )
        )


@jit
def find_pixel_peaks(
    heat: NDArray[np.float32], threshold: float, rows: PixelRows, found: Found
) -> None:
    """Fill ``found`` with the pixels of the upsampled map that exceed their four neighbors.

    What is under the threshold or outside counts as 0, as in the reference. Rows in which nothing
    can reach the threshold are not upsampled.
    """
    counts = found[3]
    counts[:] = 0
    _split(heat, rows[0])
    for part in range(_PARTS):
        _find_in_plane(part, heat.shape[:2], np.float32(threshold), rows, found)


@jit
def _find_in_plane(
    part: np.uint64, size: tuple[int, int], threshold: np.float32, rows: PixelRows, found: Found
) -> None:
    planes, cells, ring, has_peak, words = rows
    height, width = size
    # A row of pixels depends on the rows of cells from 2 before to 2 after its own.
    loudest = -3
    for y in range(min(2, height)):
        loudest = y if _is_loud(planes[part, y], threshold * _QUIET_CELL) else loudest
    is_loud = False
    ring[:] = 0
    for target in range(UPSAMPLING * height + 1):  # the row that is upsampled; one more is searched
        y, slot = target // UPSAMPLING, np.uint64(target % 3)
        if target % UPSAMPLING == 0 and y + 2 < height:
            loudest = y + 2 if _is_loud(planes[part, y + 2], threshold * _QUIET_CELL) else loudest
        next_is_loud = y < height and loudest >= y - 2
        if next_is_loud:
            _upsample_down(planes, part, target, height - 1, cells)
            next_is_loud = _is_loud(cells, threshold * _QUIET_PIXEL)
        if next_is_loud:
            _upsample_across(cells, threshold, ring, slot, width)
        else:
            ring[slot] = 0
        if is_loud:
            _mark_pixels(ring, target - 1, width, has_peak)
            _collect_pixels(part, ring, target - 1, (width, has_peak, words), found)
        is_loud = next_is_loud


@jit
def _collect_pixels(
    part: np.uint64,
    ring: NDArray[np.float32],
    line: int,
    marks: tuple[int, NDArray[np.uint8], NDArray[np.uint64]],
    found: Found,
) -> None:
    """Append the peaks of the marked cells of a row."""
    width, has_peak, words = marks
    for word in range(np.uint64(len(words))):
        if words[word] == 0:  # eight marks at once
            continue
        for x in range(8 * word, min(8 * word + 8, width)):
            if not has_peak[x]:
                continue
            for phase in range(UPSAMPLING):
                if _is_peak(ring, line, x, phase):
                    at = found[3][part]
                    found[0][part, at] = UPSAMPLING * x + phase
                    found[1][part, at] = line
                    found[2][part, at] = ring[line % 3, phase, x + 1]
                    found[3][part] = at + 1


@jit
def _is_peak(ring: NDArray[np.float32], line: int, x: int, phase: int) -> bool:
    here = ring[line % 3]
    value = here[phase, x + 1]
    before = here[phase - 1, x + 1] if phase > 0 else here[3, x]
    after = here[phase + 1, x + 1] if phase < 3 else here[0, x + 2]
    above, below = ring[(line + 2) % 3, phase, x + 1], ring[(line + 1) % 3, phase, x + 1]
    return value > before and value > after and value > above and value > below


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
def _top(before: np.float32, here: np.float32, after: np.float32) -> float:
    """Return where the parabola through three logarithms has its top: exact for a Gaussian."""
    floor = np.float32(FLOOR)
    low = before if before > floor else floor  # also where it is NaN
    middle = here if here > floor else floor
    high = after if after > floor else floor
    bend = np.log(middle / low * (middle / high))
    if not bend > 0 or np.isinf(bend):
        return np.float32(0)
    top = np.log(high / low) / (np.float32(2) * bend)
    return min(max(top, np.float32(-0.5)), np.float32(0.5))


@jit
def sort_by_column(
    found: Found, part: int, starts: NDArray[np.uint32], order: NDArray[np.uint32]
) -> int:
    """Write the order from left to right, then from top to bottom; return the number."""
    columns, count = found[0][part], found[3][part]
    starts[:] = 0
    for i in range(count):
        starts[columns[i] + np.uint32(1)] += np.uint32(1)
    for column in range(1, len(starts)):
        starts[column] += starts[column - 1]
    for i in range(count):
        column = columns[i]
        order[starts[column]] = i
        starts[column] += np.uint32(1)
    return count


@jit
def suppress(
    found: Found, part: int, order: NDArray[np.uint32], is_out: NDArray[np.uint8], leftmost: bool
) -> int:
    """Keep one of the peaks that are too near each other; return how many stay in ``order``.

    Args:
        leftmost: keep the first that no kept one is near, as the reference does; else those that no
            higher one is near.
    """
    columns, lines, scores = found[0][part], found[1][part], found[2][part]
    count = found[3][part]
    is_out[:count] = 0
    for i in range(count):
        if leftmost and is_out[i]:
            continue
        here = order[i]
        x, y = np.int64(columns[here]), np.int64(lines[here])
        for j in range(i + 1, count):
            there = order[j]
            dx, dy = np.int64(columns[there]) - x, np.int64(lines[there]) - y
            if dx >= SUPPRESSION:
                break
            if dx * dx + dy * dy < SUPPRESSION * SUPPRESSION:
                if not leftmost and scores[there] > scores[here]:
                    is_out[i] = 1
                else:
                    is_out[j] = 1
    kept = 0
    for i in range(count):
        if not is_out[i]:
            order[kept] = order[i]
            kept += 1
    return kept
