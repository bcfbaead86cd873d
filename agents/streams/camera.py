"""V4L2 cameras through OpenCV: ``v4l2:0`` or ``v4l2:/dev/video0``."""

import os
import stat
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import cv2

from agents.errors import StreamError, StreamRefused
from agents.streams.base import Frame
from agents.streams.closing import Closing
from agents.streams.images import in_order
from agents.streams.pacing import captured_now
from agents.streams.urls import LocalUrl

VIDEO_MAJOR = 81
"""Device number of video4linux: Documentation/admin-guide/devices.txt of Linux."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used."""

    def read(self) -> tuple[bool, Any]:
        """Wait for a frame, at most the 10 s of OpenCV's V4L2 reader; give it in BGR order."""
        ...

    def release(self) -> None:
        """Give the device back."""
        ...


class CameraSource:
    """Frames of a camera as they come."""

    is_live = True

    def __init__(self, name: str, capture: Capture, first_sequence: int) -> None:
        self._name = name
        self._capture = capture
        self._sequences = count(first_sequence)
        self._closing = Closing(capture.release)

    def read(self) -> Frame | None:
        """Return the next frame; see `StreamSource`."""
        with self._closing.reading() as is_open:
            if not is_open:
                return None
            has_frame, picture = self._capture.read()
            if self._closing.is_closed:
                return None
            if not has_frame or picture is None:
                raise StreamError(
                    f"camera {self._name} gives no frame", hint="is it unplugged, or in use?"
                )
            size = (picture.shape[1], picture.shape[0])
            return captured_now(next(self._sequences), size, lambda color: in_order(picture, color))

    def close(self) -> None:
        """Release the camera, or let the read that is going on do so; idempotent."""
        self._closing.close()


def open_camera(url: str, first_sequence: int, _timeout_s: float) -> CameraSource:
    """Open ``v4l2:NUMBER`` or ``v4l2:PATH``, with ``?size=1280x720&fps=30``; a `StreamOpener`.

    Size and rate are wishes: the driver takes the nearest that it has. OpenCV waits up to 10 s for
    a frame whatever the timeout.

    Raises:
        StreamRefused: no such device, not a camera, no permission, wrong options.
        StreamError: the camera is there but gives no pictures now, e.g. because it is in use.
    """
    where = LocalUrl.parse(url, ("size", "fps"))
    path = Path(f"/dev/video{where.target}" if where.target.isdigit() else where.target)
    _check_device(path)
    wishes = [cv2.CAP_PROP_BUFFERSIZE, 1]
    if "size" in where.options:
        width, height = where.size("size", (0, 0))
        wishes += [cv2.CAP_PROP_FRAME_WIDTH, width, cv2.CAP_PROP_FRAME_HEIGHT, height]
    if "fps" in where.options:
        wishes += [cv2.CAP_PROP_FPS, round(where.number("fps", 0, 1, 240))]
    capture = cv2.VideoCapture(str(path), cv2.CAP_V4L2, wishes)
    if not capture.isOpened():
        capture.release()
        raise StreamError(
            f"camera {path} cannot be opened", hint="is another program using it? try: fuser PATH"
        )
    return CameraSource(str(path), capture, first_sequence)


def _check_device(path: Path) -> None:
    """Refuse what OpenCV would only fail to open without saying why."""
    cameras = sorted(str(found) for found in Path("/dev").glob("video*"))
    hint = f"cameras here: {', '.join(cameras) or 'none'}"
    try:
        status = path.stat()
    except OSError as error:
        raise StreamRefused(f"no camera {path}: {error.strerror}", hint=hint) from error
    if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) != VIDEO_MAJOR:
        raise StreamRefused(f"{path} is not a V4L2 camera", hint=hint)
    if not os.access(path, os.R_OK | os.W_OK):
        raise StreamRefused(
            f"no permission to use camera {path}",
            hint="add the user to the group that owns it: sudo usermod -aG video USER",
        )
