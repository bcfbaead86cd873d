"""FleetStore protocol: the record of a fleet, decided by the coordinator, reported by nodes."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from agents.wire.messages import (
    Assignment,
    FleetEvent,
    Heartbeat,
    NodeAdvert,
    StreamSpec,
    ThroughputReport,
)


class RecordedEvent(NamedTuple):
    """A `FleetEvent` with its place in the record."""

    id: str
    """Rises from event to event; what `events` takes as ``after``."""
    event: FleetEvent


class CoordinatorRecord(Protocol):
    """What the coordinator decides; every call may raise `StoreError`."""

    def streams(self) -> tuple[StreamSpec, ...]:
        """Return the streams that should run, in order of id."""
        ...

    def put_stream(self, stream: StreamSpec) -> None:
        """Add a stream, or replace the one of the same id."""
        ...

    def remove_stream(self, stream_id: str) -> bool:
        """Forget a stream; False when there was none."""
        ...

    def assignments(self) -> Mapping[str, Assignment]:
        """Return stream id -> who serves it."""
        ...

    def put_assignments(self, assignments: Iterable[Assignment]) -> None:
        """Replace all assignments in one step: no reader sees a mixture."""
        ...

    def append_event(self, event: FleetEvent) -> None:
        """Record that something happened; the oldest events are forgotten."""
        ...

    def events(self, after: str = "", limit: int = 100) -> tuple[RecordedEvent, ...]:
        """Return events in order: those that follow ``after``, or the latest ones without it."""
        ...


class NodeReports(Protocol):
    """What nodes say; what they stop repeating disappears. Every call may raise `StoreError`.

    A message that cannot be read, from a node of another version, is logged and left out: one node
    must not blind the coordinator to the others.
    """

    def adverts(self) -> tuple[NodeAdvert, ...]:
        """Return what every node says about itself, in order of name."""
        ...

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Return accelerator id -> its latest heartbeat."""
        ...

    def throughput(self) -> Mapping[str, ThroughputReport]:
        """Return accelerator id -> its latest report, however old."""
        ...


class FleetStore(CoordinatorRecord, NodeReports, Protocol):
    """The whole record."""

    def close(self) -> None:
        """Release the connection; idempotent."""
        ...
