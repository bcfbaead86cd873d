"""The fleet as a process: in the background, its log, its end by signal, seen to be gone."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from fleet import paths
from fleet.cluster.processes import is_alive, see_gone
from fleet.errors import ConflictError, FleetError
from fleet.run_file import RunFile, fleet_lock, fleet_pid, read_run_file

START_TIMEOUT_S = 600.0
"""A first start may fetch a network over a slow link."""
_POLL_S = 0.1
_GRACE_S = 2.0
"""For what a fleet has started to follow it."""


class Ending:
    """While the context lasts, the first SIGINT or SIGTERM raises `KeyboardInterrupt`, once.

    Those that follow change nothing: ending takes seconds, and must not be cut short. What was
    asked is also kept in `asked`, for the case that the interrupt falls where Python cannot pass
    it on, in a callback after a fork for example.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._before: dict[signal.Signals, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._interrupt)
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            # Once asked to end, the process ends; the code that it ends with must not change.
            signal.signal(number, signal.SIG_IGN if self.asked.is_set() else handler)

    def _interrupt(self, _number: int, _frame: object) -> None:
        if not self.asked.is_set():
            self.asked.set()
            raise KeyboardInterrupt

    def _unraisable(self, what: "sys.UnraisableHookArgs") -> None:
        if not isinstance(what.exc_value, KeyboardInterrupt):
            self._hook(what)


def log_to_file() -> None:
    """Send this process's log to ``fleet.log``; the last run's is overwritten.

    Raises:
        OSError: it cannot be written.
    """
    folder = paths.log_folder()
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=folder / "fleet.log",
        filemode="w",
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # A full disk costs the log, not a traceback on the terminal for every line of it.
    logging.raiseExceptions = False


def start_detached(arguments: Sequence[str], environment: Mapping[str, str]) -> RunFile:
    """Start ``fleet up`` with these arguments in the background; return when it is up.

    Raises:
        FleetError: it ended before it was up; the message is its own last words.
    """
    console = paths.log_folder() / "console.log"
    try:
        console.parent.mkdir(parents=True, exist_ok=True)
        output = console.open("wb")
    except OSError as error:
        raise FleetError(
            f"cannot write {console}: {error.strerror}",
            hint="set XDG_STATE_HOME to a folder of yours",
        ) from error
    with output:
        process = subprocess.Popen(
            # -P: a folder named `fleet` or `models` where we are called must not hide ours.
            [sys.executable, "-P", "-m", "fleet", "up", *arguments, "--plain"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    try:
        return _wait_ready(process, console)
    except BaseException:  # also Ctrl-C: a fleet that nobody waits for must not come up unseen
        process.terminate()
        raise


def _wait_ready(process: "subprocess.Popen[bytes]", console: Path) -> RunFile:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        run = read_run_file()
        if run is not None and run.pid == process.pid and run.is_ready:
            return run
        code = process.poll()
        if code is not None:
            raise _with_last_words(console.read_text(errors="replace"), code)
        time.sleep(_POLL_S)
    raise FleetError(f"the fleet was not up within {START_TIMEOUT_S:.0f} s", hint=f"see {console}")


def _with_last_words(text: str, code: int) -> FleetError:
    lines = text.strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    failure = FleetError(
        errors[-1] if errors else f"the fleet ended with exit code {code}",
        hint=hints[-1] if hints else f"see {paths.log_folder()}",
    )
    failure.exit_code = code  # type: ignore[assignment]  # what the foreground would have ended with
    return failure


def end_fleet(timeout_s: float) -> int | None:
    """End the fleet on this machine, by force when it does not end in time.

    Returns:
        Its process id, or None when none was running.
    """
    pid = fleet_pid()
    if pid is None:
        return None
    family: set[psutil.Process] = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        fleet = psutil.Process(pid)
        fleet.terminate()
        deadline = time.monotonic() + timeout_s
        while is_alive(fleet) and time.monotonic() < deadline:
            family.update([fleet, *fleet.children(recursive=True)])  # it may still start some
            time.sleep(_POLL_S)
        if is_alive(fleet):
            fleet.kill()
    see_gone(family, _GRACE_S)  # they end with it
    with contextlib.suppress(ConflictError), fleet_lock():
        pass  # Takes away what a killed one could not, unless another has begun.
    return pid
