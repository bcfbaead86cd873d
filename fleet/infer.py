"""`fleet infer`: poses in pictures and videos on this machine, without any fleet.

Frames are spread over the accelerator's lanes and come back in order.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from agents.accelerators import load_driver
from agents.accelerators.base import Precision
from agents.errors import StreamError
from agents.pipeline import LoadedModel, PoseLane, load_model
from agents.probe import find_accelerator
from agents.streams import open_stream
from agents.streams.base import Pixels, StreamSource
from agents.streams.files import PICTURE_OPTIONS, VIDEO_OPTIONS
from agents.streams.images import is_picture, pictures_in, read_picture
from agents.streams.media import MediaSource, open_video
from agents.streams.synthetic import SyntheticSource
from agents.streams.urls import LocalUrl, redact, scheme_of
from agents.wire.messages import AcceleratorInfo
from fleet.lanes import in_order
from models.artifacts import Progress
from models.catalog import load_manifest
from models.poses import PoseSet
from models.tracking import PoseTracker

OPEN_TIMEOUT_S = 10.0
"""A camera that has not answered by then is reported as unreachable."""
CAMERA_RATE_HZ = 25.0
"""What a video that is written claims of a camera; its frames are shown when they were captured."""


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
    track: bool = True
    """Give every person of a video or camera an id that it keeps from frame to frame."""


@dataclass(frozen=True, slots=True)
class Result:
    """One picture or frame that went through the network, or could not be read."""

    source: str
    frame: int | None
    """Number of the frame, None for a picture."""
    pixels: Pixels | None
    """RGB; None when it could not be read."""
    poses: PoseSet | None
    at_s: float = 0.0
    """When the frame is shown, seconds after the first one."""
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
    files: tuple[Path, ...]
    """What is read: the pictures in their order, or the video; empty for a camera."""
    results: Iterator[Result]


@dataclass(frozen=True, slots=True)
class _Work:
    source: str
    frame: int | None
    read: Callable[[], Pixels]
    at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Input:
    work: Iterable[_Work]
    total: int | None
    files: tuple[Path, ...]
    is_video: bool = False
    rate_hz: float = 1.0
    close: Callable[[], None] = lambda: None


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
        results = in_order(opened.work, model.lanes, _run)
        stack.callback(results.close)
        tracked = _tracked(results, model) if opened.is_video and request.track else results
        yield Inference(
            model, accelerator, opened.is_video, opened.total, opened.rate_hz, opened.files, tracked
        )


def _tracked(results: Iterable[Result], model: LoadedModel) -> Iterator[Result]:
    lane = model.lanes[0]
    tracker = PoseTracker(lane.skeleton, len(lane.buffer.scores))
    for result in results:
        if result.poses is None:
            yield result
            continue
        ids = tracker.update(result.poses.keypoints, result.at_s)
        yield replace(result, poses=replace(result.poses, track_ids=ids))


def _open(request: Request) -> _Input:
    source = f"v4l2:{request.source}" if request.source.isdecimal() else request.source
    path = Path(source).expanduser()
    if path.is_dir():
        paths = pictures_in(path)
        work = [_Work(str(each), None, partial(read_picture, each, "rgb")) for each in paths]
        return _Input(work, len(paths), paths)
    if path.is_file() and is_picture(path):
        pixels = read_picture(path, "rgb")  # now: what is wrong with it is said before any fetching
        return _Input([_Work(str(path), None, lambda: pixels)], 1, (path,))
    if path.is_file():
        return _video(open_video(path, is_paced=False), str(path), request.count, (path,))
    stream = open_stream(source, first_sequence=0, timeout_s=OPEN_TIMEOUT_S)
    return _video(stream, redact(source), request.count, _local_file(source))


def _local_file(source: str) -> tuple[Path, ...]:
    if scheme_of(source) != "file":
        return ()
    where = LocalUrl.parse(source, VIDEO_OPTIONS + PICTURE_OPTIONS)
    return (Path(where.target).expanduser(),)


def _video(stream: StreamSource, name: str, count: int | None, files: tuple[Path, ...]) -> _Input:
    rate_hz = None
    if isinstance(stream, MediaSource | SyntheticSource) and not stream.is_live:
        rate_hz = stream.rate_hz
    length = stream.frame_count if isinstance(stream, MediaSource) else None
    known = [number for number in (length, count) if number is not None]
    return _Input(
        _frames(stream, name, count, rate_hz), min(known, default=None), files,
        is_video=True, rate_hz=rate_hz or CAMERA_RATE_HZ, close=stream.close,
    )  # fmt: skip


def _frames(
    stream: StreamSource, name: str, count: int | None, rate_hz: float | None
) -> Iterator[_Work]:
    """Read a stream; one that breaks ends with a piece of work that says so."""
    number, first_at = 0, 0.0
    try:
        while (count is None or number < count) and (frame := stream.read()) is not None:
            first_at = first_at or frame.captured_monotonic
            at_s = number / rate_hz if rate_hz else frame.captured_monotonic - first_at
            yield _Work(name, number, partial(frame.pixels, "rgb"), at_s)
            number += 1
    except StreamError as error:
        yield _Work(name, number, partial(_refuse, error))


def _refuse(error: StreamError) -> NoReturn:
    raise error


def _run(piece: _Work, lane: PoseLane) -> Result:
    try:
        pixels = piece.read()
    except StreamError as error:
        return Result(piece.source, piece.frame, None, None, error=str(error))
    transform = lane.run_pixels(pixels)
    infer_ms = lane.infer_s * 1000
    poses = lane.poses(transform)
    return Result(piece.source, piece.frame, pixels, poses, piece.at_s, infer_ms)
