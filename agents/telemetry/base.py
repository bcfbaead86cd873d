"""ReportSink protocol: where pose and throughput reports go."""

from typing import Protocol

from agents.wire.messages import Heartbeat, NodeAdvert, ThroughputReport


class PublishedListener(Protocol):
    """Told, from the sink's own thread, when a pose report has reached its destination."""

    def __call__(self, stream: str, latency_s: float) -> None:
        """Latency runs from capture to acknowledged, on the node's monotonic clock."""
        ...


class ReportSink(Protocol):
    """Takes reports without ever blocking the frame path."""

    def publish_poses(self, stream: str, payload: bytearray, captured_monotonic: float) -> None:
        """Queue one packed pose report; the oldest queued one is dropped when the buffer is full.

        The sink stamps the latency into the payload just before it is written.
        """
        ...

    def publish_throughput(self, report: ThroughputReport) -> None:
        """Queue a throughput report."""
        ...

    def publish_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Replace the heartbeat that is sent next; old ones are worthless."""
        ...

    def publish_advert(self, advert: NodeAdvert) -> None:
        """Replace the advert that is sent next."""
        ...

    @property
    def backlog(self) -> tuple[int, int]:
        """Reports that wait, and reports lost to a full buffer since the start."""
        ...

    def close(self, timeout_s: float) -> None:
        """Send what is queued if that is possible within the time, then release everything."""
        ...
