"""`fleet infer`: poses in pictures and videos on this machine, without any fleet.

Frames are spread over the accelerator's lanes and come back in order.
"""

import queue
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from agents.accelerators import load_driver
from agents.accelerators.base import Precision
from agents.errors import StreamError
from agents.pipeline import LoadedModel, PoseLane, load_model
from agents.probe import find_accelerator
from agents.streams import open_stream
from agents.streams.base import Pixels
from agents.streams.images import is_picture, pictures_in, read_picture
from agents.streams.media import open_video
from agents.streams.urls import redact
from agents.wire.messages import AcceleratorInfo
from models.artifacts import Progress
from models.catalog import load_manifest
from models.poses import PoseSet

OPEN_TIMEOUT_S = 10.0
"""A camera that has not answered by then is reported as unreachable."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asked for."""

    source: str
    """Picture, video, folder or stream URL; a bare number is that V4L2 camera."""
    model: str
    device: str | None = None
    """Device or kind; None takes the first accelerator found."""
    precision: Precision | None = None
    """None: f32 where the accelerator has it, since a picture has time; else its fastest."""
    size: tuple[int, int] | None = None
    """Input ``(width, height)`` in pixels; None: the network's own."""
    count: int | None = None
    """Most frames of a video or camera; None: to its end."""


@dataclass(frozen=True, slots=True)
class Result:
    """One picture or frame that went through the network, or could not be read."""

    source: str
    frame: int | None
    """Number of the frame, None for a picture."""
    pixels: Pixels | None
    """RGB; None when it could not be read."""
    poses: PoseSet | None
    infer_ms: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Inference:
    """A loaded network and the pictures to come."""

    model: LoadedModel
    accelerator: AcceleratorInfo
    is_video: bool
    total: int | None
    """How many pictures or frames there will be, where that is known."""
    rate_hz: float
    """Frame rate for a video that is written."""
    results: Iterator[Result]


@dataclass(frozen=True, slots=True)
class _Work:
    source: str
    frame: int | None
    read: Callable[[], Pixels]


@dataclass(frozen=True, slots=True)
class _Input:
    work: Iterable[_Work]
    is_video: bool
    total: int | None
    rate_hz: float
    close: Callable[[], None]


@contextmanager
def infer(request: Request, progress: Progress) -> Iterator[Inference]:
    """Open the source, load the network, and give the results as they come.

    Raises:
        StreamError: the source cannot be used; said before anything is fetched.
        ModelError: the network cannot be had, or does not take the size.
        AcceleratorError: no such device, or it refuses the network.
    """
    with ExitStack() as stack:
        opened = _open(request)
        stack.callback(opened.close)
        accelerator = find_accelerator(request.device)
        device = load_driver(accelerator.driver).open(accelerator.device)
        stack.callback(device.close)
        precision = request.precision or ("f32" if "f32" in accelerator.precisions else None)
        model = load_model(
            device,
            load_manifest(request.model),
            size=request.size,
            precision=precision,
            lanes=1 if opened.total == 1 else None,
            progress=progress,
        )
        stack.callback(model.close)
        results = _in_order(opened.work, model)
        stack.callback(results.close)
        yield Inference(model, accelerator, opened.is_video, opened.total, opened.rate_hz, results)


def _open(request: Request) -> _Input:
    source = f"v4l2:{request.source}" if request.source.isdecimal() else request.source
    path = Path(source).expanduser()
    if path.is_dir():
        return _pictures(pictures_in(path))
    if path.is_file() and is_picture(path):
        return _pictures((path,))
    if path.is_file():
        video = open_video(path, is_paced=False)
        return _video(video, str(path), request.count)
    stream = open_stream(source, first_sequence=0, timeout_s=OPEN_TIMEOUT_S)
    return _video(stream, redact(source), request.count)


def _pictures(paths: tuple[Path, ...]) -> _Input:
    work = [_Work(str(path), None, partial(read_picture, path, "rgb")) for path in paths]
    return _Input(work, is_video=False, total=len(paths), rate_hz=1.0, close=lambda: None)


def _video(stream: Any, name: str, count: int | None) -> _Input:
    def frames() -> Iterator[_Work]:
        number = 0
        while (count is None or number < count) and (frame := stream.read()) is not None:
            yield _Work(name, number, partial(frame.pixels, "rgb"))
            number += 1

    rate_hz = float(getattr(stream, "rate_hz", 25.0))
    total = count or getattr(stream, "frame_count", None)
    return _Input(frames(), is_video=True, total=total, rate_hz=rate_hz, close=stream.close)


def _in_order(work: Iterable[_Work], model: LoadedModel) -> Generator[Result, None, None]:
    """Run work on all lanes; at most one more piece than lanes is held in memory."""
    free: queue.SimpleQueue[PoseLane] = queue.SimpleQueue()
    for lane in model.lanes:
        free.put(lane)
    with ThreadPoolExecutor(len(model.lanes), thread_name_prefix="fleet-infer") as pool:
        pending: deque[Future[Result]] = deque()
        for piece in work:
            pending.append(pool.submit(_run, piece, free))
            if len(pending) > len(model.lanes):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _run(piece: _Work, free: "queue.SimpleQueue[PoseLane]") -> Result:
    try:
        pixels = piece.read()
    except StreamError as error:
        return Result(piece.source, piece.frame, None, None, error=str(error))
    lane = free.get()
    try:
        transform = lane.run_pixels(pixels)
        infer_ms = lane.infer_s * 1000
        return Result(piece.source, piece.frame, pixels, lane.poses(transform), infer_ms)
    finally:
        free.put(lane)
