"""Where the fleet keeps its files: XDG folders of this user, looked up at every call.

Nothing is created here; whoever writes creates its folder.
"""

from pathlib import Path

import platformdirs

_APP = "posefleet"


def cache_folder() -> Path:
    """What can be fetched or made again: networks, converted artifacts, sample videos."""
    return platformdirs.user_cache_path(_APP)


def data_folder() -> Path:
    """What the user made and would miss."""
    return platformdirs.user_data_path(_APP)


def state_folder() -> Path:
    """What outlives a restart: the record of the embedded Redis, logs."""
    return platformdirs.user_state_path(_APP)


def runtime_folder() -> Path:
    """What belongs to a running fleet: below the state folder, so that the two never part.

    Not ``$XDG_RUNTIME_DIR``: it is missing in containers, under ``su`` and for services.
    """
    return state_folder() / "run"


def redis_folder() -> Path:
    """Data, log and access list of the embedded Redis."""
    return state_folder() / "redis"


def run_file() -> Path:
    """What a command needs to find the fleet that runs on this machine; see `RunFile`."""
    return runtime_folder() / "fleet.json"


def lock_file() -> Path:
    """What the one fleet of this user and machine holds while it runs."""
    return runtime_folder() / "fleet.lock"


def log_folder() -> Path:
    """Logs of the fleet's processes; the last run's are overwritten by the next."""
    return state_folder() / "logs"
