"""Poses beside annotations -> Score: matched by pycocotools, with an interval by resampling.

AP and AR are pycocotools' own numbers. It comes with the extra ``posefleet[eval]``; without it,
this module does not import.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fleet.annotations import Picture
from models.accuracy import (
    Agreement,
    Floats,
    Matches,
    agreement,
    average_precision,
    interval,
    resample,
)
from models.poses import PoseArray
from models.skeletons import COCO17

MAX_POSES = 20
"""COCO counts the best 20 poses of a picture (https://cocodataset.org/#keypoints-eval, 1.2)."""
SEED = 2017
"""Any number would do; a fixed one gives the same interval for the same poses."""
_PERSON = 1


@dataclass(frozen=True, slots=True)
class Found:
    """What a network found in one picture, best first, at most `MAX_POSES`."""

    scores: NDArray[np.float32]
    keypoints: PoseArray
    """``(pose, 17, 3)`` in pixels of the picture."""


@dataclass(frozen=True, slots=True)
class Average:
    """COCO's summary, each 0..1; not a number where the pictures hold nobody of that size."""

    ap: float
    ap50: float
    ap75: float
    ap_medium: float
    """Persons of 32**2 to 96**2 square pixels."""
    ap_large: float
    ar: float


@dataclass(frozen=True, slots=True)
class Score:
    """How right a network is on a set of pictures."""

    average: Average | None
    """None where only PCK was wanted."""
    pck: float
    """Share of the labelled keypoints that are right; see `models.accuracy.PCK_ALPHA`."""
    oks_per_keypoint: dict[str, float | None]
    """Mean similarity over the persons that were found; None where none of them has it labelled."""
    samples: Floats
    """``(resample,)`` of `value`, on the same resampled pictures for every network."""

    @property
    def value(self) -> float:
        """AP, or PCK where only that was wanted: what the interval is about."""
        return self.pck if self.average is None else self.average.ap

    @property
    def measure(self) -> str:
        """What `value` is."""
        return "pck" if self.average is None else "ap"

    @property
    def ci95(self) -> tuple[float, float]:
        """Where `value` lies in 95 % of the resampled sets."""
        return interval(self.samples)

    def ratio_to(self, other: "Score") -> tuple[float, tuple[float, float]] | None:
        """Return `value` as a share of another's, and its 95 % interval; None of nothing."""
        if not other.value > 0:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.value / other.value, interval(self.samples / other.samples)


def score(pictures: Sequence[Picture], found: Sequence[Found], *, pck_only: bool = False) -> Score:
    """Compare what was found in each picture with who is in it.

    Args:
        pictures: in any order, at least one with a person that counts.
        found: the poses of each.
        pck_only: not everybody in the pictures is annotated, so that AP would mean nothing.
    """
    agreements = [
        agreement(each.keypoints, picture.people())
        for picture, each in zip(pictures, found, strict=True)
    ]
    labelled = np.array([each.labelled.sum() for each in agreements])
    right = np.array([each.right.sum() for each in agreements])
    weights = resample(len(pictures), SEED)
    average: Average | None = None
    if pck_only:
        with np.errstate(invalid="ignore"):
            samples = (weights @ right) / (weights @ labelled)
    else:
        average, matches = match(pictures, found)
        samples = np.array([average_precision(matches, each) for each in weights])
    pck = float(right.sum() / labelled.sum())
    return Score(average, pck, _similarity(agreements), samples)


def match(pictures: Sequence[Picture], found: Sequence[Found]) -> tuple[Average, Matches]:
    """Let pycocotools match and summarize; also return its matches over persons of all sizes."""
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_truth(pictures), _results(pictures, found), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # stats: AP, AP50, AP75, AP medium, AP large, AR, ...; -1 where there is nobody to find.
    stats = [float(value) if value >= 0 else float("nan") for value in evaluation.stats[:6]]
    return Average(*stats), _matches(evaluation)


def coco_results(pictures: Sequence[Picture], found: Sequence[Found]) -> list[dict[str, Any]]:
    """Return poses in COCO's results format, as its server and other tools read it."""
    return [
        {
            "image_id": picture.id,
            "category_id": _PERSON,
            "keypoints": [round(float(value), 3) for value in keypoints.ravel()],
            "score": round(float(pose_score), 5),
        }
        for picture, each in zip(pictures, found, strict=True)
        for pose_score, keypoints in zip(each.scores, each.keypoints, strict=True)
    ]


def _matches(evaluation: COCOeval) -> Matches:
    # evalImgs is ordered by category, size of person, picture; the first size is "all".
    images = evaluation.evalImgs[: len(evaluation.params.imgIds)]
    thresholds = len(evaluation.params.iouThrs)
    people = np.array([0 if e is None else int((e["gtIgnore"] == 0).sum()) for e in images])
    with_any = [(index, e) for index, e in enumerate(images) if e is not None]
    none = np.zeros((thresholds, 0))
    scores = np.concatenate([none[0], *(e["dtScores"] for _, e in with_any)])
    owners = [np.full(len(e["dtScores"]), index) for index, e in with_any]
    is_matched = np.hstack([none, *(e["dtMatches"] for _, e in with_any)]) > 0
    is_ignored = np.hstack([none, *(e["dtIgnore"] for _, e in with_any)]) > 0
    order = np.argsort(-scores, kind="stable")  # ties as in pycocotools
    return Matches(
        pictures=np.concatenate([none[0], *owners]).astype(np.int64)[order],
        hits=(is_matched & ~is_ignored)[:, order],
        misses=(~is_matched & ~is_ignored)[:, order],
        people=people,
    )


def _truth(pictures: Sequence[Picture]) -> COCO:
    blank = [0.0] * (3 * len(COCO17.keypoints))
    entries = [
        {
            "image_id": index,
            "keypoints": list(person.keypoints) or blank,
            "num_keypoints": sum(value > 0 for value in person.keypoints[2::3]),
            "bbox": list(person.bbox),
            "area": person.area,
            "iscrowd": int(person.iscrowd),
        }
        for index, picture in enumerate(pictures)
        for person in picture.persons
    ]
    return _coco(len(pictures), entries)


def _results(pictures: Sequence[Picture], found: Sequence[Found]) -> COCO:
    entries = []
    for index, each in enumerate(found):
        for pose_score, keypoints in zip(each.scores, each.keypoints, strict=True):
            # As `COCO.loadRes` does it; that one refuses an empty list.
            left, top = keypoints[:, :2].min(axis=0).tolist()
            right, bottom = keypoints[:, :2].max(axis=0).tolist()
            entries.append(
                {
                    "image_id": index,
                    "keypoints": keypoints.astype(np.float64).ravel().tolist(),
                    "score": float(pose_score),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                }
            )
    return _coco(len(pictures), entries)


def _coco(pictures: int, entries: list[dict[str, Any]]) -> COCO:
    """Index a data set; ids are ours: pycocotools takes a match with annotation 0 for none."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": index} for index in range(pictures)],
        "categories": [{"id": _PERSON}],
        "annotations": [
            {"id": number, "category_id": _PERSON, **entry}
            for number, entry in enumerate(entries, start=1)
        ],
    }
    coco.createIndex()
    return coco


def _similarity(agreements: Sequence[Agreement]) -> dict[str, float | None]:
    total = np.sum([each.similarity for each in agreements], axis=0)
    count = np.sum([each.found for each in agreements], axis=0)
    return {
        name: float(similarity / seen) if seen else None
        for name, similarity, seen in zip(COCO17.keypoints, total, count, strict=True)
    }
