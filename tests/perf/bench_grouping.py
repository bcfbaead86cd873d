"""Print what PoseNet grouping costs: the decoder beside its numpy twin and a peer, on equal maps.

The maps are synthetic, and those of the network on a street's video where both are here. CPU time
of this thread, rounds interleaved, medians. On a shared machine believe the ratios, not the times.
``--instructions`` counts instead with valgrind (an AVX2 build), free of noise.
"""

import argparse
import functools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import peers
from conftest import SHARED
from twins import posenet_twin
from twins.posenet_scene import Maps, make_noise, make_plateau, make_scatter, make_scene

from models.decoders.posenet import PoseNetDecoder
from models.poses import PoseBuffer
from models.skeletons import COCO17

STRIDE = 16
COUNTED = 1000
"""Decodes under valgrind: two starts of Python differ by millions of instructions."""
SIZES = (17, 33, 65)
NETWORK = "posenet-mobilenet-075"
INPUTS = ((481, 353), (1281, 721))
"""Of the network, ``(width, height)``: its own, and the video's, where more people are found."""
VIDEO = SHARED / "data/videos/people_walking_720p.mp4"
"""About 30 people in a street."""
FRAMES = (0, 120)
Case = tuple[str, Any]
"""Name of the scene and its size."""
WORST = {"noise": make_noise, "plateau": make_plateau, "scatter": make_scatter}
CASES: Mapping[tuple[str, int], Callable[[], Maps]] = {
    **{
        (f"{people} people", cells): functools.partial(make_scene, people, cells, STRIDE)
        for cells in SIZES
        for people in (1, 5, 20, 50)
    },
    **{
        (name, cells): functools.partial(make, cells)
        for cells in SIZES
        for name, make in WORST.items()
    },
}


def decoder_of(maps: Maps) -> tuple[Callable[[], None], PoseBuffer]:
    """Return a call that decodes the maps, warm, and where it writes."""
    decoder = PoseNetDecoder(COCO17, STRIDE, {})
    poses = PoseBuffer(decoder.capacity, len(COCO17.keypoints))
    decoder.warm()
    decoder.decode(maps, poses)
    return lambda: decoder.decode(maps, poses), poses


def twin_of(maps: Maps) -> Callable[[], object]:
    """Return a call that decodes the maps in plain numpy."""
    return functools.partial(posenet_twin.decode, maps, STRIDE)


def cpu_us(call: Callable[[], object], times: int) -> float:
    """Return the CPU microseconds of one of ``times`` calls."""
    start = time.thread_time_ns()
    for _ in range(times):
        call()
    return (time.thread_time_ns() - start) / times / 1e3


def video_maps(
    network: str, sizes: Sequence[tuple[int, int]]
) -> tuple[dict[tuple[str, tuple[int, int]], Maps], str]:
    """Run a network on frames of `VIDEO`, in f32 on the CPU; nothing is fetched.

    Returns:
        The outputs by name of the frame and input ``(width, height)``, and why there are none.
    """
    # What a run under valgrind does without: it would take longer than the decoding.
    from agents.accelerators.openvino_runtime import OpenVinoDriver  # noqa: PLC0415
    from agents.pipeline import load_model  # noqa: PLC0415
    from agents.streams.media import open_video  # noqa: PLC0415
    from models.artifacts import model_files, verify  # noqa: PLC0415
    from models.catalog import load_manifest  # noqa: PLC0415

    manifest = load_manifest(network)
    if not VIDEO.exists():
        return {}, f"no real maps: no {VIDEO.name} in the shared test material (FLEET_SHARED)"
    if verify(model_files(manifest)):
        return {}, f"no real maps: run `fleet models pull {network}` first"
    with closing(open_video(VIDEO, is_paced=False)) as source:
        read = [source.read() for _ in range(max(FRAMES) + 1)]
        pictures = {n: f.pixels("rgb").copy() for n in FRAMES if (f := read[n]) is not None}
    found: dict[tuple[str, tuple[int, int]], Maps] = {}
    with closing(OpenVinoDriver().open("CPU")) as accelerator:
        for size in sizes:
            loaded = load_model(accelerator, manifest, size=size, precision="f32", lanes=1)
            with closing(loaded):
                lane = loaded.lanes[0]
                for number, picture in pictures.items():
                    lane.run_pixels(picture)
                    outputs = lane._lane.outputs
                    found[f"video {number}", size] = {k: v.copy() for k, v in outputs.items()}
    return found, ""


def measure(scenes: Mapping[Case, Maps], rounds: int) -> list[dict[str, Any]]:
    """Measure every case ``rounds`` times, round by round, so that noise hits all alike."""
    decoders = {case: decoder_of(maps) for case, maps in scenes.items()}
    calls: dict[str, dict[Case, Callable[[], object]]] = {
        "decoder": {case: decode for case, (decode, _) in decoders.items()},
        "twin": {case: twin_of(maps) for case, maps in scenes.items()},
        "peer": {},
    }
    for case, maps in scenes.items():
        if peer := peers.posenet_peer(maps, STRIDE):
            calls["peer"][case] = peer
    spent: dict[tuple[str, Case], list[float]] = {(k, c): [] for k in calls for c in calls[k]}
    for _ in range(rounds):
        for case in scenes:
            calls["decoder"][case]()  # what another left in the caches is not the decoder's fault
            for (kind, of), times in spent.items():
                if of == case:
                    times.append(cpu_us(calls[kind][case], 20 if kind == "decoder" else 1))
    rows = []
    for case, (_, poses) in decoders.items():
        row: dict[str, Any] = {"scene": case[0], "cells": case[1], "found": poses.count}
        if case in calls["peer"]:
            row["peer_found"] = calls["peer"][case]()
        row |= {
            f"{kind}_us": statistics.median(spent[kind, case]) for kind, of in spent if of == case
        }
        rows.append(row)
    return rows


def count_instructions(script: str, cases: Sequence[Sequence[str]]) -> list[float]:
    """Count a decode's instructions in each case: of a run with many, less those of one with none.

    Args:
        script: a benchmark that understands ``--decode CASE... TIMES``.
        cases: the arguments that name each case.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        sys.exit("error: --instructions needs valgrind on the PATH")
    counts = []
    with tempfile.TemporaryDirectory() as cache:
        portable = {
            "NUMBA_CPU_NAME": "haswell",  # what valgrind knows
            "NUMBA_CPU_FEATURES": "+avx2",
            "NUMBA_CACHE_DIR": cache,
            "PYTHONHASHSEED": "0",
        }
        environment = {**os.environ, **portable}
        for case in cases:
            total = []
            for times in (0, COUNTED):
                command = [sys.executable, script, "--decode", *case, str(times)]
                subprocess.run(command, env=environment, check=True)  # fills the cache
                traced = [valgrind, "--tool=cachegrind", "--cache-sim=no"]
                traced.append(f"--cachegrind-out-file={cache}/out")
                done = subprocess.run(
                    traced + command, env=environment, check=True, capture_output=True, text=True
                )
                refs = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
                if refs is None:
                    sys.exit(f"error: valgrind counted nothing:\n{done.stderr[-2000:]}")
                total.append(int(refs[1].replace(",", "")))
            counts.append((total[1] - total[0]) / COUNTED)
    return counts


def print_table(rows: list[dict[str, Any]], skipped: str) -> None:
    """Print one line a case, and how the time grows with the people."""
    print("PoseNet grouping, CPU time of a frame (median); twin = the same algorithm in numpy")
    print(peers.note(peers.POSENET))
    print(
        f"{'scene':<12}{'map':>8}{'found':>7}{'decoder us':>12}{'twin us':>11}{'twin/decoder':>14}"
        f"{'peer/decoder':>14}{'peer found':>12}"
    )
    for row in rows:
        cells = row["cells"]
        size = "x".join(map(str, cells)) if isinstance(cells, tuple) else f"{cells}x{cells}"
        ratio = row["twin_us"] / row["decoder_us"]
        peer = "-", "-"
        if "peer_us" in row:
            peer = f"{row['peer_us'] / row['decoder_us']:.0f}", row["peer_found"]
        print(
            f"{row['scene']:<12}{size:>8}{row['found']:>7}{row['decoder_us']:>12.1f}"
            f"{row['twin_us']:>11.0f}{ratio:>14.0f}{peer[0]:>14}{peer[1]:>12}"
        )
    cost = {(row["scene"], row["cells"]): row["decoder_us"] for row in rows}
    growth = cost["50 people", 33] / cost["20 people", 33]
    print(f"50 people cost {growth:.1f} times 20 people on 33x33")
    if skipped:
        print(skipped)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--instructions", action="store_true", help="count with valgrind (minutes)")
    parser.add_argument("--decode", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decode:
        scene, cells, times = arguments.decode
        decode, _ = decoder_of(CASES[scene, int(cells)]())
        for _ in range(int(times)):
            decode()
        return
    if arguments.instructions:
        cases = [(f"{people} people", "33") for people in (1, 5, 20, 50)]
        counts = count_instructions(__file__, cases)
        rows = [
            {"scene": scene, "cells": int(cells), "instructions": count}
            for (scene, cells), count in zip(cases, counts, strict=True)
        ]
        skipped = ""
    else:
        real, skipped = video_maps(NETWORK, INPUTS)
        scenes: dict[Case, Maps] = {case: make() for case, make in CASES.items()}
        for (frame, _), maps in real.items():
            height, width = maps["heatmap"].shape[:2]
            scenes[frame, (height, width)] = maps
        rows = measure(scenes, 3 if arguments.quick else 15)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif arguments.instructions:
        for row in rows:
            print(f"{row['scene']:<12}{row['instructions'] / 1e6:>8.2f} M instructions a frame")
    else:
        print_table(rows, skipped)


if __name__ == "__main__":
    main()
