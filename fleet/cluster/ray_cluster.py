"""Cluster over Ray: one actor an accelerator, pinned by a custom resource.

Ray is the control plane only: no frame ever travels as an argument. Import this module inside
`ray_environment`, which holds what Ray reads when it is imported. Whoever starts it must keep the
starting thread alive: Linux ends Ray's processes with it (prctl(2), PR_SET_PDEATHSIG).
"""

import contextlib
import logging
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray.exceptions import RayError

from agents.wire.messages import AcceleratorInfo, Assignment
from fleet.cluster.base import MakeAgent
from fleet.cluster.reaper import end_all_in
from fleet.errors import FleetError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RaySettings:
    """What the local Ray may use."""

    folder: Path
    """Its own files, sockets among them: a short path, private to this user."""
    cpus: int
    object_store_mb: int
    log_folder: Path


class FleetAgent:
    """The actor: an agent in a process of its own."""

    def __init__(self, make_agent: MakeAgent, accelerator: AcceleratorInfo) -> None:
        self._ended = threading.Event()
        self._agent = make_agent(accelerator)

    @ray.method(concurrency_group="life")
    def live(self) -> None:
        """Answer when the agent has stopped; a process that ends before fails this call at once."""
        self._ended.wait()

    def order(self, assignments: Sequence[str]) -> None:
        """Pass the assignments on; orders are carried out one after the other."""
        self._agent.order(assignments)

    def stop(self, timeout_s: float) -> None:
        """Stop the agent."""
        try:
            self._agent.stop(timeout_s)
        finally:
            self._ended.set()


class _Head(Node):
    """Ray's own processes on this machine, only those that a fleet needs.

    `ray.init` would also start a log monitor, an autoscaler monitor and an API server, which
    without a dashboard only reports usage: 130 MB and 3 s of a start on two cores (measured).
    """

    def __init__(self, parameters: RayParams) -> None:
        super().__init__(
            parameters, head=True, shutdown_at_exit=False, spawn_reaper=True, ray_init_cluster=True
        )

    def start_api_server(self, **_: Any) -> None:
        """Leave it out."""


@dataclass(slots=True)
class _Running:
    actor: Any
    pending: list[Any]
    """References of calls that have not answered yet."""


class RayCluster:
    """A local Ray with one actor an accelerator."""

    def __init__(self, settings: RaySettings, make_agent: MakeAgent) -> None:
        self._settings = settings
        self._make_agent = make_agent
        self._agents: dict[str, _Running] = {}
        self._ended: dict[str, str] = {}
        self._head: _Head | None = None

    def start(self, accelerators: Sequence[AcceleratorInfo]) -> None:
        """Start Ray on this machine, advertising the accelerators as resources.

        Raises:
            FleetError: Ray does not start.
        """
        parameters = RayParams(
            node_ip_address="127.0.0.1",
            num_cpus=self._settings.cpus,
            object_store_memory=self._settings.object_store_mb * 1024 * 1024,
            resources={resource_of(info.id): 1 for info in accelerators},
            temp_dir=str(self._settings.folder / "r"),
            include_dashboard=False,
            include_log_monitor=False,  # type: ignore[arg-type]  # Ray annotates it as text
            no_monitor=True,
        )
        try:
            # Ray puts the current folder first into the import path of its workers, where a folder
            # named `models` would hide ours.
            with contextlib.chdir(self._settings.folder), _own_sigterm():
                self._head = _Head(parameters)
                ray.init(address=self._head.address, log_to_driver=False, configure_logging=False)
        # Ray raises bare Exception when a process of its own does not come up.
        except Exception as error:
            self._keep_logs()
            raise FleetError(
                f"Ray does not start: {_cause(error)}",
                hint=f"its logs are in {self._settings.log_folder / 'ray'}",
            ) from error

    def check(self) -> None:
        """See that Ray's own processes run.

        Raises:
            FleetError: one has ended. No other Ray can be started by this process: its connection
                to the dead one may take it down at any moment (seen with Ray 2.60).
        """
        if not self._is_alive():
            self._keep_logs()
            raise FleetError(
                "Ray ended unexpectedly",
                hint=f"start it again; the logs of Ray are in {self._settings.log_folder / 'ray'}",
            )

    def _is_alive(self) -> bool:
        if self._head is None:
            return False
        processes = [one.process for kind in self._head.all_processes.values() for one in kind]
        return all(process.poll() is None for process in processes)

    def start_agent(self, accelerator: AcceleratorInfo) -> None:
        """Start an actor on the node that has the accelerator's resource."""
        remote: Any = ray.remote  # whose annotations lack concurrency groups
        agent = remote(
            num_cpus=0,
            resources={resource_of(accelerator.id): 1},
            max_restarts=0,
            concurrency_groups={"life": 1},
        )(FleetAgent)
        self._kill(accelerator.id)
        try:
            actor = agent.remote(self._make_agent, accelerator)
            self._agents[accelerator.id] = _Running(actor, [actor.live.remote()])
        except RayError as error:
            raise FleetError(f"Ray starts no agent: {_cause(error)}") from error

    def order(self, accelerator: str, assignments: Sequence[Assignment]) -> None:
        """Send the assignments; the answer is collected by `ended`."""
        running = self._agents.get(accelerator)
        if running is None:
            raise FleetError(f"no agent runs on {accelerator}")
        try:
            told = [assignment.to_json() for assignment in assignments]
            running.pending.append(running.actor.order.remote(told))
        except RayError as error:
            raise FleetError(f"Ray passes no order on: {_cause(error)}") from error

    def ended(self) -> Mapping[str, str]:
        """Collect answers; an agent whose call failed has ended."""
        for accelerator_id, running in list(self._agents.items()):
            cause = _failure_of(running)
            if cause is not None:
                self._ended[accelerator_id] = cause
                self._kill(accelerator_id)
        ended, self._ended = self._ended, {}
        return ended

    def close(self, timeout_s: float) -> None:
        """Let every actor end its streams, then end Ray; returns when its processes are gone."""
        try:
            if self._is_alive():
                self._stop_agents(timeout_s)
        finally:
            self._agents.clear()
            self._keep_logs()
            ray.shutdown()
            if self._head is not None:
                self._head.kill_all_processes(check_alive=False, allow_graceful=True)
                self._head = None
            # Also workers that outlive their Ray, and what a start that was cut short has left.
            end_all_in(self._settings.folder)

    def _stop_agents(self, timeout_s: float) -> None:
        try:
            stops = [
                running.actor.stop.remote(timeout_s=timeout_s) for running in self._agents.values()
            ]
            if stops:
                ray.wait(stops, num_returns=len(stops), timeout=timeout_s)
        except RayError as error:
            _log.warning("agents could not be stopped orderly: %s", error)

    def _kill(self, accelerator_id: str) -> None:
        running = self._agents.pop(accelerator_id, None)
        if running is not None:
            with contextlib.suppress(RayError):
                ray.kill(running.actor, no_restart=True)

    def _keep_logs(self) -> None:
        """Copy Ray's logs to where they outlive it."""
        logs = self._settings.folder / "r" / "session_latest" / "logs"
        target = self._settings.log_folder / "ray"
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError, shutil.Error):
            shutil.copytree(logs, target, ignore_dangling_symlinks=True)
            target.chmod(0o700)  # Ray's own is open to everybody


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces by one of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def resource_of(accelerator_id: str) -> str:
    """Return the Ray resource that pins an agent to the node of its accelerator."""
    return f"posefleet:{accelerator_id}"


def _failure_of(running: _Running) -> str | None:
    if not running.pending:
        return None
    done, running.pending = ray.wait(running.pending, num_returns=len(running.pending), timeout=0)
    for reference in done:
        try:
            ray.get(reference)
        except RayError as error:
            return _cause(error)
    return None


def _cause(error: Exception) -> str:
    """Return what went wrong: the last line of Ray's messages, without its guesses at why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(" Some common causes")[0] if lines else type(error).__name__
