"""Drawn skeletons: where they are, what is left out, and that no keypoint can break it."""

import numpy as np
import pytest

from models.draw import draw_poses
from models.poses import UNTRACKED, PoseSet
from models.skeletons import COCO17

SHOULDERS = (5, 6)
"""An edge of the skeleton."""


def poses(*people, track_ids=None):
    """Each person: keypoint -> (x, y, score); all others have score 0."""
    keypoints = np.zeros((len(people), len(COCO17.keypoints), 3), np.float32)
    for person, points in enumerate(people):
        for index, point in points.items():
            keypoints[person, index] = point
    scores = np.ones(len(people), np.float32)
    if track_ids is None:
        return PoseSet(COCO17, scores, keypoints)
    return PoseSet(COCO17, scores, keypoints, np.array(track_ids, np.int32))


def drawn(found, size=(100, 100)):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    draw_poses(pixels, found)
    return pixels


def line(y, score=1.0):
    return {SHOULDERS[0]: (20, y, score), SHOULDERS[1]: (80, y, score)}


def test_a_limb_is_drawn_between_two_keypoints_that_are_seen():
    pixels = drawn(poses(line(50)))
    assert pixels[50, 30:70].any(axis=1).all()
    assert not pixels[:40].any()
    assert not pixels[60:].any()


@pytest.mark.parametrize("scores", [(1.0, 0.29), (0.29, 1.0)])
def test_a_limb_with_an_unseen_end_is_left_out(scores):
    first, second = scores
    found = poses({SHOULDERS[0]: (20, 50, first), SHOULDERS[1]: (80, 50, second)})
    pixels = drawn(found)
    assert not pixels[50, 30:70].any()
    assert pixels[50, 20 if first == 1.0 else 80].any()


def test_nobody_changes_nothing():
    assert not drawn(poses()).any()


def color_at(pixels, y):
    return tuple(pixels[y, 50])


def test_people_have_colors_of_their_own_and_keep_those_of_their_track():
    pixels = drawn(poses(line(20), line(80)))
    assert color_at(pixels, 20) != color_at(pixels, 80)
    tracked = drawn(poses(line(20), line(80), track_ids=[1, 0]))
    assert color_at(tracked, 20) == color_at(pixels, 80)
    assert color_at(tracked, 80) == color_at(pixels, 20)


def test_people_whom_no_tracker_has_seen_are_told_apart_too():
    pixels = drawn(poses(line(20), line(80), track_ids=[UNTRACKED, UNTRACKED]))
    assert color_at(pixels, 20) != color_at(pixels, 80)


def test_more_people_than_colors():
    pixels = drawn(poses(*[line(4 * row) for row in range(25)]))
    assert all(any(color_at(pixels, 4 * row)) for row in range(25))


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3)])
@pytest.mark.parametrize("far", [-60_000.0, 60_000.0])
def test_any_picture_and_keypoints_far_outside_are_fine(size, far):
    everywhere = dict.fromkeys(range(17), (far, far, 1.0)) | line(0)
    assert drawn(poses(everywhere), size).shape == (size[1], size[0], 3)


def test_large_pictures_get_wider_lines():
    def width(size):
        return int(drawn(poses(line(50)), size)[:, 50].any(axis=1).sum())

    assert width((2000, 100)) > width((100, 100))
