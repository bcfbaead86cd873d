"""One behaviour for every stream source that can run here, and what a network adds to it."""

import base64
import hashlib
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np
import pytest

from agents.errors import StreamError, StreamRefused
from agents.streams import open_stream
from agents.streams.camera import CameraSource
from agents.streams.pan import PanSource

WAIT_S = 10
SIZE = (96, 64)


def picture(level):
    return np.full((SIZE[1], SIZE[0], 3), (level, level // 2, 0), np.uint8)


class Camera(BaseHTTPRequestHandler):
    """An MJPEG camera; the path says how it behaves."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, rest = self.path.strip("/").partition("/")
        getattr(self, f"serve_{path}", self.serve_nothing)(*rest.split("/") if rest else ())

    def serve_nothing(self):
        self.send_error(404)

    def serve_page(self):
        self.answer("text/html", b"<html>Please log in</html>")

    def serve_busy(self):
        self.send_error(503)

    def serve_clip(self):
        self.answer("video/mp4", self.server.clip)

    def serve_slow_clip(self):
        self.answer("video/mp4", self.server.slow_clip)

    def serve_basic(self, *_):
        expected = "Basic " + base64.b64encode(b"me:s3/cret").decode()
        if self.headers.get("Authorization") == expected:
            self.serve_live()
        else:
            self.challenge('Basic realm="camera"')

    def serve_digest(self):
        given = self.headers.get("Authorization", "")
        fields = dict(part.strip().split("=", 1) for part in given[7:].split(",") if "=" in part)
        fields = {name: value.strip('"') for name, value in fields.items()}
        user, action = (
            hashlib.md5(text.encode()).hexdigest()
            for text in ("me:camera:s3/cret", f"GET:{self.path}")
        )
        if fields.get("response") == hashlib.md5(f"{user}:n1:{action}".encode()).hexdigest():
            self.serve_live()
        else:
            self.challenge('Digest realm="camera", nonce="n1"')

    def serve_live(self, frames="1000000", then="close"):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(int(frames)):
            jpeg = cv2.imencode(".jpg", picture(number % 200))[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            if self.server.over.wait(0.02):
                return
        if then == "drip":
            while not self.server.over.wait(0.05):
                self.wfile.write(b".")
        elif then == "stall":
            self.server.over.wait(WAIT_S)

    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def challenge(self, scheme):
        self.send_response(401)
        self.send_header("WWW-Authenticate", scheme)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class CameraServer(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, request, client_address):
        """A client that hangs up is what several tests are about."""


@pytest.fixture
def server(clip, slow_clip):
    server = CameraServer(("127.0.0.1", 0), Camera)
    server.over = threading.Event()
    server.clip, server.slow_clip = clip.read_bytes(), slow_clip.read_bytes()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="fleet-camera")
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join(WAIT_S)


def write_clip(path, frames, period):
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=50)
        stream.width, stream.height = SIZE
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number * 10), format="bgr24")
            frame.pts, frame.time_base = number * period, Fraction(1, 50)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


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
            lambda n: open_stream(f"http://127.0.0.1:{port}/clip", n),
            False,
            lambda: open_stream(f"http://127.0.0.1:{port}/slow_clip"),
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


class TestHttp:
    def url(self, server, path, user=""):
        return f"http://{user}127.0.0.1:{server.server_port}/{path}"

    def drain(self, source):
        frames = 0
        while source.read() is not None:
            frames += 1
        return frames

    @pytest.mark.parametrize("path", ["basic", "digest"])
    def test_user_and_password_of_the_url_are_used(self, server, opened, path):
        source = opened(open_stream(self.url(server, path, "me:s3%2Fcret@")))
        assert source.read() is not None

    @pytest.mark.parametrize("path", ["basic", "digest"])
    @pytest.mark.parametrize("user", ["", "me:wr0ng@"])
    def test_a_wrong_password_is_refused_and_never_repeated(self, server, path, user):
        with pytest.raises(StreamRefused, match="401") as refused:
            open_stream(self.url(server, path, user))
        assert "user:password" in refused.value.hint
        assert "wr0ng" not in "".join(traceback.format_exception(refused.value))

    def test_a_camera_that_hangs_up_is_lost(self, server, opened):
        source = opened(open_stream(self.url(server, "live/5")))
        with pytest.raises(StreamError, match="ended the connection") as lost:
            self.drain(source)
        assert not isinstance(lost.value, StreamRefused)

    @pytest.mark.parametrize("how", ["stall", "drip"])
    def test_a_camera_that_sends_no_more_frames_is_lost(self, server, opened, how):
        source = opened(open_stream(self.url(server, f"live/5/{how}"), timeout_s=0.3))
        with pytest.raises(StreamError, match=r"no (data|frame) for 0\.3 s"):
            self.drain(source)

    def test_a_recording_over_http_plays_to_its_end(self, server, opened):
        assert self.drain(opened(open_stream(self.url(server, "clip")))) == 20

    @pytest.mark.parametrize("path", ["nothing", "page"])
    def test_what_is_no_video_is_refused(self, server, path):
        with pytest.raises(StreamRefused, match=path):
            open_stream(self.url(server, path))

    def test_a_busy_server_is_tried_again(self, server):
        with pytest.raises(StreamError, match="503") as busy:
            open_stream(self.url(server, "busy"))
        assert not isinstance(busy.value, StreamRefused)

    def test_it_opens_at_once(self, server, opened):
        """The camera gives 50 frames a second: few are spent on looking what the stream is."""
        source = opened(open_stream(self.url(server, "live")))
        assert source.read().pixels("bgr").mean() < 20


@pytest.fixture
def silent_port():
    """A port where somebody listens who never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtsp+udp"])
class TestUnreachable:
    def fails(self, url):
        with pytest.raises(StreamError) as failed:
            open_stream(url, timeout_s=0.5)
        text = "".join(traceback.format_exception(failed.value))
        assert "s3cret" not in text
        assert "***@127.0.0.1" in text
        return failed.value

    def test_nobody_listens(self, scheme, closed_port):
        error = self.fails(f"{scheme}://me:s3cret@127.0.0.1:{closed_port}/live")
        assert "refused" in str(error)
        assert not isinstance(error, StreamRefused)

    def test_nobody_answers(self, scheme, silent_port):
        began = time.monotonic()
        error = self.fails(f"{scheme}://me:s3cret@127.0.0.1:{silent_port}/live")
        assert "answer" in str(error)
        assert not isinstance(error, StreamRefused)
        assert time.monotonic() - began < WAIT_S

    @pytest.mark.parametrize("rest", ["", "//", "//:80/x", "//me:s3/cret@camera/x"])
    def test_a_url_without_a_host_is_refused(self, scheme, rest):
        with pytest.raises(StreamRefused, match="names no host") as refused:
            open_stream(f"{scheme}:{rest}")
        assert "s3" not in str(refused.value)
