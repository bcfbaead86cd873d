"""Closing: lets any thread close a source whose native handle only its reader may touch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock


class Closing:
    """Releases a handle once: at `close`, or when the read that is going on returns."""

    def __init__(
        self, release: Callable[[], None], interrupt: Callable[[], None] | None = None
    ) -> None:
        self._release = release
        self._interrupt = interrupt
        self._closed = Event()
        self._in_use = Lock()
        self._is_released = False

    @property
    def is_closed(self) -> bool:
        """True from the moment that somebody asked."""
        return self._closed.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep, at most until `close`; return True when closed."""
        return self._closed.wait(seconds)

    @contextmanager
    def reading(self) -> Iterator[bool]:
        """Hold the handle for one read; gives False when it is closed already."""
        try:
            with self._in_use:
                yield not self._closed.is_set()
        finally:
            if self._closed.is_set():
                self._release_unused()

    def close(self) -> None:
        """End the read that is going on, if it can be ended, and release the handle; idempotent."""
        self._closed.set()
        if self._interrupt is not None:
            self._interrupt()
        self._release_unused()

    def _release_unused(self) -> None:
        if self._in_use.acquire(blocking=False):
            try:
                if not self._is_released:
                    self._is_released = True
                    self._release()
            finally:
                self._in_use.release()
