"""What this machine is and which accelerators it has -> NodeAdvert."""

import platform
import socket
from collections.abc import Sequence
from importlib.metadata import version

import psutil
from pydantic import ValidationError

from agents.accelerators import driver_names, load_driver
from agents.errors import AcceleratorError
from agents.wire.messages import AcceleratorInfo, NodeAdvert


def node_name() -> str:
    """Return the name of this node: its host name without the domain."""
    return socket.gethostname().split(".")[0] or "node"


def probe_accelerators(node: str) -> tuple[tuple[AcceleratorInfo, ...], tuple[str, ...]]:
    """Ask every driver what is plugged in.

    Returns:
        The accelerators, and a sentence for each driver that could not be asked.
    """
    found: list[AcceleratorInfo] = []
    problems: list[str] = []
    for driver in driver_names():
        try:
            found += [
                AcceleratorInfo.model_validate(
                    {"id": f"{node}/{one.get('kind')}:{one.get('device')}", "driver": driver, **one}
                )
                for one in load_driver(driver).probe()
            ]
        except AcceleratorError as error:
            problems.append(f"driver {driver}: {error}")
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            problems.append(f"driver {driver} describes no accelerator: {where}: {first['msg']}")
    return tuple(found), tuple(problems)


def make_advert(node: str, accelerators: Sequence[AcceleratorInfo]) -> NodeAdvert:
    """Describe this machine."""
    return NodeAdvert(
        node=node,
        posefleet=version("posefleet"),
        python=platform.python_version(),
        ray=version("ray"),
        system=platform.system(),
        machine=platform.machine(),
        cores=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        accelerators=tuple(accelerators),
    )


def find_accelerator(name: str | None) -> AcceleratorInfo:
    """Return the accelerator of this node by device (``GPU.0``) or kind (``gpu``), in any case.

    Args:
        name: None takes the first that is found.

    Raises:
        AcceleratorError: there is none of that name, or none at all.
    """
    found, problems = probe_accelerators(node_name())
    for info in found:
        if name is None or name.lower() in (info.device.lower(), info.kind, info.id.lower()):
            return info
    there = ", ".join(info.device for info in found) or "none"
    raise AcceleratorError(
        f"no accelerator {name!r} on this machine" if name else "no accelerator on this machine",
        hint="; ".join([f"found: {there}", *problems, "see `fleet doctor`"]),
    )
