"""`fleet doctor`: is this machine fit to be in a fleet, and if not, what is to be done.

Every check answers with a value; none raises. Vendor libraries are asked in a child process.
"""

import base64
import csv
import ctypes
import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Literal

import psutil

from agents.errors import WireError
from agents.wire.messages import NodeAdvert
from fleet import paths
from fleet.client import connect
from fleet.errors import FleetError
from fleet.run_file import read_run_file
from fleet.store.embedded import find_server
from models.artifacts import model_files, verify
from models.catalog import DEFAULT_MODEL, load_manifest
from models.errors import ModelError

PROBE_TIMEOUT_S = 30.0
"""Vendor libraries may take seconds to load from a cold SD card; one that hangs is reported."""
LOW_DISK_BYTES = 1_000_000_000
"""A network, its converted form and a day of append-only file."""
NO_DISK_BYTES = 100_000_000
LOW_SHARED_MEMORY_BYTES = 128 * 1024 * 1024
"""Ray's object store asks for 75 MiB of /dev/shm."""
RAY_VERSION = "2.60"
"""Nodes of different versions of Ray cannot be one fleet."""
_INSTALL = "run `make up` again"
_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronized."""
LIBRARIES = ("ray", "openvino", "opencv-python-headless", "av", "numba", "numpy", "redis")
"""Distributions whose versions a report of trouble needs."""

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    level: Level
    message: str
    fix: str = ""
    """What to do; empty when nothing is to be done."""


def examine() -> Iterator[Finding]:
    """Run every check, in the order in which a person would want to know."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _installation,
        _versions,
        _ray,
        _redis,
        _accelerators,
        _model,
        _disk,
        _memory,
        _clock,
        _fleet,
    )
    for check in checks:
        yield from check()


def _installation() -> Iterator[Finding]:
    """Compare our installed files with the hashes that the installer recorded."""
    try:
        own = distribution("posefleet")
    except PackageNotFoundError:
        yield Finding("installation", "error", "posefleet is not installed", "run `make up`")
        return
    root = Path(str(own.locate_file("")))
    damaged = [row[0] for row in _record(own.read_text("RECORD") or "") if _differs(root, row)]
    strangers = [name for name in ("fleet", "agents", "models") if not _is_ours(name)]
    if strangers:
        yield Finding(
            "installation", "error",
            f"another package provides {', '.join(strangers)}",
            "give posefleet a virtual environment of its own",
        )  # fmt: skip
    elif damaged:
        yield Finding(
            "installation", "error",
            f"{len(damaged)} installed files were changed: {', '.join(damaged[:3])}",
            "install posefleet again, into an environment of its own",
        )  # fmt: skip
    else:
        yield Finding("installation", "ok", f"posefleet {own.version} is intact")


def _record(text: str) -> Iterator[tuple[str, str]]:
    for path, recorded, _ in csv.reader(text.splitlines()):
        if recorded.startswith("sha256="):
            yield path, recorded.removeprefix("sha256=")


def _differs(root: Path, row: tuple[str, str]) -> bool:
    try:
        digest = hashlib.sha256((root / row[0]).read_bytes()).digest()
    except OSError:
        return True
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != row[1]


def _is_ours(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    here = Path(__file__).resolve().parent.parent
    return spec is not None and spec.origin is not None and here in Path(spec.origin).parents


def _versions() -> Iterator[Finding]:
    found = sys.version_info[:2]
    level: Level = "ok" if found == (3, 11) else "error"
    fix = "" if level == "ok" else "every node of a fleet runs Python 3.11"
    yield Finding("python", level, f"{platform.python_version()} on {platform.machine()}", fix)
    missing = [name for name in LIBRARIES if not _version_of(name)]
    if missing:
        yield Finding("libraries", "error", f"missing: {', '.join(missing)}", _INSTALL)
    else:
        listed = ", ".join(f"{name} {_version_of(name)}" for name in LIBRARIES)
        yield Finding("libraries", "ok", listed)


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _ray() -> Iterator[Finding]:
    """Import Ray in a child process; that is where a broken installation of it shows."""
    command = [sys.executable, "-P", "-c", "import ray; print(ray.__version__)"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
        ).stdout.strip()
    except subprocess.TimeoutExpired:
        yield Finding("ray", "error", f"its import hung for {PROBE_TIMEOUT_S:.0f} s", _INSTALL)
    except subprocess.CalledProcessError as error:
        yield Finding("ray", "error", f"cannot be imported: {_last_line(error)}", _INSTALL)
    else:
        if answer.startswith(f"{RAY_VERSION}."):
            yield Finding("ray", "ok", f"{answer} can be imported")
        else:
            every = f"every node of a fleet runs Ray {RAY_VERSION}"
            yield Finding("ray", "error", f"version {answer}", f"{every}; {_INSTALL}")


def _last_line(error: subprocess.CalledProcessError) -> str:
    lines = (error.stderr or "").strip().splitlines()
    return lines[-1] if lines else f"exit {error.returncode}"


def _redis() -> Iterator[Finding]:
    try:
        server = find_server()
        answer = subprocess.run(
            [str(server), "--version"], capture_output=True, text=True, timeout=5, check=True
        )
        yield Finding("embedded redis", "ok", answer.stdout.partition(" sha=")[0].strip())
    except FleetError as error:
        yield Finding("embedded redis", "warning", str(error), error.hint or "use --redis URL")
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("embedded redis", "error", f"does not run: {error}", "use --redis URL")


def probe_node(timeout_s: float = PROBE_TIMEOUT_S) -> tuple[NodeAdvert, tuple[str, ...]]:
    """Ask a child process what this node is and has.

    Returns:
        The advert, and a sentence for each driver that could not be asked.

    Raises:
        FleetError: the child crashed, hung, or said nothing that makes sense.
    """
    try:
        answer = subprocess.run(
            # -P: a folder named `agents` or `models` where we are called must not hide ours.
            [sys.executable, "-P", "-m", "agents"],
            capture_output=True, text=True, timeout=timeout_s, check=True,
        )  # fmt: skip
        advert = NodeAdvert.from_json(answer.stdout)
    except subprocess.TimeoutExpired as error:
        raise FleetError(f"the probe of this node hung for {timeout_s:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise FleetError(f"the probe of this node failed: {_last_line(error)}") from error
    except WireError as error:
        raise FleetError(f"the probe of this node answered nonsense: {error}") from error
    return advert, tuple(answer.stderr.strip().splitlines())


def _accelerators() -> Iterator[Finding]:
    try:
        advert, problems = probe_node()
    except FleetError as error:
        yield Finding("accelerators", "error", str(error), "run `python -m agents` to see why")
        return
    for info in advert.accelerators:
        computes = "/".join(info.precisions)
        yield Finding("accelerator", "ok", f"{info.id}: {info.name}, computes in {computes}")
    for problem in problems:
        yield Finding("accelerator", "warning", problem, "install that vendor's runtime")
    if not advert.accelerators:
        yield Finding("accelerators", "error", "none found", "install openvino's requirements")


def _model() -> Iterator[Finding]:
    try:
        faults = verify(model_files(load_manifest(DEFAULT_MODEL)))
    except ModelError as error:
        yield Finding("default model", "error", str(error), error.hint)
        return
    pull = f"run `fleet models pull {DEFAULT_MODEL}`"
    damaged = [fault for fault in faults if fault.path.exists()]
    if damaged:
        yield Finding("default model", "error", f"damaged in the cache: {damaged[0].path}", pull)
    elif faults:
        yield Finding("default model", "warning", f"{DEFAULT_MODEL} is not fetched yet", pull)
    else:
        yield Finding("default model", "ok", f"{DEFAULT_MODEL} is in the cache and intact")


def _disk() -> Iterator[Finding]:
    for name, folder in (("cache", paths.cache_folder()), ("state", paths.state_folder())):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        message = f"{name} folder {folder}: {free / 1e9:.1f} GB free"
        if free < NO_DISK_BYTES:
            yield Finding("disk", "error", message, "make room, or set XDG_CACHE_HOME elsewhere")
        elif free < LOW_DISK_BYTES:
            yield Finding("disk", "warning", message, "make room soon")
        else:
            yield Finding("disk", "ok", message)


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    yield Finding("memory", "ok", f"{memory.total / 1e9:.1f} GB, {memory.percent:.0f} % in use")
    shared = Path("/dev/shm")
    if shared.is_dir() and shutil.disk_usage(shared).free < LOW_SHARED_MEMORY_BYTES:
        yield Finding(
            "shared memory", "warning", "/dev/shm is small", "run containers with --shm-size=256m"
        )


def _clock() -> Iterator[Finding]:
    """Ask the kernel whether something keeps its clock true: adjtimex(2), nothing is changed."""
    try:
        # struct timex starts with `modes`; zero means read only. It is at most 208 bytes long.
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        yield Finding("clock", "warning", "cannot be read here", "make sure that NTP runs")
        return
    if answer == _TIME_ERROR:
        yield Finding("clock", "warning", "not synchronized", "run an NTP client, e.g. chrony")
    else:
        yield Finding("clock", "ok", "synchronized")


def _fleet() -> Iterator[Finding]:
    """Ask the fleet that runs on this machine, if there is one, how it does."""
    try:
        run = read_run_file()
        if run is None:
            yield Finding("fleet", "ok", "none runs on this machine")
            return
        with connect() as client:
            state = client.state()
    except FleetError as error:
        yield Finding("fleet", "error", str(error), error.hint)
        return
    silent = [each.info.id for each in state.accelerators if each.heartbeat is None]
    if silent:
        yield Finding(
            "fleet", "error", f"no sign of life from {', '.join(silent)}",
            f"see the logs in {paths.log_folder()}",
        )  # fmt: skip
    else:
        text = f"process {run.pid} serves {len(state.streams)} streams; its Redis answers"
        yield Finding("fleet", "ok", text)
