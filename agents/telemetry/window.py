"""Counters of one stream: a ledger since the assignment began, statistics of the current window.

Not thread-safe: the owner serializes access.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agents.wire.messages import LatencyPercentiles


def nearest_rank(sorted_values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: the smallest value that `percent` % do not exceed."""
    return sorted_values[max(0, math.ceil(len(sorted_values) * percent / 100) - 1)]


@dataclass(slots=True)
class Ledger:
    """Where every captured frame went: captured = published + dropped + in flight."""

    captured: int = 0
    sent: int = 0
    """Reports handed to the sink; each is published or dropped later."""
    published: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Cause -> frames."""

    @property
    def in_flight(self) -> int:
        """Frames in the slot, in a lane, or on their way to Redis."""
        return self.captured - self.published - self.dropped.total()

    @property
    def unsettled(self) -> int:
        """Reports handed to the sink that it has neither published nor thrown away."""
        return self.sent - self.published - self.dropped["redis_away"]


@dataclass(slots=True)
class Window:
    """What happened since the last report."""

    captured: int = 0
    published: int = 0
    people: int = 0
    processed: int = 0
    """Frames that came out of a lane; `people` and `durations_s` are sums over them."""
    latencies_s: list[float] = field(default_factory=list)
    durations_s: dict[str, float] = field(default_factory=dict)
    error: str = ""
    """Why the last frame that failed in a lane failed; empty when none did."""

    def add_frame(self, people: int, stages: Sequence[str], durations_s: Sequence[float]) -> None:
        """Count one frame that came out of a lane."""
        self.processed += 1
        self.people += people
        for stage, duration_s in zip(stages, durations_s, strict=True):
            self.add_duration(stage, duration_s)

    def add_duration(self, stage: str, duration_s: float) -> None:
        """Count what a stage took that waits for earlier frames."""
        self.durations_s[stage] = self.durations_s.get(stage, 0.0) + duration_s

    def percentiles_ms(self) -> LatencyPercentiles | None:
        """Return p50, p95 and p99 latency in milliseconds, None without a published frame."""
        if not self.latencies_s:
            return None
        ordered = sorted(self.latencies_s)
        p50, p95, p99 = (round(nearest_rank(ordered, p) * 1000, 3) for p in (50, 95, 99))
        return p50, p95, p99

    def mean_people(self) -> float:
        """Return the mean number of persons a processed frame."""
        return round(self.people / self.processed, 3) if self.processed else 0.0

    def mean_durations_ms(self) -> dict[str, float]:
        """Return each stage's mean wall milliseconds a processed frame."""
        return {
            stage: round(total * 1000 / self.processed, 4)
            for stage, total in self.durations_s.items()
            if self.processed
        }
