"""What a consumer imports: subscribe to the poses of streams, read the state of the fleet.

    from fleet.client import connect

    with connect() as fleet:
        for delivery in fleet.poses("entrance"):
            print(len(delivery.report.poses), delivery.missed)

A report is delivered once and in order. One that Redis no longer holds when the consumer gets to
it, or that never reached Redis, is not delivered but counted in `Delivery.missed`.
"""

import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from redis import exceptions as redis_errors

from agents.wire.keys import Keys
from agents.wire.messages import (
    AcceleratorInfo,
    Heartbeat,
    LatencyPercentiles,
    NodeAdvert,
    StreamReport,
    StreamSpec,
    StreamState,
    ThroughputReport,
)
from agents.wire.poses import PoseReport, decode, report_position
from fleet.errors import NoFleetError
from fleet.run_file import read_run_file
from fleet.store.connection import connect as connect_redis
from fleet.store.connection import store_error
from fleet.store.redis_store import RedisStore

BLOCK_S = 0.5
"""How long one read waits for news; what else the consumer does is noticed in between."""
READ_COUNT = 100
"""Most reports of one stream in one read, about 220 kB with 20 people each."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
"""Back-off between tries to connect again: doubled, then 50..100 % of it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One pose report and what was lost before it."""

    stream: str
    id: str
    """Its place in the stream; `FleetClient.poses` goes on after it when given as ``since``."""
    report: PoseReport
    missed: int
    """Reports of this stream that were published since the one before and never delivered."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """A stream that should run, and how it does."""

    spec: StreamSpec
    accelerator: str | None
    """Who serves it; None while nobody does."""
    report: StreamReport | None
    """What its accelerator said about it last; None when that one is silent."""
    state: StreamState | Literal["waiting", "starting"]
    """waiting: no accelerator serves it; starting: one was told to."""

    @property
    def fps(self) -> float:
        """Frames a second that were published in the last window."""
        return self.report.fps_out if self.report is not None else 0.0

    @property
    def latency_ms(self) -> LatencyPercentiles | None:
        """p50, p95, p99 from capture to published in the last window."""
        return self.report.latency_ms if self.report is not None else None


@dataclass(frozen=True, slots=True)
class AcceleratorView:
    """An accelerator of the fleet and what it does."""

    info: AcceleratorInfo
    node: str
    heartbeat: Heartbeat | None
    """None: silent for longer than a heartbeat lives."""
    report: ThroughputReport | None
    """Its last window; None when it is silent."""


@dataclass(frozen=True, slots=True)
class FleetView:
    """The state of the fleet at one moment."""

    streams: tuple[StreamView, ...]
    accelerators: tuple[AcceleratorView, ...]
    nodes: tuple[NodeAdvert, ...]


def connect(url: str | None = None, namespace: str = "fleet") -> "FleetClient":
    """Connect to a fleet.

    Args:
        url: ``redis://`` or ``rediss://`` of its record; None finds the fleet of this machine.
        namespace: Its prefix of every key; known by itself without a ``url``.

    Raises:
        NoFleetError: no fleet is running on this machine.
        StoreError: its Redis cannot be reached or refuses us.
    """
    if url is None:
        run = read_run_file()
        if run is None:
            raise NoFleetError(
                "no fleet is running on this machine", hint="start one with: fleet up"
            )
        url, namespace = run.redis["consumer"], run.namespace
    return FleetClient(url, namespace)


class FleetClient:
    """A connection to a fleet; reads only. Survives a restart of its Redis."""

    def __init__(self, url: str, namespace: str = "fleet") -> None:
        """Connect; raises `StoreError` when that fails. See `connect`."""
        self._url = url
        self._keys = Keys(namespace)
        self._store = RedisStore(url, namespace)
        self._client = connect_redis(url)
        self._random = random.Random()

    def poses(
        self,
        streams: str | Iterable[str],
        *,
        follow: bool = True,
        count: int | None = None,
        since: str = "now",
        timeout_s: float | None = None,
    ) -> Iterator[Delivery]:
        """Iterate over the pose reports of one stream or several, each stream in its order.

        The starting point is fixed by this call, not by the first step of the iteration.

        Args:
            streams: Stream id or ids.
            follow: Wait for more at the end; otherwise the iteration ends there.
            count: End after this many reports.
            since: ``"now"``, ``"first"`` (all that Redis still holds), or a `Delivery.id`.
            timeout_s: End when nothing has come for this long.

        Raises:
            StoreError: Redis refuses us, or stays away for ``timeout_s``; for ever without one.
            WireError: a report is from a version that this one cannot read.
        """
        names = [streams] if isinstance(streams, str) else list(streams)
        places = {self._keys.poses(name).encode(): self._place(name, since) for name in names}
        return self._iterate(places, follow, count, timeout_s)

    def state(self) -> FleetView:
        """Return what runs and how well.

        Raises:
            StoreError: Redis cannot be reached or refuses us.
        """
        nodes, assignments = self._store.adverts(), self._store.assignments()
        heartbeats = self._store.heartbeats()
        reports = {
            accelerator: report
            for accelerator, report in self._store.throughput().items()
            if accelerator in heartbeats
        }
        streams = []
        for spec in self._store.streams():
            order = assignments.get(spec.id)
            accelerator = order.accelerator if order is not None else None
            streams.append(_view_stream(spec, accelerator, heartbeats, reports))
        accelerators = tuple(
            AcceleratorView(info, node.node, heartbeats.get(info.id), reports.get(info.id))
            for node in nodes
            for info in node.accelerators
        )
        return FleetView(tuple(streams), accelerators, nodes)

    def close(self) -> None:
        """Release the connections; idempotent."""
        self._client.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _place(self, stream: str, since: str) -> "_Place":
        if since == "first":
            return _Place(stream, "0-0")
        if since != "now":
            return _Place(stream, since)
        try:
            last = cast(Any, self._client.xrevrange(self._keys.poses(stream), count=1))
        except (redis_errors.RedisError, OSError) as error:
            raise store_error(error, self._url) from None
        if not last:
            return _Place(stream, "0-0")
        entry_id, fields = last[0]
        return _Place(stream, entry_id.decode(), report_position(fields[b"p"]))

    def _iterate(
        self,
        places: Mapping[bytes, "_Place"],
        follow: bool,
        count: int | None,
        timeout_s: float | None,
    ) -> Iterator[Delivery]:
        heard_at = time.monotonic()
        given = 0
        while count is None or given < count:
            until = None if timeout_s is None else heard_at + timeout_s
            entries = self._read(places, follow, until)
            for key, entry_id, payload in entries:
                delivery = places[key].take(entry_id.decode(), payload)
                if delivery is not None:
                    yield delivery
                    given += 1
                    if given == count:
                        return
            if entries:
                heard_at = time.monotonic()
            elif not follow or (until is not None and time.monotonic() >= until):
                return

    def _read(
        self, places: Mapping[bytes, "_Place"], follow: bool, until: float | None
    ) -> list[tuple[bytes, bytes, bytes]]:
        """Return ``(key, id, payload)`` of what is new, after at most `BLOCK_S` if nothing is."""
        positions: Any = {key: place.last_id for key, place in places.items()}
        tries = 0
        while True:
            block_s = BLOCK_S if until is None else min(BLOCK_S, until - time.monotonic())
            block_ms = max(1, int(block_s * 1000)) if follow else None
            try:
                found = cast(Any, self._client.xread(positions, READ_COUNT, block_ms))
            except (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError) as error:
                is_over = until is not None and time.monotonic() >= until
                if not follow or is_over or isinstance(error, redis_errors.AuthenticationError):
                    raise store_error(error, self._url) from None
                tries += 1
                self._pause(tries, until)
            except redis_errors.RedisError as error:
                raise store_error(error, self._url) from None
            else:
                return [
                    (key, entry_id, fields[b"p"])
                    for key, entries in found
                    for entry_id, fields in entries
                ]

    def _pause(self, tries: int, until: float | None) -> None:
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 16))
        pause_s = longest_s * self._random.uniform(0.5, 1)
        time.sleep(pause_s if until is None else max(0.0, min(pause_s, until - time.monotonic())))


class _Place:
    """How far one stream has been read, and what must have been there in between."""

    def __init__(self, stream: str, last_id: str, position: tuple[int, int] | None = None) -> None:
        self.stream = stream
        self.last_id = last_id
        self._position = position
        """``(epoch, index)`` of the newest report that is accounted for; None: nothing is known."""

    def take(self, entry_id: str, payload: bytes) -> Delivery | None:
        """Go on to an entry; None when it is a repetition, or late from an earlier epoch."""
        position = report_position(payload)
        missed = self._missed(position)
        if missed is None:
            self.last_id = entry_id
            return None
        report = decode(payload)
        self.last_id, self._position = entry_id, position
        return Delivery(self.stream, entry_id, report, missed)

    def _missed(self, position: tuple[int, int]) -> int | None:
        if self._position is None:
            return 0
        if position <= self._position:
            return None
        epoch, index = position
        # How far the epoch before went on unseen, nobody can say.
        return index - self._position[1] - 1 if epoch == self._position[0] else index


def _view_stream(
    spec: StreamSpec,
    accelerator: str | None,
    heartbeats: Mapping[str, Heartbeat],
    reports: Mapping[str, ThroughputReport],
) -> StreamView:
    if accelerator is None or accelerator not in heartbeats:
        return StreamView(spec, None, None, "waiting")
    window = reports.get(accelerator)
    mine = (each for each in (window.streams if window else ()) if each.stream == spec.id)
    report = next(mine, None)
    return StreamView(spec, accelerator, report, report.state if report else "starting")
