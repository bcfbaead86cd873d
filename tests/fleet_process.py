"""A whole fleet in processes of its own, with folders of its own, and the proof that it is gone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
import pytest

from fleet.client import FleetClient
from fleet.run_file import RunFile
from fleet.store.redis_store import RedisStore

MODEL = "posenet-mobilenet-075"
WAIT_S = 60
"""Longest wait for what must happen; never reached unless a test fails."""


def tell(text: str) -> None:
    """Show what was measured to whoever runs the tests with ``-s``."""
    sys.stdout.write(f"\n{text}\n")


def eventually(condition, timeout_s=WAIT_S):
    """Return what the condition gives once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {condition}"
        time.sleep(0.02)
    return found


@cache
def filled_cache(folder: Path) -> Path:
    """Fetch and convert the network once a session; skip where no source of it answers."""
    home = FleetHome(folder / "filling", folder / "cache")
    pulled = home.run("models", "pull", MODEL)
    if pulled.returncode == 4:
        pytest.skip(f"no source of {MODEL} answers: {pulled.stderr.strip().splitlines()[-1]}")
    assert pulled.returncode == 0, pulled.stderr
    return folder / "cache"


def make_home(tmp_path_factory) -> "FleetHome":
    """Make empty folders for a fleet; the cache holds the network already."""
    cached = filled_cache(tmp_path_factory.getbasetemp())
    return FleetHome(tmp_path_factory.mktemp("fleet"), cached)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class FleetHome:
    """XDG folders, and what can be done to the fleet that lives in them."""

    folder: Path
    cache: Path
    environment: dict[str, str] = field(default_factory=dict)
    """Set or overwritten for every command."""

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def state(self) -> Path:
        return self.folder / "state" / "posefleet"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "FLEET_", "XDG_"))}
        own = {
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.cache),
            "PYTHONUNBUFFERED": "1",
            **{
                f"XDG_{name}_HOME": str(self.folder / name.lower())
                for name in ("STATE", "DATA", "CONFIG")
            },
        }
        return {**kept, **own, **self.environment}

    def command(self, *args) -> list[str]:
        return [sys.executable, "-P", "-m", "fleet", *map(str, args)]

    def run(self, *args, timeout=WAIT_S * 2) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*args), capture_output=True, text=True, timeout=timeout,
            env=self.env(), cwd=self.folder,
        )  # fmt: skip

    def ok(self, *args) -> str:
        """Run a command that must succeed; return what it prints."""
        result = self.run(*args)
        assert result.returncode == 0, f"{args}: {result.stderr}\n{self.story()}"
        return result.stdout

    def json(self, *args):
        return json.loads(self.ok(*args, "--json"))

    @contextlib.contextmanager
    def foreground(self, *args, **options):
        """Start ``fleet up --plain`` as a child in a process group of its own; kill it after."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
        process = subprocess.Popen(
            self.command("up", "--plain", *args), env=self.env(), cwd=self.folder,
            start_new_session=True, **options,
        )  # fmt: skip
        try:
            yield process
        finally:
            family = family_of(process.pid)
            process.kill()
            process.communicate()
            eventually(lambda: not any(map(is_alive, family)))

    def run_file(self) -> RunFile | None:
        try:
            return RunFile.model_validate_json((self.state / "run" / "fleet.json").read_text())
        except FileNotFoundError:
            return None

    def wait_ready(self) -> RunFile:
        return eventually(lambda: (run := self.run_file()) and run.is_ready and run)

    def client(self) -> FleetClient:
        run = self.run_file()
        return FleetClient(run.redis["consumer"], run.namespace)

    def store(self) -> RedisStore:
        run = self.run_file()
        return RedisStore(run.redis["coordinator"], run.namespace)

    def wait_pose(self, stream="synthetic"):
        """Return the next pose report of a stream."""
        with self.client() as client:
            found = list(client.poses(stream, count=1, timeout_s=WAIT_S))
        assert found, self.story()
        return found[0]

    def story(self) -> str:
        """What the logs say, for the message of a test that fails."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}"
            for log in sorted(self.logs.glob("*.log"))
        )

    def traces(self) -> "Traces":
        return Traces.of(self.run_file().pid, self)


def family_of(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def listeners(family) -> set[tuple[str, int]]:
    """Addresses on which processes listen."""
    found = set()
    for process in family:
        with contextlib.suppress(psutil.Error):
            found |= {
                tuple(each.laddr)
                for each in process.net_connections(kind="inet")
                if each.status == psutil.CONN_LISTEN
            }
    return found


@dataclass
class Traces:
    """Everything of a running fleet that must be gone when it is."""

    home: FleetHome
    family: list[psutil.Process]
    addresses: set[tuple[str, int]]
    ray_folder: Path
    shared_memory: set[str]

    @classmethod
    def of(cls, pid: int, home: FleetHome) -> "Traces":
        family = family_of(pid)
        raylet = next(process for process in family if process.name() == "raylet")
        shared = {each.name for each in Path("/dev/shm").iterdir()}
        return cls(home, family, listeners(family), Path(raylet.cwd()), shared)

    def assert_gone(self, timeout_s=5, run_files=()):
        eventually(lambda: not [each for each in self.family if is_alive(each)], timeout_s)
        taken = {
            tuple(each.laddr)
            for each in psutil.net_connections(kind="inet")
            if each.status == psutil.CONN_LISTEN
        }
        assert not self.addresses & taken
        eventually(lambda: not self.ray_folder.exists(), timeout_s)
        left = {each.name for each in (self.home.state / "run").iterdir()}
        assert left == set(run_files)
        assert {each.name for each in Path("/dev/shm").iterdir()} <= self.shared_memory


def interrupt(process: subprocess.Popen, number=signal.SIGINT):
    """Send a signal as a terminal does: to the whole process group."""
    os.killpg(process.pid, number)
