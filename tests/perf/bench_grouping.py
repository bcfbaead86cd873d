"""Print what PoseNet grouping costs: the decoder beside its numpy twin, on the same synthetic maps.

CPU time of this thread, rounds interleaved, medians. On a shared machine believe the ratios, not
the times. ``--instructions`` counts instead with valgrind (an AVX2 build), free of noise.
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from twins import posenet_twin
from twins.posenet_scene import Maps, make_noise, make_plateau, make_scatter, make_scene

from models.decoders.posenet import PoseNetDecoder
from models.poses import PoseBuffer
from models.skeletons import COCO17

STRIDE = 16
COUNTED = 1000
"""Decodes under valgrind: two starts of Python differ by millions of instructions."""
SIZES = (17, 33, 65)
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


def cpu_us(call: Callable[[], object], times: int) -> float:
    """Return the CPU microseconds of one of ``times`` calls."""
    start = time.thread_time_ns()
    for _ in range(times):
        call()
    return (time.thread_time_ns() - start) / times / 1e3


def measure(rounds: int) -> list[dict[str, Any]]:
    """Measure every case ``rounds`` times, round by round, so that noise hits all alike."""
    calls = {case: (*decoder_of(make()), make()) for case, make in CASES.items()}
    decoder_us: dict[tuple[str, int], list[float]] = {case: [] for case in CASES}
    twin_us: dict[tuple[str, int], list[float]] = {case: [] for case in CASES}
    for _ in range(rounds):
        for case, (decode, _, maps) in calls.items():
            decode()  # what the twin left in the caches is not the decoder's fault
            decoder_us[case].append(cpu_us(decode, 20))
            twin_us[case].append(cpu_us(functools.partial(posenet_twin.decode, maps, STRIDE), 1))
    return [
        {
            "scene": scene,
            "cells": cells,
            "found": calls[scene, cells][1].count,
            "decoder_us": statistics.median(decoder_us[scene, cells]),
            "twin_us": statistics.median(twin_us[scene, cells]),
        }
        for scene, cells in CASES
    ]


def count_instructions() -> list[dict[str, Any]]:
    """Count the instructions of a decode: of a run with many, less those of a run with none."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        sys.exit("error: --instructions needs valgrind on the PATH")
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        portable = {
            "NUMBA_CPU_NAME": "haswell",  # what valgrind knows
            "NUMBA_CPU_FEATURES": "+avx2",
            "NUMBA_CACHE_DIR": cache,
            "PYTHONHASHSEED": "0",
        }
        environment = {**os.environ, **portable}
        for scene, cells in (("5 people", 33), ("20 people", 33), ("50 people", 33)):
            total = []
            for times in (0, COUNTED):
                command = [sys.executable, __file__, "--decode", scene, str(cells), str(times)]
                subprocess.run(command, env=environment, check=True)  # fills the cache
                traced = [valgrind, "--tool=cachegrind", "--cache-sim=no"]
                traced.append(f"--cachegrind-out-file={cache}/out")
                done = subprocess.run(
                    traced + command, env=environment, check=True, capture_output=True, text=True
                )
                refs = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
                total.append(int(refs[1].replace(",", "")) if refs else 0)
            rows.append(
                {"scene": scene, "cells": cells, "instructions": (total[1] - total[0]) / COUNTED}
            )
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print one line a case, and how the time grows with the people."""
    print("PoseNet grouping, CPU time of a frame (median); twin = the same algorithm in numpy")
    print(
        f"{'scene':<12}{'map':>8}{'found':>7}{'decoder us':>12}{'twin us':>11}{'twin/decoder':>14}"
    )
    for row in rows:
        size = f"{row['cells']}x{row['cells']}"
        ratio = row["twin_us"] / row["decoder_us"]
        print(
            f"{row['scene']:<12}{size:>8}{row['found']:>7}{row['decoder_us']:>12.1f}"
            f"{row['twin_us']:>11.0f}{ratio:>14.0f}"
        )
    cost = {(row["scene"], row["cells"]): row["decoder_us"] for row in rows}
    growth = cost["50 people", 33] / cost["20 people", 33]
    print(f"50 people cost {growth:.1f} times 20 people on 33x33")


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
    rounds = 3 if arguments.quick else 15
    rows = count_instructions() if arguments.instructions else measure(rounds)
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif arguments.instructions:
        for row in rows:
            print(f"{row['scene']:<12}{row['instructions'] / 1e6:>8.2f} M instructions a frame")
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
