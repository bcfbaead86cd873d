"""The synthetic scene: the same every time, and its people are where it says they are."""

import math

import numpy as np
import pytest

from agents.errors import StreamRefused
from agents.streams import open_stream
from agents.streams.synthetic import Scene
from agents.streams.walkers import HEAD, STRIDE, THIGH, Walkers
from models.skeletons import COCO17

NAMES = {name: index for index, name in enumerate(COCO17.keypoints)}


def test_the_same_seed_gives_the_same_frames_and_poses():
    first, second = Scene(seed=7), Scene(seed=7)
    for index in (0, 1, 500):
        assert np.array_equal(first.render(index, "rgb"), second.render(index, "rgb"))
        assert np.array_equal(first.poses_at(index), second.poses_at(index))


def test_another_seed_gives_another_scene():
    assert not np.array_equal(Scene(seed=1).poses_at(0), Scene(seed=2).poses_at(0))


def test_frames_do_not_depend_on_what_was_drawn_before():
    scene = Scene()
    expected = Scene().render(40, "bgr")
    for index in range(5):
        scene.render(index, "bgr")
    assert np.array_equal(scene.render(40, "bgr"), expected)


@pytest.mark.parametrize("people", [0, 1, 3, 12, 50])
def test_as_many_people_as_asked_for_all_in_the_picture(people):
    scene = Scene(people, (1280, 720))
    for index in range(0, 900, 30):
        poses = scene.poses_at(index)
        assert poses.shape == (people, 17, 3)
        assert poses.dtype == np.float32
        assert np.all(poses[..., 2] == 1)
        assert np.all((poses[..., 0] >= 0) & (poses[..., 0] < 1280))
        assert np.all((poses[..., 1] >= 0) & (poses[..., 1] < 720))
        assert scene.render(index, "bgr").shape == (720, 1280, 3)


def test_people_are_drawn_where_their_poses_are():
    scene, empty = Scene(1), Scene(0)
    for index in range(0, 600, 60):
        changed = np.any(scene.render(index, "bgr") != empty.render(index, "bgr"), axis=2)
        x, y = np.rint(scene.poses_at(index)[0, :, :2]).astype(int).T
        assert np.all(changed[y, x])
        rows, columns = np.nonzero(changed)
        height = scene._walkers.heights[0]
        assert columns.min() > x.min() - 0.25 * height
        assert columns.max() < x.max() + 0.25 * height
        assert rows.min() > y.min() - 0.12 * height
        assert rows.max() < y.max() + 0.12 * height


def test_red_and_blue_are_swapped_between_the_orders():
    scene = Scene()
    assert np.array_equal(scene.render(3, "rgb"), scene.render(3, "bgr")[:, :, ::-1])


def test_limbs_keep_their_length_seen_from_the_side_and_move_smoothly():
    walkers = Walkers(1, 640, 480, seed=3)
    points = np.array([walkers.points_at(number / 30)[0] for number in range(900)])
    thigh = points[:, NAMES["left_knee"]] - points[:, NAMES["left_hip"]]
    reach = np.hypot(thigh[:, 0], thigh[:, 1])
    assert reach.max() == pytest.approx(THIGH * walkers.heights[0], rel=0.05)
    steps = np.hypot(*np.moveaxis(np.diff(points[..., :2], axis=0), 2, 0))
    assert steps.max() < 0.06 * walkers.heights[0]


def test_left_is_on_the_right_of_the_picture_for_whoever_faces_us():
    walkers = Walkers(1, 640, 480, seed=3)
    facing = 0
    for number in range(900):
        points = walkers.points_at(number / 30)[0]
        towards_us = points[NAMES["nose"], 2] - points[HEAD, 2]
        if abs(towards_us) > 0.05 * walkers.heights[0]:
            facing += 1
            apart = points[NAMES["left_shoulder"], 0] - points[NAMES["right_shoulder"], 0]
            assert math.copysign(1, apart) == math.copysign(1, towards_us)
    assert facing > 100


def test_feet_do_not_slide():
    """The lower ankle stands still on the ground, within what a figure without toes can do."""
    walkers = Walkers(1, 640, 480, seed=3)
    body = walkers.heights[0]
    ankles = np.array(
        [walkers.points_at(number / 30)[0, NAMES["left_ankle"]] for number in range(900)]
    )
    hips = np.array([walkers.points_at(number / 30)[0, NAMES["left_hip"]] for number in range(900)])
    walked = np.abs(np.diff(hips[:, [0, 2]], axis=0)).sum()
    slid = np.sort(np.hypot(*np.diff(ankles[:, [0, 2]], axis=0).T))[: 900 // 4].sum()
    assert slid < 0.1 * walked
    assert walked > STRIDE * body


@pytest.mark.parametrize(
    "url",
    [
        "synthetic:?people=-1", "synthetic:?people=many", "synthetic:?size=640", "synthetic:?fps=0",
        "synthetic:?size=9999x9999", "synthetic:?persons=3", "synthetic:?pace=fast",
        "synthetic:?fps=nan",
    ],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(url):
    option = url.split("?")[1].split("=")[0]
    with pytest.raises(StreamRefused, match=option):
        open_stream(url)


def test_a_scene_of_so_many_frames_ends():
    source = open_stream("synthetic:?people=0&size=32x16&frames=3&pace=max", first_sequence=5)
    assert [source.read().sequence for _ in range(3)] == [5, 6, 7]
    assert source.read() is None
    source.close()
