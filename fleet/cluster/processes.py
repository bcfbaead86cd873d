"""See that processes are gone, and kill those that are not."""

import contextlib
import time
from collections.abc import Collection

import psutil

_POLL_S = 0.02


def see_gone(processes: Collection[psutil.Process], timeout_s: float) -> None:
    """Give processes time to end by themselves, then kill them; returns when they are gone.

    After a second of waiting for killed ones it gives up: such a one hangs in the kernel.
    """
    for survivor in still_alive(processes, timeout_s):
        with contextlib.suppress(psutil.NoSuchProcess):
            survivor.kill()
    still_alive(processes, 1.0)


def still_alive(
    processes: Collection[psutil.Process], timeout_s: float
) -> Collection[psutil.Process]:
    """Wait for processes to end; return those that did not in time."""
    deadline = time.monotonic() + timeout_s
    while (left := [each for each in processes if is_alive(each)]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return left


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that only waits for its parent to notice does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
