"""Precision, recall and OKS are pycocotools' own, also on sets that hold a picture many times."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pycocotools", reason="needs the extra posefleet[eval]")

from pycocotools.cocoeval import COCOeval

from fleet.annotations import Person, Picture
from fleet.scoring import Found, _results, _truth, match, score
from models.accuracy import (
    average_precision,
    object_similarity,
    pair,
    precision_recall,
    similarities,
)

KEYPOINTS = 17


@st.composite
def scenes(draw):
    """Pictures, and what a network that errs found in them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pictures, found = [], []
    for number in range(draw(st.integers(1, 6))):
        persons = tuple(make_person(random) for _ in range(draw(st.integers(0, 4))))
        pictures.append(Picture(number, Path(f"{number}.jpg"), (640, 480), persons))
        found.append(make_found(random, persons, strangers=draw(st.integers(0, 3))))
    return pictures, found


def make_person(random):
    left, top = random.uniform(0, 400, 2)
    side = random.choice([20.0, 60.0, 150.0])
    points = np.empty((KEYPOINTS, 3))
    points[:, 0] = random.uniform(left, left + side, KEYPOINTS)
    points[:, 1] = random.uniform(top, top + side, KEYPOINTS)
    points[:, 2] = random.integers(0, 3, KEYPOINTS) * (random.random() < 0.9)
    points[points[:, 2] == 0] = 0
    return Person(
        image_id=0, category_id=1, keypoints=points.ravel().tolist(),
        bbox=(left, top, side, side), area=side * side / 2, iscrowd=random.random() < 0.15,
    )  # fmt: skip


def make_found(random, persons, strangers):
    poses = []
    for person in persons:
        points = np.array(person.keypoints).reshape(-1, 3)
        spread = random.choice([0.0, 0.02, 0.1]) * person.bbox[2]
        times = random.integers(0, 3)
        poses += [points + random.normal(0, spread, points.shape) for _ in range(times)]
    poses += [random.uniform(0, 640, (KEYPOINTS, 3)) for _ in range(strangers)]
    # Few different scores: ties between pictures are where implementations differ.
    scores = np.sort(random.permutation(16)[: len(poses)])[::-1] / 16
    keypoints = np.array(poses, np.float32).reshape(-1, KEYPOINTS, 3)
    return Found(scores.astype(np.float32), keypoints)


def coco_oks(picture, found):
    """``(pose, person)`` as pycocotools has it."""
    evaluation = COCOeval(_truth([picture]), _results([picture], [found]), "keypoints")
    evaluation._prepare()
    oks = evaluation.computeOks(0, 1)
    return np.reshape(oks, (len(found.scores), len(picture.persons)))


def is_same(ours, theirs):
    return ours == theirs or (np.isnan(ours) and np.isnan(theirs))


@settings(deadline=None, max_examples=60)
@given(scenes())
def test_our_ap_and_ar_are_those_of_pycocotools(scene):
    average, matches = match(*scene)
    precision, recall = precision_recall(matches)
    assert is_same(average_precision(matches), average.ap)
    assert is_same(precision[0].mean(), average.ap50)
    assert is_same(precision[5].mean(), average.ap75)
    assert is_same(recall.mean(), average.ar)


@settings(deadline=None, max_examples=60)
@given(scenes(), st.data())
def test_a_weight_is_as_good_as_copies_of_the_picture(scene, data):
    pictures, found = scene
    count = len(pictures)
    weights = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    weights[data.draw(st.integers(0, count - 1))] += 1
    _, matches = match(pictures, found)
    copied, _ = match(np.repeat(np.array(pictures, object), weights).tolist(),
                      [each for each, times in zip(found, weights, strict=True)
                       for _ in range(times)])  # fmt: skip
    assert average_precision(matches, np.array(weights)) == pytest.approx(
        copied.ap, rel=1e-12, nan_ok=True
    )


@settings(deadline=None, max_examples=60)
@given(scenes())
def test_our_oks_is_that_of_pycocotools(scene):
    for picture, each in zip(*scene, strict=True):
        people = picture.people()
        ours = object_similarity(similarities(each.keypoints, people), people)
        counted = [index for index, one in enumerate(picture.persons) if one.is_counted]
        theirs = coco_oks(picture, each)[:, counted]
        assert ours == pytest.approx(theirs, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(scenes())
def test_a_score_holds_together(scene):
    pictures, found = scene
    if not any(person.is_counted for picture in pictures for person in picture.persons):
        return
    made = score(pictures, found)
    low, high = made.ci95
    assert 0 <= low <= high <= 1
    assert 0 <= made.pck <= 1
    assert all(value is None or 0 <= value <= 1 for value in made.oks_per_keypoint.values())
    ratio = made.ratio_to(made)
    assert ratio is None or (ratio[0] == 1 and np.allclose(ratio[1], 1))


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6))
def test_pairs_are_one_to_one_and_stable(seed, poses, persons):
    oks = np.random.default_rng(seed).random((poses, persons))
    pairs = pair(oks)
    taken = pairs[pairs >= 0]
    assert len(set(taken.tolist())) == len(taken) == min(poses, persons)
    for person, pose in enumerate(pairs):
        for other in range(persons):
            if pose < 0 or other == person:
                continue
            # Nobody would be better off by swapping: no other pair beats both of its partners'.
            mate = pairs[other]
            assert mate < 0 or oks[pose, other] <= max(oks[pose, person], oks[mate, other])
