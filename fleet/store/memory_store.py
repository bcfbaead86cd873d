"""FleetStore in this process: decisions in dicts, node reports read from a `MemorySink`."""

from collections import deque
from collections.abc import Iterable, Mapping

from agents.telemetry.memory_sink import MemorySink
from agents.wire.keys import EVENTS_MAXLEN
from agents.wire.messages import (
    Assignment,
    FleetEvent,
    Heartbeat,
    NodeAdvert,
    StreamSpec,
    ThroughputReport,
)
from fleet.store.base import RecordedEvent


class MemoryStore:
    """Forgets everything when the process ends; one thread writes, any may read."""

    def __init__(self, sink: MemorySink | None = None) -> None:
        """``sink``: where the agents of this process report to."""
        self._sink = sink or MemorySink()
        self._streams: dict[str, StreamSpec] = {}
        self._assignments: dict[str, Assignment] = {}
        self._events: deque[RecordedEvent] = deque(maxlen=EVENTS_MAXLEN)
        self._event_count = 0

    def streams(self) -> tuple[StreamSpec, ...]:
        """Return the streams that should run, in order of id."""
        return tuple(self._streams[stream_id] for stream_id in sorted(self._streams))

    def put_stream(self, stream: StreamSpec) -> None:
        """Add a stream, or replace the one of the same id."""
        self._streams[stream.id] = stream

    def remove_stream(self, stream_id: str) -> bool:
        """Forget a stream; False when there was none."""
        return self._streams.pop(stream_id, None) is not None

    def assignments(self) -> Mapping[str, Assignment]:
        """Return stream id -> who serves it."""
        return dict(self._assignments)

    def put_assignments(self, assignments: Iterable[Assignment]) -> None:
        """Replace all assignments in one step."""
        self._assignments = {assignment.stream.id: assignment for assignment in assignments}

    def append_event(self, event: FleetEvent) -> None:
        """Record that something happened; the oldest events are forgotten."""
        self._event_count += 1
        self._events.append(RecordedEvent(str(self._event_count), event))

    def events(self, after: str = "", limit: int = 100) -> tuple[RecordedEvent, ...]:
        """Return events in order: those that follow ``after``, or the latest ones without it."""
        if not after:
            return tuple(self._events)[-limit:]
        return tuple(event for event in self._events if int(event.id) > int(after))[:limit]

    def adverts(self) -> tuple[NodeAdvert, ...]:
        """Return the adverts that are renewed, in order of node."""
        return tuple(sorted(self._sink.adverts(), key=lambda advert: advert.node))

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Return accelerator id -> its latest heartbeat, while it is renewed."""
        return self._sink.heartbeats()

    def throughput(self) -> Mapping[str, ThroughputReport]:
        """Return accelerator id -> its latest report, however old."""
        return {report.accelerator: report for report in self._sink.throughput()}

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
