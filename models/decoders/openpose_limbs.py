"""The second half of the OpenPose decoder, compiled: peaks and affinity fields -> limbs.

A pair of peaks is a limb if the field points from one to the other at all but one of some points
between them, ends included; its affinity is a mean of what the field says there. `score_on_cells`
takes the nearest cell of 8 points, and both ends must pass. `score_on_pixels` takes 10 points of
the field upsampled 4 times, interpolated only there, as the reference does.

Nothing here allocates, holds the GIL or reads outside its arrays, whatever values the maps hold.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.decoders.openpose_peaks import WEIGHTS, Peaks, jit

LIMBS = (
    (1, 2, 12), (1, 5, 20), (2, 3, 14), (3, 4, 16), (5, 6, 22), (6, 7, 24), (1, 8, 0),
    (8, 9, 2), (9, 10, 4), (1, 11, 6), (11, 12, 8), (12, 13, 10), (1, 0, 28), (0, 14, 30),
    (14, 16, 34), (0, 15, 32), (15, 17, 36), (2, 16, 18), (5, 17, 26),
)  # fmt: skip
"""(from, to, channel of x; y is the next) in the order in which the reference grows persons."""
AFFINITIES = 2 * len(LIMBS)
CELL_SAMPLES, PIXEL_SAMPLES = 8, 10
"""Points between two peaks; the reference's are 10, more than 80 % of which must pass."""
SHORTEST = np.float32(1e-6)
"""What the reference adds before it divides by a length or a number."""

_TABLE = np.array(LIMBS, np.int64)
# From the middle: a pair that is no limb fails there first.
_CELL_ORDER = np.array([3, 4, 2, 5, 1, 6], np.float32)
_PIXEL_ORDER = np.array([4, 5, 3, 6, 2, 7, 1, 8], np.float32)
_CELL_STEP = np.float32(1 / (CELL_SAMPLES - 1))
_PIXEL_STEP = np.float32(1 / (PIXEL_SAMPLES - 1))
_ZERO, _ONE, _TWO, _THREE, _FOUR = (np.uint64(i) for i in range(5))
_EIGHT, _KINDS = np.uint64(8), np.uint64(len(LIMBS))

Work: TypeAlias = tuple[
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.uint8],
    NDArray[np.uint64],
    NDArray[np.float32],
    NDArray[np.uint32],
    NDArray[np.uint64],
    NDArray[np.uint32],
]
"""What `make_work` returns."""
Limbs: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Index of the peak it comes from, of the one it goes to, affinity."""


def make_work(capacity: int) -> Work:
    """Allocate what pairs of so many peaks are scored in.

    x, y and the field's x and y of the peaks a kind of limb starts at, and of those it ends at;
    what passed, one by one and as words; affinities, as floats and as bits; the queue that is
    sorted, twice, and where each byte starts.
    """
    room = -(-capacity // 16) * 16
    words = np.zeros(room // 8, np.uint64)
    affinities = np.zeros(capacity * capacity, np.float32)
    return (
        np.zeros((4, room), np.float32),
        np.zeros((4, room), np.float32),
        words.view(np.uint8),
        words,
        affinities,
        affinities.view(np.uint32),
        np.zeros((2, capacity * capacity), np.uint64),
        np.zeros((4, 256), np.uint32),
    )


def make_fields(height: int, width: int) -> NDArray[np.float32]:
    """Allocate the field of each kind of limb as `split_fields` writes it."""
    return np.zeros((len(LIMBS), (height + 4) | 1, 2 * (width + 4)), np.float32)


@jit
def split_fields(paf: NDArray[np.float32], fields: NDArray[np.float32]) -> None:
    """Copy the field of each kind of limb into a plane of its own whose border repeats.

    The 4 x 4 cells that a pixel is interpolated from are 4 runs of memory then instead of 16.
    """
    height, width = np.uint64(paf.shape[0]), np.uint64(paf.shape[1])
    last = width + width + _TWO
    for y in range(height):
        line = y + _TWO
        for x in range(width):
            at = x + x + _FOUR
            for kind in range(_KINDS):
                fields[kind, line, at] = paf[y, x, kind + kind]
                fields[kind, line, at + _ONE] = paf[y, x, kind + kind + _ONE]
        for kind in range(_KINDS):
            for at in range(_FOUR):
                fields[kind, line, at] = fields[kind, line, _FOUR + at % _TWO]
                fields[kind, line, last + _TWO + at] = fields[kind, line, last + at % _TWO]
    for kind in range(_KINDS):
        fields[kind, 0] = fields[kind, 1] = fields[kind, 2]
        fields[kind, height + _TWO] = fields[kind, height + _ONE]
        fields[kind, height + _THREE] = fields[kind, height + _ONE]


def make_limbs(capacity: int) -> Limbs:
    """Allocate room for the limbs of one kind."""
    return (
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.float32),
    )


@jit
def _test_ends(
    work: Work, at: np.uint64, threshold: np.float32, count: int, needs_both: bool
) -> None:
    """Mark the starts where the field passes there and at end ``at``; or at one of the two."""
    starts, ends, passed = work[0], work[1], work[2]
    end_x, end_y, field_x, field_y = ends[0, at], ends[1, at], ends[2, at], ends[3, at]
    room = np.uint64((count + 15) // 16 * 16)
    if needs_both:
        for i in range(room):
            dx, dy = end_x - starts[_ZERO, i], end_y - starts[_ONE, i]
            length = np.sqrt(dx * dx + dy * dy) + SHORTEST
            dx, dy = dx / length, dy / length
            at_start = starts[_TWO, i] * dx + starts[_THREE, i] * dy > threshold
            passed[i] = at_start & (field_x * dx + field_y * dy > threshold)
    else:
        for i in range(room):
            dx, dy = end_x - starts[_ZERO, i], end_y - starts[_ONE, i]
            length = np.sqrt(dx * dx + dy * dy) + SHORTEST
            dx, dy = dx / length, dy / length
            at_start = starts[_TWO, i] * dx + starts[_THREE, i] * dy > threshold
            passed[i] = at_start | (field_x * dx + field_y * dy > threshold)


@jit
def _enqueue(work: Work, count: int, index: int, affinity: np.float32) -> int:
    """Append a pair; return how many there are now. A smaller integer is a higher affinity."""
    affinities, bits, queue = work[4], work[5], work[6]
    if not affinity > 0:
        return count
    affinities[count] = affinity
    queue[0, count] = np.uint64(~bits[count]) << np.uint64(32) | np.uint64(index)
    return count + 1


@jit
def score_on_cells(
    paf: NDArray[np.float32], limb: int, peaks: Peaks, threshold: np.float32, work: Work
) -> int:
    """Put the pairs that are limbs of a kind into the queue; return their number."""
    a, b, channel = np.uint64(_TABLE[limb, 0]), np.uint64(_TABLE[limb, 1]), _TABLE[limb, 2]
    starts, ends, passed, words = work[0], work[1], work[2], work[3]
    count_a, count_b = peaks[3][a], peaks[3][b]
    for side, part, total in ((starts, a, count_a), (ends, b, count_b)):
        for i in range(np.uint64(total)):
            x, y = peaks[0][part, i], peaks[1][part, i]
            cell_x, cell_y = np.uint64(np.rint(x)), np.uint64(np.rint(y))
            side[0, i], side[1, i] = x, y
            side[2, i] = paf[cell_y, cell_x, np.uint64(channel)]
            side[3, i] = paf[cell_y, cell_x, np.uint64(channel + 1)]
    count = 0
    for j in range(np.uint64(count_b)):
        _test_ends(work, j, threshold, count_a, True)
        for word in range(np.uint64((count_a + 7) // 8)):
            if words[word] == 0:  # eight marks at once
                continue
            first = word * _EIGHT
            for i in range(first, min(first + _EIGHT, np.uint64(count_a))):
                if passed[i]:
                    affinity = _affinity_on_cells(paf, channel, work, (i, j), threshold)
                    index = np.int64(j) * count_a + np.int64(i)
                    count = _enqueue(work, count, index, affinity)
    return count


@jit
def _affinity_on_cells(
    paf: NDArray[np.float32],
    channel: int,
    work: Work,
    pair: tuple[np.uint64, np.uint64],
    threshold: np.float32,
) -> np.float32:
    """Return the mean of 8 points if at most one of those between the ends fails, else 0."""
    starts, ends = work[0], work[1]
    i, j = pair
    start_x, start_y = starts[_ZERO, i], starts[_ONE, i]
    dx, dy = ends[_ZERO, j] - start_x, ends[_ONE, j] - start_y
    length = np.sqrt(dx * dx + dy * dy) + SHORTEST
    ux, uy = dx / length, dy / length
    step_x, step_y = dx * _CELL_STEP, dy * _CELL_STEP
    total = np.float64(starts[_TWO, i] * ux + starts[_THREE, i] * uy)
    total += np.float64(ends[_TWO, j] * ux + ends[_THREE, j] * uy)
    at_x, at_y = np.uint64(channel), np.uint64(channel + 1)
    failed = 0
    for sample in _CELL_ORDER:
        x = np.uint64(np.rint(step_x * sample + start_x))
        y = np.uint64(np.rint(step_y * sample + start_y))
        value = paf[y, x, at_x] * ux + paf[y, x, at_y] * uy
        total += np.float64(value)
        if not value > threshold:
            failed += 1
            if failed > 1:
                return np.float32(0)
    return np.float32(total / CELL_SAMPLES)


@jit
def _pixel(
    fields: NDArray[np.float32], kind: np.uint64, x: int, y: int
) -> tuple[np.float32, np.float32]:
    """Return the field at a pixel of the map upsampled 4 times, vertically first."""
    phase_x, phase_y = np.uint64(x) % _FOUR, np.uint64(y) % _FOUR
    # The border repeats twice, so the first of 4 cells is at 0 or more.
    c = _TWO * (np.uint64(x) // _FOUR + (_ZERO if phase_x < _TWO else _ONE))
    r = np.uint64(y) // _FOUR + (_ZERO if phase_y < _TWO else _ONE)
    w0, w1 = WEIGHTS[phase_y, 0], WEIGHTS[phase_y, 1]
    w2, w3 = WEIGHTS[phase_y, 2], WEIGHTS[phase_y, 3]
    field_x, field_y = np.float32(0), np.float32(0)
    for tap in range(_FOUR):
        weight = WEIGHTS[phase_x, tap]
        at = c + _TWO * tap
        field_x += weight * (
            w0 * fields[kind, r, at] + w1 * fields[kind, r + _ONE, at]
            + w2 * fields[kind, r + _TWO, at] + w3 * fields[kind, r + _THREE, at]
        )  # fmt: skip
        at += _ONE
        field_y += weight * (
            w0 * fields[kind, r, at] + w1 * fields[kind, r + _ONE, at]
            + w2 * fields[kind, r + _TWO, at] + w3 * fields[kind, r + _THREE, at]
        )  # fmt: skip
    return field_x, field_y


@jit
def score_on_pixels(
    fields: NDArray[np.float32], limb: int, peaks: Peaks, threshold: np.float32, work: Work
) -> int:
    """Put the pairs that are limbs of a kind into the queue; return their number."""
    a, b, kind = _TABLE[limb, 0], _TABLE[limb, 1], np.uint64(_TABLE[limb, 2] // 2)
    starts, ends, passed = work[0], work[1], work[2]
    count_a, count_b = peaks[3][a], peaks[3][b]
    if count_a == 0 or count_b == 0:
        return 0
    for side, part, total in ((starts, a, count_a), (ends, b, count_b)):
        for i in range(total):
            x, y = peaks[0][part, i], peaks[1][part, i]
            side[0, i], side[1, i] = x, y
            side[2, i], side[3, i] = _pixel(fields, kind, int(x), int(y))
    count = 0
    for j in range(np.uint64(count_b)):
        _test_ends(work, j, threshold, count_a, False)
        for i in range(np.uint64(count_a)):
            if passed[i]:
                affinity = _affinity_on_pixels(fields, kind, work, (i, j), threshold)
                count = _enqueue(work, count, np.int64(j) * count_a + np.int64(i), affinity)
    return count


@jit
def _affinity_on_pixels(
    fields: NDArray[np.float32],
    kind: np.uint64,
    work: Work,
    pair: tuple[np.uint64, np.uint64],
    threshold: np.float32,
) -> np.float32:
    """Return the mean of those of 10 points that pass if at most one fails, else 0."""
    starts, ends = work[0], work[1]
    i, j = pair
    start_x, start_y = starts[_ZERO, i], starts[_ONE, i]
    dx, dy = ends[_ZERO, j] - start_x, ends[_ONE, j] - start_y
    length = np.sqrt(dx * dx + dy * dy) + SHORTEST
    ux, uy = dx / length, dy / length
    step_x, step_y = dx * _PIXEL_STEP, dy * _PIXEL_STEP
    at_start = starts[_TWO, i] * ux + starts[_THREE, i] * uy
    at_end = ends[_TWO, j] * ux + ends[_THREE, j] * uy
    total, passed = 0.0, 0
    for value in (at_start, at_end):
        if value > threshold:
            total += np.float64(value)
            passed += 1
    failed = 2 - passed
    for sample in _PIXEL_ORDER:
        x = int(np.rint(step_x * sample + start_x))
        y = int(np.rint(step_y * sample + start_y))
        field_x, field_y = _pixel(fields, kind, x, y)
        value = field_x * ux + field_y * uy
        if value > threshold:
            total += np.float64(value)
            passed += 1
        else:
            failed += 1
            if failed > 1:
                return np.float32(0)
    return np.float32(total / (passed + 1e-6))


@jit
def _sort(queue: NDArray[np.uint64], count: int, starts: NDArray[np.uint32]) -> int:
    """Sort the first ``count`` of ``queue[0]`` by their upper half; return the row of the result.

    Few by insertion; many, as noise has them, by a radix sort of one byte a pass.
    """
    if count <= 40:
        for i in range(1, count):
            key, place = queue[0, i], i
            while place > 0 and queue[0, place - 1] > key:
                queue[0, place] = queue[0, place - 1]
                place -= 1
            queue[0, place] = key
        return 0
    starts[:] = 0
    for i in range(count):
        for byte in range(4):
            starts[byte, (queue[0, i] >> np.uint64(32 + 8 * byte)) & np.uint64(255)] += np.uint32(1)
    for byte in range(4):
        total = np.uint32(0)
        for value in range(256):
            here = starts[byte, value]
            starts[byte, value] = total
            total += here
        source, target = queue[byte % 2], queue[1 - byte % 2]
        for i in range(count):
            value = np.int64((source[i] >> np.uint64(32 + 8 * byte)) & np.uint64(255))
            target[starts[byte, value]] = source[i]
            starts[byte, value] += np.uint32(1)
    return 0


@jit
def choose_limbs(limb: int, peaks: Peaks, work: Work, pairs: int, limbs: Limbs) -> int:
    """Take the pairs from the highest affinity on, no peak twice; return how many are limbs."""
    count_a, count_b = peaks[3][_TABLE[limb, 0]], peaks[3][_TABLE[limb, 1]]
    queue, taken = work[6], work[2]
    ordered = queue[_sort(queue, pairs, work[7])]
    starts, ends, affinities = limbs
    taken_ends = work[1]
    taken[:count_a] = 0
    taken_ends[0, :count_b] = 0
    count = 0
    for i in range(pairs):
        index = np.int64(ordered[i] & np.uint64(0xFFFFFFFF))
        a, b = index % count_a, index // count_a
        if taken[a] or taken_ends[0, b] > 0:
            continue
        taken[a] = 1
        taken_ends[0, b] = 1
        starts[count], ends[count] = a, b
        affinities[count] = _affinity(ordered[i], work)
        count += 1
        if count == min(count_a, count_b):
            break
    return count


@jit
def _affinity(key: np.uint64, work: Work) -> np.float32:
    """Return the affinity that `_enqueue` put into a key."""
    affinities, bits = work[4], work[5]
    bits[0] = ~np.uint32(key >> np.uint64(32))
    return affinities[0]
