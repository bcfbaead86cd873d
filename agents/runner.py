"""Serves the assignments of one accelerator: owns its streams, its loaded networks and its reports.

`order` says what shall run; a control thread makes it so, a report thread tells the fleet once a
second. Nothing here waits for the coordinator or for Redis: with both away, streams go on.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from agents.errors import AcceleratorLost, AgentError
from agents.pipeline import LoadedModel
from agents.serving import ModelServer, StreamRun
from agents.streams.feed import Feed
from agents.telemetry.base import ReportSink
from agents.wire.messages import (
    AcceleratorInfo,
    Assignment,
    Heartbeat,
    NodeAdvert,
    StreamReport,
    ThroughputReport,
)
from models.errors import ModelError

REPORT_PERIOD_S = 1.0
ADVERTS_EVERY = 3
"""An advert goes out with every third report; it lives five times as long."""
RETRY_LOAD_S = 10.0
"""A network that did not load is tried again after this time: the disk or the link may be back."""
CONTROL_PERIOD_S = 1.0
"""Longest pause before the order is looked at again, e.g. for a network that may load now."""
CLOSE_S = 5.0
"""A lane that is at one frame for longer hangs; the slowest known network takes a second."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunnerPorts:
    """What a runner works with."""

    accelerator: AcceleratorInfo
    advert: NodeAdvert
    load: Callable[[str], LoadedModel]
    """Loads a network by name onto the accelerator, warm; may take long."""
    sink: ReportSink
    pid: int
    report_period_s: float = REPORT_PERIOD_S
    retry_load_s: float = RETRY_LOAD_S


@dataclass(slots=True)
class _Serving:
    """One assignment and what runs for it."""

    run: StreamRun
    server: ModelServer | None = None
    feed: Feed | None = None
    error: str = ""
    retry_at: float = 0.0


class Runner:
    """The node side of one accelerator."""

    def __init__(self, ports: RunnerPorts) -> None:
        self._ports = ports
        self._wanted: tuple[Assignment, ...] = ()
        self._serving: dict[str, _Serving] = {}
        self._servers: dict[str, ModelServer] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._lost: str = ""
        self._reported_at = time.monotonic()
        self._threads = [
            threading.Thread(target=self._control, name="fleet-control", daemon=True),
            threading.Thread(target=self._report_forever, name="fleet-report", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def order(self, assignments: Sequence[Assignment]) -> None:
        """Replace what shall be served; returns at once."""
        self._wanted = tuple(assignments)
        self._changed.set()

    def published(self, stream: str, latency_s: float) -> None:
        """Count a report that reached Redis; the sink calls this from its own thread."""
        with self._lock:
            serving = self._serving.get(stream)
        if serving is None or serving.server is None:
            return
        with serving.server.locked():
            run = serving.run
            if run.ledger.unsettled:  # else it is from an earlier assignment of the stream
                run.ledger.published += 1
                run.window.published += 1
                run.window.latencies_s.append(latency_s)

    def unpublishable(self, stream: str) -> None:
        """Count a report that was thrown away because Redis was away for too long."""
        with self._lock:
            serving = self._serving.get(stream)
        if serving is not None and serving.server is not None:
            with serving.server.locked():
                if serving.run.ledger.unsettled:
                    serving.run.ledger.dropped["redis_away"] += 1

    def stop(self, timeout_s: float) -> None:
        """End streams, lanes and threads; the sink is the caller's.

        A native call that hangs for longer, such as the loading of a network, is left behind; what
        belongs to it ends when it returns.
        """
        self._stopping.set()
        self._changed.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            _log.error("a native call hangs; it is left behind")

    # --- control thread -----------------------------------------------------------------

    def _control(self) -> None:
        while not self._stopping.is_set():
            self._changed.clear()
            try:
                self._reconcile()
            except Exception:  # noqa: BLE001 - the loop outlives any one stream's failure
                _log.exception("could not follow the order")
            self._changed.wait(timeout=min(CONTROL_PERIOD_S, self._ports.retry_load_s))
        self._end(list(self._serving))
        for server in self._servers.values():
            server.close(CLOSE_S)
        self._servers.clear()

    def _reconcile(self) -> None:
        wanted = {assignment.stream.id: assignment for assignment in self._wanted}
        self._end(
            [
                stream
                for stream, serving in self._serving.items()
                if wanted.get(stream) != serving.run.assignment
            ]
        )
        for stream, assignment in wanted.items():
            if self._stopping.is_set():
                return
            serving = self._serving.get(stream) or self._begin(assignment)
            if serving.feed is None and time.monotonic() >= serving.retry_at:
                self._start(serving)
        used = {assignment.stream.model for assignment in wanted.values()}
        for model in self._servers.keys() - used:
            self._servers.pop(model).close(CLOSE_S)

    def _begin(self, assignment: Assignment) -> _Serving:
        serving = _Serving(StreamRun(assignment))
        with self._lock:
            self._serving[assignment.stream.id] = serving
        return serving

    def _start(self, serving: _Serving) -> None:
        run, spec = serving.run, serving.run.assignment.stream
        try:
            server = self._server(spec.model)
        # The stream's boundary: the others must be started too.
        except Exception as error:  # noqa: BLE001
            is_ours = isinstance(error, (AgentError, ModelError))
            serving.error = _text(error) if is_ours else f"{type(error).__name__}: {error}"
            serving.retry_at = time.monotonic() + self._ports.retry_load_s
            trace = None if is_ours else error
            _log.error("stream %s cannot be served: %s", spec.id, serving.error, exc_info=trace)
            return
        if self._stopping.is_set():
            return
        serving.server, serving.error = server, ""
        serving.feed = Feed(spec.url, on_frame=lambda frame: server.offer(run, frame))
        serving.feed.start()

    def _server(self, model: str) -> ModelServer:
        if model not in self._servers:
            loaded = self._ports.load(model)
            self._servers[model] = ModelServer(
                loaded, self._ports.sink, self._ports.accelerator.id, self._on_lost
            )
        return self._servers[model]

    def _end(self, streams: Sequence[str]) -> None:
        """End streams together: a camera may take its time to hang up."""
        ending = {stream: self._serving[stream] for stream in streams}
        feeds = [serving.feed for serving in ending.values() if serving.feed is not None]
        if feeds:
            with ThreadPoolExecutor(len(feeds), thread_name_prefix="fleet-end") as pool:
                list(pool.map(Feed.stop, feeds))
        for stream, serving in ending.items():
            if serving.server is not None:
                serving.server.forget(serving.run)
            with self._lock:
                del self._serving[stream]

    def _on_lost(self, error: AcceleratorLost) -> None:
        _log.error("accelerator lost: %s", error)
        self._lost = str(error)

    # --- report thread ------------------------------------------------------------------

    def _report_forever(self) -> None:
        count = 0
        while True:
            try:
                if count % ADVERTS_EVERY == 0:
                    self._ports.sink.publish_advert(self._ports.advert)
                self._report()
            except Exception:  # noqa: BLE001 - one bad report must not silence the heartbeat
                _log.exception("could not report")
            count += 1
            if self._stopping.wait(self._ports.report_period_s):
                return

    def _report(self) -> None:
        ports = self._ports
        ports.sink.publish_heartbeat(
            Heartbeat(
                accelerator=ports.accelerator.id,
                node=ports.advert.node,
                pid=ports.pid,
                at=time.time(),
                state="failed" if self._lost else "ready",
                error=self._lost,
            )
        )
        now = time.monotonic()
        window_s, self._reported_at = now - self._reported_at, now
        with self._lock:
            serving = list(self._serving.values())
        unsent, lost = ports.sink.backlog
        report = ThroughputReport(
            accelerator=ports.accelerator.id,
            at=time.time(),
            window_s=window_s,
            precision=self._precision(),
            streams=tuple(_stream_report(one, max(window_s, 1e-3)) for one in serving),
            unsent=unsent,
            lost=lost,
        )
        ports.sink.publish_throughput(report)

    def _precision(self) -> str:
        names = {server.model.precision for server in list(self._servers.values())}
        return ", ".join(sorted(names))


def _text(error: Exception) -> str:
    hint = getattr(error, "hint", "")
    return f"{error} ({hint})" if hint else str(error)


def _stream_report(serving: _Serving, window_s: float) -> StreamReport:
    """Report one stream and begin its next window."""
    run, server, feed = serving.run, serving.server, serving.feed
    spec = run.assignment.stream
    if server is None or feed is None:
        return StreamReport(
            stream=spec.id, model=spec.model, state="failed" if serving.error else "connecting",
            error=serving.error, captured=0, published=0, dropped={}, in_flight=0, fps_in=0.0,
            fps_out=0.0, people=0.0, latency_ms=None, durations_ms={}, gaps=0, last_gap_s=0.0,
        )  # fmt: skip
    health = feed.health()
    with server.locked():
        window = run.start_window()
        ledger = run.ledger
        return StreamReport(
            stream=spec.id,
            model=spec.model,
            state=health.state,
            error=health.error or window.error,
            captured=ledger.captured,
            published=ledger.published,
            dropped=dict(ledger.dropped),
            in_flight=ledger.in_flight,
            fps_in=round(window.captured / window_s, 3),
            fps_out=round(window.published / window_s, 3),
            people=window.mean_people(),
            latency_ms=window.percentiles_ms(),
            durations_ms=window.mean_durations_ms(),
            gaps=health.gaps,
            last_gap_s=health.last_gap_s,
        )
