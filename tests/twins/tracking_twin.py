"""The tracker in plain numpy and dictionaries: slow, obvious, and of the same opinion."""

from dataclasses import dataclass

import numpy as np

from models.poses import UNTRACKED
from models.tracking_kernel import (
    BODY_AREA,
    DRIFT_KNOWN,
    DRIFT_NEW,
    FADING_S,
    MIN_SCORE,
    MIN_SIMILARITY,
    SMOOTHING_S,
)


@dataclass
class Track:
    number: int
    pose: np.ndarray
    size: float
    seen_at: float
    frame: int
    velocity: np.ndarray
    sights: int = 1


class Tracker:
    """One stream's tracks; `body` is that of a `PoseTracker`."""

    def __init__(self, body, max_age_s):
        self.at, self.variances = body[:, :2], body[:, 2]
        self.max_age_s = max_age_s
        self.tracks, self.frame, self.next_id = [], 0, 1

    def update(self, poses, at_s):
        self.tracks = [one for one in self.tracks if at_s - one.seen_at <= self.max_age_s]
        pairs = []
        for track in self.tracks:
            for person, pose in enumerate(poses):
                likeness = self.likeness(track, pose, at_s)
                if likeness >= MIN_SIMILARITY:
                    pairs.append((likeness + (track.frame == self.frame), track, person))
        self.frame += 1
        ids, taken = [UNTRACKED] * len(poses), set()
        for _, track, person in sorted(pairs, key=lambda pair: -pair[0]):
            if ids[person] == UNTRACKED and track.number not in taken:
                taken.add(track.number)
                ids[person] = track.number
                self.move(track, poses[person], at_s)
        for person, pose in enumerate(poses):
            if ids[person] == UNTRACKED and seen(pose).any():
                ids[person] = self.next_id
                new = Track(
                    self.next_id, pose.copy(), self.size(pose), at_s, self.frame, np.zeros(2)
                )
                self.tracks.append(new)
                self.next_id += 1
        return ids

    def likeness(self, track, pose, at_s):
        common = seen(track.pose) & seen(pose)
        if not common.any() or 2 * common.sum() < min(seen(track.pose).sum(), seen(pose).sum()):
            return 0.0
        age = max(0.0, at_s - track.seen_at)
        drift = (age * (DRIFT_NEW if track.sights == 1 else DRIFT_KNOWN)) ** 2
        size = max(track.size, self.size(pose))
        apart = pose[common, :2] - track.pose[common, :2] - track.velocity * age
        weights = track.pose[common, 2].astype(float) * pose[common, 2]
        squares = (apart.astype(float) ** 2).sum(axis=1)
        similar = np.exp(-squares / (2 * size * (self.variances[common] + drift)))
        return float((weights * similar).sum() / weights.sum())

    def move(self, track, pose, at_s):
        passed = max(0.0, at_s - track.seen_at)
        common = seen(track.pose) & seen(pose)
        if passed:
            weights = track.pose[common, 2].astype(float) * pose[common, 2]
            moved = (weights[:, None] * (pose[common, :2] - track.pose[common, :2])).sum(axis=0)
            measured = moved / weights.sum() / passed
            share = max(1 - np.exp(-passed / SMOOTHING_S), 1 / track.sights)
            track.velocity = track.velocity + share * (measured - track.velocity)
        fading = np.exp(-passed / FADING_S)
        hidden = ~seen(pose)
        kept = track.pose.copy()
        kept[hidden, :2] += track.velocity * passed
        kept[hidden, 2] *= fading
        kept[~hidden] = pose[~hidden]
        track.pose, track.size = kept, max(track.size * fading, self.size(kept))
        track.seen_at, track.frame, track.sights = at_s, self.frame, track.sights + 1

    def size(self, pose):
        points, own = pose[seen(pose), :2].astype(float), self.at[seen(pose)]
        if len(points) == 0:
            return 1.0
        spread, own_spread = ((each - each.mean(axis=0)) ** 2 for each in (points, own))
        whole = BODY_AREA * spread.sum() / own_spread.sum() if own_spread.sum() > 1e-6 else 0.0
        return max(np.ptp(points, axis=0).prod(), whole, 1.0)


def seen(pose):
    return pose[:, 2] >= MIN_SCORE
