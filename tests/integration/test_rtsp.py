"""A real RTSP camera: it plays over TCP and UDP, and comes back after it was lost."""

import signal
import socket
import subprocess
import threading
import time
import traceback
from pathlib import Path
from queue import Queue

import numpy as np
import pytest

from agents.errors import StreamError, StreamRefused
from agents.streams import open_stream
from agents.streams.feed import Feed, FeedSettings

pytestmark = pytest.mark.integration

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
PACKAGES = Path(__file__).with_name("packages.txt").read_text().split()
WAIT_S = 60
TRANSPORTS = ["rtsp", "rtsp+udp"]


@pytest.fixture(scope="session")
def gstreamer():
    probe = [SYSTEM_PYTHON, SERVER, "check"]
    try:
        found = subprocess.run(probe, capture_output=True, text=True, timeout=WAIT_S)
    except OSError as error:
        pytest.skip(f"no {SYSTEM_PYTHON}: {error}")
    if found.returncode:
        reason = (found.stderr.strip().splitlines() or ["it did not say why"])[-1]
        pytest.skip(f"no RTSP server ({reason}); install {' '.join(PACKAGES)}")


class Camera:
    """A server process that can be killed and started again on its port."""

    def __init__(self, codec="h264", credentials=""):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.command = [
            SYSTEM_PYTHON,
            SERVER,
            str(self.port),
            codec,
            *([credentials] if credentials else []),
        ]
        self.process = None

    def url(self, scheme="rtsp", user=""):
        return f"{scheme}://{user}127.0.0.1:{self.port}/camera"

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"

    def kill(self):
        self.process.kill()
        self.process.wait(WAIT_S)
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None


@pytest.fixture
def camera(gstreamer):
    cameras = []

    def make(*args):
        cameras.append(Camera(*args))
        cameras[-1].start()
        return cameras[-1]

    yield make
    for each in cameras:
        if each.process is not None:
            each.kill()


def drain(source):
    while source.read() is not None:
        pass


@pytest.mark.parametrize("codec", ["h264", "jpeg"])
@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_it_plays(camera, scheme, codec):
    source = open_stream(camera(codec).url(scheme), first_sequence=10)
    assert source.is_live
    frames = [source.read() for _ in range(30)]
    pictures = [frame.pixels("rgb") for frame in frames]
    source.close()
    assert source.read() is None
    assert [frame.sequence for frame in frames] == list(range(10, 40))
    assert {picture.shape for picture in pictures} == {(240, 320, 3)}
    # A white ball moves over black.
    assert all(picture.max() > 200 and picture.mean() < 60 for picture in pictures[5:])
    assert np.abs(pictures[10].astype(int) - pictures[25]).mean() > 0.5


@pytest.mark.parametrize("scheme", TRANSPORTS)
def test_a_wait_for_frames_is_ended_by_close_and_survived_without(camera, scheme):
    """The server is frozen, not killed: the connection stays, nothing comes."""
    one = camera()
    source = open_stream(one.url(scheme), timeout_s=30)
    frames = Queue()

    def read():
        while (frame := source.read()) is not None:
            frames.put(frame)
        frames.put(None)

    reader = threading.Thread(target=read, name="fleet-test-reader")
    reader.start()
    assert frames.get(timeout=WAIT_S).sequence == 0
    one.process.send_signal(signal.SIGSTOP)
    time.sleep(2)  # The outage itself: longer than one wait for data.
    while not frames.empty():
        last = frames.get()
    one.process.send_signal(signal.SIGCONT)
    assert frames.get(timeout=WAIT_S).sequence == last.sequence + 1
    one.process.send_signal(signal.SIGSTOP)
    source.close()
    reader.join(WAIT_S)
    assert not reader.is_alive()
    one.process.send_signal(signal.SIGCONT)


def test_one_that_stops_sending_is_lost(camera):
    one = camera()
    source = open_stream(one.url(), timeout_s=1.5)
    assert source.read() is not None
    one.process.send_signal(signal.SIGSTOP)
    with pytest.raises(StreamError, match=r"no frame for 1\.5 s"):
        drain(source)
    source.close()
    one.process.send_signal(signal.SIGCONT)


def test_user_and_password_of_the_url_are_used_and_never_shown(camera):
    one = camera("h264", "viewer:s3cret")
    source = open_stream(one.url(user="viewer:s3cret@"))
    assert source.read() is not None
    source.close()
    for user in ("", "viewer:wr0ng@"):
        with pytest.raises(StreamRefused, match="401") as refused:
            open_stream(one.url(user=user))
        assert "wr0ng" not in "".join(traceback.format_exception(refused.value))


def test_a_path_that_is_not_there_is_refused(camera):
    with pytest.raises(StreamRefused, match="404"):
        open_stream(camera().url() + "/nothing")


class Watched:
    """A feed whose changes can be waited for."""

    def __init__(self, url):
        self.changes = Queue()
        self.frames = Queue()
        self.feed = Feed(url, self.frames.put, self.changes.put, FeedSettings(timeout_s=3))

    def wait_for(self, state):
        while (health := self.changes.get(timeout=WAIT_S)).state != state:
            pass
        return health


@pytest.mark.parametrize("scheme", TRANSPORTS)
@pytest.mark.parametrize("outage_s", [3.0, pytest.param(10.0, marks=pytest.mark.fault)])
def test_a_camera_that_was_lost_comes_back(camera, scheme, outage_s):
    one, other = camera(), camera()
    watched, beside = Watched(one.url(scheme)), Watched(other.url(scheme))
    try:
        for each in (watched, beside):
            each.feed.start()
            each.wait_for("streaming")
        for _ in range(10):
            watched.frames.get(timeout=WAIT_S)
        one.kill()
        before = beside.feed.health().captured
        assert watched.wait_for("reconnecting").error
        time.sleep(outage_s)  # The outage itself.
        during = beside.feed.health().captured - before
        one.start()
        health = watched.wait_for("streaming")
        assert health.gaps == 1
        assert outage_s <= health.last_gap_s < outage_s + 30
        assert health.error == ""
        for expected in range(10, health.captured + 10):
            assert watched.frames.get(timeout=WAIT_S).sequence == expected
        assert during > 0
        assert beside.feed.health().gaps == 0
    finally:
        assert watched.feed.stop()
        assert beside.feed.stop()
