"""A loaded network serving several streams: one slot a stream, one thread a lane, in-order results.

A lane takes the stream whose frame has waited longest, so no stream starves: each holds at most
one place in the line. One lock guards slots, line and counters; it is never held over inference,
nor while the sink is called, which may call back into the counters. A second one, held from the end
of a frame to the sink, keeps the reports in order; persons are tracked under it, in that order
(20 people cost some 40 us, less than handing them to a thread of its own).
Not guaranteed: that every frame is served — the slot keeps the newest and counts what it replaced.
"""

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from agents.errors import AcceleratorLost, AgentError
from agents.pipeline import LoadedModel, PoseLane
from agents.streams.base import Frame
from agents.streams.slot import FrameRateLimit, LatestFrameSlot
from agents.telemetry.base import ReportSink
from agents.telemetry.window import Ledger, Window
from agents.wire.messages import Assignment
from agents.wire.poses import STAGES, PoseEncoder, stamp_encode, stamp_index, stamp_tracks
from models.errors import ModelError
from models.poses import PoseArray
from models.tracking import PoseTracker

_log = logging.getLogger(__name__)


class _Result(NamedTuple):
    ticket: int
    captured_monotonic: float
    payload: bytearray | None = None
    """None: the frame came to nothing and is already counted as dropped."""
    keypoints: PoseArray | None = None
    """A copy of the poses in input pixels, for the tracker; None without one."""


class StreamRun:
    """What one assignment accumulates; guarded by the lock of its `ModelServer`.

    What `release`, `track` and `issue_index` change is guarded by its second lock.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.slot = LatestFrameSlot()
        self.limit = FrameRateLimit(assignment.stream.fps)
        self.ledger = Ledger()
        self.window = Window()
        self._next_ticket = 0
        self._next_release = 0
        self._finished: list[_Result] = []
        self._tracker: PoseTracker | None = None
        self._index = 0

    def issue_ticket(self) -> int:
        """Return the place of the frame that is taken now in the order of publication."""
        self._next_ticket += 1
        return self._next_ticket - 1

    def release(self, result: _Result) -> list[_Result]:
        """Return the results that may be published now, in order; later ones wait."""
        heapq.heappush(self._finished, result)
        ready = []
        while self._finished and self._finished[0].ticket == self._next_release:
            self._next_release += 1
            ready.append(heapq.heappop(self._finished))
        return ready

    def track(self, result: _Result, make_tracker: Callable[[], PoseTracker]) -> float:
        """Write the track ids of a released result into its report; returns the seconds it took."""
        if result.payload is None or result.keypoints is None:
            return 0.0
        begun = time.monotonic()
        if self._tracker is None:
            self._tracker = make_tracker()
        ids = self._tracker.update(result.keypoints, result.captured_monotonic)
        track_s = time.monotonic() - begun
        stamp_tracks(result.payload, ids, track_s)
        return track_s

    def start_window(self) -> Window:
        """Begin a new window and return the one that ends."""
        ended, self.window = self.window, Window()
        return ended

    def issue_index(self) -> int:
        """Return the contiguous number of the next published report."""
        self._index += 1
        return self._index - 1


class ModelServer:
    """Owns the lane threads of one loaded network."""

    def __init__(
        self,
        model: LoadedModel,
        sink: ReportSink,
        accelerator: str,
        on_lost: Callable[[AcceleratorLost], None],
    ) -> None:
        self.model = model
        self._sink = sink
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._publishing = threading.Lock()
        lane = model.lanes[0]
        self._make_tracker = partial(PoseTracker, lane.skeleton, len(lane.buffer.scores))
        self._make_tracker()  # compiles it, so that no frame pays for that
        self._line: deque[StreamRun] = deque()
        self._ended_by = ""
        """Why frames are dropped from now on; empty while they are served."""
        self._threads = [
            threading.Thread(
                target=self._serve,
                args=(lane, self._encoder(lane, accelerator)),
                name=f"fleet-lane-{number}",
                daemon=True,
            )
            for number, lane in enumerate(model.lanes)
        ]
        for thread in self._threads:
            thread.start()

    def _encoder(self, lane: PoseLane, accelerator: str) -> PoseEncoder:
        encoder = PoseEncoder(
            accelerator, self.model.manifest.name, lane.skeleton, len(lane.buffer.scores)
        )
        encoder.warm()
        return encoder

    def offer(self, run: StreamRun, frame: Frame) -> None:
        """Put a captured frame into its stream's slot; called from the stream's thread."""
        with self._lock:
            run.ledger.captured += 1
            run.window.captured += 1
            if self._ended_by:
                run.ledger.dropped[self._ended_by] += 1
                return
            if not run.limit.grants(frame.captured_monotonic):
                run.ledger.dropped["fps_limit"] += 1
                return
            if run.slot.offer(frame) is not None:
                run.ledger.dropped["replaced"] += 1  # it keeps its place in the line
                return
            self._line.append(run)
            self._work.notify()

    def forget(self, run: StreamRun) -> None:
        """Drop the waiting frame of a stream that is no longer served."""
        with self._lock:
            if run.slot.take() is not None:
                self._line.remove(run)
                run.ledger.dropped["released"] += 1

    def locked(self) -> threading.Lock:
        """Return the lock that guards every run of this server, for a consistent look at it."""
        return self._lock

    def close(self, timeout_s: float) -> None:
        """End the lanes and unload the network; frames in a lane are finished first.

        A lane that hangs in the accelerator for longer than ``timeout_s`` is left behind.
        """
        self._end("released")
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            _log.error("a lane hangs in the accelerator; its network stays loaded")
            return
        self.model.close()

    def _end(self, cause: str) -> bool:
        """Drop what waits and serve no more; False when that was so before."""
        with self._lock:
            if self._ended_by:
                return False
            self._ended_by = cause
            for run in self._line:
                run.slot.take()
                run.ledger.dropped[cause] += 1
            self._line.clear()
            self._work.notify_all()
            return True

    def _take(self) -> tuple[StreamRun, Frame, int] | None:
        with self._work:
            while not self._line:
                if self._ended_by:
                    return None
                self._work.wait()
            run = self._line.popleft()
            frame = run.slot.take()
            assert frame is not None, "a stream stands in the line exactly while its slot is full"
            return run, frame, run.issue_ticket()

    def _serve(self, lane: PoseLane, encoder: PoseEncoder) -> None:
        while (taken := self._take()) is not None:
            run, frame, ticket = taken
            result, encode_s = _Result(ticket, frame.captured_monotonic), 0.0
            is_tracked = run.assignment.stream.track
            try:
                transform = lane.run(frame)
                begun = time.monotonic()
                payload = encoder.encode(
                    frame, run.assignment.epoch, lane.durations_s, lane.buffer, transform,
                    is_tracked,
                )  # fmt: skip
                keypoints = lane.buffer.keypoints[: lane.buffer.count].copy()
                encode_s = time.monotonic() - begun
                stamp_encode(payload, encode_s)
                result = result._replace(
                    payload=payload, keypoints=keypoints if is_tracked else None
                )
            except AcceleratorLost as error:
                self._drop(run, "accelerator_lost", error)
                if self._end("accelerator_lost"):
                    self._on_lost(error)
            # The lane's boundary: whatever a frame does, the other streams need the lane.
            except Exception as error:  # noqa: BLE001
                self._drop(run, "failed", error)
            self._finish(run, result, lane.buffer.count, (*lane.durations_s, encode_s))

    def _drop(self, run: StreamRun, cause: str, error: Exception) -> None:
        is_ours = isinstance(error, (AgentError, ModelError))
        with self._lock:
            run.ledger.dropped[cause] += 1
            is_first = not run.window.error
            run.window.error = str(error) if is_ours else f"{type(error).__name__}: {error}"
        if is_first:  # once a window: a stream whose every frame fails must not flood the log
            name = run.assignment.stream.id
            trace = None if is_ours else error
            _log.warning("stream %s: a frame failed: %s", name, error, exc_info=trace)

    def _finish(
        self, run: StreamRun, result: _Result, people: int, durations_s: Sequence[float]
    ) -> None:
        """Publish what is due now: the result, unless an earlier frame is still in a lane."""
        stream = run.assignment.stream.id
        with self._publishing:
            ready = run.release(result)
            track_s = sum(run.track(one, self._make_tracker) for one in ready)
            with self._lock:
                if result.payload is not None:
                    run.window.add_frame(people, STAGES[:-1], durations_s)
                run.window.add_duration(STAGES[-1], track_s)
                run.ledger.sent += sum(one.payload is not None for one in ready)
            for one in ready:
                if one.payload is not None:
                    stamp_index(one.payload, run.issue_index())
                    self._sink.publish_poses(stream, one.payload, one.captured_monotonic)
