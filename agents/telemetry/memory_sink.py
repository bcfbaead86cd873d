"""ReportSink into lists: what an agent reported, with lifetimes as Redis would keep them."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from agents.telemetry.base import PublishedListener
from agents.wire.keys import ADVERT_TTL_S, HEARTBEAT_TTL_S, POSES_MAXLEN, THROUGHPUT_MAXLEN
from agents.wire.messages import Heartbeat, NodeAdvert, ThroughputReport
from agents.wire.poses import stamp_latency

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SentReport:
    """One pose report as it would have gone to Redis."""

    stream: str
    payload: bytes


class MemorySink:
    """Keeps reports in this process; what it is given counts as published at once."""

    def __init__(
        self,
        *,
        on_published: PublishedListener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_published = on_published
        self._clock = clock
        self._lock = threading.Lock()
        self._poses: deque[SentReport] = deque(maxlen=POSES_MAXLEN)
        self._throughput: deque[ThroughputReport] = deque(maxlen=THROUGHPUT_MAXLEN)
        self._heartbeats: dict[str, tuple[float, Heartbeat]] = {}
        self._adverts: dict[str, tuple[float, NodeAdvert]] = {}
        self._lost = 0

    def publish_poses(self, stream: str, payload: bytearray, captured_monotonic: float) -> None:
        """Keep one packed pose report, the newest `POSES_MAXLEN` of them."""
        latency_s = self._clock() - captured_monotonic
        stamp_latency(payload, int(latency_s * 1e6))
        with self._lock:
            self._lost += len(self._poses) == self._poses.maxlen
            self._poses.append(SentReport(stream, bytes(payload)))
        if self._on_published is not None:
            self._on_published(stream, latency_s)

    def publish_throughput(self, report: ThroughputReport) -> None:
        """Keep a throughput report."""
        with self._lock:
            self._throughput.append(report)

    def publish_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Keep the latest heartbeat of an accelerator."""
        with self._lock:
            self._heartbeats[heartbeat.accelerator] = (self._clock(), heartbeat)

    def publish_advert(self, advert: NodeAdvert) -> None:
        """Keep the latest advert of a node."""
        with self._lock:
            self._adverts[advert.node] = (self._clock(), advert)

    @property
    def backlog(self) -> tuple[int, int]:
        """Nothing ever waits; lost are the reports that newer ones pushed out."""
        return 0, self._lost

    def close(self, timeout_s: float) -> None:
        """Do nothing: the reports stay readable."""

    def poses(self) -> tuple[SentReport, ...]:
        """Return the kept pose reports, oldest first."""
        with self._lock:
            return tuple(self._poses)

    def throughput(self) -> tuple[ThroughputReport, ...]:
        """Return the kept throughput reports, oldest first."""
        with self._lock:
            return tuple(self._throughput)

    def heartbeats(self) -> dict[str, Heartbeat]:
        """Return accelerator id -> heartbeat, without those whose lifetime is over."""
        with self._lock:
            return _alive(self._heartbeats, self._clock() - HEARTBEAT_TTL_S)

    def adverts(self) -> tuple[NodeAdvert, ...]:
        """Return the adverts of all nodes, without those whose lifetime is over."""
        with self._lock:
            return tuple(_alive(self._adverts, self._clock() - ADVERT_TTL_S).values())


def _alive(entries: dict[str, tuple[float, T]], since: float) -> dict[str, T]:
    return {key: value for key, (at, value) in entries.items() if at > since}
