"""Cluster of agents in this process, for tests, demos and machines without Ray."""

from collections.abc import Mapping, Sequence

from agents.wire.messages import AcceleratorInfo, Assignment
from fleet.cluster.base import HostedAgent, MakeAgent
from fleet.errors import FleetError


class LocalCluster:
    """Makes agents by a function and keeps them."""

    def __init__(self, make_agent: MakeAgent) -> None:
        self._make_agent = make_agent
        self._agents: dict[str, HostedAgent] = {}
        self._ended: dict[str, str] = {}

    def start_agent(self, accelerator: AcceleratorInfo) -> None:
        """Make the agent; its failure to start shows in `ended`."""
        old = self._agents.pop(accelerator.id, None)
        if old is not None:
            old.stop(timeout_s=1.0)
        self._ended.pop(accelerator.id, None)
        try:
            self._agents[accelerator.id] = self._make_agent(accelerator)
        except Exception as error:  # noqa: BLE001 - one agent that fails must not stop the others
            self._ended[accelerator.id] = f"{type(error).__name__}: {error}"

    def order(self, accelerator: str, assignments: Sequence[Assignment]) -> None:
        """Hand the assignments over; an agent that cannot take them has ended."""
        if accelerator not in self._agents:
            raise FleetError(f"no agent runs on {accelerator}")
        try:
            self._agents[accelerator].order([a.to_json() for a in assignments])
        except Exception as error:  # noqa: BLE001 - as above
            self.kill(accelerator, f"{type(error).__name__}: {error}")

    def ended(self) -> Mapping[str, str]:
        """Return the agents that ended since the last call."""
        ended, self._ended = self._ended, {}
        return ended

    def kill(self, accelerator: str, cause: str) -> None:
        """End an agent as a crash would."""
        self._agents.pop(accelerator).stop(timeout_s=1.0)
        self._ended[accelerator] = cause

    def close(self, timeout_s: float) -> None:
        """Stop every agent."""
        while self._agents:
            self._agents.popitem()[1].stop(timeout_s)
