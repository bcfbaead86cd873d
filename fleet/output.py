"""What `fleet infer` writes: drawn pictures, a drawn video, COCO results.

A file appears under its name only when it is complete; an error removes what was begun. Ctrl-C
closes a video properly and keeps what was done so far.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2

from agents.streams.base import Pixels
from fleet.errors import InputError
from fleet.infer import Inference, Result
from models.draw import draw_poses
from models.skeletons import COCO17

_COCO_PERSON = 1
"""The category id of a person in COCO's annotation files."""
_VIDEO_CRF = "20"
"""x264 quality: visually near the source, https://trac.ffmpeg.org/wiki/Encode/H.264."""
_CLOCK_HZ = 90_000
"""Ticks of a written video's time stamps, as MPEG counts (ISO/IEC 13818-1)."""
_CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffix -> FFmpeg's name of the container."""


class Outputs:
    """Where results go; made by `open_outputs`."""

    def __init__(self, drawn: "_Pictures | _Video | None", coco: "_Coco | None") -> None:
        self._drawn = drawn
        self._coco = coco

    @property
    def names(self) -> tuple[str, ...]:
        """What has been written; videos and COCO results only when they are complete."""
        parts = (part for part in (self._drawn, self._coco) if part is not None)
        return tuple(name for part in parts for name in part.names)

    def write(self, result: Result) -> None:
        """Write one result wherever it is wanted; draws into its pixels."""
        if self._coco is not None:
            self._coco.add(result)
        if self._drawn is not None and result.pixels is not None and result.poses is not None:
            draw_poses(result.pixels, result.poses)
            self._drawn.add(result, result.pixels)


@contextlib.contextmanager
def open_outputs(inference: Inference, out: Path | None, coco: Path | None) -> Iterator[Outputs]:
    """Prepare the outputs; they are complete when the context ends.

    Raises:
        InputError: a name does not fit what is written, cannot be written, or is what is read.
    """
    drawn: _Pictures | _Video | None = None
    results: _Coco | None = None
    with contextlib.ExitStack() as stack:
        if out is not None and inference.is_video:
            _check_target(out, inference.files)
            drawn = stack.enter_context(_Video(out, inference.rate_hz))
        elif out is not None:
            drawn = _Pictures(out, inference.files)
        if coco is not None:
            _check_target(coco, (*inference.files, *([] if out is None else [out])))
            if inference.model.manifest.skeleton != COCO17.name:
                raise InputError("COCO results need a network with the 17 COCO keypoints")
            results = stack.enter_context(_Coco(coco, inference.files))
        yield Outputs(drawn, results)


def _check_target(target: Path, taken: Sequence[Path]) -> None:
    """Refuse a folder, and what is read or written otherwise; make the folder it goes to."""
    if target.is_dir():
        raise InputError(f"{target} is a folder", hint="name a file in it")
    for path in taken:
        is_same = target.exists() and path.exists() and target.samefile(path)
        if is_same or target.absolute() == path.absolute():
            raise InputError(f"{target} would be written over {path}", hint="choose another name")
    _make_folder(target.parent)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error


def _reserve(partial: Path, target: Path) -> None:
    """Begin a file, so that what cannot be written is said before the work is done."""
    try:
        partial.touch()
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error


def write_picture(target: Path, pixels: Pixels) -> None:
    """Write ``(height, width, 3)`` RGB pixels; the suffix says in which format.

    Raises:
        InputError: there is no such format, or the file cannot be written; nothing is left then.
    """
    partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        _, encoded = cv2.imencode(target.suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        partial.write_bytes(encoded.tobytes())
        partial.replace(target)
    except cv2.error as error:
        raise InputError(f"cannot write {target}: {error.err}") from error
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


class _Pictures:
    """Drawn pictures: one file, or one of the same name for each in a folder."""

    def __init__(self, out: Path, sources: Sequence[Path]) -> None:
        self._out = out
        self._is_file = len(sources) == 1 and bool(out.suffix) and not out.is_dir()
        self.names: list[str] = []
        is_picture = bool(cv2.haveImageWriter(str(out)))
        if self._is_file and not is_picture:
            raise InputError(f"{out} is no name for a picture", hint="use .jpg or .png")
        if len(sources) > 1 and is_picture and not out.is_dir():
            raise InputError(
                f"{out} is one picture for {len(sources)} of them", hint="name a folder for --out"
            )
        for source in sources:
            _check_target(self._target(source), [source])

    def add(self, result: Result, pixels: Pixels) -> None:
        target = self._target(Path(result.source))
        write_picture(target, pixels)
        self.names.append(str(target))

    def _target(self, source: Path) -> Path:
        if self._is_file:
            return self._out
        is_writable = cv2.haveImageWriter(source.name)
        return self._out / (source.name if is_writable else f"{source.name}.png")


class _Video:
    """A drawn mp4, H.264."""

    def __init__(self, out: Path, rate_hz: float) -> None:
        if out.suffix.lower() not in _CONTAINERS:
            raise InputError(f"{out} is no name for a video", hint="use a name ending in .mp4")
        self._out = out
        self._partial = out.with_name(f".partial-{os.getpid()}-{out.name}")
        self._rate = Fraction(rate_hz).limit_denominator(1001)
        self._container: Any = None
        self._stream: Any = None
        self._last_tick = -1
        self.names: list[str] = []

    def __enter__(self) -> "_Video":
        _reserve(self._partial, self._out)
        return self

    def add(self, result: Result, pixels: Pixels) -> None:
        try:
            if self._container is None:
                self._open(pixels.shape[1], pixels.shape[0])
            frame = av.VideoFrame.from_ndarray(self._fitted(pixels), format="rgb24")
            # Each frame is later than the one before, whatever a camera's clock says.
            self._last_tick = max(self._last_tick + 1, round(result.at_s * _CLOCK_HZ))
            frame.pts, frame.time_base = self._last_tick, Fraction(1, _CLOCK_HZ)
            self._container.mux(self._stream.encode(frame))
        except (OSError, av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error

    def _open(self, width: int, height: int) -> None:
        kind = _CONTAINERS[self._out.suffix.lower()]
        self._container = av.open(str(self._partial), "w", format=kind)
        self._stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": _VIDEO_CRF, "preset": "veryfast"}
        )
        # 4:2:0 color needs even sides.
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, _CLOCK_HZ)

    def _fitted(self, pixels: Pixels) -> Any:
        """Repeat the last column or row where a side is odd; scale what changed its size."""
        width, height = self._stream.width, self._stream.height
        right, below = width - pixels.shape[1], height - pixels.shape[0]
        if right in (0, 1) and below in (0, 1):
            return cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE)
        return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_kept = (kind is None or kind is KeyboardInterrupt) and self._last_tick >= 0
        try:
            if is_kept:
                self._container.mux(self._stream.encode(None))
            if self._container is not None:
                self._container.close()
            if is_kept:
                self._partial.replace(self._out)
                self.names.append(str(self._out))
        except (OSError, av.FFmpegError, ValueError) as error:
            if kind is None:  # else what came before says more
                raise self._failed(error) from error
        finally:
            self._partial.unlink(missing_ok=True)

    def _failed(self, error: Exception) -> InputError:
        return InputError(f"cannot write {self._out}: {getattr(error, 'strerror', '') or error}")


class _Coco:
    """COCO results: ``[{"image_id", "category_id", "keypoints", "score"}]``."""

    def __init__(self, path: Path, pictures: Sequence[Path]) -> None:
        self._path = path
        self._partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
        self._ids = _image_ids(pictures)
        self._entries: list[dict[str, Any]] = []
        self.names: list[str] = []

    def __enter__(self) -> "_Coco":
        _reserve(self._partial, self._path)
        return self

    def add(self, result: Result) -> None:
        if result.poses is None:
            return
        image_id = self._ids[result.source] if result.frame is None else result.frame
        for score, keypoints in zip(result.poses.scores, result.poses.keypoints, strict=True):
            self._entries.append(
                {
                    "image_id": image_id,
                    "category_id": _COCO_PERSON,
                    "keypoints": [round(float(value), 3) for value in keypoints.ravel()],
                    "score": round(float(score), 5),
                }
            )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or kind is KeyboardInterrupt:
                self._partial.write_text(json.dumps(self._entries))
                self._partial.replace(self._path)
                self.names.append(str(self._path))
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from error
        finally:
            self._partial.unlink(missing_ok=True)


def _image_ids(pictures: Sequence[Path]) -> dict[str, int]:
    """Return source -> id: the number that ends its name, as COCO's files have it.

    Where a name has none, or two share one, all are numbered by their places instead.
    """
    ended = [re.search(r"(\d+)$", path.stem) for path in pictures]
    numbers = {int(match[1]) for match in ended if match}
    if len(numbers) < len(pictures):
        return {str(path): place for place, path in enumerate(pictures)}
    return {str(path): int(match[1]) for path, match in zip(pictures, ended, strict=True) if match}
