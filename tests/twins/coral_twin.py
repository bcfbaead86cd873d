"""Coral's PosenetDecoderOp in words of numpy: what its reference poses were made with.

Unlike `PoseNetDecoder` it reads maps between cells (bilinear), refines each keypoint five times,
and starts from a peak's refined position.
"""

from itertools import product

import numpy as np

EDGES = (
    (0, 1), (1, 3), (0, 2), (2, 4), (0, 5), (5, 7), (7, 9), (5, 11), (11, 13), (13, 15),
    (0, 6), (6, 8), (8, 10), (6, 12), (12, 14), (14, 16),
)  # fmt: skip
REFINEMENTS = 5
NMS_RADIUS = 20


def between(maps, y, x):
    """Read maps at a position in cells, linearly between the four around it."""
    last = np.array(maps.shape[:2]) - 1
    y, x = np.clip([y, x], 0, last)
    top, left = int(y), int(x)
    low, right = min(top + 1, last[0]), min(left + 1, last[1])
    upper = maps[top, left] * (1 - x + left) + maps[top, right] * (x - left)
    lower = maps[low, left] * (1 - x + left) + maps[low, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


def refined(offsets, keypoint, y, x):
    for _ in range(REFINEMENTS):
        offset = between(offsets, y, x)
        y, x = y + offset[keypoint], x + offset[17 + keypoint]
    return y, x


def decode(outputs, stride):
    """Return ``[(17, 3) array of x, y, score]`` in input pixels, in the order of their peaks."""
    heat = np.asarray(outputs["heatmap"], float)
    offsets, forward, backward = (
        np.asarray(outputs[role], float) / stride
        for role in ("offset", "displacement_forward", "displacement_backward")
    )
    height, width = heat.shape[:2]
    peaks = [
        (heat[y, x, k], y, x, k)
        for y, x, k in product(range(height), range(width), range(17))
        if heat[y, x, k] >= max(0, heat[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2, k].max())
    ]
    people = []
    for _, y, x, root in sorted(peaks, key=lambda peak: -peak[0]):
        at = refined(offsets, root, y, x)
        near = [np.hypot(*(np.array(person[root]) - at)) for person in people]
        if not any(distance * stride < NMS_RADIUS for distance in near):
            people.append(walk(root, at, offsets, forward, backward))
    return [
        np.array(
            [
                (x * stride, y * stride, 1 / (1 + np.exp(-between(heat, y, x)[k])))
                for k, (y, x) in sorted(person.items())
            ]
        )
        for person in people
    ]


def walk(root, at, offsets, forward, backward):
    person, queue = {root: at}, [root]
    for source in queue:
        for number, (parent, child) in enumerate(EDGES):
            for start, end, maps in ((parent, child, forward), (child, parent, backward)):
                if start == source and end not in person:
                    y, x = person[source]
                    step = between(maps, y, x)
                    person[end] = refined(offsets, end, y + step[number], x + step[16 + number])
                    queue.append(end)
    return person
