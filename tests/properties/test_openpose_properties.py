"""The OpenPose decoder agrees with its twin, finds what was rendered, and survives anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twins import openpose_twin
from twins.openpose_scene import (
    COCO_OF_OPENPOSE,
    STRIDE,
    make_noise,
    make_people,
    make_plateau,
    make_scatter,
    render,
)

from models.decoders.openpose import OpenPoseDecoder
from models.poses import PoseBuffer
from models.skeletons import COCO17, OPENPOSE18

SIDES = st.integers(1, 20)
SEEDS = st.integers(0, 2**32 - 1)
MODES = st.sampled_from(["fast", "reference"])
ODDITIES = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, -0.0, 0.0], np.float32)

in_kernel_time = settings(deadline=None, max_examples=30)


@st.composite
def scenes(draw):
    """Maps of persons and noise, sometimes rounded so that many values tie."""
    rng = np.random.default_rng(draw(SEEDS))
    height, width = draw(SIDES), draw(SIDES)
    people = make_people(rng, draw(st.integers(0, 6)), (height * STRIDE, width * STRIDE))
    people[rng.random(people.shape[:2]) < draw(st.sampled_from([0, 0.1, 0.3]))] = np.nan
    maps = render(people, (height, width), rng, noise=draw(st.sampled_from([0.0, 0.02, 0.3])))
    if draw(st.booleans()):
        maps["heatmap"] = np.round(maps["heatmap"] * 8) / 8
    return maps


@st.composite
def broken_scenes(draw):
    """The same with a share of values replaced by NaN, infinities and huge numbers."""
    maps = draw(scenes())
    rng = np.random.default_rng(draw(SEEDS))
    for role in draw(st.sets(st.sampled_from(sorted(maps)), min_size=1)):
        broken = rng.random(maps[role].shape) < draw(st.sampled_from([0.01, 0.3, 1.0]))
        maps[role][broken] = rng.choice(ODDITIES, int(broken.sum()))
    return maps


def decode(maps, skeleton=OPENPOSE18, stride=STRIDE, **options):
    decoder = OpenPoseDecoder(skeleton, stride, options)
    poses = PoseBuffer(decoder.capacity, len(skeleton.keypoints))
    decoder.decode(maps, poses)
    return poses.scores[: poses.count], poses.keypoints[: poses.count]


def twin_decode(maps, stride=STRIDE, **options):
    with np.errstate(all="ignore"):
        return openpose_twin.decode(maps, stride, **options)


def assert_same_people(scores, keypoints, twin_poses):
    """Compare without regard to the order of (nearly) equal scores."""
    twin_scores = np.array([pose.score for pose in twin_poses])
    np.testing.assert_allclose(scores, np.sort(twin_scores)[::-1], atol=1e-5)
    left = [pose.keypoints for pose in twin_poses]
    for person in keypoints:
        same = [np.allclose(person, other, rtol=1e-5, atol=1e-3) for other in left]
        assert any(same)
        del left[same.index(True)]


@in_kernel_time
@given(
    scenes(),
    MODES,
    st.fixed_dictionaries(
        {
            "score_threshold": st.sampled_from([0.05, 0.1, 0.4]),
            "affinity_threshold": st.sampled_from([0.0, 0.05, 0.3]),
            "min_keypoints": st.integers(1, 6),
            "max_candidates": st.sampled_from([1, 3, 64]),
            "keep": st.sampled_from(["leftmost", "highest"]),
            "merge_fragments": st.sampled_from([None, False, True]),
        }
    ),
)
def test_agrees_with_the_twin(maps, mode, options):
    found = decode(maps, mode=mode, **options)
    assert_same_people(*found, twin_decode(maps, mode=mode, **options))


@in_kernel_time
@given(broken_scenes(), MODES)
def test_agrees_with_the_twin_where_values_are_not_numbers(maps, mode):
    options = {"mode": mode, "min_keypoints": 1, "min_mean_score": 0.0, "max_candidates": 20}
    scores, keypoints = decode(maps, max_poses=1000, **options)
    assert np.isfinite(scores).all()
    assert np.isfinite(keypoints).all()
    assert_same_people(scores, keypoints, twin_decode(maps, **options))


@in_kernel_time
@given(MODES, st.sampled_from([4, 8, 16]), st.integers(1, 5), SEEDS)
def test_finds_the_people_that_were_rendered(mode, stride, count, seed):
    """To a hundredth of a cell in fast mode, to a pixel of the upsampled map in the other."""
    rng = np.random.default_rng(seed)
    people = make_people(rng, count, (38 * stride, 50 * stride))
    people += stride
    maps = render(people, (40, 52), rng, noise=0.0, stride=stride)
    _, keypoints = decode(maps, stride=stride, mode=mode)
    assert len(keypoints) == count
    for person in people:
        error = np.median(np.abs(keypoints[:, :, :2] - person).max(-1), axis=1)
        assert error.min() < (0.02 if mode == "fast" else 0.26) * stride


@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_a_lone_person_is_where_it_was_rendered_without_bias(mode):
    """The half-pixel convention: the mean error is far below half a pixel."""
    errors = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        people = make_people(rng, 1, (150, 150)) + rng.uniform(50, 60, 2)
        _, keypoints = decode(render(people, (32, 32), rng, noise=0.0), mode=mode)
        found = keypoints[0, :, 2] > 0
        errors.extend(keypoints[0, found, :2] - people[0, found])
    assert len(errors) > 300
    assert np.abs(np.mean(errors, 0)).max() < 0.15


@in_kernel_time
@given(scenes(), MODES)
def test_coco_poses_are_the_same_without_the_neck(maps, mode):
    scores, keypoints = decode(maps, mode=mode)
    coco_scores, coco_keypoints = decode(maps, COCO17, mode=mode)
    np.testing.assert_array_equal(coco_scores, scores)
    for part, coco in enumerate(COCO_OF_OPENPOSE):
        if coco >= 0:
            np.testing.assert_array_equal(coco_keypoints[:, coco], keypoints[:, part])


@pytest.mark.parametrize("make", [make_noise, make_plateau, make_scatter])
@pytest.mark.parametrize("cells", [(1, 1), (2, 3), (9, 8), (20, 33)])
@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_the_worst_cases_stay_bounded_and_sorted(make, cells, mode):
    maps = make(cells)
    options = {"mode": mode, "max_candidates": 16}
    scores, keypoints = decode(maps, max_poses=7, **options)
    assert len(scores) <= 7
    assert (np.diff(scores) <= 0).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert ((keypoints[..., 2] >= 0) & (keypoints[..., 2] <= 1)).all()
    assert (keypoints[keypoints[..., 2] == 0] == 0).all()
    twin_poses = twin_decode(maps, **options)
    np.testing.assert_allclose(scores, [pose.score for pose in twin_poses][:7], atol=1e-5)


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("mode", ["fast", "reference"])
def test_of_too_many_pairs_those_of_the_highest_peaks_stay(mode, levels):
    """Necks to the left, shoulders to the right, 64 each; some as high as others if rounded."""
    maps = make_scatter((16, 32))
    maps["heatmap"][..., [part for part in range(19) if part not in (1, 2)]] = 0
    maps["heatmap"][:, 16:, 1] = maps["heatmap"][:, :16, 2] = 0
    maps["paf"][..., 1::2] = 0
    if levels:
        maps["heatmap"] = np.ceil(maps["heatmap"] * levels) / np.float32(levels)
    options = {"mode": mode, "min_keypoints": 2, "min_mean_score": 0.0}
    found = decode(maps, **options)
    assert len(found[0]) == 32
    assert_same_people(*found, twin_decode(maps, **options))


def test_a_plateau_is_one_peak_in_fast_mode():
    maps = make_plateau((9, 8))
    maps["paf"][:] = 0
    scores, keypoints = decode(maps, min_keypoints=1)
    assert len(scores) == 0  # one peak each, on one cell, is no limb
    assert keypoints.shape == (0, 18, 3)


def test_a_person_without_neck_is_merged_only_if_asked():
    """Without a neck the arms and the head fall apart; the ears hold them together."""
    rng = np.random.default_rng(1)
    people = make_people(rng, 1, (240, 240))
    people[:, 1] = np.nan
    maps = render(people, (32, 32), rng, noise=0.0)
    fragments = decode(maps, mode="reference", min_keypoints=1)[0]
    merged = decode(maps, mode="reference", min_keypoints=1, merge_fragments=True)[0]
    assert len(merged) < len(fragments)
    assert merged[0] > fragments[0]


def blob(column, line):
    """Return a narrow blob on 12 x 12 cells."""
    lines, columns = np.mgrid[:12, :12]
    return np.exp(-((lines - line) ** 2 + (columns - column) ** 2) / (2 * 0.45**2))


def test_the_highest_of_near_peaks_stays_if_asked():
    """Two blobs of the neck are 5.6 pixels of the upsampled map apart, the right one is higher."""
    heatmap, paf = np.zeros((12, 12, 19), np.float32), np.zeros((12, 12, 38), np.float32)
    paf[..., ::2] = 1  # every field points right
    heatmap[..., 1] = 0.6 * blob(2.2, 5.2) + 0.9 * blob(3.2, 6.2)
    heatmap[..., 2] = 0.9 * blob(6.2, 5.2)
    necks = {
        keep: decode({"heatmap": heatmap, "paf": paf}, mode="reference", keep=keep, min_keypoints=2)
        for keep in ("leftmost", "highest")
    }
    (_, leftmost), (_, highest) = necks["leftmost"], necks["highest"]
    assert len(leftmost) == len(highest) == 1
    assert leftmost[0, 1, 0] < highest[0, 1, 0] - STRIDE / 2
    assert leftmost[0, 1, 2] < highest[0, 1, 2] - 0.1
