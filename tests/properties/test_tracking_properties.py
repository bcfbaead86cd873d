"""PoseTracker on any scene: like its twin, whatever the order, and never an id twice."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twins import tracking_twin

from agents.streams.synthetic import Scene
from models.skeletons import COCO17
from models.tracking import PoseTracker

seeds = st.integers(0, 2**32 - 1)


@st.composite
def films(draw):
    """Frames of walkers who are missed, half hidden and jumped over, at uneven times."""
    random = np.random.default_rng(draw(seeds))
    people = draw(st.integers(0, 8))
    scene = Scene(people, (640, 480), 30.0, draw(st.integers(0, 100)))
    at_s, frames = 0.0, []
    for _ in range(draw(st.integers(1, 12))):
        at_s += draw(st.sampled_from([0.0, 0.03, 0.1, 0.4, 1.5]))
        poses = scene.poses_at(at_s * 30)
        poses[..., :2] += random.normal(0, draw(st.sampled_from([0, 2, 20])), poses[..., :2].shape)
        poses[..., 2] = random.random(poses.shape[:2])
        shown = np.flatnonzero(random.random(people) < 0.8)
        frames.append((at_s, poses[random.permutation(shown)]))
    return frames


@settings(max_examples=150, deadline=None)
@given(films(), st.sampled_from([0.2, 1.0]))
def test_the_kernel_does_what_its_twin_does(film, max_age_s):
    tracker = PoseTracker(COCO17, 30, max_age_s=max_age_s)
    twin = tracking_twin.Tracker(tracker._body, max_age_s)
    for at_s, poses in film:
        assert tracker.update(poses, at_s).tolist() == twin.update(poses, at_s)


@settings(max_examples=100, deadline=None)
@given(films(), seeds)
def test_the_order_of_the_persons_in_a_frame_does_not_matter(film, seed):
    random = np.random.default_rng(seed)
    straight, shuffled = PoseTracker(COCO17, 8), PoseTracker(COCO17, 8)
    same = {}
    for at_s, poses in film:
        order = random.permutation(len(poses))
        ids = straight.update(poses, at_s)
        others = np.empty_like(ids)
        others[order] = shuffled.update(poses[order], at_s)
        for one, other in zip(ids.tolist(), others.tolist(), strict=True):
            assert same.setdefault(one, other) == other
    assert len(set(same.values())) == len(same)


@settings(max_examples=100, deadline=None)
@given(films())
def test_no_id_is_given_twice(film):
    """Not to two persons of a frame, and not again after its track has ended."""
    tracker = PoseTracker(COCO17, 8, max_age_s=0.3)
    last_seen, highest = {}, 0
    for at_s, poses in film:
        ids = tracker.update(poses, at_s).tolist()
        assert len(set(ids) - {-1}) == len([one for one in ids if one != -1])
        for one in ids:
            if one == -1:
                continue
            if one in last_seen:
                assert at_s - last_seen[one] <= 0.3 + 1e-9
            else:
                assert one > highest
            last_seen[one] = at_s
        highest = max([highest, *ids])
