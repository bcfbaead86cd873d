"""Streams over the network: passwords, silence, lost connections, and what is no video."""

import socket
import time
import traceback

import pytest
from mjpeg_camera import WAIT_S, mjpeg_camera, write_clip

from agents.errors import StreamError, StreamRefused
from agents.streams import open_stream


@pytest.fixture
def server(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 20, 1)
    with mjpeg_camera(clip=clip.read_bytes()) as server:
        yield server


@pytest.fixture
def opened():
    sources = []

    def keep(source):
        sources.append(source)
        return source

    yield keep
    for source in sources:
        source.close()


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
        assert self.drain(opened(open_stream(self.url(server, "file/clip")))) == 20

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
