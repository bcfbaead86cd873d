"""The OpenPose decoder's maps upsampled 4 times, compiled, for its reference mode: peaks, fields.

The peaks are those of OpenCV's cubic upsampling, of which only three rows are ever held, and of the
search and suppression of lightweight-human-pose-estimation.pytorch (modules/keypoints.py). Fields
are interpolated only where a limb is looked at.

Nothing here allocates, holds the GIL or reads outside its arrays, whatever values the maps hold. A
NaN is never a peak.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.decoders.openpose_peaks import FIELDS, PARTS, Found, Index, jit

UPSAMPLING = 4
"""As the reference does; half of the 8 pixels a cell."""
SUPPRESSION = 6
"""Pixels of the upsampled map within which the reference keeps one peak."""

_PARTS = np.uint64(PARTS)
_ZERO, _ONE, _TWO, _THREE, _FOUR = (np.uint64(i) for i in range(5))
_EIGHT, _KINDS = np.uint64(8), np.uint64(FIELDS)

PixelRows: TypeAlias = tuple[
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.uint8],
    NDArray[np.uint64],
]


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
    part: Index,
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
    slot: Index,
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
    part: Index, size: tuple[int, int], threshold: np.float32, rows: PixelRows, found: Found
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
    part: Index,
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
    return bool(value > before and value > after and value > above and value > below)


@jit
def sort_by_column(
    found: Found, part: int, starts: NDArray[np.uint32], order: NDArray[np.uint32]
) -> int:
    """Write the order from left to right, then from top to bottom; return the number."""
    columns, count = found[0][part], int(found[3][part])
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

    ``leftmost`` keeps the first that no kept one is near, as the reference does; else those stay
    that no higher one is near.
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


def make_fields(height: int, width: int) -> NDArray[np.float32]:
    """Allocate the field of each kind of limb as `split_fields` writes it."""
    return np.zeros((FIELDS, (height + 4) | 1, 2 * (width + 4)), np.float32)


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
            column = x + x + _FOUR
            for kind in range(_KINDS):
                fields[kind, line, column] = paf[y, x, kind + kind]
                fields[kind, line, column + _ONE] = paf[y, x, kind + kind + _ONE]
        for kind in range(_KINDS):
            for at in range(_FOUR):
                fields[kind, line, at] = fields[kind, line, _FOUR + at % _TWO]
                fields[kind, line, last + _TWO + at] = fields[kind, line, last + at % _TWO]
    for kind in range(_KINDS):
        fields[kind, 0] = fields[kind, 1] = fields[kind, 2]
        fields[kind, height + _TWO] = fields[kind, height + _ONE]
        fields[kind, height + _THREE] = fields[kind, height + _ONE]


@jit
def field_at_pixel(
    fields: NDArray[np.float32], kind: Index, x: np.uint64, y: np.uint64
) -> tuple[np.float32, np.float32]:
    """Return the field at a pixel of the map upsampled 4 times, vertically first."""
    phase_x, phase_y = x & _THREE, y & _THREE
    # The border repeats twice, so the first of 4 cells is at 0 or more.
    at_x = _TWO * ((x >> _TWO) + (phase_x >> _ONE))
    r = (y >> _TWO) + (phase_y >> _ONE)
    w0, w1 = WEIGHTS[phase_y, 0], WEIGHTS[phase_y, 1]
    w2, w3 = WEIGHTS[phase_y, 2], WEIGHTS[phase_y, 3]
    field_x, field_y = np.float32(0), np.float32(0)
    for tap in range(_FOUR):
        weight, at_y = WEIGHTS[phase_x, tap], at_x + _ONE
        field_x += weight * (
            w0 * fields[kind, r, at_x]
            + w1 * fields[kind, r + _ONE, at_x]
            + w2 * fields[kind, r + _TWO, at_x]
            + w3 * fields[kind, r + _THREE, at_x]
        )
        field_y += weight * (
            w0 * fields[kind, r, at_y]
            + w1 * fields[kind, r + _ONE, at_y]
            + w2 * fields[kind, r + _TWO, at_y]
            + w3 * fields[kind, r + _THREE, at_y]
        )
        at_x += _TWO
    return field_x, field_y
