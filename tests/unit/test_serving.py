"""ModelServer: newest frame wins, nobody starves, order holds, and every frame is counted."""

import threading

import numpy as np
import pytest
from fakes import WAIT_S, make_frame
from serving_bench import Bench

from agents.errors import AcceleratorLost
from agents.streams.synthetic import Scene
from models.errors import DecodeError


@pytest.fixture
def bench():
    made = []

    def make(**options):
        made.append(Bench(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


class TestFrames:
    def test_the_newest_frame_wins_and_replaced_ones_are_counted(self, bench):
        run = (desk := bench()).stream()
        desk.offer(run, 0)
        first = desk.model.next_job()
        desk.offer(run, 1, 2, 3, 4)
        first.finish()
        second = desk.model.next_job()
        assert second.frame.sequence == 4
        assert dict(run.ledger.dropped) == {"replaced": 3}
        second.finish(people=2)
        desk.wait_published(run, 2)
        assert [(one.sequence, len(one.poses)) for one in desk.reports()] == [(0, 1), (4, 2)]
        assert (run.ledger.captured, run.ledger.in_flight) == (5, 0)

    def test_reports_leave_in_capture_order_although_lanes_finish_in_another(self, bench):
        run = (desk := bench(lanes=3)).stream()
        jobs = []
        for sequence in range(3):
            desk.offer(run, sequence)
            jobs.append(desk.model.next_job())
        jobs[2].finish()
        jobs[1].finish()
        desk.wait_until(lambda: run.window.processed == 2)
        assert desk.reports() == []
        jobs[0].finish()
        desk.wait_published(run, 3)
        assert [(one.sequence, one.index) for one in desk.reports()] == [(0, 0), (1, 1), (2, 2)]

    def test_the_index_has_no_hole_where_a_frame_failed(self, bench):
        run = (desk := bench(lanes=3)).stream()
        jobs = []
        for sequence in range(3):
            desk.offer(run, sequence)
            jobs.append(desk.model.next_job())
        jobs[2].finish()
        jobs[0].finish()
        jobs[1].fail(DecodeError("shapes"))
        desk.wait_published(run, 2)
        assert [(one.sequence, one.index) for one in desk.reports()] == [(0, 0), (2, 1)]

    def test_a_report_says_where_when_and_how_long(self, bench):
        run = (desk := bench()).stream()
        desk.offer(run, 7)
        desk.model.next_job().finish()
        desk.wait_published(run, 1)
        report = desk.reports()[0]
        assert (report.epoch, report.accelerator, report.model) == (1, "pi/cpu:CPU", "tiny")
        assert report.captured_at == 1_700_000_007.0
        assert report.durations["infer"] == pytest.approx(1.0)
        assert report.durations["encode"] > 0
        assert run.window.mean_durations_ms().keys() == report.durations.keys()

    def test_a_stream_with_a_hundred_times_the_frames_starves_nobody(self, bench):
        desk = bench()
        greedy, modest = desk.stream("greedy"), desk.stream("modest")
        desk.offer(greedy, 0)
        taken, sequence = [], 1
        for turn in range(20):
            job = desk.model.next_job()
            desk.offer(greedy, *range(sequence, sequence + 100))
            desk.offer(modest, turn)
            sequence += 100
            taken.append(job.frame.sequence)
            job.finish()
        desk.wait_until(lambda: modest.ledger.published + greedy.ledger.published == 20)
        assert modest.ledger.published >= 9
        assert greedy.ledger.published >= 9

    def test_frames_above_the_rate_are_counted_apart(self, bench):
        run = (desk := bench()).stream(fps=10.0)
        for number in range(30):
            desk.server.offer(run, make_frame(number, captured=number / 30))
            if run.slot:
                desk.wait_until(lambda: not run.slot)
                desk.model.next_job().finish()
        assert run.ledger.dropped["fps_limit"] == 20
        desk.wait_published(run, 10)
        assert [one.sequence for one in desk.reports()] == list(range(0, 30, 3))


class TestTracks:
    POSES = Scene(people=3, size=(64, 48), seed=2).poses_at(0)

    def test_ids_follow_the_order_of_capture_although_lanes_finish_in_another(self, bench):
        run = (desk := bench(lanes=3)).stream()
        jobs = []
        for sequence in range(3):
            desk.offer(run, sequence)
            jobs.append(desk.model.next_job())
        jobs[2].finish(poses=self.POSES[[2, 1, 0]])
        jobs[1].finish(poses=self.POSES[[0, 1]])
        desk.wait_until(lambda: run.window.processed == 2)
        jobs[0].finish(poses=self.POSES[[1]])
        desk.wait_published(run, 3)
        tracks = [one.poses.track_ids.tolist() for one in desk.reports()]
        assert tracks == [[1], [2, 1], [3, 1, 2]]
        for report in desk.reports():
            assert report.durations["track"] > 0

    def test_every_stream_counts_its_own_people(self, bench):
        desk = bench()
        for name in ("door", "hall"):
            run = desk.stream(name)
            desk.offer(run, 0)
            desk.model.next_job().finish(poses=self.POSES)
            desk.wait_published(run, 1)
            assert desk.reports(name)[0].poses.track_ids.tolist() == [1, 2, 3]

    def test_a_new_epoch_counts_anew_and_a_failed_frame_changes_nothing(self, bench):
        desk = bench()
        for _ in range(2):
            run = desk.stream()
            for sequence in range(3):
                desk.offer(run, sequence)
                job = desk.model.next_job()
                job.fail(DecodeError("shapes")) if sequence == 1 else job.finish(poses=self.POSES)
                desk.wait_until(lambda run=run: run.ledger.in_flight == 0)
        assert [one.poses.track_ids.tolist() for one in desk.reports()] == [[1, 2, 3]] * 4

    def test_a_stream_may_do_without(self, bench):
        run = (desk := bench()).stream(track=False)
        desk.offer(run, 0)
        desk.model.next_job().finish(poses=self.POSES)
        desk.wait_published(run, 1)
        (report,) = desk.reports()
        assert [pose.track_id for pose in report.poses] == [None, None, None]
        assert report.durations["track"] == 0
        assert run.window.mean_durations_ms()["track"] == 0


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "said"),
        [(ValueError("odd frame"), "ValueError: odd frame"), (DecodeError("shapes"), "shapes")],
    )
    def test_a_frame_that_fails_is_counted_and_the_others_go_on(self, bench, caplog, error, said):
        desk = bench()
        bad, good = desk.stream("bad"), desk.stream("good")
        desk.offer(bad, 0)
        desk.model.next_job().fail(error)
        desk.offer(good, 0)
        desk.model.next_job().finish()
        desk.wait_published(good, 1)
        desk.offer(bad, 1)
        desk.model.next_job().finish()
        desk.wait_published(bad, 1)
        assert dict(bad.ledger.dropped) == {"failed": 1}
        assert bad.window.error == said
        assert good.window.error == ""
        assert "stream bad: a frame failed" in caplog.text

    def test_the_error_of_a_frame_belongs_to_its_window(self, bench):
        run = (desk := bench()).stream()
        desk.offer(run, 0)
        desk.model.next_job().fail(DecodeError("shapes"))
        desk.wait_until(lambda: run.window.error)
        with desk.server.locked():
            assert run.start_window().error == "shapes"
        assert run.window.error == ""

    def test_a_frame_whose_pixels_cannot_be_made_is_counted(self, bench):
        def broken(color):
            raise OSError("damaged packet")

        run = (desk := bench()).stream()
        desk.server.offer(run, make_frame(0, render=broken))
        desk.wait_until(lambda: run.ledger.dropped["failed"] == 1)
        desk.offer(run, 1)
        desk.model.next_job().finish()
        desk.wait_published(run, 1)
        assert run.ledger.in_flight == 0

    def test_more_people_than_a_report_holds_is_a_failed_frame_not_a_dead_lane(self, bench):
        run = (desk := bench()).stream()
        desk.offer(run, 0)
        desk.model.next_job().finish(people=21)
        desk.wait_until(lambda: run.ledger.dropped["failed"] == 1)
        desk.offer(run, 1)
        desk.model.next_job().finish()
        desk.wait_published(run, 1)

    def test_a_lost_accelerator_is_told_once_and_frees_every_frame(self, bench):
        desk = bench(lanes=2)
        runs = [desk.stream(name) for name in ("a", "b", "c")]
        for run in runs:
            desk.offer(run, 0)
        jobs = [desk.model.next_job() for _ in range(2)]
        lost = AcceleratorLost("unplugged")
        for job in jobs:
            job.fail(lost)
        for thread in desk.server._threads:
            thread.join(WAIT_S)
        assert desk.lost == [lost]
        desk.offer(runs[0], 1, 2)
        assert [dict(run.ledger.dropped) for run in runs] == [
            {"accelerator_lost": 3}, {"accelerator_lost": 1}, {"accelerator_lost": 1},
        ]  # fmt: skip
        assert [run.ledger.in_flight for run in runs] == [0, 0, 0]
        assert not any(run.slot for run in runs)
        desk.server.close(WAIT_S)
        assert desk.model.closed == 1


class TestEnds:
    def test_a_stream_that_is_forgotten_loses_its_waiting_frame_and_nobody_else_does(self, bench):
        desk = bench()
        gone, stays = desk.stream("gone"), desk.stream("stays")
        desk.offer(stays, 0)
        busy = desk.model.next_job()
        desk.offer(gone, 0)
        desk.offer(stays, 1)
        desk.server.forget(gone)
        desk.server.forget(gone)
        assert dict(gone.ledger.dropped) == {"released": 1}
        assert gone.ledger.in_flight == 0
        busy.finish()
        desk.model.next_job().finish()
        desk.wait_published(stays, 2)
        desk.offer(gone, 1)  # its slot is free again
        desk.model.next_job().finish()
        desk.wait_published(gone, 1)

    def test_close_finishes_what_is_in_a_lane_and_drops_what_waits(self, bench):
        run = (desk := bench(lanes=1)).stream()
        desk.offer(run, 0)
        job = desk.model.next_job()
        desk.offer(run, 1)
        closer = threading.Thread(target=desk.server.close, args=(WAIT_S,))
        closer.start()
        desk.wait_until(lambda: run.ledger.dropped["released"] == 1)
        assert desk.model.closed == 0
        job.finish()
        closer.join(WAIT_S)
        assert desk.model.closed == 1
        assert [one.sequence for one in desk.reports()] == [0]
        desk.offer(run, 2)
        assert dict(run.ledger.dropped) == {"released": 2}
        assert run.ledger.in_flight == 0

    def test_a_lane_that_hangs_is_said_and_its_network_left_alone(self, bench, caplog):
        desk = bench(lanes=3)
        run = desk.stream()
        jobs = []
        for sequence in range(3):
            desk.offer(run, sequence)
            jobs.append(desk.model.next_job())
        desk.server.close(0.01)
        assert "hangs" in caplog.text
        assert desk.model.closed == 0
        for job in jobs:
            job.finish()


def test_many_threads_at_once_lose_no_frame(bench):
    """The same without a script: streams and lanes race."""
    desk = bench(lanes=4)
    runs = [desk.stream(f"s{number}") for number in range(6)]
    over = threading.Event()

    def play():
        while not over.is_set() or not desk.model.jobs.empty():
            try:
                desk.model.jobs.get(timeout=0.005).finish()
            except Exception:  # noqa: BLE001 - queue.Empty
                continue

    player = threading.Thread(target=play)
    player.start()
    feeds = [threading.Thread(target=lambda run=run: desk.offer(run, *range(500))) for run in runs]
    for feed in feeds:
        feed.start()
    for feed in feeds:
        feed.join(WAIT_S)
    desk.wait_until(lambda: all(run.ledger.in_flight == 0 for run in runs))
    over.set()
    player.join(WAIT_S)
    for run in runs:
        reports = desk.reports(run.assignment.stream.id)
        assert run.ledger.captured == 500
        assert len(reports) == run.ledger.published == run.ledger.sent
        assert np.all(np.diff([one.sequence for one in reports]) > 0)
        assert [one.index for one in reports] == list(range(len(reports)))
