"""The compiled half of the PoseNet decoder: peaks, their order, persons; checks no shapes.

Nothing here allocates, holds the GIL or reads outside its arrays, whatever values the maps hold.
A NaN wins no comparison, so a cell with a NaN score is no peak; a keypoint whose score is NaN or
whose position is not finite is missing, and so is everything behind it on the walk.

Percentages in comments: CPU time of the whole decode at 20 people on a 33x33 map that a trick
saves, median of interleaved runs with and without it; other inputs are named.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numba
import numpy as np
from numpy.typing import NDArray

from models.decoders.posenet_linear import COMPILER, jit, move_linear, refine_linear

KEYPOINTS = 17
"""The keypoints of COCO, in its order."""
EDGES = (
    (0, 1), (1, 3), (0, 2), (2, 4),
    (0, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15),
    (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
)  # fmt: skip
"""(parent, child) in the order of the displacement channels that published PoseNets share."""

LINEAR_CRC32 = 0xBBD9ABAC
"""Of the text of `posenet_linear`: numba's cache on disk looks at this file's text only."""
LANES = 16
"""Persons are compared this many at a time: 3 % against an early exit, 27 % at 50 people."""

# An unsigned index needs no test for "counts from the end": 6 %. Mixed with a signed integer it
# would become a float, hence these.
_KEYPOINTS = np.uint64(KEYPOINTS)
_EDGES = np.uint64(len(EDGES))

Maps: TypeAlias = tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]
]
"""Heatmap logits ``(y, x, 17)``, offsets ``(y, x, 34)``, displacements forward and backward
``(y, x, 32)``; C-contiguous."""
Settings: TypeAlias = tuple[float, float, float, float, int, int, int]
"""Logit threshold, stride, squared NMS radius, minimum pose score, most candidates, refinements,
and 1 to read between cells, 0 to read the nearest one."""
Scratch: TypeAlias = tuple[
    NDArray[np.float32],
    NDArray[np.uint8],
    NDArray[np.uint64],
    NDArray[np.uint32],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.int64],
]
"""What `make_scratch` returns. A plain tuple: numba unpacks a named one 1 us slower."""

Group: TypeAlias = Callable[
    [Maps, Settings, Scratch, NDArray[np.float32], NDArray[np.float32]], int
]
"""The type of `group`."""


def _walk_from(root: int) -> list[tuple[int, int, int, int]]:
    """Return (source, target, edge, is forward) for the 16 other keypoints, nearest first.

    Nearest first, not limb after limb: neighboring steps do not wait for each other (7 %).
    """
    neighbors = [(parent, child, edge, 1) for edge, (parent, child) in enumerate(EDGES)]
    neighbors += [(child, parent, edge, 0) for edge, (parent, child) in enumerate(EDGES)]
    reached = [root]
    steps = []
    for source in reached:
        for step in neighbors:
            if step[0] == source and step[1] not in reached:
                reached.append(step[1])
                steps.append(step)
    return steps


_WALKS = np.array([_walk_from(root) for root in range(KEYPOINTS)], np.uint64)


def make_scratch(height: int, width: int, capacity: int) -> Scratch:
    """Allocate what `group` works in, for maps of ``height`` x ``width`` and so many persons."""
    row = width * KEYPOINTS
    slots = -(-capacity // LANES) * LANES
    return (
        np.full(row + 2 * KEYPOINTS, -np.inf, np.float32),  # a cell that never wins on both sides
        np.zeros(-(-row // 8) * 8, np.uint8),  # whole 64-bit words
        np.zeros((2, height * row), np.uint64),
        np.zeros((4, 256), np.uint32),
        np.full((KEYPOINTS, 2, slots), np.nan),
        np.zeros((capacity, KEYPOINTS, 3)),
        np.zeros(capacity, np.int64),
    )


@jit
def _mark_peaks(
    rows: NDArray[np.float32],
    y: int,
    threshold: np.float32,
    highest: NDArray[np.float32],
    is_peak: NDArray[np.uint8],
) -> None:
    """Mark the values of row ``y`` over the threshold that no neighbor in 3 x 3 cells exceeds.

    Vertically first, into ``highest``, whose first and last cell stay -inf: no border is special,
    and three compares a value remain of nine (peak search 11.5 -> 6.7 us against the horizontal
    maximum of the whole map first).
    """
    above, here, below = rows[max(y - 1, 0)], rows[y], rows[min(y + 1, len(rows) - 1)]
    middle, right = highest[KEYPOINTS:], highest[2 * KEYPOINTS :]
    for i in range(len(here)):
        high = threshold
        high = above[i] if above[i] > high else high
        high = here[i] if here[i] > high else high
        high = below[i] if below[i] > high else high
        middle[i] = high
    for i in range(len(here)):
        high = highest[i]
        high = middle[i] if middle[i] > high else high
        high = right[i] if right[i] > high else high
        is_peak[i] = here[i] >= high


@jit
def _find_peaks(
    heat: NDArray[np.float32],
    threshold: np.float32,
    highest: NDArray[np.float32],
    is_peak: NDArray[np.uint8],
    queue: NDArray[np.uint64],
) -> int:
    """Fill ``queue`` with (height, index in ``heat``) of the peaks; return their number.

    Height and index are the halves of one integer; a smaller integer is a higher peak, and of equal
    ones the earlier in the map.
    """
    row = heat.shape[1] * KEYPOINTS
    rows = heat.reshape(heat.shape[0], row)
    words = is_peak.view(np.uint64)
    count = 0
    for y in range(len(rows)):
        _mark_peaks(rows, y, threshold, highest, is_peak)
        for word in range(len(words)):
            if words[word] == 0:  # eight flags at once: 13 %, 40 % at 1 person
                continue
            for i in range(8 * word, 8 * word + 8):
                if is_peak[i]:
                    queue[count] = y * row + i
                    count += 1
    bits = heat.view(np.uint32).reshape(heat.size)
    for i in range(count):
        queue[i] |= np.uint64(_descending(bits[queue[i]])) << np.uint64(32)
    return count


@jit
def _descending(bits: np.uint32) -> np.uint32:
    """Map the bits of a float32 to an integer that is the smaller the higher the float is."""
    if bits == np.uint32(0x80000000):  # -0.0 ties with 0.0
        bits = np.uint32(0)
    return bits if bits >> np.uint32(31) else bits ^ np.uint32(0x7FFFFFFF)


@jit
def _sort(queue: NDArray[np.uint64], count: int, starts: NDArray[np.uint32]) -> int:
    """Sort the first ``count`` of ``queue[0]`` by their upper half; return the row of the result.

    A radix sort, one byte a pass; a byte that all values share is skipped. No gain at 20 people,
    but noise and plateaus on 65x65 take half the time of a decode with numba's quicksort.
    """
    starts[:] = 0
    for i in range(count):
        key = queue[0, i] >> np.uint64(32)
        for byte in range(4):
            starts[byte, (key >> np.uint64(8 * byte)) & np.uint64(255)] += 1
    row = 0
    for byte in range(4):
        shift = np.uint64(32 + 8 * byte)
        source, target, start = queue[row], queue[1 - row], starts[byte]
        if count == 0 or start[(source[0] >> shift) & np.uint64(255)] == count:
            continue
        total = np.uint32(0)
        for value in range(256):
            here = start[value]
            start[value] = total
            total += here
        for i in range(count):
            value = (source[i] >> shift) & np.uint64(255)
            target[start[value]] = source[i]
            start[value] += np.uint32(1)
        row = 1 - row
    return row


@jit
def _is_taken(
    found: NDArray[np.float64], slots: int, y: float, x: float, squared_radius: float
) -> bool:
    """Say whether one of the first ``slots`` positions found is within the radius of (y, x)."""
    hits = 0
    for slot in range(slots):
        dy = found[0, slot] - y
        dx = found[1, slot] - x
        hits += dy * dy + dx * dx <= squared_radius
    return hits > 0


@jit
def _cell(position: float, stride: float, last: float) -> np.uint64:
    """Return the nearest cell inside the map; NaN gives 0."""
    cell = np.rint(position / stride)
    cell = cell if cell > 0.0 else 0.0
    return np.uint64(cell if cell < last else last)


@jit
def _locate(
    offset: NDArray[np.float32],
    cell: tuple[np.uint64, np.uint64],
    keypoint: np.uint64,
    stride: float,
) -> tuple[float, float]:
    """Return the position (y, x) that a cell gives a keypoint, in input pixels."""
    y = cell[0] * stride + offset[cell[0], cell[1], keypoint]
    x = cell[1] * stride + offset[cell[0], cell[1], _KEYPOINTS + keypoint]
    return y, x


@jit
def _place(
    person: NDArray[np.float64], keypoint: np.uint64, y: float, x: float, logit: np.float32
) -> None:
    """Set a keypoint of ``person``; missing if one of the values does not exist."""
    found = np.isfinite(y) and np.isfinite(x) and not np.isnan(logit)
    person[keypoint, 0] = x if found else np.nan
    person[keypoint, 1] = y if found else np.nan
    person[keypoint, 2] = 1 / (1 + np.exp(-logit)) if found else 0.0


@jit
def _refine(
    maps: Maps,
    keypoint: np.uint64,
    stride: float,
    start: tuple[float, float],
    refinements: int,
) -> tuple[float, float, np.float32]:
    """Return where the offsets lead from the finite position ``start``, and the logit there.

    The nearest cell's offset gives the position and the cell its logit. Each refinement looks again
    from the position found; the logit is then that of the cell nearest to where it ends.
    """
    heat, offset = maps[0], maps[1]
    last_y, last_x = float(heat.shape[0] - 1), float(heat.shape[1] - 1)
    cell = _cell(start[0], stride, last_y), _cell(start[1], stride, last_x)
    y, x = _locate(offset, cell, keypoint, stride)
    for _ in range(refinements):
        if not (np.isfinite(y) and np.isfinite(x)):
            break
        cell = _cell(y, stride, last_y), _cell(x, stride, last_x)
        y, x = _locate(offset, cell, keypoint, stride)
    if refinements > 0:
        cell = _cell(y, stride, last_y), _cell(x, stride, last_x)
    return y, x, heat[cell[0], cell[1], keypoint]


@jit
def _walk(
    maps: Maps,
    root: np.uint64,
    stride: float,
    refinements: int,
    is_linear: int,
    person: NDArray[np.float64],
) -> None:
    """Follow the displacements from the root of ``person`` to its 16 other keypoints."""
    heat, offset, forward, backward = maps
    last_y, last_x = float(heat.shape[0] - 1), float(heat.shape[1] - 1)
    for step in range(KEYPOINTS - 1):
        source, target, edge, is_forward = _WALKS[root, step]
        x, y = person[source, 0], person[source, 1]
        if is_linear:
            moved = move_linear(forward if is_forward else backward, edge, stride, (y, x))
            y, x, logit = refine_linear(heat, offset, target, stride, moved, refinements)
            _place(person, target, y, x, logit)
            continue
        cy, cx = _cell(y, stride, last_y), _cell(x, stride, last_x)
        displacement = forward[cy, cx] if is_forward else backward[cy, cx]
        y += displacement[edge]
        x += displacement[_EDGES + edge]
        if np.isfinite(y) and np.isfinite(x):
            y, x, logit = _refine(maps, target, stride, (y, x), refinements)
            _place(person, target, y, x, logit)
        else:
            _place(person, target, np.nan, np.nan, np.float32(0.0))


@jit
def _score(
    found: NDArray[np.float64], slots: int, person: NDArray[np.float64], squared_radius: float
) -> np.float32:
    """Return the mean keypoint score; a keypoint that an earlier person already has counts 0."""
    total = 0.0
    for keypoint in range(KEYPOINTS):
        x, y = person[keypoint, 0], person[keypoint, 1]
        if not _is_taken(found[keypoint], slots, y, x, squared_radius):
            total += person[keypoint, 2]
    return np.float32(total / KEYPOINTS)


@jit
def _rank(
    scores: NDArray[np.float32], order: NDArray[np.int64], person: int, score: np.float32
) -> None:
    """Insert a person behind all that are at least as good; ``person`` of them are ranked yet."""
    place = person
    while place > 0 and scores[place - 1] < score:
        scores[place] = scores[place - 1]
        order[place] = order[place - 1]
        place -= 1
    scores[place] = score
    order[place] = person


def group(
    maps: Maps,
    settings: Settings,
    scratch: Scratch,
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> int:
    """Write the persons of one frame into ``keypoints`` and ``scores``; return their number.

    The best comes first, positions are (x, y) in input pixels, what is missing is (0, 0, 0). To be
    called through `compile_group`.

    Peaks are tried from the highest to the lowest. One whose keypoint an earlier person already has
    within the radius is a part of that person; any other is the root of a new one.
    """
    threshold, stride, squared_radius, min_score, max_candidates, refinements, is_linear = settings
    highest, is_peak, queue, starts, found, persons, order = scratch
    peaks = _find_peaks(maps[0], np.float32(threshold), highest, is_peak, queue[0])
    peaks_row = queue[_sort(queue, peaks, starts)]
    found[:] = np.nan
    heat, offset = maps[0], maps[1]
    row = np.uint64(heat.shape[1]) * _KEYPOINTS
    count = 0
    for candidate in range(min(peaks, max_candidates)):
        index = peaks_row[candidate] & np.uint64(0xFFFFFFFF)
        root = index % _KEYPOINTS
        cell = index // row, index % row // _KEYPOINTS
        y, x = _locate(offset, cell, root, stride)
        logit = heat[cell[0], cell[1], root]
        if is_linear:
            start = cell[0] * stride, cell[1] * stride
            y, x, logit = refine_linear(heat, offset, root, stride, start, refinements)
        slots = -(-count // LANES) * LANES
        if not (np.isfinite(y) and np.isfinite(x)):
            continue
        if _is_taken(found[root], slots, y, x, squared_radius):
            continue
        person = persons[count]
        _place(person, root, y, x, logit)
        _walk(maps, root, stride, refinements, is_linear, person)
        score = _score(found, slots, person, squared_radius)
        if score < min_score:
            continue
        found[:, 0, count] = person[:, 1]
        found[:, 1, count] = person[:, 0]
        _rank(scores, order, count, score)
        count += 1
        if count == len(persons):
            break
    for rank in range(count):
        person = persons[order[rank]]
        for keypoint in range(KEYPOINTS):
            for axis in range(3):
                value = person[keypoint, axis]
                keypoints[rank, keypoint, axis] = 0.0 if np.isnan(value) else value
    return count


@functools.cache
def compile_group() -> Group:
    """Return `group` compiled, or loaded from the cache on disk; takes seconds the first time.

    It is compiled for one set of types, which read-only and writable maps both fit: no call of the
    result compiles anything.
    """
    types: Any = numba.types
    maps = types.UniTuple(types.Array(types.float32, 3, "C", readonly=True), 4)
    settings = types.Tuple((types.float64,) * 4 + (types.int64,) * 3)
    scratch = cast(Any, numba).typeof(make_scratch(1, 1, 1))
    signature = types.int64(maps, settings, scratch, types.float32[:, :, ::1], types.float32[::1])
    return cast(Group, numba.njit(signature, **COMPILER)(group))
