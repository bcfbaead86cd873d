"""What a MoveNet's persons mean, as slowly and obviously as possible: the twin of the decoder."""

import numpy as np


def decode(keypoints, scores, least):
    """Return ``[(score, (17, 3) array of x, y, score)]``, best first; equal ones stay in order."""
    found = []
    for number, person in enumerate(np.asarray(keypoints).reshape(len(keypoints), 17, 3)):
        score = np.mean(person[:, 2]) if scores is None else scores[number][0]
        if not np.all(np.isfinite(person)) or not np.isfinite(score) or score < least:
            continue
        found.append((float(score), np.array([[x, y, s] for y, x, s in person])))
    return sorted(found, key=lambda pair: -pair[0])
