"""What can be done: StartAgent, Order, RecordAssignments."""

from dataclasses import dataclass

from agents.wire.messages import AcceleratorInfo, Assignment


@dataclass(frozen=True, slots=True)
class StartAgent:
    """Start the agent of an accelerator."""

    accelerator: AcceleratorInfo


@dataclass(frozen=True, slots=True)
class Order:
    """Tell an agent everything that it shall serve; replaces what it was told before."""

    accelerator: str
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True)
class RecordAssignments:
    """Write who serves what into the store."""

    assignments: tuple[Assignment, ...]


Action = StartAgent | Order | RecordAssignments
