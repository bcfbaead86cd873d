"""FleetState and what the coordinator observes: frozen snapshots, no clock, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from agents.wire.messages import (
    AcceleratorInfo,
    Assignment,
    Heartbeat,
    StreamSpec,
    ThroughputReport,
)

AgentPhase = Literal["absent", "starting", "ready", "lost"]
"""absent: to be started; lost: ended or silent, waits for its next try."""


@dataclass(frozen=True, slots=True)
class AgentState:
    """The agent of one accelerator as the coordinator knows it."""

    accelerator: AcceleratorInfo
    phase: AgentPhase
    since: float
    """When it entered this phase, seconds since the epoch."""
    failures: int = 0
    """Times in a row that it was lost without having been ready for long."""
    retry_at: float = 0.0
    """When a lost agent is started again."""
    ordered: tuple[Assignment, ...] | None = None
    """The assignments that it was last told; None: nothing since it started."""
    error: str = ""
    """Why it was lost last."""


@dataclass(frozen=True, slots=True)
class FleetState:
    """Everything that the planner may look at."""

    agents: Mapping[str, AgentState] = field(default_factory=lambda: MappingProxyType({}))
    """Accelerator id -> its agent."""
    streams: Mapping[str, StreamSpec] = field(default_factory=lambda: MappingProxyType({}))
    """Stream id -> the streams that should run."""
    assignments: Mapping[str, Assignment] = field(default_factory=lambda: MappingProxyType({}))
    """Stream id -> who serves it."""
    throughput: Mapping[str, ThroughputReport] = field(default_factory=lambda: MappingProxyType({}))
    """Accelerator id -> its latest report."""
    last_epoch: int = 0
    """The highest epoch ever given to an assignment."""
    silence_counts_from: float = 0.0
    """Before this instant a missing heartbeat means nothing: the record itself was away."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the store says now."""

    streams: Mapping[str, StreamSpec]
    heartbeats: Mapping[str, Heartbeat]
    """Accelerator id -> heartbeat; one whose lifetime ran out is absent."""
    throughput: Mapping[str, ThroughputReport]


@dataclass(frozen=True, slots=True)
class Observation:
    """What the coordinator sees in one look."""

    accelerators: Mapping[str, AcceleratorInfo]
    record: Record | None
    """None: the store cannot be reached; then nobody is declared lost for being silent."""
    ended: Mapping[str, str]
    """Accelerator id -> why its agent's process ended, since the last look."""
