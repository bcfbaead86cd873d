"""The compiled OpenPose decoder: peaks, limbs, persons; checks no shapes.

Nothing here allocates, holds the GIL or reads outside its arrays, whatever values the maps hold.
Every keypoint type has at most ``max_candidates`` peaks, so the time of any frame is bounded.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import numba
import numpy as np
from numpy.typing import NDArray

from models.decoders.openpose_limbs import (
    LIMBS,
    Limbs,
    Work,
    choose_limbs,
    make_limbs,
    make_work,
    score_on_cells,
    score_on_pixels,
)
from models.decoders.openpose_peaks import (
    COMPILER,
    PARTS,
    CellRows,
    Found,
    Peaks,
    find_cell_peaks,
    jit,
    make_cell_rows,
    make_found,
    make_peaks,
    refine,
    select,
)
from models.decoders.openpose_pixels import (
    UPSAMPLING,
    PixelRows,
    find_pixel_peaks,
    make_fields,
    make_pixel_rows,
    sort_by_column,
    split_fields,
    suppress,
)

Mode: TypeAlias = Literal["fast", "reference"]
Maps: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Heatmaps ``(y, x, 19)`` and part affinity fields ``(y, x, 38)``; C-contiguous."""
Settings: TypeAlias = tuple[float, float, float, float, int, int, bool, bool]
"""Score and affinity threshold, input pixels a step of the peaks' grid, lowest mean score of a
person, fewest keypoints, most candidates, whether to keep the leftmost peak, whether to merge."""
Persons: TypeAlias = tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]
]
"""The person that owns a peak ``(18, peak)``, the peak of a person's keypoint ``(person, 18)``,
both -1 where there is none; a person's sum of scores and number of keypoints; order."""
Shared: TypeAlias = tuple[Found, NDArray[np.uint32], Peaks, Work, Limbs, Persons]
CellScratch: TypeAlias = tuple[CellRows, Shared]
"""What the fast mode works in."""
PixelScratch: TypeAlias = tuple[
    PixelRows, NDArray[np.uint32], NDArray[np.uint8], NDArray[np.float32], Shared
]
"""What the reference mode works in: also where each column starts, what is suppressed, fields."""
Scratch: TypeAlias = CellScratch | PixelScratch
Output: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
"""Which of the 18 each keypoint of the pose buffer is, its keypoints and its scores."""
Group: TypeAlias = Callable[[Maps, Settings, Any, Output], int]
"""The type of `group_on_cells` and `group_on_pixels`."""

_EARS = 17
"""The first of the limbs from the shoulders to the ears, which close a circle."""
_TABLE = np.array(LIMBS, np.int64)
_MOST = float(PARTS + PARTS - 1)
"""The score of a person that has all its keypoints, and limbs as many as a tree of them."""


def make_scratch(
    mode: Mode, height: int, width: int, max_candidates: int, max_poses: int
) -> Scratch:
    """Allocate what a mode works in, for maps of ``height`` x ``width``."""
    scale = 1 if mode == "fast" else UPSAMPLING
    found = make_found(scale * height, scale * width)
    most = found[0].shape[1]
    # A person starts with two peaks that nobody else owns.
    most_persons = PARTS * max_candidates // 2
    persons: Persons = (
        np.zeros((PARTS, max_candidates), np.int64),
        np.zeros((most_persons, PARTS), np.int64),
        np.zeros(most_persons, np.float64),
        np.zeros(most_persons, np.int64),
        np.zeros(max_poses, np.int64),
    )
    shared: Shared = (
        found,
        np.arange(most, dtype=np.uint32),
        make_peaks(max_candidates),
        make_work(max_candidates),
        make_limbs(max_candidates),
        persons,
    )
    if mode == "fast":
        return make_cell_rows(width), shared
    return (
        make_pixel_rows(height, width),
        np.zeros(UPSAMPLING * width + 1, np.uint32),
        np.zeros(most, np.uint8),
        make_fields(height, width),
        shared,
    )


@jit
def _grow(limb: int, count: int, limbs: Limbs, peaks: Peaks, persons: Persons, people: int) -> int:
    """Add limbs of a kind to the persons that own where they start; return the persons there are.

    A limb whose start nobody owns is a new person.
    """
    owner, parts, totals, counts = persons[0], persons[1], persons[2], persons[3]
    start, end, _ = _TABLE[limb]
    for i in range(count):
        a, b, affinity = limbs[0][i], limbs[1][i], limbs[2][i]
        person = owner[start, a]
        if person < 0:
            person = people
            people += 1
            parts[person] = -1
            parts[person, start] = a
            totals[person] = peaks[2][start, a]
            counts[person] = 1
            owner[start, a] = person
        _give(person, end, b, affinity, peaks, persons)
    return people


@jit
def _give(
    person: int, part: int, peak: int, affinity: float, peaks: Peaks, persons: Persons
) -> None:
    """Give a person one more keypoint."""
    owner, parts, totals, counts = persons[0], persons[1], persons[2], persons[3]
    parts[person, part] = peak
    totals[person] += peaks[2][part, peak] + affinity
    counts[person] += 1
    owner[part, peak] = person


@jit
def _close_filling(limb: int, count: int, limbs: Limbs, persons: Persons) -> None:
    """Give both owners of a limb what they lack, as the reference does: it counts for nothing."""
    owner, parts = persons[0], persons[1]
    start, end, _ = _TABLE[limb]
    for i in range(count):
        a, b = limbs[0][i], limbs[1][i]
        first, second = owner[start, a], owner[end, b]
        if first >= 0 and parts[first, end] < 0:
            parts[first, end] = b
        if second >= 0 and parts[second, start] < 0:
            parts[second, start] = a


@jit
def _close_merging(limb: int, count: int, limbs: Limbs, peaks: Peaks, persons: Persons) -> None:
    """Make one person of the owners of a limb if they share no keypoint; give nobody's to one."""
    owner, parts, totals, counts = persons[0], persons[1], persons[2], persons[3]
    start, end, _ = _TABLE[limb]
    for i in range(count):
        a, b, affinity = limbs[0][i], limbs[1][i], limbs[2][i]
        first, second = owner[start, a], owner[end, b]
        if first >= 0 and second >= 0:
            shared = 0
            for part in range(PARTS):
                shared += parts[first, part] >= 0 and parts[second, part] >= 0
            if shared > 0:
                continue
            for part in range(PARTS):
                peak = parts[second, part]
                if peak >= 0:
                    parts[first, part] = peak
                    owner[part, peak] = first
            totals[first] += totals[second] + affinity
            counts[first] += counts[second]
            counts[second] = 0
        elif first >= 0 and parts[first, end] < 0:
            _give(first, end, b, affinity, peaks, persons)
        elif second >= 0 and parts[second, start] < 0:
            _give(second, start, a, affinity, peaks, persons)


@jit
def _add_limbs(
    limb: int, count: int, limbs: Limbs, peaks: Peaks, persons: Persons, state: tuple[int, bool]
) -> int:
    """Add the limbs of a kind to the persons; return the persons there are.

    ``state`` is how many there were, and whether the last limbs merge them.
    """
    people, merges = state
    if limb < _EARS:
        return _grow(limb, count, limbs, peaks, persons, people)
    if merges:
        _close_merging(limb, count, limbs, peaks, persons)
    else:
        _close_filling(limb, count, limbs, persons)
    return people


@jit
def _rank(people: int, settings: Settings, persons: Persons, scores: NDArray[np.float32]) -> int:
    """Write the scores of the persons that are whole enough, best first; return their number."""
    totals, counts, order = persons[2], persons[3], persons[4]
    min_mean, min_keypoints = settings[3], settings[4]
    ranked = 0
    for person in range(people):
        if counts[person] < min_keypoints or not totals[person] / counts[person] >= min_mean:
            continue
        score = np.float32(min(totals[person] / _MOST, 1.0))
        if ranked == len(order):
            if not score > scores[ranked - 1]:
                continue
            ranked -= 1
        place = ranked
        while place > 0 and scores[place - 1] < score:
            scores[place] = scores[place - 1]
            order[place] = order[place - 1]
            place -= 1
        scores[place] = score
        order[place] = person
        ranked += 1
    return ranked


@jit
def _write(people: int, settings: Settings, shared: Shared, output: Output) -> int:
    """Write the persons into the pose buffer, best first; return their number."""
    peaks, persons = shared[2], shared[5]
    parts, order = persons[1], persons[4]
    targets, keypoints, scores = output
    ranked = _rank(people, settings, persons, scores)
    pixels = settings[2]
    for rank in range(ranked):
        for target in range(len(targets)):
            part = targets[target]
            peak = parts[order[rank], part]
            if peak < 0:
                keypoints[rank, target] = 0
                continue
            keypoints[rank, target, 0] = (peaks[0][part, peak] + 0.5) * pixels - 0.5
            keypoints[rank, target, 1] = (peaks[1][part, peak] + 0.5) * pixels - 0.5
            keypoints[rank, target, 2] = min(peaks[2][part, peak], np.float32(1))
    return ranked


def group_on_cells(maps: Maps, settings: Settings, scratch: CellScratch, output: Output) -> int:
    """Write the persons of one frame, best first; return their number. The fast mode.

    To be called through `compile_group`.
    """
    heat, paf = maps
    rows, shared = scratch
    found, order, peaks, work, limbs, persons = shared
    find_cell_peaks(heat, settings[0], rows, found)
    for part in range(PARTS):
        select(found, part, order, found[3][part], settings[5], peaks)
    refine(heat, peaks)
    persons[0][:] = -1
    people = 0
    for limb in range(len(_TABLE)):
        pairs = score_on_cells(paf, limb, peaks, np.float32(settings[1]), work)
        count = choose_limbs(limb, peaks, work, pairs, limbs)
        people = _add_limbs(limb, count, limbs, peaks, persons, (people, settings[7]))
    return _write(people, settings, shared, output)


def group_on_pixels(maps: Maps, settings: Settings, scratch: PixelScratch, output: Output) -> int:
    """Write the persons of one frame, best first; return their number. The reference mode.

    To be called through `compile_group`.
    """
    heat, paf = maps
    rows, starts, is_out, fields, shared = scratch
    found, order, peaks, work, limbs, persons = shared
    find_pixel_peaks(heat, settings[0], rows, found)
    for part in range(PARTS):
        sort_by_column(found, part, starts, order)
        kept = suppress(found, part, order, is_out, settings[6])
        select(found, part, order, kept, settings[5], peaks)
    split_fields(paf, fields)
    persons[0][:] = -1
    people = 0
    for limb in range(len(_TABLE)):
        pairs = score_on_pixels(fields, limb, peaks, np.float32(settings[1]), work)
        count = choose_limbs(limb, peaks, work, pairs, limbs)
        people = _add_limbs(limb, count, limbs, peaks, persons, (people, settings[7]))
    return _write(people, settings, shared, output)


@functools.cache
def compile_group(mode: Mode) -> Group:
    """Return the grouping of a mode compiled, or loaded from the cache on disk; seconds at first.

    It is compiled for one set of types, which read-only and writable maps both fit: no call of the
    result compiles anything.
    """
    types: Any = numba.types
    typeof = cast(Any, numba).typeof
    maps = types.UniTuple(types.Array(types.float32, 3, "C", readonly=True), 2)
    settings = types.Tuple((types.float64,) * 4 + (types.int64,) * 2 + (types.boolean,) * 2)
    scratch = typeof(make_scratch(mode, 1, 1, 1, 1))
    output = types.Tuple((types.int64[::1], types.float32[:, :, ::1], types.float32[::1]))
    signature = types.int64(maps, settings, scratch, output)
    function: Group = group_on_cells if mode == "fast" else group_on_pixels
    return cast(Group, numba.njit(signature, **COMPILER)(function))
