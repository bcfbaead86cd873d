"""ACCELERATORS: driver name -> where it lives, and how a driver is found.

Third-party drivers come through the entry point group ``posefleet.accelerators``; a built-in name
wins.
"""

import pkgutil
from importlib.metadata import entry_points
from typing import cast

from agents.accelerators.base import Driver
from agents.errors import AcceleratorError

ACCELERATORS: dict[str, str] = {
    "openvino": "agents.accelerators.openvino_runtime:OpenVinoDriver",
}

_GROUP = "posefleet.accelerators"


def driver_names() -> tuple[str, ...]:
    """Return every driver name that `load_driver` knows, built-in ones first."""
    return tuple(dict.fromkeys((*ACCELERATORS, *(e.name for e in entry_points(group=_GROUP)))))


def load_driver(name: str) -> Driver:
    """Import a driver and make one.

    Raises:
        AcceleratorError: unknown driver, or its vendor library does not import.
    """
    target = ACCELERATORS.get(name)
    if target is None:
        target = next((e.value for e in entry_points(group=_GROUP) if e.name == name), None)
    if target is None:
        known = ", ".join(driver_names())
        raise AcceleratorError(f"unknown accelerator driver {name!r}", hint=f"known: {known}")
    try:
        return cast(Driver, pkgutil.resolve_name(target)())
    except (ImportError, AttributeError) as error:
        raise AcceleratorError(
            f"driver {name!r} cannot be loaded: {error}",
            hint="install the vendor's runtime into this environment, then run `fleet doctor`",
        ) from error
