"""Stand-ins for a loaded network whose lanes do what a test tells them, and nothing by themselves.

They are plugged in where a driver and a decoder would be: what serves the frames is the real code.
"""

import threading
from dataclasses import dataclass, field
from queue import Queue
from types import SimpleNamespace

import numpy as np

from agents.pipeline import STAGES
from agents.streams.base import Frame
from models.geometry import ImageTransform
from models.poses import PoseBuffer
from models.skeletons import COCO17

WAIT_S = 20
"""Longest wait for what must happen; never reached unless a test fails."""
SIZE = (64, 48)


def make_frame(sequence=0, captured=None, render=None) -> Frame:
    """Make a frame that was captured at a time, its sequence number in seconds unless given."""
    at = float(sequence) if captured is None else captured
    black = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    return Frame(sequence, 1_700_000_000.0 + at, at, SIZE, render or (lambda _: black))


@dataclass
class Job:
    """A frame in a lane; whoever plays the accelerator decides how it ends."""

    frame: Frame
    people: int = 1
    poses: np.ndarray | None = None
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def finish(self, people=1, poses=None):
        """Let the lane find so many people, or these ``(person, 17, 3)``."""
        self.people, self.poses = people, poses
        self.done.set()

    def fail(self, error):
        """Let the lane raise."""
        self.error = error
        self.done.set()


class FakeLane:
    """A `PoseLane` that hands its frame to the test and waits for the outcome."""

    skeleton = COCO17

    def __init__(self, jobs: "Queue[Job]", is_automatic: bool) -> None:
        self._jobs = jobs
        self._is_automatic = is_automatic
        self.buffer = PoseBuffer(20, len(COCO17.keypoints))
        self.durations_s = [0.001] * len(STAGES)

    def run(self, frame: Frame) -> ImageTransform:
        frame.pixels("rgb")
        job = Job(frame)
        if not self._is_automatic:
            self._jobs.put(job)
            assert job.done.wait(WAIT_S), "the test never ended this frame"
        if job.error is not None:
            raise job.error
        self.buffer.count = job.people
        if job.poses is not None:
            self.buffer.count = len(job.poses)
            self.buffer.keypoints[: len(job.poses)] = job.poses
        return ImageTransform.fit((frame.width, frame.height), SIZE)


class FakeModel:
    """A `LoadedModel`; ``jobs`` gives what its lanes work on, unless they are automatic."""

    precision = "f32"

    def __init__(self, lanes=1, name="tiny", *, is_automatic=False) -> None:
        self.manifest = SimpleNamespace(name=name)
        self.jobs: Queue[Job] = Queue()
        self.lanes = [FakeLane(self.jobs, is_automatic) for _ in range(lanes)]
        self.closed = 0

    def next_job(self) -> Job:
        """Return the next frame that a lane has taken."""
        return self.jobs.get(timeout=WAIT_S)

    def close(self) -> None:
        self.closed += 1


class GoodDriver:
    """An accelerator driver, as another distribution may offer one."""

    def probe(self):
        return [
            {"kind": "edgetpu", "device": "usb:0", "name": "A stick", "precisions": ("int8",)},
            {"kind": "edgetpu", "device": "usb:1", "name": "A stick", "precisions": ("int8",)},
        ]


class VagueDriver:
    """A driver that forgets the kind of what it finds."""

    def probe(self):
        return [{"device": "x", "name": "x", "precisions": ()}]
