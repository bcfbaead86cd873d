"""A `ModelServer` over fake lanes, with a sink in memory."""

import threading

from builders import make_assignment, make_stream
from fakes import WAIT_S, FakeModel, make_frame

from agents.serving import ModelServer, StreamRun
from agents.telemetry.memory_sink import MemorySink
from agents.wire.poses import decode


class Bench:
    """A server over fake lanes; it counts what is published as the runner does."""

    def __init__(self, lanes=1):
        self.model = FakeModel(lanes)
        self.sink = MemorySink(on_published=self.published, clock=lambda: 0.0)
        self.lost = []
        self.changed = threading.Condition()
        self.runs = {}
        self.server = ModelServer(self.model, self.sink, "pi/cpu:CPU", self.lost.append)

    def stream(self, name="door", **fields):
        assignment = make_assignment(stream=make_stream(id=name, **fields))
        self.runs[name] = StreamRun(assignment)
        return self.runs[name]

    def offer(self, run, *sequences):
        for sequence in sequences:
            self.server.offer(run, make_frame(sequence))

    def published(self, stream, latency_s):
        run = self.runs[stream]
        with self.server.locked():
            run.ledger.published += 1
        with self.changed:
            self.changed.notify_all()

    def wait_published(self, run, count):
        with self.changed:
            assert self.changed.wait_for(lambda: run.ledger.published >= count, WAIT_S)

    def wait_until(self, predicate):
        """For what no lane announces: a failed frame, an empty lane."""
        with self.changed:
            for _ in range(WAIT_S * 500):
                if predicate():
                    return
                self.changed.wait(0.002)
        raise AssertionError("it never happened")

    def reports(self, name="door"):
        return [decode(sent.payload) for sent in self.sink.poses() if sent.stream == name]

    def close(self):
        for run in self.runs.values():
            self.server.forget(run)
        while not self.model.jobs.empty():
            self.model.jobs.get().finish()
        self.server.close(WAIT_S)
