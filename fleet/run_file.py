"""The run file: how commands and consumers on this machine find the fleet that runs here.

It holds passwords, so it is readable by its owner only. Beside it lies the lock that keeps a second
fleet from starting; the kernel releases it however its holder ends.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet.errors import ConflictError, FleetError
from fleet.paths import lock_file, run_file
from models.catalog import DEFAULT_MODEL

_START_TOLERANCE_S = 1.0
"""psutil reckons start times from the boot clock; the wall clock may have been slewed since."""


class RunFile(BaseModel):
    """A running fleet."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    pid: int
    """The coordinator's process."""
    started: float
    """When the fleet came up, seconds since the epoch; later than its process."""
    redis: dict[str, str] = Field(repr=False)
    """Role (``coordinator``, ``agent``, ``consumer``) -> Redis URL with that role's password."""
    namespace: str = "fleet"
    model: str = DEFAULT_MODEL
    """Network of streams that name none."""
    is_ready: bool = False
    """True once an agent is ready to serve streams."""

    def is_running(self) -> bool:
        """Tell whether the process still lives, not just another one of its number."""
        return _is_alive(self.pid, self.started)


@contextlib.contextmanager
def fleet_lock() -> Iterator[None]:
    """Hold the right to be the one fleet of this user on this machine; the file is removed after.

    It holds our process id, for `fleet_pid`.

    Raises:
        ConflictError: another fleet is running or starting.
        FleetError: the folder cannot be written, or belongs to somebody else.
    """
    path = lock_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(path.parent)
        file = _locked(path)
    except OSError as error:
        raise FleetError(
            f"cannot write {path}: {error.strerror}",
            hint="set XDG_STATE_HOME to a folder of yours",
        ) from error
    with file:
        try:
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            run_file().unlink(missing_ok=True)  # of a fleet that was killed
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str]:
    """Open and lock the file; raises `ConflictError` when somebody else holds it."""
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A fleet that ended in between has removed the file that we hold: it locks nothing.
            if _is_at(path, file):
                return file
        except BlockingIOError:
            file.close()
            pid = fleet_pid()
            who = f" (process {pid})" if pid else ""
            raise ConflictError(
                f"a fleet is already running on this machine{who}",
                hint="add a stream with `fleet stream add URL`, or end it with `fleet down`",
            ) from None
        except BaseException:
            file.close()
            raise
        file.close()


def fleet_pid() -> int | None:
    """Return the process that runs or starts a fleet on this machine, or None."""
    path = lock_file()
    try:
        pid, since = int(path.read_text() or 0), path.stat().st_mtime
    except (OSError, ValueError):
        return None
    return pid if pid > 0 and _is_alive(pid, since) else None


def _is_alive(pid: int, since: float) -> bool:
    """Tell whether a process lives that was there at an instant, seconds since the epoch."""
    try:
        process = psutil.Process(pid)
        return (
            process.status() != psutil.STATUS_ZOMBIE
            and process.create_time() <= since + _START_TOLERANCE_S
        )
    except psutil.NoSuchProcess:
        return False


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def read_run_file() -> RunFile | None:
    """Return the fleet that runs on this machine, or None; the file of a dead one is ignored.

    Raises:
        FleetError: the file is there but cannot be used.
    """
    path = run_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FleetError(f"cannot read {path}: {error.strerror}") from error
    try:
        found = RunFile.model_validate_json(text)
    except ValidationError as error:
        raise FleetError(
            f"{path} is not a run file of this version: {error.errors()[0]['msg']}",
            hint="end that fleet with the version that started it, or remove the file",
        ) from error
    return found if found.is_running() else None


def write_run_file(run: RunFile) -> Path:
    """Write the file in one step, readable by its owner only; replaces the file of a dead fleet.

    Raises:
        ConflictError: another fleet is running on this machine.
        FleetError: the folder cannot be written, or belongs to somebody else.
    """
    other = read_run_file()
    if other is not None and other.pid != run.pid:
        raise ConflictError(
            f"a fleet is already running on this machine (process {other.pid})",
            hint="end it with: fleet down",
        )
    path = run_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(path.parent)
        # mkstemp creates the file with mode 0600.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".fleet-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(run.model_dump_json())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FleetError(
            f"cannot write {path}: {error.strerror}",
            hint="set XDG_STATE_HOME to a folder of yours",
        ) from error
    return path


def remove_run_file(pid: int) -> None:
    """Remove the file if it is that process's own; nothing happens when it is gone."""
    path = run_file()
    try:
        found = RunFile.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return
    if found.pid == pid:
        path.unlink(missing_ok=True)


def _check_owner(folder: Path) -> None:
    """Refuse a folder that somebody else prepared; it may lie in a shared temporary folder."""
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise FleetError(
            f"{folder} belongs to somebody else or can be written by others",
            hint="remove it, or set XDG_STATE_HOME to a folder of yours",
        )
