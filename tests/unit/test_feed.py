"""Feed: reconnects with back-off, counts gaps, keeps the sequence, ends when told."""

import random
import threading
from itertools import count
from queue import Queue

import numpy as np
import pytest

from agents.errors import StreamError, StreamRefused
from agents.streams.base import Frame
from agents.streams.feed import Feed, FeedSettings, backoff

WAIT_S = 10


class Scripted:
    """A source that plays a script: 'frame', 'end', 'hang' or an error to raise."""

    is_live = True
    clock = count()

    def __init__(self, script, first_sequence):
        self.script = iter(script)
        self.sequence = count(first_sequence)
        self.closed = threading.Event()

    def read(self):
        step = next(self.script)
        if isinstance(step, Exception):
            raise step
        if step == "hang":
            assert self.closed.wait(WAIT_S)
            return None
        if step == "end":
            return None
        now = float(next(self.clock))
        return Frame(next(self.sequence), now, now, (1, 1), lambda _: np.zeros((1, 1, 3), np.uint8))

    def close(self):
        self.closed.set()


class Bench:
    """A feed over scripted openings; what it says can be waited for."""

    def __init__(self, *openings, url="scripted:", **settings):
        self.openings = iter(openings)
        self.sources = []
        self.frames = Queue()
        self.changes = Queue()
        patience = {"first_delay_s": 0.001, "longest_delay_s": 0.01, "refused_delay_s": 0.001}
        self.feed = Feed(
            url,
            self.frames.put,
            self.changes.put,
            FeedSettings(opener=self.open, **(patience | settings)),
        )

    def open(self, url, first_sequence, timeout_s):
        script = next(self.openings)
        if isinstance(script, Exception):
            raise script
        self.sources.append(Scripted(script, first_sequence))
        return self.sources[-1]

    def wait_for(self, state):
        while (health := self.changes.get(timeout=WAIT_S)).state != state:
            pass
        return health


@pytest.fixture
def bench():
    made = []

    def make(*openings, **settings):
        made.append(Bench(*openings, **settings))
        made[-1].feed.start()
        return made[-1]

    yield make
    assert all(each.feed.stop() for each in made)


def test_a_recording_plays_to_its_end(bench):
    run = bench(["frame", "frame", "end"])
    assert run.wait_for("streaming").error == ""
    health = run.wait_for("ended")
    assert [run.frames.get_nowait().sequence for _ in range(2)] == [0, 1]
    assert (health.captured, health.gaps, health.error) == (2, 0, "")
    assert run.sources[0].closed.is_set()


def test_a_lost_stream_comes_back_with_its_sequence_and_a_gap(bench):
    run = bench(["frame", "frame", StreamError("cut")], StreamError("still off"), ["frame", "hang"])
    assert run.wait_for("reconnecting").error == "cut"
    assert run.wait_for("reconnecting").error == "still off"
    health = run.wait_for("streaming")
    assert (health.gaps, health.last_gap_s, health.error) == (1, 1.0, "")
    frames = [run.frames.get(timeout=WAIT_S) for _ in range(3)]
    assert [frame.sequence for frame in frames] == [0, 1, 2]
    assert all(source.closed.is_set() for source in run.sources[:-1])


def test_a_stream_that_was_never_there_is_connecting_and_has_no_gap(bench):
    run = bench(StreamError("off", hint="switch it on"), ["frame", "hang"])
    assert run.wait_for("connecting").error == "off (switch it on)"
    assert run.wait_for("streaming").gaps == 0


def test_a_refused_stream_has_failed_and_is_tried_again(bench):
    run = bench(StreamRefused("no such file"), StreamRefused("no such file"), ["frame", "hang"])
    assert run.wait_for("failed").error == "no such file"
    assert run.wait_for("streaming").error == ""


def test_the_same_failure_is_told_once(bench):
    run = bench(*[StreamError("off")] * 5, ["frame", "hang"])
    assert run.changes.get(timeout=WAIT_S).state == "connecting"
    assert run.changes.get(timeout=WAIT_S).state == "streaming"


def test_a_bug_in_a_source_or_receiver_fails_that_stream_only(bench):
    healthy = bench(["frame", "hang"])
    run = bench([ValueError("bug")], ["frame", "hang"])
    assert run.wait_for("failed").error == "ValueError: bug"
    run.wait_for("streaming")
    healthy.wait_for("streaming")
    assert healthy.feed.health().state == "streaming"


def test_credentials_are_hidden_whatever_an_opener_says(bench, caplog):
    url = "rtsp://admin:s3cret@camera/live"
    run = bench(StreamError(f"cannot reach {url}"), ["hang"], url=url)
    assert run.wait_for("connecting").error == "cannot reach rtsp://***@camera/live"
    assert "s3cret" not in caplog.text + repr(run.feed.health()) + run.feed._thread.name


def test_stop_ends_a_read_that_waits(bench):
    run = bench(["frame", "hang"])
    run.wait_for("streaming")
    assert run.feed.stop()
    assert run.feed.stop()
    assert run.sources[0].closed.is_set()
    assert run.feed.health().state == "streaming"


def test_stop_ends_the_pause_before_a_reconnect(bench):
    run = bench(StreamRefused("no"), refused_delay_s=3600.0)
    run.wait_for("failed")
    assert run.feed.stop()


def test_a_feed_that_was_never_started_can_be_stopped():
    assert Feed("scripted:", print).stop()


def test_a_native_call_that_hangs_is_abandoned_and_said(caplog):
    entered, release = threading.Event(), threading.Event()

    def hang(url, first_sequence, timeout_s):
        entered.set()
        assert release.wait(WAIT_S)
        return Scripted(["frame"], first_sequence)

    frames = Queue()
    feed = Feed("slow:", frames.put, settings=FeedSettings(opener=hang, stop_s=0.01))
    feed.start()
    assert entered.wait(WAIT_S)
    assert not feed.stop()
    assert "abandoned" in caplog.text
    release.set()
    feed._thread.join(WAIT_S)
    assert not feed._thread.is_alive()
    assert frames.empty()


def test_backoff_doubles_to_a_cap():
    settings = FeedSettings()
    bounds = [backoff(attempt, settings, 1.0) for attempt in range(1, 8)]
    assert bounds == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff(10_000, settings, 1.0) == 10.0


def test_backoff_is_jittered_over_the_whole_pause():
    rng = random.Random(1)
    pauses = [backoff(4, FeedSettings(), rng.random()) for _ in range(1000)]
    assert all(0 <= pause <= 4 for pause in pauses)
    assert min(pauses) < 0.1
    assert max(pauses) > 3.9
    assert sum(pauses) / 1000 == pytest.approx(2.0, abs=0.15)
