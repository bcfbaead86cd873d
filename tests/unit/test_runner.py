"""Runner: follows its order stream by stream, reports, survives what fails, leaves nothing."""

import threading

import pytest
from builders import make_accelerator, make_assignment, make_stream
from fakes import WAIT_S, FakeModel
from pose_reports import make_advert

from agents.errors import AcceleratorError, AcceleratorLost
from agents.runner import Runner, RunnerPorts
from agents.telemetry.memory_sink import MemorySink
from agents.wire.poses import decode
from models.errors import ManifestError

FAST = "synthetic:?people=1&size=64x48&fps=200"


class WatchedSink(MemorySink):
    """Wakes whoever waits for a report."""

    def __init__(self, on_published):
        super().__init__(on_published=on_published)
        self.reported = threading.Condition()

    def publish_throughput(self, report):
        super().publish_throughput(report)
        with self.reported:
            self.reported.notify_all()


class Bench:
    """A runner whose networks are fakes; ``networks``: name -> model, or errors to raise first."""

    def __init__(self, networks=None, *, tells_published=True):
        self.networks = {"tiny": FakeModel(2, is_automatic=True)} | (networks or {})
        self.loads = []
        self.sink = WatchedSink(self.published if tells_published else None)
        self.runner = Runner(
            RunnerPorts(
                make_accelerator(), make_advert(), self.load, self.sink, pid=4242,
                report_period_s=0.01, retry_load_s=0.01,
            )
        )  # fmt: skip

    def load(self, name):
        self.loads.append(name)
        found = self.networks[name]
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found()
        if isinstance(found, Exception):
            raise found
        return found

    def published(self, stream, latency_s):
        self.runner.published(stream, latency_s)

    def order(self, *streams, epoch=1):
        self.runner.order([make_assignment(stream=stream, epoch=epoch) for stream in streams])

    def wait_for(self, predicate):
        """Wait for a throughput report of which this holds, and return it."""

        def found():
            reports = self.sink.throughput()
            return reports and predicate(reports[-1]) and reports[-1]

        with self.sink.reported:
            report = self.sink.reported.wait_for(found, WAIT_S)
        assert report, f"never reported; last: {self.sink.throughput()[-1:]}"
        return report

    def wait_stream(self, name, predicate):
        """Wait until the report of a stream fulfills this, and return that."""
        report = self.wait_for(lambda r: any(predicate(s) for s in r.streams if s.stream == name))
        return next(one for one in report.streams if one.stream == name)

    def reports(self, name):
        return [decode(sent.payload) for sent in self.sink.poses() if sent.stream == name]


@pytest.fixture
def bench():
    made = []

    def make(*args, **options):
        made.append(Bench(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.runner.stop(WAIT_S)


def stream(name="door", **fields):
    return make_stream(**{"id": name, "url": FAST, "model": "tiny", **fields})


def test_an_order_starts_a_stream_and_its_poses_arrive(bench):
    desk = bench()
    desk.order(stream())
    report = desk.wait_stream("door", lambda one: one.published > 20)
    assert (report.state, report.error, report.model) == ("streaming", "", "tiny")
    assert report.captured == report.published + sum(report.dropped.values()) + report.in_flight
    poses = desk.reports("door")
    assert [one.index for one in poses] == list(range(len(poses)))
    assert desk.loads == ["tiny"]


def test_the_report_says_what_happened_in_its_window(bench):
    desk = bench()
    desk.order(stream())
    report = desk.wait_stream("door", lambda one: one.latency_ms is not None)
    p50, p95, p99 = report.latency_ms
    assert 0 < p50 <= p95 <= p99
    assert report.people == 1.0
    assert report.fps_out > 0
    assert report.durations_ms["infer"] == pytest.approx(1.0)
    assert desk.wait_for(lambda r: r.streams).precision == "f32"


def test_the_same_order_again_changes_nothing(bench):
    desk = bench()
    desk.order(stream())
    desk.wait_stream("door", lambda one: one.published > 5)
    serving = desk.runner._serving["door"]
    desk.order(stream())
    before = desk.wait_stream("door", lambda one: one.published > 5).published
    desk.wait_stream("door", lambda one: one.published > before + 5)
    assert desk.runner._serving["door"] is serving
    assert desk.loads == ["tiny"]


@pytest.mark.parametrize("change", [{"fps": 5.0}, {"url": FAST + "&seed=2"}, {"epoch": 2}])
def test_a_changed_assignment_restarts_only_its_stream(bench, change):
    desk = bench()
    desk.order(stream("door"), stream("yard"))
    desk.wait_stream("yard", lambda one: one.published > 5)
    desk.wait_stream("door", lambda one: one.published > 5)
    door, yard = desk.runner._serving["door"], desk.runner._serving["yard"]
    epoch = change.pop("epoch", 1)
    desk.runner.order(
        [make_assignment(stream=stream("door", **change), epoch=epoch),
         make_assignment(stream=stream("yard"))]
    )  # fmt: skip
    desk.wait_for(lambda _: desk.runner._serving.get("door") not in (None, door))
    desk.wait_stream("door", lambda one: one.published > 0)
    assert desk.runner._serving["yard"] is yard
    assert door.feed.stop()
    assert desk.loads == ["tiny"]


def test_a_stream_that_is_no_longer_ordered_ends(bench):
    desk = bench()
    desk.order(stream("door"), stream("yard"))
    desk.wait_stream("yard", lambda one: one.published > 0)
    desk.order(stream("door"))
    report = desk.wait_for(lambda r: [one.stream for one in r.streams] == ["door"])
    assert report.streams[0].state == "streaming"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ManifestError("no model is named 'tinny'", hint="did you mean tiny?"),
         "no model is named 'tinny' (did you mean tiny?)"),
        (AcceleratorError("not enough memory"), "not enough memory"),
        (RuntimeError("a bug"), "RuntimeError: a bug"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_load_fails_its_stream_only_and_is_tried_again(bench, error, said):
    late = FakeModel(is_automatic=True)
    asked = threading.Event()
    desk = bench({"tinny": [error, error, lambda: late if asked.is_set() else error]})
    desk.order(stream("bad", model="tinny"), stream("good"))
    report = desk.wait_stream("bad", lambda one: one.state == "failed")
    assert report.error == said
    assert (report.captured, report.published, report.latency_ms) == (0, 0, None)
    desk.wait_stream("good", lambda one: one.published > 5)
    asked.set()
    assert desk.wait_stream("bad", lambda one: one.published > 0).error == ""


def test_a_stream_that_cannot_be_opened_says_so_while_others_go_on(bench):
    desk = bench()
    desk.order(stream("bad", url="/no/such/file.mp4"), stream("good"))
    report = desk.wait_stream("bad", lambda one: one.state == "failed")
    assert "no such file" in report.error
    desk.wait_stream("good", lambda one: one.published > 5)


def test_a_recording_ends_with_every_frame_accounted_for(bench):
    desk = bench()
    desk.order(stream(url=FAST + "&frames=7"))
    report = desk.wait_stream("door", lambda one: one.state == "ended" and not one.in_flight)
    assert report.captured == 7 == report.published + report.dropped.get("replaced", 0)


def test_a_network_that_no_stream_uses_is_unloaded(bench):
    desk = bench({"other": FakeModel(is_automatic=True)})
    desk.order(stream(), stream("yard", model="other"))
    desk.wait_stream("yard", lambda one: one.published > 0)
    desk.order(stream())
    desk.wait_for(lambda _: desk.networks["other"].closed)
    desk.order()
    desk.wait_for(lambda _: desk.networks["tiny"].closed)
    desk.order(stream())
    desk.wait_stream("door", lambda one: one.published > 0)
    assert desk.loads.count("tiny") == 2


def test_the_node_gives_signs_of_life_without_any_order(bench):
    desk = bench()
    report = desk.wait_for(lambda _: True)
    assert (report.accelerator, report.streams, report.precision) == ("pi/cpu:CPU", (), "")
    heartbeat = desk.sink.heartbeats()["pi/cpu:CPU"]
    assert (heartbeat.node, heartbeat.pid, heartbeat.state) == ("pi", 4242, "ready")
    assert desk.sink.adverts() == (make_advert(),)


def test_an_advert_that_cannot_be_sent_does_not_silence_the_heartbeat(bench, caplog):
    class Broken(WatchedSink):
        def publish_advert(self, advert):
            raise RuntimeError("no room")

    desk = bench()
    desk.sink.__class__ = Broken
    count = len(desk.sink.throughput())
    desk.wait_for(lambda _: len(desk.sink.throughput()) > count + 6)
    assert "could not report" in caplog.text


def test_a_lost_accelerator_shows_in_the_heartbeat(bench):
    model = FakeModel()
    desk = bench({"tiny": model})
    desk.order(stream())
    model.next_job().fail(AcceleratorLost("unplugged"))
    desk.wait_for(lambda _: desk.sink.heartbeats()["pi/cpu:CPU"].state == "failed")
    assert desk.sink.heartbeats()["pi/cpu:CPU"].error == "unplugged"
    report = desk.wait_stream("door", lambda one: one.dropped.get("accelerator_lost", 0) > 5)
    assert report.in_flight == 0


class TestAccounting:
    @pytest.fixture
    def desk(self, bench):
        """Two reports handed to a sink that has said nothing of them."""
        desk = bench(tells_published=False)
        desk.order(stream(url=FAST + "&frames=1"), stream("yard", url=FAST + "&frames=2&fps=20"))
        desk.wait_for(lambda _: len(desk.reports("door")) == 1 and len(desk.reports("yard")) == 2)
        return desk

    def test_a_report_is_in_flight_until_the_sink_speaks(self, desk):
        assert desk.wait_stream("yard", lambda one: one.state == "ended").in_flight == 2
        desk.runner.published("yard", 0.25)
        report = desk.wait_stream("yard", lambda one: one.published == 1)
        assert (report.in_flight, report.latency_ms) == (1, (250.0, 250.0, 250.0))
        desk.runner.unpublishable("yard")
        report = desk.wait_stream("yard", lambda one: one.in_flight == 0)
        assert report.dropped == {"redis_away": 1}

    def test_what_comes_late_of_an_earlier_assignment_is_not_counted_for_the_new_one(self, desk):
        for _ in range(3):
            desk.runner.published("door", 0.25)
            desk.runner.unpublishable("yard")
            desk.runner.unpublishable("yard")
        report = desk.wait_stream("door", lambda one: one.published == 1)
        assert (report.in_flight, report.dropped) == (0, {})
        report = desk.wait_stream("yard", lambda one: one.dropped)
        assert (report.in_flight, report.dropped) == (0, {"redis_away": 2})

    def test_a_stream_that_nobody_serves_is_nobodys_business(self, desk):
        desk.runner.published("attic", 0.25)
        desk.runner.unpublishable("attic")
        assert {one.stream for one in desk.wait_for(lambda _: True).streams} == {"door", "yard"}


class TestStop:
    def test_stop_ends_streams_and_networks(self, bench):
        desk = bench()
        desk.order(stream("door"), stream("yard"))
        desk.wait_stream("yard", lambda one: one.published > 0)
        feeds = [serving.feed for serving in desk.runner._serving.values()]
        desk.runner.stop(WAIT_S)
        assert not any(feed._thread.is_alive() for feed in feeds)
        assert desk.networks["tiny"].closed == 1
        desk.runner.stop(WAIT_S)
        assert desk.networks["tiny"].closed == 1

    def test_a_loading_that_hangs_does_not_hold_stop_up_and_ends_clean(self, bench, caplog):
        entered, release = threading.Event(), threading.Event()
        model = FakeModel(is_automatic=True)

        def slow():
            entered.set()
            assert release.wait(WAIT_S)
            return model

        desk = bench({"tiny": slow})
        desk.order(stream())
        assert entered.wait(WAIT_S)
        desk.runner.stop(0.01)
        assert "hangs" in caplog.text
        release.set()
        for thread in desk.runner._threads:
            thread.join(WAIT_S)
        assert model.closed == 1
        assert desk.reports("door") == []
