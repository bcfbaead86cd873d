"""Run a package client to its end, and leave nothing of it running, whatever happens."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_SHOWN_LINES = 3


class CommandError(Exception):
    """The client could not be started, failed, or took too long."""


def run(command: Sequence[str], folder: Path, timeout_s: float) -> None:
    """Run a command inside a folder, in a process group of its own.

    Raises:
        CommandError: with the first lines of what the command said about the cause.
    """
    with _deferred_signals() as came:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                # The caller removes the folder and all in it.
                env={**os.environ, "TMPDIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # a group that can be ended as a whole
            )
        except OSError as error:
            raise CommandError(f"cannot start {command[0]}: {error.strerror}") from error
    try:
        for number in came:
            signal.raise_signal(number)
        _, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"not finished after {timeout_s:.0f} s") from error
    finally:
        _end_group(process)
    if process.returncode:
        said = _cause(stderr.decode(errors="replace")) or f"exit code {process.returncode}"
        raise CommandError(f"{Path(command[0]).name} failed: {said}")


@contextmanager
def _deferred_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM while a process is started.

    An interrupt in the middle of that would leave a process that nobody knows of. Only the main
    thread is ever interrupted.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield came
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python, and cannot be put back
                signal.signal(number, handler)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the whole group of a client that did not end by itself (Ctrl-C, time-out)."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stderr:
        process.stderr.close()


def _cause(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower()] or lines
    return "; ".join(telling[:_SHOWN_LINES])
