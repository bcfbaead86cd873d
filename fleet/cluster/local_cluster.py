"""Cluster of agents in this process, for tests, demos and machines without Ray."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from agents.wire.messages import AcceleratorInfo, Assignment
from fleet.errors import FleetError


class LocalAgent(Protocol):
    """What the cluster needs of an agent; `agents.actor.Agent` is one."""

    def order(self, assignments: Sequence[str]) -> None:
        """Take the assignments, each as JSON."""
        ...

    def stop(self, timeout_s: float) -> None:
        """End everything that the agent started."""
        ...


class LocalCluster:
    """Makes agents by a function and keeps them."""

    def __init__(self, make_agent: Callable[[AcceleratorInfo], LocalAgent]) -> None:
        self._make_agent = make_agent
        self._agents: dict[str, LocalAgent] = {}
        self._ended: dict[str, str] = {}

    def start_agent(self, accelerator: AcceleratorInfo) -> None:
        """Make the agent; its failure to start shows in `ended`."""
        old = self._agents.pop(accelerator.id, None)
        if old is not None:
            old.stop(timeout_s=1.0)
        try:
            self._agents[accelerator.id] = self._make_agent(accelerator)
        except Exception as error:  # noqa: BLE001 - one agent that fails must not stop the others
            self._ended[accelerator.id] = f"{type(error).__name__}: {error}"

    def order(self, accelerator: str, assignments: Sequence[Assignment]) -> None:
        """Hand the assignments over."""
        if accelerator not in self._agents:
            raise FleetError(f"no agent runs on {accelerator}")
        self._agents[accelerator].order([a.to_json() for a in assignments])

    def ended(self) -> Mapping[str, str]:
        """Return the agents that failed to start since the last call."""
        ended, self._ended = self._ended, {}
        return ended

    def kill(self, accelerator: str, cause: str) -> None:
        """End an agent as a crash would, for fault tests."""
        self._agents.pop(accelerator).stop(timeout_s=1.0)
        self._ended[accelerator] = cause

    def close(self, timeout_s: float) -> None:
        """Stop every agent."""
        while self._agents:
            self._agents.popitem()[1].stop(timeout_s)
