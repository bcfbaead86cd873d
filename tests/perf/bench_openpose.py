"""Print what OpenPose grouping costs and how exact it is: both modes, numpy twins and a peer.

CPU time of this thread, rounds interleaved, medians. On a shared machine believe the ratios, not
the times. The error is that of the keypoints found, in input pixels, against the scene's truth.
``--instructions`` counts instead with valgrind (an AVX2 build), free of noise.
"""

import argparse
import functools
import json
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import peers
from bench_grouping import count_instructions, cpu_us, video_maps
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
NETWORK = "openpose-mobilenet"
INPUTS = ((432, 368), (1280, 720))
"""Of the network, ``(width, height)``: its own, and the video's, where more people are found."""
ENDLESS = ("noise", "scatter")
"""Scenes that take minutes in plain numpy."""
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


def decoder_of(maps: Maps, mode: str) -> tuple[Callable[[], None], PoseBuffer]:
    """Return a call that decodes the maps, warm, and where it writes."""
    decoder = OpenPoseDecoder(OPENPOSE18, STRIDE, {"mode": mode})
    poses = PoseBuffer(decoder.capacity, len(OPENPOSE18.keypoints))
    decoder.decode(maps, poses)
    return lambda: decoder.decode(maps, poses), poses


def measure(scenes: Mapping[str, Maps], rounds: int) -> list[dict[str, Any]]:
    """Measure every scene in both modes, round by round; the twin once, it takes seconds."""
    calls = {(name, mode): decoder_of(scenes[name], mode) for name in scenes for mode in MODES}
    peer = {
        name: call
        for name, maps in scenes.items()
        if name not in ENDLESS and (call := peers.openpose_peer(maps))
    }
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    spent |= {(name, "peer"): [] for name in peer}
    for _ in range(rounds):
        for key, (decode, _) in calls.items():
            decode()
            spent[key].append(cpu_us(decode, 20))
        for name, call in peer.items():
            spent[name, "peer"].append(cpu_us(call, 1))
    rows = []
    for (name, mode), (_, poses) in calls.items():
        row = {"scene": name, "cells": scenes[name]["paf"].shape[:2], "mode": mode}
        row |= {"found": poses.count, "decoder_us": statistics.median(spent[name, mode])}
        if name not in ENDLESS:
            twin = functools.partial(openpose_twin.decode, scenes[name], STRIDE, mode=mode)
            row["twin_us"] = cpu_us(twin, 1)
        if name in peer:
            row |= {"peer_us": statistics.median(spent[name, "peer"]), "peer_found": peer[name]()}
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


def print_table(rows: list[dict[str, Any]], skipped: str) -> None:
    """Print one line a scene and mode, and how the time grows with the people."""
    print("OpenPose grouping, CPU time of a frame (median), stride 8; twin = the same in numpy")
    print(peers.note(peers.OPENPOSE))
    print(
        f"{'scene':<16}{'map':>8}  {'mode':<11}{'found':>5}{'decoder us':>12}{'twin/decoder':>14}"
        f"{'peer/decoder':>14}{'peer found':>12}{'recall':>8}{'error px':>10}"
    )
    for row in rows:
        twin, peer = (
            f"{row[kind] / row['decoder_us']:.0f}" if kind in row else "-"
            for kind in ("twin_us", "peer_us")
        )
        exact = f"{row['recall']:>8.3f}{row['error_px']:>10.2f}" if "recall" in row else ""
        print(
            f"{row['scene']:<16}{'x'.join(map(str, row['cells'])):>8}  {row['mode']:<11}"
            f"{row['found']:>5}{row['decoder_us']:>12.1f}{twin:>14}{peer:>14}"
            f"{row.get('peer_found', '-'):>12}{exact}"
        )
    cost = {(row["scene"], row["mode"]): row["decoder_us"] for row in rows}
    for mode in MODES:
        growth = cost["50 people", mode] / cost["20 people", mode]
        print(f"{mode}: 50 people cost {growth:.1f} times 20 people")
    if skipped:
        print(skipped)


def print_instructions(*, as_json: bool) -> None:
    """Count the synthetic people in both modes."""
    keys = [(f"{people} people", mode) for people in PEOPLE for mode in MODES]
    rows = [
        {"scene": scene, "mode": mode, "instructions": count}
        for (scene, mode), count in zip(keys, count_instructions(__file__, keys), strict=True)
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        millions = row["instructions"] / 1e6
        print(f"{row['scene']:<12}{row['mode']:<11}{millions:>8.2f} M instructions a frame")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--instructions", action="store_true", help="count with valgrind (minutes)")
    parser.add_argument("--decode", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decode:
        scene, mode, times = arguments.decode
        decode, _ = decoder_of(cases()[scene](), mode)
        for _ in range(int(times)):
            decode()
        return
    if arguments.instructions:
        print_instructions(as_json=arguments.json)
        return
    scenes = {name: make() for name, make in cases().items()}
    real, skipped = video_maps(NETWORK, INPUTS)
    scenes |= {f"{name} at {width}": maps for (name, (width, _)), maps in real.items()}
    rows = measure(scenes, 3 if arguments.quick else 15)
    print(json.dumps(rows, indent=2)) if arguments.json else print_table(rows, skipped)


if __name__ == "__main__":
    main()
