"""The compiled half of the tracker: one frame's persons matched with the tracks of their stream.

Only `models.tracking` uses it. Nothing is allocated; rows below ``counters[TRACKS]`` are alive.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from models.poses import UNTRACKED

TRACKS, FRAMES, NEXT_ID = range(3)
"""What `State.counters` counts."""
LAST_ID = 2**31 - 1
"""A track id is an int32 in reports; once they are used up, new persons stay untracked."""
MIN_SCORE = 0.1
"""Keypoints below say nothing: the least part confidence that PoseNet's published demo shows."""
MIN_SIMILARITY = 0.3
"""Least likeness of a person and a track. With .1, .2, .3, .4, .5: eight people who cross each
other in view of a camera swapped or lost their ids 40, 28, 22, 24 and 25 times in 80 s."""
DRIFT_KNOWN, DRIFT_NEW = 1.0, 2.0
"""How wrong the prediction may be after a second, in body sizes: with a known velocity, after the
first sight. A body size is the root of a box, .4 to .7 of the height: .8 to 1.2 m. Somebody who
walks (1.4 m/s) may stop or set off."""
SMOOTHING_S = 0.3
"""Velocities are averaged over about this time, half a step of an unhurried walk."""
BODY_AREA = 0.3
"""Box of the standing body, in squares of its height."""
FADING_S = 1.0
"""How fast what is known of a person who is half hidden fades: his size, his hidden keypoints."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_COMPILER: dict[str, Any] = {"cache": True, "error_model": "numpy"}


def _jit(function: _Function) -> _Function:
    return cast(_Function, numba.njit(**_COMPILER)(function))


class State(NamedTuple):
    """The tracks of one stream; capacity is rows of `keypoints`, persons are rows of `found`."""

    keypoints: NDArray[np.float32]
    """``(track, keypoint, 3)`` where the person was last seen, in the pixels of `update`."""
    velocities: NDArray[np.float64]
    """``(track, 2)`` pixels a second."""
    boxes: NDArray[np.float64]
    """``(track, 6)``: left, top, right, bottom, squared size, number of keypoints seen."""
    seen_at: NDArray[np.float64]
    numbers: NDArray[np.int64]
    """``(track, 3)``: id, frame of the last sight, number of sights."""
    counters: NDArray[np.int64]
    found: NDArray[np.float64]
    """``(person, 6)``: the same as `boxes`, for this frame."""
    values: NDArray[np.float64]
    """``(track * person,)`` likeness of each candidate pair; +1 for one of the last frame."""
    pairs: NDArray[np.int64]
    """``(track * person, 2)`` track and person of each candidate pair."""


def make_state(keypoint_count: int, capacity: int) -> State:
    """Make room for twice as many tracks as persons: some are out of sight."""
    tracks = 2 * capacity
    return State(
        keypoints=np.zeros((tracks, keypoint_count, 3), np.float32),
        velocities=np.zeros((tracks, 2)),
        boxes=np.zeros((tracks, 6)),
        seen_at=np.zeros(tracks),
        numbers=np.zeros((tracks, 3), np.int64),
        counters=np.array([0, 0, 1], np.int64),
        found=np.zeros((capacity, 6)),
        values=np.zeros(tracks * capacity),
        pairs=np.zeros((tracks * capacity, 2), np.int64),
    )


Update = Callable[
    [NDArray[np.float32], float, float, NDArray[np.float64], State, NDArray[np.int32]], None
]


@_jit
def _forget_old(state: State, at_s: float, max_age_s: float) -> None:
    track = 0
    while track < state.counters[TRACKS]:
        if at_s - state.seen_at[track] > max_age_s:
            last = state.counters[TRACKS] - 1
            state.keypoints[track] = state.keypoints[last]
            state.velocities[track] = state.velocities[last]
            state.boxes[track] = state.boxes[last]
            state.seen_at[track] = state.seen_at[last]
            state.numbers[track] = state.numbers[last]
            state.counters[TRACKS] = last
        else:
            track += 1


@_jit
def _measure(
    pose: NDArray[np.float32], body: NDArray[np.float64], box: NDArray[np.float64]
) -> None:
    """Find the box around the keypoints that can be seen, and how large the whole person is.

    Of a full figure its box says that; of a head alone, how the spread of its keypoints compares
    with theirs in the standing body. The larger of the two counts.
    """
    left, top, right, bottom, seen = np.inf, np.inf, -np.inf, -np.inf, 0
    sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for keypoint in range(len(pose)):
        if pose[keypoint, 2] >= MIN_SCORE:
            seen += 1
            x, y = float(pose[keypoint, 0]), float(pose[keypoint, 1])
            left, right, top, bottom = min(left, x), max(right, x), min(top, y), max(bottom, y)
            own_x, own_y = body[keypoint, 0], body[keypoint, 1]
            sums = (
                sums[0] + x, sums[1] + y, sums[2] + x * x + y * y,
                sums[3] + own_x, sums[4] + own_y, sums[5] + own_x * own_x + own_y * own_y,
            )  # fmt: skip
    box[0], box[1], box[2], box[3], box[4], box[5] = left, top, right, bottom, 1.0, seen
    if seen:
        spread = sums[2] - (sums[0] * sums[0] + sums[1] * sums[1]) / seen
        own = sums[5] - (sums[3] * sums[3] + sums[4] * sums[4]) / seen
        whole = BODY_AREA * spread / own if own > 1e-6 else 0.0
        box[4] = max((right - left) * (bottom - top), whole, 1.0)


@_jit
def _compare(
    keypoints: NDArray[np.float32], at_s: float, body: NDArray[np.float64], state: State
) -> int:
    """List every pair that is alike enough; returns how many there are."""
    candidates = 0
    widest = body[:, 2].max()
    for track in range(state.counters[TRACKS]):
        age = max(0.0, at_s - state.seen_at[track])
        moved_x, moved_y = state.velocities[track, 0] * age, state.velocities[track, 1] * age
        drift = age * (DRIFT_NEW if state.numbers[track, 2] == 1 else DRIFT_KNOWN)
        drift *= drift
        bonus = 1.0 if state.numbers[track, 1] == state.counters[FRAMES] else 0.0
        box = state.boxes[track]
        for person in range(len(keypoints)):
            other = state.found[person]
            size = max(box[4], other[4])
            # Without a keypoint within this distance the likeness cannot reach the least one.
            reach = math.sqrt(-2 * math.log(MIN_SIMILARITY) * size * (widest + drift))
            if (
                other[0] > box[2] + moved_x + reach
                or other[2] < box[0] + moved_x - reach
                or other[1] > box[3] + moved_y + reach
                or other[3] < box[1] + moved_y - reach
            ):
                continue
            likeness = _likeness(
                state.keypoints[track], (moved_x, moved_y), keypoints[person],
                (size, drift, min(box[5], other[5])), body,
            )  # fmt: skip
            if likeness >= MIN_SIMILARITY:
                state.values[candidates] = likeness + bonus
                state.pairs[candidates, 0] = track
                state.pairs[candidates, 1] = person
                candidates += 1
    return candidates


@_jit
def _likeness(
    last: NDArray[np.float32],
    moved: tuple[float, float],
    pose: NDArray[np.float32],
    scale: tuple[float, float, float],
    body: NDArray[np.float64],
) -> float:
    """Return the object keypoint similarity, each keypoint weighted by how well both show it.

    0 where less than half of the keypoints of the one that shows fewer are common to both.
    """
    size, drift, fewer = scale
    common, total, weights = 0, 0.0, 0.0
    for keypoint in range(len(pose)):
        if last[keypoint, 2] >= MIN_SCORE and pose[keypoint, 2] >= MIN_SCORE:
            x = pose[keypoint, 0] - last[keypoint, 0] - moved[0]
            y = pose[keypoint, 1] - last[keypoint, 1] - moved[1]
            weight = last[keypoint, 2] * pose[keypoint, 2]
            total += weight * math.exp(-(x * x + y * y) / (2 * size * (body[keypoint, 2] + drift)))
            weights += weight
            common += 1
    return total / weights if 2 * common >= fewer and common else 0.0


@_jit
def _see_again(
    pose: NDArray[np.float32], at_s: float, body: NDArray[np.float64], state: State, track: int
) -> None:
    """Move a track to where its person is now; what is hidden of him moves along and fades."""
    sights = state.numbers[track, 2]
    passed = max(0.0, at_s - state.seen_at[track])
    last = state.keypoints[track]
    if passed > 0:
        x, y, weights = 0.0, 0.0, 0.0
        for keypoint in range(len(pose)):
            if last[keypoint, 2] >= MIN_SCORE and pose[keypoint, 2] >= MIN_SCORE:
                weight = last[keypoint, 2] * pose[keypoint, 2]
                x += weight * (pose[keypoint, 0] - last[keypoint, 0])
                y += weight * (pose[keypoint, 1] - last[keypoint, 1])
                weights += weight
        velocity = state.velocities[track]
        # A plain mean at first, later one that forgets.
        share = max(1 - math.exp(-passed / SMOOTHING_S), 1.0 / sights)
        velocity[0] += share * (x / (weights * passed) - velocity[0])
        velocity[1] += share * (y / (weights * passed) - velocity[1])
    fading = math.exp(-passed / FADING_S)
    size = state.boxes[track, 4]
    for keypoint in range(len(pose)):
        if pose[keypoint, 2] >= MIN_SCORE:
            last[keypoint] = pose[keypoint]
        else:
            last[keypoint, 0] += state.velocities[track, 0] * passed
            last[keypoint, 1] += state.velocities[track, 1] * passed
            last[keypoint, 2] *= fading
    _measure(last, body, state.boxes[track])
    state.boxes[track, 4] = max(size * fading, state.boxes[track, 4])
    state.seen_at[track] = at_s
    state.numbers[track, 2] = sights + 1


@_jit
def _without(state: State, candidates: int, track: int, person: int) -> int:
    """Strike out the pairs of a track and a person that have found each other."""
    kept = 0
    for candidate in range(candidates):
        if state.pairs[candidate, 0] != track and state.pairs[candidate, 1] != person:
            state.values[kept] = state.values[candidate]
            state.pairs[kept, 0] = state.pairs[candidate, 0]
            state.pairs[kept, 1] = state.pairs[candidate, 1]
            kept += 1
    return kept


@_jit
def _begin(pose: NDArray[np.float32], at_s: float, state: State, person: int) -> int:
    """Start a track; the one unseen for longest makes room. Returns its id."""
    new = state.counters[NEXT_ID]
    if new > LAST_ID:
        return UNTRACKED
    state.counters[NEXT_ID] = new + 1
    track = state.counters[TRACKS]
    if track == len(state.keypoints):
        track = np.argmin(state.numbers[:, 1])
    else:
        state.counters[TRACKS] = track + 1
    state.keypoints[track] = pose
    state.velocities[track] = 0.0
    state.boxes[track] = state.found[person]
    state.seen_at[track] = at_s
    state.numbers[track, 0] = new
    state.numbers[track, 1] = state.counters[FRAMES]
    state.numbers[track, 2] = 1
    return int(new)


def update(
    keypoints: NDArray[np.float32],
    at_s: float,
    max_age_s: float,
    body: NDArray[np.float64],
    state: State,
    ids: NDArray[np.int32],
) -> None:
    """Give every person of a frame the id of its track.

    Args:
        keypoints: ``(person, keypoint, 3)``.
        at_s: When the frame was captured.
        max_age_s: How long a track outlives its last sight.
        body: ``(keypoint, 3)``: x, y in the standing body, in body heights; ``(2 * sigma)**2``.
        state: Changed in place.
        ids: ``(person,)``, written.
    """
    _forget_old(state, at_s, max_age_s)
    for person in range(len(keypoints)):
        _measure(keypoints[person], body, state.found[person])
        ids[person] = UNTRACKED
    candidates = _compare(keypoints, at_s, body, state)
    frame = state.counters[FRAMES] + 1
    state.counters[FRAMES] = frame
    while candidates:
        best = 0
        for candidate in range(1, candidates):
            if state.values[candidate] > state.values[best]:
                best = candidate
        track, person = state.pairs[best, 0], state.pairs[best, 1]
        _see_again(keypoints[person], at_s, body, state, track)
        state.numbers[track, 1] = frame
        ids[person] = state.numbers[track, 0]
        candidates = _without(state, candidates, track, person)
    for person in range(len(keypoints)):
        if ids[person] == UNTRACKED and state.found[person, 5] > 0:
            ids[person] = _begin(keypoints[person], at_s, state, person)


@functools.cache
def compile_update() -> Update:
    """Return `update` compiled, or loaded from the cache on disk; seconds the first time.

    It keeps the interpreter lock: giving it up for some microseconds means waiting up to the
    switch interval of 5 ms to get it back.
    """
    types: Any = numba.types
    signature = types.void(
        types.float32[:, :, ::1],
        types.float64,
        types.float64,
        types.float64[:, ::1],
        cast(Any, numba).typeof(make_state(1, 1)),
        types.int32[::1],
    )
    return cast(Update, numba.njit(signature, **_COMPILER)(update))
