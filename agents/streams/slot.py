"""LatestFrameSlot and FrameRateLimit: where frames are dropped, counted; pure, not thread-safe."""

from agents.streams.base import Frame


class LatestFrameSlot:
    """Holds the newest frame only; its holder guards it with the condition that readers wait on."""

    __slots__ = ("_frame", "dropped")

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self.dropped = 0
        """Frames that a newer one replaced before anybody took them."""

    def __bool__(self) -> bool:
        """Return True when a frame waits."""
        return self._frame is not None

    def offer(self, frame: Frame) -> Frame | None:
        """Put the newest frame in; return the one that it replaced."""
        replaced, self._frame = self._frame, frame
        self.dropped += replaced is not None
        return replaced

    def take(self) -> Frame | None:
        """Take the newest frame out."""
        frame, self._frame = self._frame, None
        return frame


class FrameRateLimit:
    """Grants at most so many frames a second, by their capture times."""

    __slots__ = ("_due", "_period_s", "skipped")

    def __init__(self, rate_hz: float | None) -> None:
        self._period_s = 0.0 if rate_hz is None else 1.0 / rate_hz
        self._due = float("-inf")
        self.skipped = 0
        """Frames that were not granted."""

    def grants(self, captured_monotonic: float) -> bool:
        """Return True when the frame captured at this time may be used.

        Grants lie on a grid, so that the mean rate holds; a frame may come a quarter period early,
        so that jitter costs no frame where the limit is the source's own rate. After a pause the
        grid starts anew instead of granting a burst.
        """
        if captured_monotonic < self._due - self._period_s / 4:
            self.skipped += 1
            return False
        late_s = captured_monotonic - self._due
        start = self._due if late_s < self._period_s else captured_monotonic
        self._due = start + self._period_s
        return True
