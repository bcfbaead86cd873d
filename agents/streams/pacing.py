"""Pacer: holds the frames of a recording back until they are due; and the capture stamp."""

import time
from collections.abc import Callable

from agents.streams.base import ColorOrder, Frame, Pixels
from agents.streams.closing import Closing

LATE_S = 0.5
"""A source that is later than this goes on from now instead of racing after its schedule."""
HOLE_S = 2.0
"""A longer hole in the time stamps is not slept through: they are broken, or nobody waits."""


class Pacer:
    """Plays offsets from the start of a recording against the monotonic clock."""

    def __init__(self, closing: Closing, *, is_paced: bool) -> None:
        self._closing = closing
        self._is_paced = is_paced
        self._origin: float | None = None

    def wait(self, offset_s: float) -> bool:
        """Wait until a frame of this offset is due; return False when closed meanwhile."""
        if not self._is_paced:
            return not self._closing.is_closed
        now = time.monotonic()
        if self._origin is None or not -LATE_S <= self._origin + offset_s - now <= HOLE_S:
            self._origin = now - offset_s
        return not self._closing.wait(max(0.0, self._origin + offset_s - now))


def captured_now(
    sequence: int, size: tuple[int, int], render: Callable[[ColorOrder], Pixels]
) -> Frame:
    """Make a frame that is captured at this moment."""
    return Frame(sequence, time.time(), time.monotonic(), size, render)
