"""The compiled half of the PoseNet decoder: peaks, their order, persons; checks neither shapes nor options.

Nothing here allocates, holds the GIL or reads outside its arrays, whatever values the maps hold. A NaN
never wins a comparison, so a cell with a NaN score is no peak; a keypoint whose score is NaN or whose
position is not finite is missing, and so is everything behind it on the walk.

Gains in comments are CPU time of the whole decode at 20 people on a 33x33 map, unless they say
otherwise: the median of interleaved runs with and without the trick.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

KEYPOINTS = 17
EDGES = (
    (0, 1), (1, 3), (0, 2), (2, 4),
    (0, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15),
    (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
)  # fmt: skip
"""(parent, child) in the order of the displacement channels: PersonLab (arXiv:1803.08225), section 3.1,
in the channel order that every published PoseNet has."""

LANES = 16
"""Persons are compared this many at a time: a loop without remainder and without early exit
vectorizes. Gain at 50 people: see `_is_taken`."""

Maps: TypeAlias = tuple[
    NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]
]
"""Heatmap logits ``(y, x, 17)``, offsets ``(y, x, 34)``, displacements forward and backward
``(y, x, 32)``; C-contiguous."""
Settings: TypeAlias = tuple[float, float, float, float, int]
"""Logit threshold, stride, squared NMS radius, minimum pose score, most candidates."""
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

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _jit(function: _Function) -> _Function:
    return cast(_Function, numba.njit(nogil=True, cache=True)(function))


def _walk_from(root: int) -> list[tuple[int, int, int, int]]:
    """Return (source, target, edge, is forward) for the 16 other keypoints, nearest first.

    Nearest first, not limb after limb: neighboring steps do not wait for each other (35 % of
    `_walk`, measured alone).
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


_WALKS = np.array([_walk_from(root) for root in range(KEYPOINTS)], np.int64)


def make_scratch(height: int, width: int, capacity: int) -> Scratch:
    """Allocate what `group` works in, for maps of ``height`` x ``width`` and ``capacity`` persons."""
    row = width * KEYPOINTS
    slots = -(-capacity // LANES) * LANES
    return (
        np.full(row + 2 * KEYPOINTS, -np.inf, np.float32),  # a cell that never wins on both sides
        np.zeros(-(-row // 8) * 8, np.uint8),  # whole 64-bit words
        np.zeros((2, height * row + 8), np.uint64),  # one word more than the last peak needs
        np.zeros((4, 256), np.uint32),
        np.full((KEYPOINTS, 2, slots), np.nan),
        np.zeros((capacity, KEYPOINTS, 3)),
        np.zeros(capacity, np.int64),
    )


def compile_group() -> None:
    """Compile `group`, or load it from the cache, for writable and read-only maps alike."""
    maps = numba.types.UniTuple(numba.types.Array(numba.float32, 3, "C", readonly=True), 4)
    settings = numba.types.Tuple((numba.float64,) * 4 + (numba.int64,))
    scratch = numba.typeof(make_scratch(1, 1, 1))
    dispatcher = cast(Any, group)
    dispatcher.compile((maps, settings, scratch, numba.float32[:, :, ::1], numba.float32[::1]))
    dispatcher.disable_compile()


@_jit
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


@_jit
def _find_peaks(
    heat: NDArray[np.float32],
    threshold: np.float32,
    highest: NDArray[np.float32],
    is_peak: NDArray[np.uint8],
    queue: NDArray[np.uint64],
) -> int:
    """Fill ``queue`` with the peaks of all keypoints, as ``_sort`` wants them; return their number."""
    row = heat.shape[1] * KEYPOINTS
    rows = heat.reshape(heat.shape[0], row)
    words = is_peak.view(np.uint64)
    count = 0
    for y in range(len(rows)):
        _mark_peaks(rows, y, threshold, highest, is_peak)
        for word in range(len(words)):
            if words[word] != 0:
                for i in range(8 * word, 8 * word + 8):  # no branch: a non-peak is overwritten
                    queue[count] = y * row + i
                    count += is_peak[i]
    bits = heat.view(np.uint32).reshape(heat.size)
    for i in range(count):
        queue[i] |= np.uint64(_descending(bits[queue[i]])) << np.uint64(32)
    return count


@_jit
def _descending(bits: np.uint32) -> np.uint32:
    """Map the bits of a float32 to an integer that is the smaller the higher the float is."""
    if bits == np.uint32(0x80000000):  # -0.0 ties with 0.0
        bits = np.uint32(0)
    return bits if bits >> np.uint32(31) else bits ^ np.uint32(0x7FFFFFFF)


@_jit
def _sort(queue: NDArray[np.uint64], count: int, starts: NDArray[np.uint32]) -> int:
    """Sort the first ``count`` of ``queue[0]`` by their upper half; return the row that holds the result.

    A stable radix sort, one byte a pass: equal scores stay in scan order, the time is the same for
    every input, and a byte that all values share is skipped (plateaus need no pass at all).
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


@_jit
def _is_taken(
    found: NDArray[np.float64], slots: int, y: float, x: float, squared_radius: float
) -> bool:
    """Say whether one of the first ``slots`` positions in ``found`` is within the radius of (y, x)."""
    hits = 0
    for slot in range(slots):
        dy = found[0, slot] - y
        dx = found[1, slot] - x
        hits += dy * dy + dx * dx <= squared_radius
    return hits > 0


@_jit
def _cell(position: float, stride: float, last: float) -> int:
    """Return the nearest cell inside the map; NaN gives 0."""
    cell = np.rint(position / stride)
    cell = cell if cell > 0.0 else 0.0
    return np.int64(cell if cell < last else last)


@_jit
def _locate(
    offset: NDArray[np.float32], cell: tuple[int, int], keypoint: int, stride: float
) -> tuple[float, float]:
    """Return the position (y, x) that a cell gives a keypoint, in input pixels."""
    y = cell[0] * stride + offset[cell[0], cell[1], keypoint]
    x = cell[1] * stride + offset[cell[0], cell[1], KEYPOINTS + keypoint]
    return y, x


@_jit
def _place(person: NDArray[np.float64], keypoint: int, y: float, x: float, logit: float) -> None:
    """Set a keypoint of ``person``; missing if one of the values does not exist."""
    found = np.isfinite(y) and np.isfinite(x) and not np.isnan(logit)
    person[keypoint, 0] = x if found else np.nan
    person[keypoint, 1] = y if found else np.nan
    person[keypoint, 2] = 1 / (1 + np.exp(-logit)) if found else 0.0


@_jit
def _walk(maps: Maps, root: int, stride: float, person: NDArray[np.float64]) -> None:
    """Follow the displacements from the root of ``person`` to its 16 other keypoints."""
    heat, offset, forward, backward = maps
    last_y, last_x = float(heat.shape[0] - 1), float(heat.shape[1] - 1)
    for step in range(KEYPOINTS - 1):
        source, target, edge, is_forward = _WALKS[root, step]
        x, y = person[source, 0], person[source, 1]
        cy, cx = _cell(y, stride, last_y), _cell(x, stride, last_x)
        displacement = forward[cy, cx] if is_forward else backward[cy, cx]
        y += displacement[edge]
        x += displacement[KEYPOINTS - 1 + edge]
        if np.isfinite(y) and np.isfinite(x):
            cell = _cell(y, stride, last_y), _cell(x, stride, last_x)
            y, x = _locate(offset, cell, target, stride)
            _place(person, target, y, x, heat[cell[0], cell[1], target])
        else:
            _place(person, target, np.nan, np.nan, np.float32(0.0))


@_jit
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


@_jit
def _rank(scores: NDArray[np.float32], order: NDArray[np.int64], person: int, score: float) -> None:
    """Insert a person behind all that are at least as good; ``person`` counts those."""
    place = person
    while place > 0 and scores[place - 1] < score:
        scores[place] = scores[place - 1]
        order[place] = order[place - 1]
        place -= 1
    scores[place] = score
    order[place] = person


@_jit
def group(
    maps: Maps,
    settings: Settings,
    scratch: Scratch,
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> int:
    """Write the persons of one frame into ``keypoints`` and ``scores``, best first; return their number.

    Peaks are tried from the highest to the lowest. One whose keypoint an earlier person already has
    within the radius is a part of that person; any other is the root of a new one.
    """
    threshold, stride, squared_radius, min_score, max_candidates = settings
    highest, is_peak, queue, starts, found, persons, order = scratch
    peaks = _find_peaks(maps[0], np.float32(threshold), highest, is_peak, queue[0])
    peaks_row = queue[_sort(queue, peaks, starts)]
    found[:] = np.nan
    heat, offset = maps[0], maps[1]
    row = heat.shape[1] * KEYPOINTS
    count = 0
    for candidate in range(min(peaks, max_candidates)):
        index = np.int64(peaks_row[candidate] & np.uint64(0xFFFFFFFF))
        root = index % KEYPOINTS
        cell = index // row, index % row // KEYPOINTS
        y, x = _locate(offset, cell, root, stride)
        slots = -(-count // LANES) * LANES
        if not (np.isfinite(y) and np.isfinite(x)):
            continue
        if _is_taken(found[root], slots, y, x, squared_radius):
            continue
        person = persons[count]
        _place(person, root, y, x, heat[cell[0], cell[1], root])
        _walk(maps, root, stride, person)
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
