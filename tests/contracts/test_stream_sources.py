"""One behaviour for every stream source that can run here."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from mjpeg_camera import WAIT_S, mjpeg_camera, picture, write_clip

from agents.streams import open_stream
from agents.streams.camera import CameraSource
from agents.streams.pan import PanSource


@pytest.fixture
def server(clip, slow_clip):
    with mjpeg_camera(clip=clip.read_bytes(), slow=slow_clip.read_bytes()) as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 20, 1)


@pytest.fixture(scope="module")
def slow_clip(tmp_path_factory):
    """A frame every 1.6 s."""
    return write_clip(tmp_path_factory.mktemp("clip") / "slow.mp4", 5, 80)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(8):
        cv2.imwrite(str(folder / f"{number}.png"), picture(number * 20))
    return folder


class Device:
    """A V4L2 device; gives a picture every 10 ms."""

    def read(self):
        time.sleep(0.01)
        return True, picture(100)

    def release(self):
        pass


@dataclass
class Kind:
    """How to open one kind of source."""

    open: Callable[[int], object]
    """Gives a source whose first frame has this number; it delivers at least 8 frames."""
    is_live: bool
    open_waiting: Callable[[], object] | None = None
    """Gives one with a frame that is far off; None where that does not happen."""


WAITING = ["video", "picture", "folder", "synthetic", "http", "http file"]
KINDS = [*WAITING, "pan", "camera"]


@pytest.fixture(params=KINDS)
def kind(request, clip, slow_clip, pictures):
    port = request.getfixturevalue("server").server_port if "http" in request.param else 0
    files = sorted(pictures.iterdir())
    kinds = {
        "video": Kind(
            lambda n: open_stream(f"file:{clip}?loop=1&pace=max", n),
            False,
            lambda: open_stream(str(slow_clip)),
        ),
        "picture": Kind(
            lambda n: open_stream(f"{files[0]}?loop=1&fps=240", n),
            False,
            lambda: open_stream(f"{files[0]}?loop=1&fps=.6"),
        ),
        "folder": Kind(
            lambda n: open_stream(f"{pictures}?fps=240", n),
            False,
            lambda: open_stream(f"{pictures}?fps=.6"),
        ),
        "pan": Kind(lambda n: PanSource(tuple(files), n, is_paced=False), False),
        "synthetic": Kind(
            lambda n: open_stream("synthetic:?size=96x64&pace=max", n),
            False,
            lambda: open_stream("synthetic:?fps=.6"),
        ),
        "http": Kind(
            lambda n: open_stream(f"http://127.0.0.1:{port}/live", n),
            True,
            lambda: open_stream(f"http://127.0.0.1:{port}/live/2/stall", timeout_s=60),
        ),
        "http file": Kind(
            lambda n: open_stream(f"http://127.0.0.1:{port}/file/clip", n),
            False,
            lambda: open_stream(f"http://127.0.0.1:{port}/file/slow"),
        ),
        "camera": Kind(lambda n: CameraSource("fake", Device(), n), True),
    }
    return kinds[request.param]


@pytest.fixture
def opened():
    sources = []

    def keep(source):
        sources.append(source)
        return source

    yield keep
    for source in sources:
        source.close()


class TestEverySource:
    def test_frames_are_numbered_from_where_it_was_told_to_begin(self, kind, opened):
        source = opened(kind.open(70))
        assert [source.read().sequence for _ in range(8)] == list(range(70, 78))

    def test_frames_are_stamped_when_they_come(self, kind, opened):
        before = time.time(), time.monotonic()
        source = opened(kind.open(0))
        frames = [source.read() for _ in range(8)]
        after = time.time(), time.monotonic()
        for stamps, low, high in (
            ([frame.captured_at for frame in frames], before[0], after[0]),
            ([frame.captured_monotonic for frame in frames], before[1], after[1]),
        ):
            assert stamps == sorted(stamps)
            assert low <= stamps[0]
            assert stamps[-1] <= high

    def test_pixels_have_the_announced_size_and_both_orders(self, kind, opened):
        source = opened(kind.open(0))
        for _ in range(4):
            frame = source.read()
            rgb, bgr = frame.pixels("rgb"), frame.pixels("bgr")
            for pixels in (rgb, bgr):
                assert pixels.shape == (frame.height, frame.width, 3)
                assert pixels.dtype == np.uint8
                assert pixels.flags.c_contiguous
            assert np.abs(rgb.astype(int) - bgr[:, :, ::-1]).max() <= 1

    def test_pixels_may_be_taken_in_another_thread_after_later_frames_and_close(self, kind, opened):
        source = opened(kind.open(0))
        frames = [source.read() for _ in range(8)]
        expected = [frame.pixels("bgr").copy() for frame in frames]
        source.close()
        taken = [None] * 8

        def take(start):
            for number in range(start, 8, 2):
                taken[number] = frames[number].pixels("bgr")

        threads = [threading.Thread(target=take, args=(start,)) for start in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert all(np.array_equal(*pair) for pair in zip(taken, expected, strict=True))

    def test_it_says_whether_frames_are_lost_when_nobody_reads(self, kind, opened):
        assert opened(kind.open(0)).is_live == kind.is_live

    def test_it_is_closed_once_and_gives_nothing_afterwards(self, kind, opened):
        source = opened(kind.open(0))
        source.read()
        source.close()
        source.close()
        assert source.read() is None

    @pytest.mark.parametrize("kind", WAITING, indirect=True)
    def test_close_from_another_thread_ends_a_read_that_waits(self, kind, opened):
        source = opened(kind.open_waiting())
        assert source.read() is not None
        got, waiting = [], threading.Event()

        def read():
            waiting.set()
            while (frame := source.read()) is not None:
                got.append(frame)

        reader = threading.Thread(target=read)
        reader.start()
        assert waiting.wait(WAIT_S)
        time.sleep(0.1)  # Nothing tells that a thread is inside a native read.
        source.close()
        reader.join(WAIT_S)
        assert not reader.is_alive()
        assert len(got) <= 1
