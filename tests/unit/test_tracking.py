"""PoseTracker: who keeps an id, who gets a new one, and what is refused."""

import numpy as np
import pytest
from twins.tracking_scene import count_switches, sights

from agents.streams.synthetic import Scene
from models.poses import UNTRACKED
from models.skeletons import COCO17, SKELETONS
from models.tracking import MAX_AGE_S, PoseTracker
from models.tracking_kernel import LAST_ID, NEXT_ID

FPS = 30
SCENE = Scene(people=4, size=(640, 480), fps=FPS, seed=3)
NOBODY = np.zeros((0, 17, 3), np.float32)


def make_tracker(**options):
    return PoseTracker(COCO17, 10, **options)


def test_everybody_keeps_the_id_of_the_first_frame():
    tracker = make_tracker()
    for index in range(10 * FPS):
        ids = tracker.update(SCENE.poses_at(index), index / FPS)
        assert ids.tolist() == [1, 2, 3, 4]
        assert ids.dtype == np.int32


@pytest.mark.parametrize(("hidden_s", "is_same"), [(0.5, True), (1.9, True), (2.2, False)])
def test_who_is_hidden_keeps_the_id_until_the_longest_age(hidden_s, is_same):
    tracker = make_tracker()
    for index in range(2 * FPS):
        before = tracker.update(SCENE.poses_at(index), index / FPS)
    hidden = round(hidden_s * FPS)
    for index in range(2 * FPS, 2 * FPS + hidden):
        others = tracker.update(SCENE.poses_at(index)[1:], index / FPS)
        assert others.tolist() == [2, 3, 4]
    index = 2 * FPS + hidden
    after = tracker.update(SCENE.poses_at(index), index / FPS)
    assert before.tolist() == [1, 2, 3, 4]
    assert after.tolist() == [1 if is_same else 5, 2, 3, 4]


def test_the_longest_age_can_be_chosen():
    tracker = make_tracker(max_age_s=0.1)
    pose = SCENE.poses_at(0)[:1]
    assert [tracker.update(pose, at)[0] for at in (0.0, 0.1, 0.25)] == [1, 1, 2]


@pytest.mark.parametrize("fps", [5, 10, 30])
def test_two_who_cross_keep_their_ids_although_one_hides_the_other(fps):
    """They walk 1.4 m/s toward each other; while their trunks overlap only one is found."""
    scene = Scene(people=2, size=(640, 480), fps=fps, seed=3)
    tracker = make_tracker()
    hidden = 0
    for index in range(4 * fps):
        poses = scene.poses_at(index)
        height = np.ptp(poses[:, :, 1], axis=1).mean()
        for person, direction in enumerate((1, -1)):
            walked = direction * 0.8 * height * (index / fps - 2)
            poses[person, :, 0] += 320 + walked - poses[person, 11:13, 0].mean()
        is_hiding = abs(poses[0, 11:13, 0].mean() - poses[1, 11:13, 0].mean()) < 0.15 * height
        hidden += is_hiding
        found = [0] if is_hiding else [0, 1]
        ids = tracker.update(poses[found], index / fps)
        assert ids.tolist() == [1, 2][: len(found)]
    assert hidden >= 1


def test_ten_who_cross_for_half_a_minute_are_seldom_mistaken():
    """With noise, missed persons and half hidden ones; 7 switches in two such half minutes."""
    switches, given = count_switches(PoseTracker(COCO17, 10), sights(10, 30, 30, seed=1))
    assert switches <= 12
    assert given <= 18


def test_a_head_that_looks_out_is_one_person_from_frame_to_frame():
    random = np.random.default_rng(5)
    tracker = make_tracker()
    for index in range(FPS):
        pose = SCENE.poses_at(0)[:1]
        pose[..., :2] += random.normal(0, 2, (17, 2))
        pose[:, 5:, 2] = 0.0
        assert tracker.update(pose, index / FPS).tolist() == [1]


def test_frames_without_people_are_nothing_special():
    tracker = make_tracker()
    assert tracker.update(NOBODY, 0.0).tolist() == []
    assert tracker.update(SCENE.poses_at(0), 0.1).tolist() == [1, 2, 3, 4]
    assert tracker.update(NOBODY, 0.2).tolist() == []
    assert tracker.update(SCENE.poses_at(0), 0.3).tolist() == [1, 2, 3, 4]


def test_a_person_without_a_visible_keypoint_has_no_id():
    poses = SCENE.poses_at(0)
    poses[1, :, 2] = 0.05
    assert make_tracker().update(poses, 0.0).tolist() == [1, UNTRACKED, 2, 3]


def test_what_is_not_a_number_harms_nobody_else():
    poses = SCENE.poses_at(0)
    poses[1, 3:9, :2] = np.nan
    poses[2, :, :2] = np.inf
    tracker = make_tracker()
    for index in range(3):
        ids = tracker.update(poses, index / FPS)
        assert (ids[0], ids[3]) == (1, 4)


def test_the_same_moment_twice_is_no_frame_of_infinite_speed():
    tracker = make_tracker()
    for index in (0, 1, 2, 2, 2, 3):
        assert tracker.update(SCENE.poses_at(index), 2 / FPS).tolist() == [1, 2, 3, 4]


def test_a_full_table_forgets_who_was_unseen_for_longest():
    tracker = PoseTracker(COCO17, 1)
    here, there, elsewhere = SCENE.poses_at(0)[:3, None] + np.array([[[0.0]], [[2e3]], [[4e3]]])[
        :, None
    ] * (1, 1, 0)
    ids = [
        tracker.update(pose, 0.1 * index)[0] for index, pose in enumerate((here, there, elsewhere))
    ]
    assert ids == [1, 2, 3]
    assert tracker.update(there, 0.3)[0] == 2
    assert tracker.update(here, 0.4)[0] == 4


def test_when_the_ids_are_used_up_new_people_have_none():
    tracker = make_tracker()
    tracker._state.counters[NEXT_ID] = LAST_ID
    ids = tracker.update(SCENE.poses_at(0), 0.0)
    assert ids.tolist() == [LAST_ID, UNTRACKED, UNTRACKED, UNTRACKED]
    assert tracker.update(SCENE.poses_at(1), 1 / FPS).tolist() == ids.tolist()


def test_the_answer_is_the_callers_own():
    tracker = make_tracker()
    first = tracker.update(SCENE.poses_at(0), 0.0)
    tracker.update(SCENE.poses_at(0)[::-1], 0.1)
    assert first.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_every_skeleton_is_tracked(skeleton):
    """Keypoints that the scene does not have are put between the shoulders."""
    found = SCENE.poses_at(0)
    neck = found[:, 5:7].mean(axis=1)
    columns = [
        found[:, COCO17.keypoints.index(name)] if name in COCO17.keypoints else neck
        for name in skeleton.keypoints
    ]
    tracker = PoseTracker(skeleton, 4)
    for at_s in (0.0, 0.1):
        assert tracker.update(np.stack(columns, axis=1), at_s).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("shape", [(11, 17, 3), (1, 18, 3)])
def test_more_than_it_was_built_for_is_refused(shape):
    with pytest.raises(ValueError, match="do not fit a tracker for 10 of 17"):
        make_tracker().update(np.zeros(shape, np.float32), 0.0)


def test_the_default_is_seconds_not_frames():
    assert MAX_AGE_S == 2.0
