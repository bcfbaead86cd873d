"""Synthetic scenes: persons with known keypoints, rendered as the two outputs of an OpenPose."""

import numpy as np
from numpy.typing import NDArray
from twins.openpose_twin import LIMBS, PARTS, Maps
from twins.posenet_scene import make_people as make_coco_people

STRIDE = 8
SIGMA = 7.0
"""Input pixels of a keypoint's Gaussian; this and the next as published OpenPoses are trained."""
THICKNESS = 8.0
"""Input pixels around a limb, beyond its ends too, where its affinity is one."""
NOISE = 0.02
CELLS = 32, 57
"""The map of a 256 x 456 input."""

COCO_OF_OPENPOSE = [0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
"""Index among COCO's keypoints of each of OpenPose's; the neck has none."""


def make_people(
    rng: np.random.Generator, count: int, size: tuple[float, float]
) -> NDArray[np.float64]:
    """Place persons that fill (height, width); ``(person, 18, 2)`` x, y in input pixels."""
    coco = make_coco_people(rng, count, size)[..., ::-1]
    people: NDArray[np.float64] = coco[:, COCO_OF_OPENPOSE]
    people[:, 1] = (people[:, 2] + people[:, 5]) / 2  # between the shoulders
    return people


def render(
    people: NDArray[np.float64],
    cells: tuple[int, int],
    rng: np.random.Generator,
    noise: float = NOISE,
    stride: int = STRIDE,
) -> Maps:
    """Render ``(person, 18, 2)`` keypoints (x, y; NaN where missing) on (height, width) cells.

    The center of a cell is input pixel ``cell * stride + stride / 2 - .5``. Where keypoints overlap
    the higher wins; where limbs overlap their unit vectors are averaged.
    """
    height, width = cells
    lines, columns = np.mgrid[:height, :width] * float(stride) + stride / 2 - 0.5
    heatmap = np.zeros((height, width, PARTS + 1))
    paf = np.zeros((height, width, 2 * (PARTS + 1)))
    hits = np.zeros((height, width, PARTS + 1))
    sigma, thickness = SIGMA * stride / STRIDE, THICKNESS * stride / STRIDE
    for person in people:
        squared = (columns[..., None] - person[:, 0]) ** 2 + (lines[..., None] - person[:, 1]) ** 2
        blob = np.exp(-squared / (2 * sigma**2))
        heatmap[..., :PARTS] = np.fmax(heatmap[..., :PARTS], blob)
        for start, end, channel in LIMBS:
            limb = person[end] - person[start]
            length = np.hypot(*limb)
            if not length > 0:  # a missing end is NaN
                continue
            unit = limb / length
            x, y = columns - person[start, 0], lines - person[start, 1]
            on = np.abs(x * unit[1] - y * unit[0]) <= thickness
            on &= np.abs(x - limb[0] / 2) <= np.abs(limb[0]) / 2 + thickness
            on &= np.abs(y - limb[1] / 2) <= np.abs(limb[1]) / 2 + thickness
            paf[on, channel : channel + 2] += unit
            hits[on, channel // 2] += 1
    paf /= np.repeat(np.maximum(hits, 1), 2, axis=-1)
    heatmap[..., PARTS] = 1 - heatmap[..., :PARTS].max(-1)
    return {
        "heatmap": (heatmap + rng.normal(0, noise, heatmap.shape)).astype(np.float32),
        "paf": (paf + rng.normal(0, noise, paf.shape)).astype(np.float32),
    }


def make_truth(
    count: int, seed: int = 0, cells: tuple[int, int] = CELLS, missing: float = 0.05
) -> NDArray[np.float64]:
    """Place ``count`` persons that fill a map; a share of their keypoints is missing (NaN)."""
    rng = np.random.default_rng(seed)
    people = make_people(rng, count, (cells[0] * STRIDE - 1, cells[1] * STRIDE - 1))
    people[rng.random(people.shape[:2]) < missing] = np.nan
    return people


def make_scene(count: int, seed: int = 0, cells: tuple[int, int] = CELLS) -> Maps:
    """Render ``count`` persons of `make_truth`."""
    return render(make_truth(count, seed, cells), cells, np.random.default_rng(seed + 1))


def make_noise(cells: tuple[int, int] = CELLS, seed: int = 0) -> Maps:
    """Return a worst case: every value of the heatmaps is over the threshold, all is noise."""
    rng = np.random.default_rng(seed)
    return {
        "heatmap": rng.uniform(0.1, 1, (*cells, PARTS + 1)).astype(np.float32),
        "paf": rng.uniform(-1, 1, (*cells, 2 * (PARTS + 1))).astype(np.float32),
    }


def make_plateau(cells: tuple[int, int] = CELLS, seed: int = 0, *, height: float = 0.9) -> Maps:
    """Return a worst case: every heatmap is flat, as saturated quantized outputs are."""
    maps = make_noise(cells, seed)
    maps["heatmap"] = np.full_like(maps["heatmap"], height)
    return maps


def make_scatter(cells: tuple[int, int] = CELLS, seed: int = 0) -> Maps:
    """Return a worst case made on purpose: every other cell peaks, and every pair is a limb."""
    maps = make_noise(cells, seed)
    heatmap = np.zeros_like(maps["heatmap"])
    heatmap[::2, ::2] = maps["heatmap"][::2, ::2]
    maps["heatmap"] = heatmap
    return {"heatmap": heatmap, "paf": np.full_like(maps["paf"], 0.7)}
