"""Ray's settings that only count when they are in the environment before Ray is imported.

Every security setting is explicit: left to itself, Ray turns token authentication on when a stray
``~/.ray/auth_token`` exists, and writes that file.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fleet.cluster import reaper

PARENT = Path("/tmp")
"""Unix socket paths end at 107 characters, and Ray adds about 80 to its folder."""
PREFIX = "pf-ray-"
_JUST_MADE_S = 5.0
"""A folder younger than this may not have its reaper yet."""


@contextlib.contextmanager
def ray_environment() -> Iterator[Path]:
    """Make a private folder with a fresh token and point Ray at it; remove it afterwards.

    Whatever works in that folder ends with this process, even when that one is killed.

    Yields:
        The folder, for Ray's own files as well.
    """
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT))
    try:
        with _reaper(folder):
            token = folder / "token"
            token.touch(mode=0o600)
            token.write_text(secrets.token_hex(32))
            settings = _settings(token)
            before = {name: os.environ.get(name) for name in settings}
            try:
                _set(settings)
                yield folder
            finally:
                _set(before)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned() -> None:
    """Remove the folders of fleets of this user that were killed together with their reapers."""
    for folder in PARENT.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            is_new = time.time() - status.st_mtime < _JUST_MADE_S
            if status.st_uid == os.getuid() and not is_new:
                reaper.clear(folder)


@contextlib.contextmanager
def _reaper(folder: Path) -> Iterator[None]:
    process = subprocess.Popen(
        # -I -S: nothing of the environment, and no packages, are imported.
        [sys.executable, "-I", "-S", reaper.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    try:
        if process.stdout is not None:
            process.stdout.readline()  # it watches
        yield
    finally:
        process.communicate()


def _settings(token: Path) -> dict[str, str | None]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Despite its name it counts everywhere: without it Ray turns 127.0.0.1 into the address
        # of a network card and listens on every interface (Ray 2.60, `get_node_ip_address`).
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # The default refuses to let 3.11.7 join 3.11.2.
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would hide every GPU from actors that ask for none of its own resources.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        # Workers wait for tasks, 40 MB each; we have actors only, which get a process when needed.
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        # What became of every call, for a dashboard that we have not; sending the last of it holds
        # up an end by 5 s when Ray's server is gone already (measured).
        "RAY_task_events_report_interval_ms": "0",
        # Somebody else's Ray: its state must not become ours.
        "RAY_REDIS_ADDRESS": None,
        "RAY_ADDRESS": None,
    }


def _set(settings: dict[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
