"""The slow and obvious OpenPose grouping in plain numpy that the compiled one must agree with."""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PARTS = 18
LIMBS = [
    (1, 2, 12), (1, 5, 20), (2, 3, 14), (3, 4, 16), (5, 6, 22), (6, 7, 24), (1, 8, 0),
    (8, 9, 2), (9, 10, 4), (1, 11, 6), (11, 12, 8), (12, 13, 10), (1, 0, 28), (0, 14, 30),
    (14, 16, 34), (0, 15, 32), (15, 17, 36), (2, 16, 18), (5, 17, 26),
]  # fmt: skip
"""(from, to, channel of x): written again on purpose, from the maps' description."""
EARS_TO_SHOULDERS = (17, 18)
FEW_PEAKS = 32
Maps = dict[str, NDArray[np.float32]]
Affinity = Callable[..., np.float32]


@dataclass
class Peak:
    x: np.float32
    y: np.float32
    score: np.float32


@dataclass
class Entry:
    """The peaks of a person, by keypoint, and what the reference adds up while it grows."""

    peaks: dict[int, Peak]
    score: float
    count: int


@dataclass(frozen=True)
class TwinPose:
    score: float
    keypoints: NDArray[np.float64]
    """``(18, 3)``: x, y in input pixels, score; zeros where there is none."""


def decode(
    maps: Maps,
    stride: int,
    *,
    mode: str = "fast",
    score_threshold: float = 0.1,
    affinity_threshold: float = 0.05,
    min_keypoints: int = 3,
    min_mean_score: float = 0.2,
    max_candidates: int = 64,
    keep: str = "leftmost",
    merge_fragments: bool | None = None,
) -> list[TwinPose]:
    """Decode all persons, best first; keypoints in OpenPose's order."""
    heat, paf = maps["heatmap"][..., :PARTS], maps["paf"]
    threshold, cells = np.float32(score_threshold), 1
    if mode == "reference":
        heat, paf, cells = upsample(heat), upsample(paf), 4
        peaks = [strict_peaks(heat[..., part], threshold, keep) for part in range(PARTS)]
        affinity_of: Affinity = affinity_on_pixels
        first_test, most = either_end_passes, 2600
    else:
        peaks = [cell_peaks(heat[..., part], threshold) for part in range(PARTS)]
        affinity_of = affinity_on_cells
        first_test, most = ends_and_middle_pass, 1024
    peaks = [highest(found, max_candidates) for found in peaks]
    merge = mode == "fast" if merge_fragments is None else merge_fragments
    affinity_from = np.float32(affinity_threshold)
    passing = functools.partial(affinity_of, threshold=affinity_from)
    passes_first = functools.partial(first_test, threshold=affinity_from)
    few = functools.partial(limited, passes_first=passes_first, most=most)
    entries = assemble(peaks, paf, passing, few, merge)
    poses = [
        finish(entry, stride / cells)
        for entry in entries
        if entry.count >= min_keypoints and entry.score / entry.count >= min_mean_score
    ]
    return sorted(poses, key=lambda pose: -pose.score)


def finish(entry: Entry, pixels: float) -> TwinPose:
    keypoints = np.zeros((PARTS, 3))
    for part, peak in entry.peaks.items():
        position = (float(peak.x) + 0.5) * pixels - 0.5, (float(peak.y) + 0.5) * pixels - 0.5
        keypoints[part] = *position, min(float(peak.score), 1.0)
    return TwinPose(min(entry.score / (PARTS + PARTS - 1), 1.0), keypoints)


def cubic_weights(fraction: float) -> NDArray[np.float32]:
    """Return Keys' cubic (a = -.75) for the neighbors at -1, 0, 1, 2 of a position."""
    a = -0.75
    distance = np.abs(fraction - np.array([-1, 0, 1, 2]))
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, far).astype(np.float32)


def upsample(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upsample ``(y, x, channel)`` 4 times as OpenCV's cubic does; vertically first."""
    for axis in (0, 1):
        size = maps.shape[axis]
        rows = []
        for target in range(4 * size):
            position = (target + 0.5) / 4 - 0.5
            first = math.floor(position)
            total = np.float32(0)
            for tap, weight in enumerate(cubic_weights(position - first)):
                source = min(max(first + tap - 1, 0), size - 1)
                total = total + weight * maps.take(source, axis)
            rows.append(total)
        maps = np.stack(rows, axis)
    return maps


def strict_peaks(heat: NDArray[np.float32], threshold: np.float32, keep: str) -> list[Peak]:
    """Return what exceeds its 4 neighbors, from left to right, one within 6 pixels."""
    padded = np.pad(np.where(heat < threshold, np.float32(0), heat), 1)
    here = padded[1:-1, 1:-1]
    is_peak = (here > padded[1:-1, :-2]) & (here > padded[1:-1, 2:])
    is_peak &= (here > padded[:-2, 1:-1]) & (here > padded[2:, 1:-1])
    xs, ys = np.nonzero(is_peak.T)
    found = [Peak(np.float32(x), np.float32(y), heat[y, x]) for x, y in zip(xs, ys, strict=True)]
    if keep == "highest":
        return [peak for peak in found if not any(beats(other, peak) for other in found)]
    kept: list[Peak] = []
    for peak in found:
        if not any(are_near(peak, other) for other in kept):
            kept.append(peak)
    return kept


def are_near(a: Peak, b: Peak) -> bool:
    return bool((a.x - b.x) ** 2 + (a.y - b.y) ** 2 < 6**2)


def beats(a: Peak, b: Peak) -> bool:
    """Say whether a is near b and higher, or as high and further left."""
    if a is b or not are_near(a, b):
        return False
    return bool(a.score > b.score or (a.score == b.score and (a.x, a.y) < (b.x, b.y)))


def highest(peaks: list[Peak], count: int) -> list[Peak]:
    """Return the highest, in the order in which they came; of equal ones the first."""
    ranked = sorted(range(len(peaks)), key=lambda index: -peaks[index].score)
    return [peaks[index] for index in sorted(ranked[:count])]


def cell_peaks(heat: NDArray[np.float32], threshold: np.float32) -> list[Peak]:
    """Return what 8 neighbors do not exceed, the first of equal ones, moved to the blob's top."""
    padded = np.pad(heat, 1, constant_values=-np.inf)
    padded[np.isnan(padded)] = -np.inf
    found = []
    for y, x in np.argwhere(heat >= threshold):
        around = padded[y : y + 3, x : x + 3].ravel()
        if (around[:4] < heat[y, x]).all() and (around[5:] <= heat[y, x]).all():
            left, up, down, right = around[3], around[1], around[7], around[5]
            inside_x, inside_y = 0 < x < heat.shape[1] - 1, 0 < y < heat.shape[0] - 1
            dx = top_of_parabola(left, heat[y, x], right) if inside_x else np.float32(0)
            dy = top_of_parabola(up, heat[y, x], down) if inside_y else np.float32(0)
            found.append(Peak(np.float32(x + dx), np.float32(y + dy), heat[y, x]))
    return found


def top_of_parabola(before: np.float32, here: np.float32, after: np.float32) -> np.float32:
    """Return where the logarithms of three values have their top: exact for a Gaussian."""
    floor = np.float32(1e-3)
    low, middle, high = (v if v > floor else floor for v in (before, here, after))
    bend = np.log(middle / low * (middle / high))
    if not np.isfinite(bend) or bend <= 0:
        return np.float32(0)
    top = np.log(high / low) / (2 * bend)
    return np.clip(top, np.float32(-0.5), np.float32(0.5))


def assemble(
    peaks: list[list[Peak]],
    paf: NDArray[np.float32],
    affinity_of: Affinity,
    few: Callable[..., tuple[list[Peak], list[Peak]]],
    merge: bool,
) -> list[Entry]:
    """Grow persons limb by limb; ``merge`` says whether the ears' last limbs join two of them."""
    entries: list[Entry] = []
    for limb, (start, end, channel) in enumerate(LIMBS):
        field = paf[..., channel : channel + 2]
        along = functools.partial(affinity_of, field=field)
        for a, b, affinity in best_pairs(*few(peaks[start], peaks[end], field), along):
            owner_a = next((e for e in entries if e.peaks.get(start) is a), None)
            owner_b = next((e for e in entries if e.peaks.get(end) is b), None)
            if limb not in EARS_TO_SHOULDERS:
                if owner_a is None:
                    owner_a = Entry({start: a}, float(a.score), 1)
                    entries.append(owner_a)
                owner_a.peaks[end] = b
                owner_a.score += float(b.score) + affinity
                owner_a.count += 1
            elif merge:
                close_merging(entries, (owner_a, owner_b), (start, end), (a, b), affinity)
            else:
                close_filling((owner_a, owner_b), (start, end), (a, b))
    return entries


def close_filling(owners, parts, pair) -> None:
    """Give both persons what they lack, as the reference does: it counts for nothing."""
    owner_a, owner_b = owners
    if owner_a is not None and parts[1] not in owner_a.peaks:
        owner_a.peaks[parts[1]] = pair[1]
    if owner_b is not None and parts[0] not in owner_b.peaks:
        owner_b.peaks[parts[0]] = pair[0]


def close_merging(entries, owners, parts, pair, affinity) -> None:
    """Join two persons that share no keypoint, or give one what nobody has."""
    owner_a, owner_b = owners
    if owner_a is not None and owner_b is not None:
        if not set(owner_a.peaks) & set(owner_b.peaks):
            owner_a.peaks.update(owner_b.peaks)
            owner_a.score += owner_b.score + affinity
            owner_a.count += owner_b.count
            entries[:] = [entry for entry in entries if entry is not owner_b]
        return
    for owner, part, peak in ((owner_a, parts[1], pair[1]), (owner_b, parts[0], pair[0])):
        if owner is not None and part not in owner.peaks:
            owner.peaks[part] = peak
            owner.score += float(peak.score) + affinity
            owner.count += 1


def limited(
    starts: list[Peak],
    ends: list[Peak],
    field: NDArray[np.float32],
    *,
    passes_first: Callable[..., bool],
    most: int,
) -> tuple[list[Peak], list[Peak]]:
    """Return the peaks, or only the highest if too many pairs of them pass first."""
    pairs = itertools.product(starts, ends) if len(starts) * len(ends) > most else ()
    if sum(passes_first(a, b, field) for a, b in pairs) <= most:
        return starts, ends
    return highest(starts, FEW_PEAKS), highest(ends, FEW_PEAKS)


def best_pairs(
    starts: list[Peak], ends: list[Peak], affinity_of: Affinity
) -> list[tuple[Peak, Peak, float]]:
    """Return the pairs of a limb, the one with the highest affinity first, no peak twice."""
    scored = [(affinity_of(a, b), a, b) for b in ends for a in starts]
    pairs = sorted((pair for pair in scored if pair[0] > 0), key=lambda pair: -pair[0])
    chosen: list[tuple[Peak, Peak, float]] = []
    for affinity, a, b in pairs:
        if all(a is not other[0] and b is not other[1] for other in chosen):
            chosen.append((a, b, affinity))
    return chosen


def sample(a: Peak, b: Peak, field: NDArray[np.float32], count: int) -> list[np.float32]:
    """Return what the field says in the direction from a to b at so many points, ends included."""
    vx, vy = b.x - a.x, b.y - a.y
    length = np.sqrt(vx * vx + vy * vy) + np.float32(1e-6)
    step_x, step_y = vx * np.float32(1 / (count - 1)), vy * np.float32(1 / (count - 1))
    values = []
    for index in range(count):
        x, y = step_x * np.float32(index) + a.x, step_y * np.float32(index) + a.y
        if index == count - 1:
            x, y = b.x, b.y  # not a rounding error beside it
        column, line = int(np.rint(x)), int(np.rint(y))
        at_x, at_y = field[line, column]
        values.append(at_x * (vx / length) + at_y * (vy / length))
    return values


def either_end_passes(a: Peak, b: Peak, field: NDArray[np.float32], threshold: np.float32) -> bool:
    return any(value > threshold for value in sample(a, b, field, 2))


def ends_and_middle_pass(
    a: Peak, b: Peak, field: NDArray[np.float32], threshold: np.float32
) -> bool:
    values = sample(a, b, field, 8)
    return all(values[index] > threshold for index in (0, 3, 4, 7))


def affinity_on_pixels(
    a: Peak, b: Peak, field: NDArray[np.float32], threshold: np.float32
) -> np.float32:
    """Return the mean of those of 10 points that pass, or 0 if more than one fails."""
    passed = [float(value) for value in sample(a, b, field, 10) if value > threshold]
    return np.float32(sum(passed) / (len(passed) + 1e-6) if len(passed) > 8 else 0)


def affinity_on_cells(
    a: Peak, b: Peak, field: NDArray[np.float32], threshold: np.float32
) -> np.float32:
    """Return the mean of 8 points, or 0 if an end or one in the middle fails or two others do."""
    values = sample(a, b, field, 8)
    passed = [bool(value > threshold) for value in values]
    if not (passed[0] and passed[3] and passed[4] and passed[7] and sum(passed) > 6):
        return np.float32(0)
    # In the order of the decoder's sum, so that equal affinities stay equal.
    return np.float32(sum(float(values[index]) for index in (0, 7, 3, 4, 2, 5, 1, 6)) / 8)
