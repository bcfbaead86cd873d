"""ModelServer under any schedule: frames are accounted for, reports are in order without holes."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from serving_bench import Bench

from models.errors import DecodeError

STREAMS = ("a", "b", "c")


class Schedules(RuleBasedStateMachine):
    """Any order of offers, endings and failures, against a plain model of where each frame is."""

    @initialize(lanes=st.integers(1, 4))
    def begin(self, lanes):
        self.bench = Bench(lanes)
        self.idle = lanes
        self.jobs = []
        self.next_sequence = 0
        self.line = deque()
        self.waiting = {}
        self.captured, self.dropped = dict.fromkeys(STREAMS, 0), dict.fromkeys(STREAMS, 0)
        self.order = {name: [] for name in STREAMS}  # [sequence, outcome or None] of what is taken
        self.published = {name: [] for name in STREAMS}
        for name in STREAMS:
            self.bench.stream(name)

    @rule(name=st.sampled_from(STREAMS), count=st.integers(1, 4))
    def offer(self, name, count):
        for _ in range(count):
            self.captured[name] += 1
            if name in self.waiting:
                self.dropped[name] += 1
            else:
                self.line.append(name)
            self.waiting[name] = self.next_sequence
            self.bench.offer(self.bench.runs[name], self.next_sequence)
            self.next_sequence += 1
            self.take()

    def take(self):
        """A free lane takes the stream that has waited longest."""
        while self.idle and self.line:
            name = self.line.popleft()
            place = [self.waiting.pop(name), None]
            self.order[name].append(place)
            job = self.bench.model.next_job()
            assert job.frame.sequence == place[0]
            self.jobs.append((job, name, place))
            self.idle -= 1

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), is_good=st.sampled_from([True, True, True, False]))
    def end(self, data, is_good):
        job, name, place = self.jobs.pop(data.draw(st.integers(0, len(self.jobs) - 1)))
        place[1] = is_good
        self.dropped[name] += not is_good
        order = self.order[name]
        while order and order[0][1] is not None:
            sequence, is_published = order.pop(0)
            self.published[name] += [sequence] if is_published else []
        job.finish() if is_good else job.fail(DecodeError("shapes"))
        self.idle += 1
        self.bench.wait_until(self.is_settled)
        self.take()

    def is_settled(self):
        return all(
            (run.ledger.published, run.ledger.dropped.total())
            == (len(self.published[name]), self.dropped[name])
            for name, run in self.bench.runs.items()
        )

    @rule(name=st.sampled_from(STREAMS))
    def forget(self, name):
        if name in self.waiting:
            del self.waiting[name]
            self.line.remove(name)
            self.dropped[name] += 1
        self.bench.server.forget(self.bench.runs[name])

    @invariant()
    def every_frame_is_accounted_for(self):
        for name, run in self.bench.runs.items():
            taken = sum(outcome is not False for _, outcome in self.order[name])
            held = (name in self.waiting) + taken
            ledger = run.ledger
            assert ledger.captured == self.captured[name]
            assert ledger.published == len(self.published[name])
            assert ledger.dropped.total() == self.dropped[name]
            assert ledger.in_flight == held
            assert 0 <= ledger.unsettled <= held

    @invariant()
    def reports_are_in_order_and_their_index_has_no_hole(self):
        for name in self.bench.runs:
            reports = self.bench.reports(name)
            assert [one.sequence for one in reports] == self.published[name]
            assert [one.index for one in reports] == list(range(len(reports)))

    def teardown(self):
        if hasattr(self, "bench"):
            for job, _, _ in self.jobs:
                job.finish()
            self.bench.close()


Schedules.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSchedules = Schedules.TestCase
