"""Print what OpenPose grouping costs and how exact it is: both modes beside their numpy twins.

CPU time of this thread, rounds interleaved, medians. On a shared machine believe the ratios, not
the times. The error is that of the keypoints found, in input pixels, against the scene's truth.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conftest import SHARED
from twins import openpose_twin
from twins.openpose_scene import (
    STRIDE,
    make_noise,
    make_plateau,
    make_scatter,
    make_scene,
    make_truth,
)
from twins.openpose_twin import Maps

from models.decoders.openpose import OpenPoseDecoder
from models.poses import PoseBuffer
from models.skeletons import OPENPOSE18

MODES = ("fast", "reference")
PEOPLE = (1, 5, 20, 50)
CELLS = "32x57 cells, stride 8"
NEAR = 8.0
"""Input pixels within which a keypoint of the truth counts as found."""


def golden(path: Path) -> Maps:
    """Read the recorded outputs of a network."""
    with np.load(path) as arrays:
        return {
            "heatmap": np.ascontiguousarray(arrays["heatmaps"].transpose(1, 2, 0)),
            "paf": np.ascontiguousarray(arrays["pafs"].transpose(1, 2, 0)),
        }


def cases() -> Mapping[str, Callable[[], Maps]]:
    """Return every scene by name; the recorded ones where the shared test material is."""
    made: dict[str, Callable[[], Maps]] = {
        f"{people} people": functools.partial(make_scene, people) for people in PEOPLE
    }
    made |= {"noise": make_noise, "plateau": make_plateau, "scatter": make_scatter}
    for path in sorted((SHARED / "models/golden/grouping").glob("paf_real_*.npz")):
        made[path.stem.removeprefix("paf_")] = functools.partial(golden, path)
    return made


def cpu_us(call: Callable[[], object], times: int) -> float:
    """Return the CPU microseconds of one of ``times`` calls."""
    start = time.thread_time_ns()
    for _ in range(times):
        call()
    return (time.thread_time_ns() - start) / times / 1e3


def decoder_of(maps: Maps, mode: str) -> tuple[Callable[[], None], PoseBuffer]:
    """Return a call that decodes the maps, warm, and where it writes."""
    decoder = OpenPoseDecoder(OPENPOSE18, STRIDE, {"mode": mode})
    poses = PoseBuffer(decoder.capacity, len(OPENPOSE18.keypoints))
    decoder.decode(maps, poses)
    return lambda: decoder.decode(maps, poses), poses


def measure(rounds: int) -> list[dict[str, Any]]:
    """Measure every scene in both modes, round by round; the twin once, it takes seconds."""
    scenes = {name: make() for name, make in cases().items()}
    calls = {(name, mode): decoder_of(scenes[name], mode) for name in scenes for mode in MODES}
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, (decode, _) in calls.items():
            decode()
            spent[key].append(cpu_us(decode, 20))
    rows = []
    for (name, mode), (_, poses) in calls.items():
        row = {"scene": name, "mode": mode, "found": poses.count}
        row["decoder_us"] = statistics.median(spent[name, mode])
        if name not in ("noise", "scatter"):  # minutes
            twin = functools.partial(openpose_twin.decode, scenes[name], STRIDE, mode=mode)
            row["twin_us"] = cpu_us(twin, 1)
        if name.endswith("people"):
            row |= accuracy(make_truth(int(name.split()[0])), poses.keypoints[: poses.count])
        rows.append(row)
    return rows


def accuracy(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Match persons by their number of near keypoints; return the recall and mean error."""
    distance = np.linalg.norm(truth[:, None] - found[None, :, :, :2], axis=-1)
    distance[:, found[..., 2] == 0] = np.inf
    near = np.nan_to_num(distance, nan=np.inf) < NEAR
    hits = near.sum(-1)
    errors: list[float] = []
    while hits.size and hits.max() > 0:
        person, pose = np.unravel_index(hits.argmax(), hits.shape)
        errors.extend(distance[person, pose][near[person, pose]])
        hits[person], hits[:, pose] = 0, 0
    known = int(np.isfinite(truth[..., 0]).sum())
    return {"recall": len(errors) / known, "error_px": float(np.mean(errors))}


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print one line a scene and mode, and how the time grows with the people."""
    print(f"OpenPose grouping, CPU time of a frame (median), {CELLS}; twin = the same in numpy")
    print(
        f"{'scene':<16}{'mode':<11}{'found':>6}{'decoder us':>12}{'twin/decoder':>14}"
        f"{'recall':>8}{'error px':>10}"
    )
    for row in rows:
        ratio = f"{row['twin_us'] / row['decoder_us']:.0f}" if "twin_us" in row else "-"
        exact = f"{row['recall']:>8.3f}{row['error_px']:>10.2f}" if "recall" in row else ""
        print(
            f"{row['scene']:<16}{row['mode']:<11}{row['found']:>6}{row['decoder_us']:>12.1f}"
            f"{ratio:>14}{exact}"
        )
    cost = {(row["scene"], row["mode"]): row["decoder_us"] for row in rows}
    for mode in MODES:
        growth = cost["50 people", mode] / cost["20 people", mode]
        print(f"{mode}: 50 people cost {growth:.1f} times 20 people")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    rows = measure(3 if arguments.quick else 15)
    print(json.dumps(rows, indent=2)) if arguments.json else print_table(rows)


if __name__ == "__main__":
    main()
