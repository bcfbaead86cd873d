"""Cluster over Ray: one actor an accelerator, pinned by a custom resource.

Ray is the control plane only: no frame ever travels as an argument. Import this module inside
`ray_environment`, which holds what Ray reads when it is imported.
"""

import contextlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from agents.actor import Agent, AgentSettings
from agents.wire.messages import AcceleratorInfo, Assignment
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


@dataclass(slots=True)
class _Running:
    actor: Any
    pending: list[Any]
    """References of calls that have not answered yet."""


class RayCluster:
    """A local Ray with one actor an accelerator."""

    def __init__(self, settings: RaySettings, agent_settings: Mapping[str, AgentSettings]) -> None:
        """``agent_settings``: accelerator id -> what its agent is told."""
        self._agent_settings = agent_settings
        self._agents: dict[str, _Running] = {}
        self._ended: dict[str, str] = {}
        self._settings = settings

    def start(self, accelerators: Sequence[AcceleratorInfo]) -> None:
        """Start Ray on this machine, advertising the accelerators as resources.

        Raises:
            FleetError: Ray does not start.
        """
        try:
            ray.init(
                address="local",
                num_cpus=self._settings.cpus,
                object_store_memory=self._settings.object_store_mb * 1024 * 1024,
                resources={resource_of(info.id): 1 for info in accelerators},
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _temp_dir=str(self._settings.folder / "r"),
                _node_ip_address="127.0.0.1",
            )
        except (RuntimeError, OSError, RayError) as error:
            self._keep_logs()
            raise FleetError(
                f"Ray does not start: {_cause(error)}",
                hint=f"its logs are in {self._settings.log_folder / 'ray'}",
            ) from error

    def start_agent(self, accelerator: AcceleratorInfo) -> None:
        """Start an actor on the node that has the accelerator's resource."""
        self._kill(accelerator.id)
        actor: Any = (
            ray.remote(Agent)
            .options(
                num_cpus=0,
                resources={resource_of(accelerator.id): 1},
                max_restarts=0,
                max_concurrency=2,
            )
            .remote(self._agent_settings[accelerator.id], accelerator)
        )
        running = _Running(actor, [])
        running.pending.append(actor.describe.remote())
        self._agents[accelerator.id] = running

    def order(self, accelerator: str, assignments: Sequence[Assignment]) -> None:
        """Send the assignments; the answer is collected by `ended`."""
        running = self._agents.get(accelerator)
        if running is None:
            raise FleetError(f"no agent runs on {accelerator}")
        running.pending.append(running.actor.order.remote([a.to_json() for a in assignments]))

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
        """Let every actor end its streams, then end Ray."""
        try:
            stops = [
                running.actor.stop.remote(timeout_s=timeout_s) for running in self._agents.values()
            ]
            if stops:
                ray.wait(stops, num_returns=len(stops), timeout=timeout_s)
        except RayError as error:
            _log.warning("agents could not be stopped orderly: %s", error)
        finally:
            self._agents.clear()
            self._keep_logs()
            ray.shutdown()

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
    """Return the last line of Ray's many-line messages: what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
