"""Print what track ids cost and how well they hold: the tracker beside a numpy twin and norfair.

CPU time of this thread, rounds interleaved, medians; on a shared machine believe the ratios.
norfair takes part where it can be imported (``pip install --no-deps norfair filterpy scipy``: its
own requirements exclude our numpy). It is told where hidden keypoints are, for it knows no scores.
Identity is counted on walkers whose identity is known.
"""

import argparse
import functools
import logging
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from twins import tracking_twin
from twins.tracking_scene import Sight, count_switches, sights

from models.skeletons import COCO17
from models.tracking import MAX_AGE_S, PoseTracker

FPS = 30
FILM_S = 2
PEOPLE = (1, 5, 20, 50)
SCENES = ((5, 30), (5, 10), (5, 5), (10, 30), (10, 10), (10, 5))
"""People and frames a second."""
AGES_S = (0.5, 1.0, 2.0, 3.0)
SEEDS = (1, 2)
MINUTE_S = 30
"""Two seeds make a minute."""


def make_twin() -> tracking_twin.Tracker:
    """The twin of a default tracker."""
    return tracking_twin.Tracker(PoseTracker(COCO17, 1)._body, MAX_AGE_S)


def make_peer() -> Any:
    """A norfair tracker with the distance that its own examples take for poses; None without it."""
    try:
        import norfair  # noqa: PLC0415
    except ImportError:
        return None
    logging.disable(logging.WARNING)  # that a vectorized distance would be faster; it has none
    distance = norfair.create_normalized_mean_euclidean_distance(720, 1280)
    tracker = norfair.Tracker(
        distance_function=distance, distance_threshold=0.1, initialization_delay=0,
        hit_counter_max=round(MAX_AGE_S * FPS),
    )  # fmt: skip

    class Peer:
        def update(self, poses: np.ndarray, at_s: float) -> np.ndarray:
            found = [
                norfair.Detection(pose[:, :2], data=number) for number, pose in enumerate(poses)
            ]
            ids = np.full(len(poses), -1)
            for one in tracker.update(detections=found):
                if one.last_detection in found:
                    ids[one.last_detection.data] = one.id
            return ids

    return Peer()


def play(tracker: Any, film: list[Sight], times: int) -> float:
    """Return the CPU microseconds of a frame; the clock goes on from one time to the next."""
    begun = time.thread_time_ns()
    for again in range(times):
        for sight in film:
            tracker.update(sight.keypoints, sight.at_s + again * FILM_S)
    return (time.thread_time_ns() - begun) / times / len(film) / 1e3


def cost(rounds: int) -> None:
    """Print a line a number of people."""
    makers: dict[str, tuple[Callable[[], Any], int]] = {
        "tracker": (lambda: PoseTracker(COCO17, 100), 5), "twin": (make_twin, 1),
    }  # fmt: skip
    if make_peer() is not None:
        makers["norfair"] = (make_peer, 1)
    print(f"{'people':>6}" + "".join(f"{name + ' us':>12}" for name in makers) + "   ratios")
    for people in PEOPLE:
        film = list(sights(people, FILM_S, FPS))
        times: dict[str, list[float]] = {name: [] for name in makers}
        for _ in range(rounds):
            for name, (make, repeats) in makers.items():
                shown = film if name == "tracker" else film[: 600 // people + 2]
                times[name].append(play(make(), shown, repeats))
        us = {name: statistics.median(each) for name, each in times.items()}
        ratios = ", ".join(
            f"{name} {us[name] / us['tracker']:.0f}x" for name in makers if name != "tracker"
        )
        print(f"{people:>6}" + "".join(f"{value:>12.1f}" for value in us.values()) + f"   {ratios}")


def identity() -> None:
    """Print how often a walker came by another id in a minute."""
    columns: dict[str, Callable[[], Any]] = {
        f"{age_s:g} s": functools.partial(PoseTracker, COCO17, 100, max_age_s=age_s)
        for age_s in AGES_S
    }
    if make_peer() is not None:
        columns["norfair"] = make_peer
    print("\nid switches a minute (ids given, people), by the longest age")
    print(f"{'people':>6}{'fps':>5}" + "".join(f"{name:>15}" for name in columns))
    for people, fps in SCENES:
        films = [list(sights(people, MINUTE_S, fps, seed)) for seed in SEEDS]
        cells = []
        for make in columns.values():
            counted = [count_switches(make(), film) for film in films]
            switches, given = (sum(each) for each in zip(*counted, strict=True))
            cells.append(f"{switches} ({given}, {people * len(SEEDS)})")
        print(f"{people:>6}{fps:>5}" + "".join(f"{cell:>15}" for cell in cells))


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9")
    cost(3 if parser.parse_args().quick else 9)
    identity()


if __name__ == "__main__":
    main()
