"""Photos panned slowly: a window moves over one photo after the other, like a turning camera."""

import math
from pathlib import Path

from agents.streams.base import Frame, Pixels
from agents.streams.closing import Closing
from agents.streams.images import cover, in_order, read_picture
from agents.streams.pacing import Pacer, captured_now

RATE_HZ = 25.0
SIZE = (640, 480)
FRAMES_PER_PHOTO = 200
"""8 s at 25 frames a second: time to look at everybody, slow enough for steady poses."""
MARGIN = 1.15
"""A photo is scaled to this many windows in its tighter direction: little way to go, but whole
people in view. PoseNet 075 finds 3.6 people a frame at 1.15, 2.3 at 1.5."""


class PanSource:
    """Moves over each photo from one corner to the opposite one, then cuts to the next; endless."""

    is_live = False

    def __init__(
        self, photos: tuple[Path, ...], first_sequence: int, *, is_paced: bool = True
    ) -> None:
        """Raise `StreamRefused` when the first photo cannot be read."""
        self._photos = photos
        self._first_sequence = first_sequence
        self._index = 0
        self._photo = self._load(0)
        self._closing = Closing(lambda: None)
        self._pacer = Pacer(self._closing, is_paced=is_paced)

    def read(self) -> Frame | None:
        """Return the next view when it is due; see `StreamSource`."""
        with self._closing.reading() as is_open:
            turn, step = divmod(self._index, FRAMES_PER_PHOTO)
            if not is_open or not self._pacer.wait(self._index / RATE_HZ):
                return None
            if step == 0:
                self._photo = self._load(turn)
            view = _window(self._photo, turn, step / (FRAMES_PER_PHOTO - 1))
            sequence = self._first_sequence + self._index
            self._index += 1
            return captured_now(sequence, SIZE, lambda color: in_order(view, color))

    def close(self) -> None:
        """Release the source; idempotent."""
        self._closing.close()

    def _load(self, turn: int) -> Pixels:
        photo = read_picture(self._photos[turn % len(self._photos)])
        return cover(photo, round(SIZE[0] * MARGIN), round(SIZE[1] * MARGIN))


def _window(photo: Pixels, turn: int, progress: float) -> Pixels:
    """Return the view at a progress of 0..1; it starts and ends gently, in changing corners."""
    width, height = SIZE
    eased = (1 - math.cos(math.pi * progress)) / 2
    across = eased if turn % 2 == 0 else 1 - eased
    down = eased if turn % 4 < 2 else 1 - eased
    left = round(across * (photo.shape[1] - width))
    top = round(down * (photo.shape[0] - height))
    return photo[top : top + height, left : left + width]
