"""Runs work on every lane of a network at once and gives what comes out in the order it went in."""

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from agents.pipeline import PoseLane

Work = TypeVar("Work")
Result = TypeVar("Result")


def in_order(
    work: Iterable[Work], lanes: Sequence[PoseLane], run: Callable[[Work, PoseLane], Result]
) -> Generator[Result, None, None]:
    """Run each piece of work on whichever lane is free; close it to stop before the end.

    At most one more piece than lanes is held in memory. What ``run`` raises comes out in its place.
    """
    free: queue.SimpleQueue[PoseLane] = queue.SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def on_free_lane(piece: Work) -> Result:
        lane = free.get()  # there are as many threads as lanes: never waits
        try:
            return run(piece, lane)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes), thread_name_prefix="fleet-lane") as pool:
        pending: deque[Future[Result]] = deque()
        for piece in work:
            pending.append(pool.submit(on_free_lane, piece))
            if len(pending) > len(lanes):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
