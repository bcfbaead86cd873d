"""The PoseNet decoder agrees with its twin, finds what was rendered, and survives anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twins import coral_twin, posenet_twin
from twins.posenet_scene import make_noise, make_people, make_plateau, make_scatter, render

from models.decoders.posenet import CHANNELS, PoseNetDecoder
from models.poses import PoseBuffer
from models.skeletons import COCO17

SIDES = st.integers(1, 24)
STRIDES = st.sampled_from([1, 4, 5, 8, 12, 16, 32])
SEEDS = st.integers(0, 2**32 - 1)
ODDITIES = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, -0.0, 0.0], np.float32)

in_kernel_time = settings(deadline=None, max_examples=60)


@st.composite
def scenes(draw):
    """Maps of persons and noise, sometimes rounded so that many values tie; and a stride."""
    rng = np.random.default_rng(draw(SEEDS))
    height, width, stride = draw(SIDES), draw(SIDES), draw(STRIDES)
    people = make_people(rng, draw(st.integers(0, 8)), (height * stride, width * stride))
    maps = render(people, (height, width), stride, rng, noise=draw(st.sampled_from([0.1, 1, 5])))
    if draw(st.booleans()):
        maps = {**maps, "heatmap": np.round(maps["heatmap"])}
    return maps, stride


@st.composite
def broken_scenes(draw):
    """The same with a share of values replaced by NaN, infinities and huge numbers."""
    maps, stride = draw(scenes())
    rng = np.random.default_rng(draw(SEEDS))
    for role in draw(st.sets(st.sampled_from(sorted(maps)), min_size=1)):
        broken = rng.random(maps[role].shape) < draw(st.sampled_from([0.01, 0.3, 1.0]))
        maps[role][broken] = rng.choice(ODDITIES, int(broken.sum()))
    return maps, stride


def decode(maps, stride, **options):
    decoder = PoseNetDecoder(COCO17, stride, options)
    poses = PoseBuffer(decoder.capacity, 17)
    decoder.decode(maps, poses)
    return poses.scores[: poses.count], poses.keypoints[: poses.count]


def assert_same_people(scores, keypoints, twin_poses):
    """Compare without regard to the order of (nearly) equal scores."""
    twin_scores = np.array([pose.score for pose in twin_poses])
    np.testing.assert_allclose(scores, np.sort(twin_scores)[::-1], atol=1e-6)
    left = [np.nan_to_num(pose.keypoints, nan=0.0) for pose in twin_poses]
    for person in keypoints:
        same = [np.allclose(person, other, rtol=1e-6, atol=1e-6) for other in left]
        assert any(same)
        del left[same.index(True)]


@in_kernel_time
@given(
    scenes(),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.sampled_from([0.0, 7.5, 20.0]),
    st.sampled_from([0.0, 0.25, 0.6]),
    st.integers(0, 2),
)
def test_agrees_with_the_twin(scene, score_threshold, nms_radius, min_pose_score, refinements):
    maps, stride = scene
    options = {
        "score_threshold": score_threshold,
        "nms_radius": nms_radius,
        "min_pose_score": min_pose_score,
        "refinements": refinements,
    }
    assert_same_people(
        *decode(maps, stride, **options), posenet_twin.decode(maps, stride, **options)
    )


@in_kernel_time
@given(broken_scenes(), st.integers(0, 2))
def test_agrees_with_the_twin_where_values_are_not_numbers(scene, refinements):
    maps, stride = scene
    options = {"min_pose_score": 0.0, "refinements": refinements}
    scores, keypoints = decode(maps, stride, **options)
    assert np.isfinite(scores).all()
    assert not np.isnan(keypoints).any()
    assert_same_people(scores, keypoints, posenet_twin.decode(maps, stride, **options))


@in_kernel_time
@given(st.sampled_from([8, 16, 32]), st.integers(1, 6), SEEDS)
def test_finds_the_people_that_were_rendered(stride, count, seed):
    rng = np.random.default_rng(seed)
    cells = (33, 41)
    people = make_people(rng, count, (32 * stride, 40 * stride))
    _, keypoints = decode(render(people, cells, stride, rng, noise=0.0), stride)
    assert len(keypoints) == count
    for person in people:
        error = np.abs(keypoints[:, :, 1::-1] - person).max((1, 2))
        assert error.min() < 1e-3


@in_kernel_time
@given(scenes(), SEEDS)
def test_the_order_of_cells_decides_nothing(scene, seed):
    """A mirrored scene has the mirrored people, as long as no scores tie."""
    maps, stride = scene
    rng = np.random.default_rng(seed)
    heatmap = maps["heatmap"] + rng.normal(0, 0.01, maps["heatmap"].shape).astype(np.float32)
    maps = {**maps, "heatmap": heatmap}
    mirrored = {role: tensor[:, ::-1].copy() for role, tensor in maps.items()}
    for role in CHANNELS:
        if role != "heatmap":
            mirrored[role][..., CHANNELS[role] // 2 :] *= -1
    scores, keypoints = decode(maps, stride)
    mirrored_scores, mirrored_keypoints = decode(mirrored, stride)
    np.testing.assert_allclose(mirrored_scores, scores, atol=1e-6)
    found = keypoints[..., 2] > 0
    mirrored_keypoints[..., 0] = (maps["heatmap"].shape[1] - 1) * stride - mirrored_keypoints[
        ..., 0
    ]
    np.testing.assert_allclose(mirrored_keypoints[found], keypoints[found], atol=1e-2)


@pytest.mark.parametrize("make", [make_noise, make_plateau, make_scatter])
@pytest.mark.parametrize("cells", [1, 2, 9, 33])
@pytest.mark.parametrize("max_poses", [1, 5, 100])
def test_the_worst_cases_stay_bounded_sorted_and_apart(make, cells, max_poses):
    maps = make(cells)
    scores, keypoints = decode(maps, 16, max_poses=max_poses)
    assert 0 < len(scores) <= max_poses or make is make_scatter
    assert (np.diff(scores) <= 0).all()
    assert ((scores >= 0.25) & (scores <= 1)).all()
    for index, person in enumerate(keypoints):
        apart = ((keypoints[index + 1 :, :, :2] - person[:, :2]) ** 2).sum(-1) > 20**2
        assert apart.any(1).all(), "a root of one person lies on a keypoint of another"
    assert_same_people(scores, keypoints, posenet_twin.decode(maps, 16, max_poses=max_poses))


@in_kernel_time
@given(scenes(), st.integers(1, 40))
def test_few_candidates_are_the_highest(scene, max_candidates):
    maps, stride = scene
    options = {"max_candidates": max_candidates, "min_pose_score": 0.0}
    scores, keypoints = decode(maps, stride, **options)
    assert len(scores) <= max_candidates
    assert_same_people(scores, keypoints, posenet_twin.decode(maps, stride, **options))


@in_kernel_time
@given(scene=scenes())
def test_read_between_cells_it_is_coral_s_decoder(scene):
    maps, stride = scene
    options = {"sampling": "linear", "refinements": 5, "min_pose_score": 0.0, "max_poses": 1000}
    _, keypoints = decode(maps, stride, **options)
    expected = coral_twin.decode(maps, stride)
    assert len(keypoints) == len(expected)
    left = list(expected)
    for person in keypoints:
        same = [np.allclose(person, other, rtol=1e-4, atol=1e-2) for other in left]
        assert any(same)
        del left[same.index(True)]


@in_kernel_time
@given(scene=broken_scenes())
def test_read_between_cells_it_survives_anything(scene):
    maps, stride = scene
    scores, keypoints = decode(maps, stride, sampling="linear", refinements=5)
    assert np.isfinite(scores).all()
    assert np.isfinite(keypoints).all()
