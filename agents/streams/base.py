"""StreamSource protocol and Frame: pixels, sequence number, capture time."""

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""``(height, width, 3)``, 8 bits a channel, C-contiguous."""

ColorOrder = Literal["rgb", "bgr"]


class Frame:
    """One frame of a stream.

    Pixels are made on demand: a frame that a slow accelerator never takes is dropped without
    paying for its color conversion.
    """

    __slots__ = ("_render", "captured_at", "captured_monotonic", "height", "sequence", "width")

    def __init__(
        self,
        sequence: int,
        captured_at: float,
        captured_monotonic: float,
        size: tuple[int, int],
        render: Callable[[ColorOrder], Pixels],
    ) -> None:
        self.sequence = sequence
        """Counts every frame that the source delivered since the stream started, from 0; a
        reconnect goes on counting."""
        self.captured_at = captured_at
        """Wall clock at capture, seconds since the epoch."""
        self.captured_monotonic = captured_monotonic
        """The node's monotonic clock at capture, seconds; latency is measured on this one."""
        self.width, self.height = size
        self._render = render

    def pixels(self, color: ColorOrder) -> Pixels:
        """Return the pixels in the given channel order; may be called from another thread, once."""
        return self._render(color)


class StreamSource(Protocol):
    """An opened stream; used by one thread, closed from any."""

    is_live: bool
    """True when frames are lost if nobody reads them (camera), False for files."""

    def read(self) -> Frame | None:
        """Return the next frame at the stream's own pace, or None at its end.

        Blocks until the frame is due; `close` from another thread ends the wait.

        Raises:
            StreamError: the stream broke; opening it again may help.
        """
        ...

    def close(self) -> None:
        """Release the source; idempotent."""
        ...


class StreamOpener(Protocol):
    """What a `STREAMS` entry names: opens a source from a URL."""

    def __call__(self, url: str, first_sequence: int, timeout_s: float, /) -> StreamSource:
        """Open the stream; its frames count from ``first_sequence``.

        An answer, and later each frame of a live stream, is waited for at most ``timeout_s``.

        Raises:
            StreamError: it cannot be opened now.
            StreamRefused: it never can as given.
        """
        ...
