"""Ray's settings that only count when they are in the environment before Ray is imported.

Every security setting is explicit: left to itself, Ray turns token authentication on when a stray
``~/.ray/auth_token`` exists, and writes that file.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PARENT = Path("/tmp")
"""Unix socket paths end at 107 characters, and Ray adds about 80 to its folder."""
PREFIX = "pf-ray-"
_OWNER = "owner"
_JUST_MADE_S = 10.0
"""A folder younger than this may not have its owner's lock yet."""


@contextlib.contextmanager
def ray_environment() -> Iterator[Path]:
    """Make a private folder with a fresh token and point Ray at it; remove it afterwards.

    Yields:
        The folder, for Ray's own files as well.
    """
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT))
    before: dict[str, str | None] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        owner = stack.enter_context((folder / _OWNER).open("w"))
        # The kernel releases it however this process ends; see `remove_abandoned`.
        fcntl.flock(owner, fcntl.LOCK_EX)
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        settings = _settings(token)
        before = {name: os.environ.get(name) for name in settings}
        stack.callback(_set, before)
        _set(settings)
        yield folder


def remove_abandoned() -> None:
    """Remove the folders of fleets of this user that were killed."""
    for folder in PARENT.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            is_new = time.time() - status.st_mtime < _JUST_MADE_S
            if status.st_uid != os.getuid() or _is_owned(folder, is_new):
                continue
            shutil.rmtree(folder, ignore_errors=True)


def _is_owned(folder: Path, is_new: bool) -> bool:
    try:
        with (folder / _OWNER).open() as owner:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return is_new
    return False


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
