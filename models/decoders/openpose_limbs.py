"""The second half of the OpenPose decoder, compiled: peaks and affinity fields -> limbs.

A pair of peaks is a limb if the field points from one to the other at all but one of some points
between them, ends included; its affinity is a mean of what the field says there. `score_on_cells`
takes the nearest cell of 8 points, and both ends and both in the middle must pass.
`score_on_pixels` takes 10 points of the field upsampled 4 times, interpolated only there, as the
reference does.

Nothing here allocates, holds the GIL or reads outside its arrays, whatever values the maps hold.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.decoders.openpose_peaks import Index, Peaks, jit, mark_highest
from models.decoders.openpose_pixels import field_at_pixel

LIMBS = (
    (1, 2, 12), (1, 5, 20), (2, 3, 14), (3, 4, 16), (5, 6, 22), (6, 7, 24), (1, 8, 0),
    (8, 9, 2), (9, 10, 4), (1, 11, 6), (11, 12, 8), (12, 13, 10), (1, 0, 28), (0, 14, 30),
    (14, 16, 34), (0, 15, 32), (15, 17, 36), (2, 16, 18), (5, 17, 26),
)  # fmt: skip
"""(from, to, channel of x; y is the next) in the order in which the reference grows persons."""
CELL_SAMPLES, PIXEL_SAMPLES = 8, 10
"""Points between two peaks; the reference's are 10, more than 80 % of which must pass."""
SHORTEST = np.float32(1e-6)
"""What the reference adds before it divides by a length or a number."""

MOST_ON_CELLS, MOST_ON_PIXELS, FEW_PEAKS = 1024, 2600, 32
"""If more pairs of a kind of limb pass first, only those of so many peaks, the highest of either
end, are looked at further: bounds the time of noise. 50 persons have 300 and 1600."""

_TABLE = np.array(LIMBS, np.int64)
# From the middle: a pair that is no limb fails there first.
_CELL_ORDER = np.array([3, 4, 2, 5, 1, 6], np.float32)
_PIXEL_ORDER = np.array([4, 5, 3, 6, 2, 7, 1, 8], np.float32)
_CELL_STEP = np.float32(1 / (CELL_SAMPLES - 1))
_PIXEL_STEP = np.float32(1 / (PIXEL_SAMPLES - 1))
_ZERO, _ONE, _TWO, _THREE = (np.uint64(i) for i in range(4))
_SIXTEEN, _LOW = np.uint64(16), np.uint64(0xFFFF)  # the index of a peak fits 16 bits

Ends: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]
"""x, y and the field's x and y ``(4, peak)`` of the peaks that a kind of limb starts at, and of
those it ends at; which starts pass with one end."""
Pairs: TypeAlias = tuple[
    NDArray[np.uint32],
    NDArray[np.uint32],
    NDArray[np.uint8],
    NDArray[np.float64],
    NDArray[np.float32],
    NDArray[np.float32],
]
"""Start, end, how many points failed yet, sum over the others, direction as x and y."""
Queue: TypeAlias = tuple[
    NDArray[np.float32], NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint32]
]
"""Affinities, as floats and as bits; what is sorted, twice, and where each byte starts."""
Work: TypeAlias = tuple[Ends, Pairs, Queue]
"""What the pairs of a kind of limb are scored in."""
Limbs: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Index of the peak it comes from, of the one it goes to, affinity."""


def make_work(capacity: int) -> Work:
    """Allocate what the pairs of so many peaks are scored in."""
    room, most = -(-capacity // 16) * 16, capacity * (capacity + 1)
    ends = (
        np.zeros((4, room), np.float32),
        np.zeros((4, room), np.float32),
        np.zeros(room, np.uint8),
    )
    pairs = (
        np.zeros(most, np.uint32),
        np.zeros(most, np.uint32),
        np.zeros(most, np.uint8),
        np.zeros(most, np.float64),
        np.zeros(most, np.float32),
        np.zeros(most, np.float32),
    )
    affinities = np.zeros(most, np.float32)
    queue = (
        affinities,
        affinities.view(np.uint32),
        np.zeros((2, most), np.uint64),
        np.zeros((4, 256), np.uint32),
    )
    return ends, pairs, queue


def make_limbs(capacity: int) -> Limbs:
    """Allocate room for the limbs of one kind."""
    return (
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.int64),
        np.zeros(capacity, np.float32),
    )


@jit
def _test_ends(ends: Ends, at: Index, threshold: np.float32, count: int, needs_both: bool) -> None:
    """Mark the starts where the field passes there and at end ``at``; or at one of the two."""
    first, second, passed = ends
    end_x, end_y = second[0, at], second[1, at]
    field_x, field_y = second[2, at], second[3, at]
    room = np.uint64((count + 15) // 16 * 16)
    if needs_both:
        for i in range(room):
            dx, dy = end_x - first[_ZERO, i], end_y - first[_ONE, i]
            length = np.sqrt(dx * dx + dy * dy) + SHORTEST
            dx, dy = dx / length, dy / length
            at_start = first[_TWO, i] * dx + first[_THREE, i] * dy > threshold
            passed[i] = at_start & (field_x * dx + field_y * dy > threshold)
    else:
        for i in range(room):
            dx, dy = end_x - first[_ZERO, i], end_y - first[_ONE, i]
            length = np.sqrt(dx * dx + dy * dy) + SHORTEST
            dx, dy = dx / length, dy / length
            at_start = first[_TWO, i] * dx + first[_THREE, i] * dy > threshold
            passed[i] = at_start | (field_x * dx + field_y * dy > threshold)


@jit
def _pair_up(work: Work, counts: tuple[int, int], threshold: np.float32, needs_both: bool) -> Index:
    """List the pairs that pass at both ends, or at one; return their number.

    Without branches, here and in what follows: what passes is hard to guess, and a wrong guess
    costs as much as two points.
    """
    ends, pairs, _ = work
    passed, starts_of, ends_of = ends[2], pairs[0], pairs[1]
    count: Index = np.uint64(0)
    for j in range(np.uint64(counts[1])):
        _test_ends(ends, j, threshold, counts[0], needs_both)
        for i in range(np.uint64(counts[0])):
            starts_of[count] = i
            ends_of[count] = j
            count += np.uint64(passed[i])
    return count


@jit
def _keep_high(peaks: Peaks, parts: tuple[Index, Index], work: Work, count: Index) -> Index:
    """Keep the pairs of the highest peaks of either end; return their number."""
    starts_of, ends_of, is_high_start, is_high_end = work[1][0], work[1][1], work[0][2], work[1][2]
    mark_highest(peaks[2][parts[0]], peaks[3][parts[0]], FEW_PEAKS, is_high_start)
    mark_highest(peaks[2][parts[1]], peaks[3][parts[1]], FEW_PEAKS, is_high_end)
    kept: Index = np.uint64(0)
    for pair in range(count):
        i, j = np.uint64(starts_of[pair]), np.uint64(ends_of[pair])
        starts_of[kept], ends_of[kept] = i, j
        kept += np.uint64(is_high_start[i] & is_high_end[j])
    return kept


@jit
def _drop_hollow(
    paf: NDArray[np.float32], channel: Index, work: Work, count: Index, threshold: np.float32
) -> Index:
    """Keep the pairs that pass at both points in the middle; return their number.

    `_sample_cells` finds the same, but here nothing else is carried along: 7 % at 20 people, 12 %
    at 50.
    """
    first, second, _ = work[0]
    starts_of, ends_of = work[1][0], work[1][1]
    kept: Index = np.uint64(0)
    for pair in range(count):
        i, j = np.uint64(starts_of[pair]), np.uint64(ends_of[pair])
        start_x, start_y = first[_ZERO, i], first[_ONE, i]
        dx, dy = second[_ZERO, j] - start_x, second[_ONE, j] - start_y
        length = np.sqrt(dx * dx + dy * dy) + SHORTEST
        ux, uy = dx / length, dy / length
        step_x, step_y = dx * _CELL_STEP, dy * _CELL_STEP
        x = np.uint64(np.int64(np.rint(step_x * _CELL_ORDER[0] + start_x)))
        y = np.uint64(np.int64(np.rint(step_y * _CELL_ORDER[0] + start_y)))
        passes = paf[y, x, channel] * ux + paf[y, x, channel + _ONE] * uy > threshold
        x = np.uint64(np.int64(np.rint(step_x * _CELL_ORDER[1] + start_x)))
        y = np.uint64(np.int64(np.rint(step_y * _CELL_ORDER[1] + start_y)))
        passes &= paf[y, x, channel] * ux + paf[y, x, channel + _ONE] * uy > threshold
        starts_of[kept], ends_of[kept] = starts_of[pair], ends_of[pair]
        kept += np.uint64(passes)
    return kept


@jit
def _begin(work: Work, count: Index, threshold: np.float32) -> None:
    """Set the direction of each pair, and what its ends add to its sum and its failures."""
    first, second, _ = work[0]
    starts_of, ends_of, failed, totals, xs, ys = work[1]
    for pair in range(count):
        i, j = np.uint64(starts_of[pair]), np.uint64(ends_of[pair])
        dx, dy = second[_ZERO, j] - first[_ZERO, i], second[_ONE, j] - first[_ONE, i]
        length = np.sqrt(dx * dx + dy * dy) + SHORTEST
        dx, dy = dx / length, dy / length
        xs[pair], ys[pair] = dx, dy
        at_start = first[_TWO, i] * dx + first[_THREE, i] * dy
        at_end = second[_TWO, j] * dx + second[_THREE, j] * dy
        start_fails, end_fails = not at_start > threshold, not at_end > threshold
        failed[pair] = np.uint8(start_fails) + np.uint8(end_fails)
        totals[pair] = (0.0 if start_fails else np.float64(at_start)) + (
            0.0 if end_fails else np.float64(at_end)
        )


@jit
def score_on_cells(
    paf: NDArray[np.float32], limb: int, peaks: Peaks, threshold: np.float32, work: Work
) -> int:
    """Put the pairs that are limbs of a kind into the queue; return their number."""
    a, b = np.uint64(_TABLE[limb, 0]), np.uint64(_TABLE[limb, 1])
    channel = np.uint64(_TABLE[limb, 2])
    counts = peaks[3][a], peaks[3][b]
    if counts[0] == 0 or counts[1] == 0:
        return 0
    for side, part in ((work[0][0], a), (work[0][1], b)):
        for i in range(np.uint64(peaks[3][part])):
            x, y = peaks[0][part, i], peaks[1][part, i]
            cell_x, cell_y = np.uint64(np.rint(x)), np.uint64(np.rint(y))
            side[0, i], side[1, i] = x, y
            side[2, i] = paf[cell_y, cell_x, channel]
            side[3, i] = paf[cell_y, cell_x, channel + _ONE]
    count: Index = _pair_up(work, counts, threshold, True)
    count = _drop_hollow(paf, channel, work, count, threshold)
    if count > MOST_ON_CELLS:
        count = _keep_high(peaks, (a, b), work, count)
    _begin(work, count, threshold)
    count = _walk_cells(paf, channel, work, count, threshold)
    return _enqueue_all(work, count, CELL_SAMPLES, False)


@jit
def _walk_cells(
    paf: NDArray[np.float32], channel: Index, work: Work, count: Index, threshold: np.float32
) -> Index:
    """Look at the nearest cell of one point of each pair after the other.

    Keeps the pairs of which at most one point failed and returns their number, as does
    `_walk_pixels`. One function for all points: to enter one costs 30 ns, for its arrays' counts.
    """
    first, second = work[0][0], work[0][1]
    starts_of, ends_of, failed, totals, xs, ys = work[1]
    for step in range(len(_CELL_ORDER)):
        sample = _CELL_ORDER[step]
        kept: Index = np.uint64(0)
        for pair in range(count):
            i, j = np.uint64(starts_of[pair]), np.uint64(ends_of[pair])
            start_x, start_y = first[_ZERO, i], first[_ONE, i]
            dx, dy = second[_ZERO, j] - start_x, second[_ONE, j] - start_y
            x = np.uint64(np.int64(np.rint(dx * _CELL_STEP * sample + start_x)))
            y = np.uint64(np.int64(np.rint(dy * _CELL_STEP * sample + start_y)))
            value = paf[y, x, channel] * xs[pair] + paf[y, x, channel + _ONE] * ys[pair]
            total = totals[pair] + np.float64(value)
            fails_yet = failed[pair] + np.uint8(not value > threshold)
            starts_of[kept], ends_of[kept] = starts_of[pair], ends_of[pair]
            xs[kept], ys[kept] = xs[pair], ys[pair]
            failed[kept], totals[kept] = fails_yet, total
            kept += np.uint64(fails_yet < 2)
        count = kept
    return count


@jit
def score_on_pixels(
    fields: NDArray[np.float32], limb: int, peaks: Peaks, threshold: np.float32, work: Work
) -> int:
    """Put the pairs that are limbs of a kind into the queue; return their number."""
    a, b, kind = _TABLE[limb, 0], _TABLE[limb, 1], np.uint64(_TABLE[limb, 2] // 2)
    counts = peaks[3][a], peaks[3][b]
    if counts[0] == 0 or counts[1] == 0:
        return 0
    for side, part in ((work[0][0], a), (work[0][1], b)):
        for i in range(peaks[3][part]):
            x, y = peaks[0][part, i], peaks[1][part, i]
            side[0, i], side[1, i] = x, y
            side[2, i], side[3, i] = field_at_pixel(fields, kind, np.uint64(x), np.uint64(y))
    count: Index = _pair_up(work, counts, threshold, False)
    if count > MOST_ON_PIXELS:
        count = _keep_high(peaks, (np.uint64(a), np.uint64(b)), work, count)
    _begin(work, count, threshold)
    count = _walk_pixels(fields, kind, work, count, threshold)
    return _enqueue_all(work, count, PIXEL_SAMPLES, True)


@jit
def _walk_pixels(
    fields: NDArray[np.float32], kind: Index, work: Work, count: Index, threshold: np.float32
) -> Index:
    """Look at one point of each pair after the other; what fails adds nothing."""
    first, second = work[0][0], work[0][1]
    starts_of, ends_of, failed, totals, xs, ys = work[1]
    for step in range(len(_PIXEL_ORDER)):
        sample = _PIXEL_ORDER[step]
        kept: Index = np.uint64(0)
        for pair in range(count):
            i, j = np.uint64(starts_of[pair]), np.uint64(ends_of[pair])
            start_x, start_y = first[_ZERO, i], first[_ONE, i]
            dx, dy = second[_ZERO, j] - start_x, second[_ONE, j] - start_y
            x = np.uint64(np.int64(np.rint(dx * _PIXEL_STEP * sample + start_x)))
            y = np.uint64(np.int64(np.rint(dy * _PIXEL_STEP * sample + start_y)))
            field_x, field_y = field_at_pixel(fields, kind, x, y)
            value = field_x * xs[pair] + field_y * ys[pair]
            fails = not value > threshold
            total = totals[pair] + (0.0 if fails else np.float64(value))
            fails_yet = failed[pair] + np.uint8(fails)
            starts_of[kept], ends_of[kept] = starts_of[pair], ends_of[pair]
            xs[kept], ys[kept] = xs[pair], ys[pair]
            failed[kept], totals[kept] = fails_yet, total
            kept += np.uint64(fails_yet < 2)
        count = kept
    return count


@jit
def _enqueue_all(work: Work, count: Index, samples: int, only_passed: bool) -> int:
    """Queue the pairs that have an affinity; return their number.

    It is a mean over all samples, or over those that passed. A smaller integer in the queue is a
    higher affinity; of equal ones the first pair.
    """
    starts_of, ends_of, failed, totals = work[1][0], work[1][1], work[1][2], work[1][3]
    affinities, bits, keys = work[2][0], work[2][1], work[2][2]
    queued = 0
    for pair in range(count):
        number = np.float64(samples)
        if only_passed:
            number = samples - np.int64(failed[pair]) + 1e-6
        affinity = np.float32(totals[pair] / number)
        if affinity > 0:
            affinities[queued] = affinity
            index = np.uint64(ends_of[pair]) << _SIXTEEN | np.uint64(starts_of[pair])
            keys[0, queued] = np.uint64(~bits[queued]) << np.uint64(32) | index
            queued += 1
    return queued


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
            value = int((source[i] >> np.uint64(32 + 8 * byte)) & np.uint64(255))
            target[starts[byte, value]] = source[i]
            starts[byte, value] += np.uint32(1)
    return 0


@jit
def choose_limbs(limb: int, peaks: Peaks, work: Work, pairs: int, limbs: Limbs) -> int:
    """Take the pairs from the highest affinity on, no peak twice; return how many are limbs."""
    count_a, count_b = peaks[3][_TABLE[limb, 0]], peaks[3][_TABLE[limb, 1]]
    _, _, queue, byte_starts = work[2]
    ordered = queue[_sort(queue, pairs, byte_starts)]
    starts, ends, affinities = limbs
    taken_starts, taken_ends = work[0][2], work[1][2]
    taken_starts[:count_a] = 0
    taken_ends[:count_b] = 0
    count = 0
    for i in range(pairs):
        a, b = ordered[i] & _LOW, (ordered[i] >> _SIXTEEN) & _LOW
        if taken_starts[a] or taken_ends[b]:
            continue
        taken_starts[a] = taken_ends[b] = 1
        starts[count], ends[count] = a, b
        affinities[count] = _affinity(ordered[i], work[2])
        count += 1
        if count == min(count_a, count_b):
            break
    return count


@jit
def _affinity(key: np.uint64, queue: Queue) -> np.float32:
    """Return the affinity that `_enqueue` put into a key."""
    affinities, bits = queue[0], queue[1]
    bits[0] = ~np.uint32(key >> np.uint64(32))
    affinity: np.float32 = affinities[0]
    return affinity
