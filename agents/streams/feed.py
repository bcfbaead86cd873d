"""Feed: one thread that opens a stream, hands over its frames and reconnects when it is lost.

Frames are delivered as they come; what is not wanted is dropped by whoever receives them.
"""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread

from agents.errors import StreamError, StreamRefused
from agents.streams import DEFAULT_TIMEOUT_S, open_stream
from agents.streams.base import Frame, StreamSource
from agents.streams.urls import redact
from agents.wire.messages import StreamState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """What a feed can say of itself at one moment."""

    state: StreamState = "connecting"
    error: str = ""
    """Why the stream is not there; empty while frames come."""
    captured: int = 0
    """Frames delivered since the feed started."""
    gaps: int = 0
    """Times that the stream was lost and came back."""
    last_gap_s: float = 0.0
    """Last frame before the latest such gap to the first one after it; 0 before any."""


@dataclass(frozen=True, slots=True)
class FeedSettings:
    """How patient a feed is, and what it uses to open streams."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    """A live stream without a frame for this long is lost; also the longest wait for an answer."""
    first_delay_s: float = 0.5
    longest_delay_s: float = 10.0
    """Bounds of the pause before the stream is opened again; see `backoff`."""
    refused_delay_s: float = 10.0
    """Pause after a stream that is not there or not usable; a file or device may appear later."""
    stop_s: float = 2.0
    """How long `Feed.stop` waits for the thread."""
    opener: Callable[[str, int, float], StreamSource] = open_stream
    random: Callable[[], float] = random.random
    """Source of the jitter, 0..1."""


def backoff(attempt: int, settings: FeedSettings, fraction: float) -> float:
    """Return the pause before attempt 1, 2, ... in seconds: a random part of a doubling bound.

    A part of the whole ("full jitter") keeps cameras that were lost together from all being asked
    again together: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    bound = settings.first_delay_s * 2.0 ** min(attempt - 1, 30)
    return fraction * min(settings.longest_delay_s, bound)


class Feed:
    """Keeps one stream going until it ends or `stop` is called."""

    def __init__(
        self,
        url: str,
        on_frame: Callable[[Frame], None],
        on_change: Callable[[FeedHealth], None] | None = None,
        settings: FeedSettings | None = None,
    ) -> None:
        """Prepare a feed; `start` starts it.

        Args:
            url: what to open.
            on_frame: gets each frame, in the feed's thread; must return soon.
            on_change: gets the health, in the feed's thread, when its state or error changed.
            settings: patience; the defaults unless given.
        """
        self._url = url
        self.name = redact(url)
        """The URL as it may be shown."""
        self._on_frame = on_frame
        self._on_change = on_change
        self._settings = settings or FeedSettings()
        self._health = FeedHealth()
        self._lost_at: float | None = None
        self._stopping = Event()
        self._source: StreamSource | None = None
        self._source_lock = Lock()
        self._thread = Thread(target=self._run, name=f"fleet-feed {self.name}", daemon=True)

    def health(self) -> FeedHealth:
        """Return how the stream is; may be called from any thread."""
        return self._health

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> bool:
        """End the stream and its thread; idempotent.

        Returns:
            False when a native read or opening did not return in time: its thread is abandoned, it
            hands over no more frames and ends by itself when the call returns.
        """
        self._stopping.set()
        with self._source_lock:
            source = self._source
        if source is not None:
            source.close()
        if self._thread.ident is not None:
            self._thread.join(self._settings.stop_s)
        if self._thread.is_alive():
            log.warning("stream %s: a native call hangs; its thread is abandoned", self.name)
        return not self._thread.is_alive()

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._play()
            except StreamRefused as error:
                self._report("failed", error)
                delay_s = self._settings.refused_delay_s
            except StreamError as error:
                # A stream that held for a while starts its back-off anew; one that breaks at once
                # each time does not get away with one frame.
                held = time.monotonic() - began > self._settings.longest_delay_s
                attempt = 1 if held else attempt + 1
                self._report("reconnecting" if self._health.captured else "connecting", error)
                delay_s = backoff(attempt, self._settings, self._settings.random())
            # The thread's boundary: a bug in one stream is reported and must not end the others.
            except Exception as error:  # noqa: BLE001
                self._report("failed", error)
                delay_s = self._settings.refused_delay_s
            else:
                if not self._stopping.is_set():
                    self._change(replace(self._health, state="ended", error=""))
                return
            self._stopping.wait(delay_s)

    def _play(self) -> None:
        """Deliver frames until the stream ends, breaks or `stop` is called."""
        source = self._settings.opener(self._url, self._health.captured, self._settings.timeout_s)
        with self._source_lock:
            self._source = source
        try:
            while not self._stopping.is_set():
                frame = source.read()
                if frame is None or self._stopping.is_set():
                    return
                self._count(frame)
                self._on_frame(frame)
        finally:
            with self._source_lock:
                self._source = None
            source.close()

    def _count(self, frame: Frame) -> None:
        health = replace(self._health, captured=frame.sequence + 1)
        if health.state == "streaming":
            self._health = health
        else:
            if self._lost_at is not None:
                gap_s = frame.captured_monotonic - self._lost_at
                health = replace(health, gaps=health.gaps + 1, last_gap_s=gap_s)
            self._change(replace(health, state="streaming", error=""))
        self._lost_at = frame.captured_monotonic

    def _report(self, state: StreamState, error: Exception) -> None:
        if self._stopping.is_set():  # What broke is what `stop` closed.
            return
        hint = getattr(error, "hint", "")
        text = str(error) if isinstance(error, StreamError) else f"{type(error).__name__}: {error}"
        text = f"{text} ({hint})" if hint else text
        self._change(replace(self._health, state=state, error=self._without_secrets(text)))

    def _without_secrets(self, text: str) -> str:
        """Hide credentials that an opener of somebody else repeats in its error."""
        return text.replace(self._url, self.name)

    def _change(self, health: FeedHealth) -> None:
        """Publish the health; tell whoever listens when more than the counters changed."""
        before, self._health = self._health, health
        if (before.state, before.error) == (health.state, health.error):
            return
        if health.error:
            log.warning("stream %s is %s: %s", self.name, health.state, health.error)
        else:
            log.info("stream %s is %s", self.name, health.state)
        if self._on_change is not None:
            self._on_change(health)
