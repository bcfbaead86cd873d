"""Cluster protocol: start agents, give them orders, see which ended."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from agents.wire.messages import AcceleratorInfo, Assignment


class HostedAgent(Protocol):
    """What a cluster needs of an agent; `agents.actor.Agent` is one."""

    def order(self, assignments: Sequence[str]) -> None:
        """Serve these assignments, each as JSON, and nothing else."""
        ...

    def stop(self, timeout_s: float) -> None:
        """End everything that the agent started."""
        ...


MakeAgent = Callable[[AcceleratorInfo], HostedAgent]
"""Makes the agent of an accelerator where it shall run; what it raises shows in `ended`."""


class Cluster(Protocol):
    """Runs one agent an accelerator; no call blocks for longer than a fraction of a second."""

    def start_agent(self, accelerator: AcceleratorInfo) -> None:
        """Start the agent of an accelerator, ending the one that may still be there.

        Raises:
            FleetError: it cannot be started.
        """
        ...

    def order(self, accelerator: str, assignments: Sequence[Assignment]) -> None:
        """Tell an agent everything that it shall serve; a lost order shows in `ended`.

        Raises:
            FleetError: there is no such agent, or it cannot be told.
        """
        ...

    def ended(self) -> Mapping[str, str]:
        """Return accelerator id -> cause for every agent that ended since the last call."""
        ...

    def close(self, timeout_s: float) -> None:
        """Stop every agent, orderly if that works within the time, then for certain; idempotent."""
        ...
