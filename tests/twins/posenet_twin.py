"""The slow and obvious PoseNet decoder in plain numpy that the compiled one must agree with."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from twins.posenet_scene import Maps

from models.decoders.posenet_kernel import EDGES


@dataclass(frozen=True)
class TwinPose:
    score: float
    keypoints: NDArray[np.float64]
    """``(17, 3)``: x, y, score; NaN, NaN, 0 where there is none."""
    root: int


def decode(
    maps: Maps,
    stride: int,
    *,
    max_poses: int = 100,
    score_threshold: float = 0.5,
    nms_radius: float = 20.0,
    min_pose_score: float = 0.25,
    max_candidates: int = 1700,
    refinements: int = 0,
) -> list[TwinPose]:
    """Decode all persons, in the order in which they are found."""
    heat = maps["heatmap"]
    threshold = np.float32(np.log(score_threshold / (1 - score_threshold)))
    cells = peaks(heat, threshold)
    by_height = np.argsort(-heat[tuple(cells.T)], kind="stable")
    poses: list[TwinPose] = []
    positions = np.empty((max_poses, 17, 2))
    for y, x, root in cells[by_height[:max_candidates]]:
        position = np.array([y, x]) * stride + maps["offset"][y, x, [root, 17 + root]].astype(float)
        found = positions[: len(poses)]
        if not np.isfinite(position).all() or near(found[:, root], position, nms_radius).any():
            continue
        keypoints = walk(maps, stride, int(root), (int(y), int(x)), position, refinements)
        taken = near(found, keypoints[:, 1::-1], nms_radius).any(0)
        score = float(keypoints[~taken, 2].sum() / 17)
        if np.float32(score) >= min_pose_score:
            positions[len(poses)] = keypoints[:, 1::-1]
            poses.append(TwinPose(score, keypoints, int(root)))
        if len(poses) == max_poses:
            break
    return poses


def peaks(heat: NDArray[np.float32], threshold: np.float32) -> NDArray[np.intp]:
    """Return the (y, x, keypoint) of every value that no neighbor in 3 x 3 cells exceeds."""
    padded = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    padded[np.isnan(padded)] = -np.inf
    down = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    highest = np.maximum(np.maximum(down[:, :-2], down[:, 1:-1]), down[:, 2:])
    return np.argwhere((heat >= threshold) & (heat >= highest))


def near(
    positions: NDArray[np.float64], position: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    near_: NDArray[np.bool_] = ((positions - position) ** 2).sum(-1) <= radius**2
    return near_


def walk(
    maps: Maps,
    stride: int,
    root: int,
    cell: tuple[int, int],
    position: NDArray[np.float64],
    refinements: int = 0,
) -> NDArray[np.float64]:
    """Follow the displacements from a root at (y, x): up the tree, then down."""
    heat, offset = maps["heatmap"], maps["offset"]
    forward, backward = maps["displacement_forward"], maps["displacement_backward"]
    keypoints = np.tile([math.nan, math.nan, 0.0], (17, 1))
    keypoints[root] = *position[::-1], sigmoid(heat[*cell, root])
    reached = {root}
    climb = [(child, parent, edge, backward) for edge, (parent, child) in enumerate(EDGES)]
    descent = [(parent, child, edge, forward) for edge, (parent, child) in enumerate(EDGES)]
    for source, target, edge, displacement in climb[::-1] + descent:
        if source not in reached or target in reached:
            continue
        x, y = (float(value) for value in keypoints[source, :2])
        cy, cx = nearest_cell(y, x, stride, heat.shape)
        y += float(displacement[cy, cx, edge])
        x += float(displacement[cy, cx, 16 + edge])
        if not (math.isfinite(y) and math.isfinite(x)):
            continue
        for _ in range(refinements + 1):
            cy, cx = nearest_cell(y, x, stride, heat.shape)
            y = cy * stride + float(offset[cy, cx, target])
            x = cx * stride + float(offset[cy, cx, 17 + target])
            if not (math.isfinite(y) and math.isfinite(x)):
                break
        if refinements and math.isfinite(y) and math.isfinite(x):
            cy, cx = nearest_cell(y, x, stride, heat.shape)
        logit = heat[cy, cx, target]
        if math.isfinite(y) and math.isfinite(x) and not math.isnan(logit):
            keypoints[target] = x, y, sigmoid(logit)
            reached.add(target)
    return keypoints


def nearest_cell(y: float, x: float, stride: int, shape: tuple[int, ...]) -> tuple[int, int]:
    return (
        min(max(round(y / stride), 0), shape[0] - 1),
        min(max(round(x / stride), 0), shape[1] - 1),
    )


def sigmoid(logit: np.float32) -> float:
    with np.errstate(over="ignore"):
        return 1 / (1 + float(np.exp(-logit)))
