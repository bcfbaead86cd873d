"""People who walk across each other's way, as a network would see them, and who they really are."""

from dataclasses import dataclass

import numpy as np

from agents.streams.synthetic import Scene

SIZE = (1280, 720)
SPEED = 1.4 / 1.7
"""Body heights a second in the middle of the way: an unhurried walk; they slow down to turn."""
JITTER = 0.008
"""Error of a keypoint in body heights; PoseNet's on standing people is about that."""
MISSED = 0.03
"""Share of persons that the network misses in a frame, by chance."""
FEWEST_KEYPOINTS = 5
"""With fewer in sight, a person is not found."""


@dataclass(frozen=True)
class Sight:
    """One frame: the persons found, in the order of a network, and which walker each is."""

    at_s: float
    keypoints: np.ndarray
    """``(person, 17, 3)`` in pixels."""
    walkers: np.ndarray


def true_poses(people, at_s, seed=1):
    """Everybody walks to and fro across the frame, each at a depth of his own."""
    scene = Scene(people, SIZE, 1.0, seed)
    poses = scene._walkers.poses_at(at_s)
    random = np.random.default_rng(seed)
    starts = random.uniform(0, 2 * np.pi, people)
    for walker, pose in enumerate(poses):
        reach = (0.5 - 0.05) * SIZE[0]
        walked = at_s * SPEED * scene._walkers.heights[walker]
        x = SIZE[0] / 2 + reach * np.sin(starts[walker] + walked / reach)
        pose[:, 0] += x - pose[11:13, 0].mean()
    return poses


def sights(people, seconds, fps, seed=1):
    """Yield the frames of a camera."""
    random = np.random.default_rng(seed)
    for index in range(round(seconds * fps)):
        truth = true_poses(people, index / fps, seed)
        poses = truth.copy()
        heights = np.ptp(truth[:, :, 1], axis=1)
        poses[..., :2] += random.normal(0, JITTER, poses[..., :2].shape) * heights[:, None, None]
        poses[..., 2] = random.uniform(0.3, 1, poses.shape[:2])
        for walker in range(people):
            poses[walker, is_hidden(truth, walker), 2] = 0.0
        found = (poses[..., 2] > 0).sum(axis=1) >= FEWEST_KEYPOINTS
        found &= random.random(people) >= MISSED
        walkers = random.permutation(np.flatnonzero(found))
        yield Sight(index / fps, poses[walkers], walkers)


def is_hidden(poses, walker):
    """Which keypoints lie behind the body of somebody who stands nearer, that is lower."""
    hidden = np.zeros(poses.shape[1], bool)
    feet = poses[:, 15:17, 1].max(axis=1)
    points = poses[walker, :, :2]
    for nearer in np.flatnonzero(feet > feet[walker]):
        trunk = poses[nearer, (5, 6, 11, 12), 0]
        bottom, top = feet[nearer], poses[nearer, :, 1].min()
        width = 0.08 * (bottom - top)
        hidden |= (
            (points[:, 0] > trunk.min() - width) & (points[:, 0] < trunk.max() + width)
            & (points[:, 1] > top) & (points[:, 1] < bottom)
        )  # fmt: skip
    return hidden


def count_switches(tracker, frames):
    """Return how often a walker came by another id, and how many ids were given in all."""
    held, switches, given = {}, 0, set()
    for sight in frames:
        ids = tracker.update(sight.keypoints, sight.at_s)
        for walker, track in zip(sight.walkers.tolist(), ids.tolist(), strict=True):
            switches += held.get(walker, track) != track
            held[walker] = track
            given.add(track)
    return switches, len(given)
