"""The fleet's process from outside: start it in the background, end it, see that it is gone."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import psutil

from fleet import paths
from fleet.errors import FleetError
from fleet.run_file import RunFile, read_run_file

START_TIMEOUT_S = 600.0
"""A first start may fetch a network over a slow link."""
_POLL_S = 0.1


def start_detached(arguments: Sequence[str], environment: Mapping[str, str]) -> RunFile:
    """Start ``fleet up`` with these arguments in the background; return when it is up.

    Raises:
        FleetError: it ended before it was up; the message is its own last words.
    """
    log = paths.log_folder() / "fleet.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fleet", "up", *arguments, "--plain"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        run = read_run_file()
        if run is not None and run.pid == process.pid and run.is_ready:
            return run
        code = process.poll()
        if code is not None:
            raise _with_last_words(log.read_text(errors="replace"), code)
        time.sleep(_POLL_S)
    process.terminate()
    raise FleetError(f"the fleet was not up within {START_TIMEOUT_S:.0f} s", hint=f"see {log}")


def _with_last_words(text: str, code: int) -> FleetError:
    lines = text.strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    failure = FleetError(
        errors[-1] if errors else f"the fleet ended with exit code {code}",
        hint=hints[-1] if hints else f"see {paths.log_folder() / 'fleet.log'}",
    )
    failure.exit_code = code  # type: ignore[assignment]  # what the foreground would have ended with
    return failure


def end_fleet(timeout_s: float) -> int | None:
    """End the fleet on this machine, by force when it does not end in time.

    Returns:
        Its process id, or None when none was running.
    """
    run = read_run_file()
    if run is None:
        return None
    try:
        process = psutil.Process(run.pid)
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=timeout_s)
    except psutil.NoSuchProcess:
        return run.pid
    for survivor in alive:
        survivor.kill()
    psutil.wait_procs(alive, timeout=2.0)
    return run.pid
