"""How right poses are: OKS, PCK, average precision, and how far chance moves them; arrays only.

Which pose counts for which person at which OKS is decided by pycocotools (see `fleet.scoring`);
here its `Matches` become precision and recall, for the pictures as they are or resampled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.poses import PoseArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Bools = NDArray[np.bool_]

COCO_SIGMAS: Floats = np.array(
    [.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087,
     .089, .089]
)  # fmt: skip
"""How far annotators of COCO disagree on each keypoint, as a share of the person's size
(https://cocodataset.org/#keypoints-eval, section 1.3)."""
FOUND_OKS = 0.5
"""A person is found from here on: COCO's lowest threshold."""
RECALLS: Floats = np.linspace(0, 1, 101)
"""Where COCO reads the precision."""
PCK_ALPHA = 0.2
"""A keypoint is right within this share of the larger side of the person's box (Yang & Ramanan,
"Articulated human detection with flexible mixtures of parts", TPAMI 2013, section 6)."""
RESAMPLES = 1000
"""Enough for the ends of a 95 % percentile interval (Efron & Tibshirani 1993, section 13.3)."""


@dataclass(frozen=True, slots=True)
class People:
    """The annotated persons of one picture that count: no crowds, none without keypoints."""

    keypoints: Floats
    """``(person, keypoint, 3)``: x, y in pixels of the picture; 0 where it is not labelled."""
    areas: Floats
    """``(person,)`` square pixels of the person's outline."""
    sides: Floats
    """``(person,)`` larger side of the person's box in pixels."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What became of the labelled keypoints of one picture; each ``(keypoint,)``."""

    labelled: Counts
    right: Counts
    """Within `PCK_ALPHA`; those of a person that nobody found are wrong."""
    found: Counts
    """Belong to a person that was found."""
    similarity: Floats
    """Sum of the similarities of the found ones, 0..1 each."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Poses of many pictures, the highest score first, and whether each is a person's."""

    pictures: Counts
    """``(pose,)`` index of the picture."""
    hits: Bools
    """``(threshold, pose)``: it is a person's."""
    misses: Bools
    """``(threshold, pose)``: it is nobody's. Neither: a crowd's, which counts as nothing."""
    people: Counts
    """``(picture,)`` persons that were to be found."""

    def __post_init__(self) -> None:
        shape = (self.hits.shape[0], len(self.pictures))
        if self.hits.shape != shape or self.misses.shape != shape:
            raise ValueError(f"hits {self.hits.shape} and misses {self.misses.shape}, not {shape}")


def similarities(found: PoseArray, people: People) -> Floats:
    """Return how near each keypoint of each pose is to that of each person.

    Args:
        found: ``(pose, keypoint, 3)`` in pixels of the picture.
        people: whom to find.

    Returns:
        ``(pose, person, keypoint)``, 0..1 as COCO defines it; 0 where it is not labelled or the
        pose has no number.
    """
    distances = _squared_distances(found, people)
    spread = (2 * COCO_SIGMAS) ** 2 * (people.areas[:, None] + np.spacing(1))
    near = np.exp(-distances / (2 * spread))
    return np.where(people.keypoints[..., 2] > 0, np.nan_to_num(near), 0.0)


def object_similarity(near: Floats, people: People) -> Floats:
    """Return ``(pose, person)`` OKS: the mean of `similarities` over the labelled keypoints."""
    labelled = (people.keypoints[..., 2] > 0).sum(axis=1)
    oks: Floats = near.sum(axis=2) / np.maximum(labelled, 1)
    return oks


def pair(oks: Floats) -> Counts:
    """Give each person at most one pose, the most similar pair first.

    Args:
        oks: ``(pose, person)``.

    Returns:
        ``(person,)`` index of the pose, -1 where none is left that is at all similar.
    """
    left = oks.copy()
    pairs = np.full(oks.shape[1], -1, np.int64)
    while left.size and left.max() > 0:
        pose, person = np.unravel_index(left.argmax(), left.shape)
        pairs[person] = pose
        left[pose], left[:, person] = 0, 0
    return pairs


def agreement(found: PoseArray, people: People) -> Agreement:
    """Compare the poses of one picture, ``(pose, keypoint, 3)``, with the persons in it."""
    near = similarities(found, people)
    oks = object_similarity(near, people)
    pairs = pair(oks)
    persons = np.flatnonzero(pairs >= 0)
    poses = pairs[persons]
    is_labelled = people.keypoints[..., 2] > 0
    reach = (PCK_ALPHA * people.sides[persons, None]) ** 2
    is_right = _squared_distances(found, people)[poses, persons] <= reach
    is_found = oks[poses, persons] >= FOUND_OKS
    return Agreement(
        labelled=is_labelled.sum(axis=0),
        right=(is_right & is_labelled[persons]).sum(axis=0),
        found=is_labelled[persons[is_found]].sum(axis=0),
        similarity=near[poses[is_found], persons[is_found]].sum(axis=0),
    )


def precision_recall(matches: Matches, weights: Counts | None = None) -> tuple[Floats, Floats]:
    """Return precision at `RECALLS`, ``(threshold, recall)``, and final recall, ``(threshold,)``.

    Args:
        matches: of all pictures.
        weights: ``(picture,)`` how often each picture counts; None: once. The result is that of
            pycocotools on a set that holds each picture so often, as long as no two poses of one
            picture have the same score.

    Both are not a number where the pictures hold no person.
    """
    weights = np.ones(len(matches.people), np.int64) if weights is None else weights
    total = int(weights @ matches.people)
    if not total:
        nothing = np.full(len(matches.hits), np.nan)
        return np.repeat(nothing[:, None], len(RECALLS), axis=1), nothing
    count = weights[matches.pictures]
    hits = np.cumsum(matches.hits * count, axis=1)
    misses = np.cumsum(matches.misses * count, axis=1)
    recall = hits / total
    precision = hits / (hits + misses + np.spacing(1))
    # As COCO does: the best precision at this recall or any higher one; 0 past the highest recall.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    best = np.pad(best, ((0, 0), (0, 1)))
    read = [row[np.searchsorted(at, RECALLS)] for row, at in zip(best, recall, strict=True)]
    final = recall[:, -1] if recall.shape[1] else np.zeros(len(recall))
    return np.array(read), final


def average_precision(matches: Matches, weights: Counts | None = None) -> float:
    """Return AP: precision over all recalls and thresholds; see `precision_recall`."""
    return float(precision_recall(matches, weights)[0].mean())


def resample(pictures: int, seed: int, resamples: int = RESAMPLES) -> Counts:
    """Draw sets of pictures with replacement.

    Returns:
        ``(resample, picture)`` how often each picture was drawn. The same for the same seed, so
        that two networks are compared on the same sets.
    """
    random = np.random.default_rng(seed)
    share = np.full(pictures, 1 / pictures)
    return random.multinomial(pictures, share, size=resamples).astype(np.int64)


def interval(samples: Floats, level: float = 0.95) -> tuple[float, float]:
    """Return the middle ``level`` of resampled values; what is not a number is left out."""
    values = samples[np.isfinite(samples)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _squared_distances(found: PoseArray, people: People) -> Floats:
    """Return ``(pose, person, keypoint)`` square pixels."""
    apart = found[:, None, :, :2].astype(np.float64) - people.keypoints[None, :, :, :2]
    squared: Floats = (apart**2).sum(axis=3)
    return squared
