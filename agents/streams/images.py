"""Pictures: reads one into 8-bit pixels, and plays a picture or a folder of them as a stream."""

import logging
from collections.abc import Generator
from itertools import chain, count
from pathlib import Path

import cv2
import numpy as np

from agents.errors import StreamRefused
from agents.streams.base import ColorOrder, Frame, Pixels
from agents.streams.closing import Closing
from agents.streams.pacing import Pacer, captured_now

PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif"}
)
"""Files of a folder that are taken for pictures."""

MAX_PIXELS = 100_000_000
"""Our choice: 300 MB decoded, beyond any camera of 2026 but studio ones, and no memory bomb."""
MAX_BYTES = 500_000_000
"""A larger file is not read into memory."""

log = logging.getLogger(__name__)


def is_picture(path: Path) -> bool:
    """Tell by its first bytes whether a file is a picture that can be read."""
    return bool(cv2.haveImageReader(str(path)))


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder by name.

    Raises:
        StreamRefused: there is none, or the folder cannot be read.
    """
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
        )
    except OSError as error:
        raise StreamRefused(f"folder {folder} cannot be read: {error.strerror}") from error
    if not found:
        raise StreamRefused(
            f"no picture in folder {folder}",
            hint=f"looked for {', '.join(sorted(PICTURE_SUFFIXES))}, not in folders below it",
        )
    return tuple(found)


def read_picture(path: Path, color: ColorOrder = "bgr") -> Pixels:
    """Read a picture of any kind as ``(height, width, 3)``, upright, 8 bits a channel.

    Grey becomes three equal channels, transparency is ignored, 16 bits keep their upper 8.

    Raises:
        StreamRefused: missing, not a picture, damaged beyond reading, or above `MAX_PIXELS`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StreamRefused(f"picture {path} is larger than {MAX_BYTES // 1_000_000} MB")
        data = path.read_bytes()
    except OSError as error:
        raise StreamRefused(f"picture {path} cannot be read: {error.strerror}") from error
    width, height = _declared_size(data)
    if width * height > MAX_PIXELS:
        raise StreamRefused(
            f"picture {path} is too large: {width} x {height} pixels",
            hint=f"at most {MAX_PIXELS // 1_000_000} megapixels; make it smaller first",
        )
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), _READ_AS[color]) if data else None
    except cv2.error as error:
        raise StreamRefused(f"picture {path} cannot be read: {error.err}") from error
    if picture is None:
        raise StreamRefused(f"{path} is not a picture that can be read, or it is damaged")
    return picture.astype(np.uint8, copy=False)


_READ_AS = {"bgr": cv2.IMREAD_COLOR_BGR, "rgb": cv2.IMREAD_COLOR_RGB}


def _declared_size(data: bytes) -> tuple[int, int]:
    """Return width and height by the header of a PNG or JPEG, zeros for other kinds.

    OpenCV decodes before it tells the size; a small PNG can unpack to gigabytes. The other kinds
    fall under OpenCV's own limit of 2**30 pixels.
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n":  # PNG specification, 11.2.1: IHDR comes first.
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 9 <= len(data) and data[at] == 0xFF:  # ITU-T T.81, B.1.1: marker, length, payload.
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # B.2.2: a frame header.
            return int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7])
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0, 0


def cover(picture: Pixels, width: int, height: int) -> Pixels:
    """Scale a picture, keeping its proportions, to the smallest that covers width x height."""
    scale = max(width / picture.shape[1], height / picture.shape[0])
    size = (
        max(width, round(picture.shape[1] * scale)),
        max(height, round(picture.shape[0] * scale)),
    )
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=way).astype(np.uint8, copy=False)


def in_order(picture: Pixels, color: ColorOrder) -> Pixels:
    """Return a picture that is in BGR order in the order asked for."""
    if color == "bgr":
        return np.ascontiguousarray(picture)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _play(paths: tuple[Path, ...], loop: bool) -> Generator[Pixels, None, None]:
    """Read pictures in turn; one that cannot be read is left out of a folder, and said once."""
    if len(paths) == 1:
        picture = read_picture(paths[0])
        yield picture
        while loop:
            yield picture
        return
    unreadable: set[Path] = set()
    while len(unreadable) < len(paths):
        for path in paths:
            try:
                picture = read_picture(path)
            except StreamRefused as error:
                if path not in unreadable:
                    log.warning("%s; left out", error)
                unreadable.add(path)
                continue
            unreadable.discard(path)
            yield picture
        if not loop:
            break
    if len(unreadable) == len(paths):
        raise StreamRefused(f"none of the {len(paths)} pictures in {paths[0].parent} can be read")


class PictureSource:
    """Shows pictures one after the other, ``rate_hz`` of them a second."""

    is_live = False

    def __init__(
        self, paths: tuple[Path, ...], first_sequence: int, *, rate_hz: float, loop: bool
    ) -> None:
        pictures = _play(paths, loop)
        # The first one is read now, so that a file that cannot be read is refused at the opening.
        self._pictures = chain((next(pictures),), pictures)
        self._period_s = 1.0 / rate_hz
        self._sequences = count(first_sequence)
        self._offset_s = 0.0
        self._closing = Closing(pictures.close)
        self._pacer = Pacer(self._closing, is_paced=True)

    def read(self) -> Frame | None:
        """Return the next picture when it is due; see `StreamSource`."""
        with self._closing.reading() as is_open:
            picture = next(self._pictures, None) if is_open else None
            if picture is None or not self._pacer.wait(self._offset_s):
                return None
            self._offset_s += self._period_s
            size = (picture.shape[1], picture.shape[0])
            return captured_now(next(self._sequences), size, lambda color: in_order(picture, color))

    def close(self) -> None:
        """Release the source; idempotent."""
        self._closing.close()
