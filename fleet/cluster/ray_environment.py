"""Ray's settings that only count when they are in the environment before Ray is imported.

Every security setting is explicit: left to itself, Ray turns token authentication on when a stray
``~/.ray/auth_token`` exists, and writes that file.
"""

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def ray_environment() -> Iterator[Path]:
    """Make a private folder with a fresh token and point Ray at it; remove it afterwards.

    Yields:
        The folder, for Ray's own files as well.
    """
    # Unix socket paths end at 107 characters, and Ray adds about 80 to its folder: /tmp it is.
    folder = Path(tempfile.mkdtemp(prefix="pf-ray-", dir="/tmp"))
    token = folder / "token"
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # The default refuses to let 3.11.7 join 3.11.2.
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would hide every GPU from actors that ask for none of its own resources.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    before = {name: os.environ.get(name) for name in settings}
    try:
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        os.environ.update(settings)
        yield folder
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)
