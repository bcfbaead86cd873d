"""V4L2 cameras: what is refused and why, and reading from one; a real one is not needed."""

import cv2
import numpy as np
import pytest

from agents.errors import StreamError, StreamRefused
from agents.streams import open_stream
from agents.streams.camera import CameraSource


class Device:
    """Gives so many pictures in BGR order, then none."""

    def __init__(self, pictures):
        self.left = pictures
        self.released = 0

    def read(self):
        self.left -= 1
        if self.left < 0:
            return False, None
        return True, np.full((6, 8, 3), (10, 20, 30), np.uint8)

    def release(self):
        self.released += 1


def test_frames_come_with_numbers_and_colors():
    source = CameraSource("/dev/video0", Device(2), first_sequence=4)
    first, second = source.read(), source.read()
    assert (first.sequence, second.sequence) == (4, 5)
    assert (first.width, first.height) == (8, 6)
    assert tuple(first.pixels("bgr")[0, 0]) == (10, 20, 30)
    assert tuple(second.pixels("rgb")[0, 0]) == (30, 20, 10)
    assert source.is_live
    source.close()


def test_a_camera_that_gives_nothing_is_lost_but_not_refused():
    device = Device(0)
    source = CameraSource("/dev/video0", device, 0)
    with pytest.raises(StreamError, match="/dev/video0") as lost:
        source.read()
    assert not isinstance(lost.value, StreamRefused)
    source.close()
    source.close()
    assert source.read() is None
    assert device.released == 1


@pytest.mark.parametrize("url", ["v4l2:97", "v4l2:/dev/video97"])
def test_a_camera_that_is_not_there_is_refused(url):
    with pytest.raises(StreamRefused, match="no camera /dev/video97: No such file"):
        open_stream(url)


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_what_is_no_camera_is_refused(path):
    with pytest.raises(StreamRefused, match="not a V4L2 camera"):
        open_stream(f"v4l2:{path}")


@pytest.mark.parametrize("option", ["size=big", "fps=0", "loop=1"])
def test_wrong_wishes_are_refused(option):
    with pytest.raises(StreamRefused, match=r"loop|video97"):
        open_stream(f"v4l2:97?{option}")


def test_opencv_reads_cameras_here():
    names = [cv2.videoio_registry.getBackendName(b) for b in cv2.videoio_registry.getBackends()]
    assert "V4L2" in names
