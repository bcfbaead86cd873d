"""Person identity: numbers the persons of a stream so that each keeps its number across frames.

A person belongs to the track it is most like, by object keypoint similarity (OKS) with where the
track should be by now. The best pair of all is taken first, not the best sum of all pairs, and
tracks of the last frame come before those that were out of sight. A person that fits no track gets
a new id at once, and no id is used twice.

Not guaranteed: that a person who comes back after `MAX_AGE_S`, or far from where he should be, is
known again; appearance is not looked at. Frames must come in capture order.
"""

import numpy as np
from numpy.typing import NDArray

from models.accuracy import COCO_SIGMAS
from models.poses import PoseArray
from models.skeletons import COCO17, Skeleton
from models.tracking_kernel import compile_update, make_state

MAX_AGE_S = 2.0
"""How long a person may be out of sight. Ten people who cross each other for a minute at 30 frames
a second swapped or lost their ids 19, 13, 7 and 7 times with .5, 1, 2 and 3 s."""

# Where the keypoints of somebody who stands and faces us lie, in body heights: lengths from
# D. A. Winter, Biomechanics and Motor Control of Human Movement, 4th edition, figure 4.1; how far
# eyes, ears, elbows and wrists lie apart is our estimate.
_HEIGHTS = {
    "nose": (0.0, 0.914), "eye": (0.022, 0.936), "ear": (0.055, 0.928), "shoulder": (0.129, 0.818),
    "elbow": (0.15, 0.632), "wrist": (0.16, 0.486), "hip": (0.096, 0.53), "knee": (0.09, 0.285),
    "ankle": (0.09, 0.039), "neck": (0.0, 0.818),
}  # fmt: skip
_SIGMAS = dict(zip(COCO17.keypoints, COCO_SIGMAS.tolist(), strict=True))
_NECK_SIGMA = _SIGMAS["left_shoulder"]
"""COCO has no neck; that of OpenPose lies between the shoulders."""


def _body(skeleton: Skeleton) -> NDArray[np.float64]:
    rows = []
    for name in skeleton.keypoints:
        side, _, part = name.rpartition("_")
        x, y = _HEIGHTS[part]
        rows.append((-x if side == "right" else x, y, (2 * _SIGMAS.get(name, _NECK_SIGMA)) ** 2))
    return np.array(rows)


class PoseTracker:
    """The tracks of one stream; one thread at a time."""

    def __init__(self, skeleton: Skeleton, capacity: int, *, max_age_s: float = MAX_AGE_S) -> None:
        """Compile the kernel or load it from its cache (seconds, the first time on a machine).

        Args:
            skeleton: Of the poses to come.
            capacity: Most persons in a frame.
            max_age_s: Who is out of sight for longer comes back as somebody else.
        """
        self._body = _body(skeleton)
        self._state = make_state(len(self._body), capacity)
        self._ids = np.zeros(capacity, np.int32)
        self._max_age_s = max_age_s
        self._update = compile_update()

    def update(self, keypoints: PoseArray, at_s: float) -> NDArray[np.int32]:
        """Return the track id of every person of the next frame.

        Args:
            keypoints: ``(person, keypoint, 3)`` in pixels of the frame or of the network's input,
                the same for every frame.
            at_s: When the frame was captured, on any clock that does not go back.

        Returns:
            ``(person,)``, counted from 1; `UNTRACKED` for a person without a visible keypoint.

        Raises:
            ValueError: more persons, or other keypoints, than this tracker was built for.
        """
        people, keypoint_count = keypoints.shape[:2]
        if people > len(self._ids) or keypoint_count != len(self._body):
            raise ValueError(
                f"{people} persons of {keypoint_count} keypoints do not fit a tracker for "
                f"{len(self._ids)} of {len(self._body)}"
            )
        ids = self._ids[:people]
        keypoints = np.ascontiguousarray(keypoints, np.float32)
        self._update(keypoints, at_s, self._max_age_s, self._body, self._state, ids)
        return ids.copy()
