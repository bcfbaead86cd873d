"""What `fleet infer` writes: drawn pictures, a drawn video, COCO results.

A file appears under its name only when it is complete; an error removes what was begun. Ctrl-C
closes a video properly and keeps what was done so far.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
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


class Outputs:
    """Where results go; made by `open_outputs`."""

    def __init__(self, drawn: "_Pictures | _Video | None", coco: "_Coco | None") -> None:
        self._drawn = drawn
        self._coco = coco

    @property
    def names(self) -> tuple[str, ...]:
        """What has been written."""
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
        InputError: a name does not fit what is written, or cannot be written.
    """
    drawn: _Pictures | _Video | None = None
    results: _Coco | None = None
    with contextlib.ExitStack() as stack:
        if out is not None and inference.is_video:
            drawn = stack.enter_context(_Video(out, inference.rate_hz))
        elif out is not None:
            drawn = _Pictures(out, is_single=inference.total == 1)
        if coco is not None:
            if inference.model.manifest.skeleton != COCO17.name:
                raise InputError("COCO results need a network with the 17 COCO keypoints")
            results = stack.enter_context(_Coco(coco))
        yield Outputs(drawn, results)


class _Pictures:
    """Drawn pictures: one file, or one of the same name for each in a folder."""

    def __init__(self, out: Path, *, is_single: bool) -> None:
        self._out = out
        self._is_file = is_single and not out.is_dir() and bool(out.suffix)
        self.names: list[str] = []
        folder = out.parent if self._is_file else out
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write to {folder}: {error.strerror}") from error

    def add(self, result: Result, pixels: Pixels) -> None:
        target = self._out if self._is_file else self._out / Path(result.source).name
        if not cv2.haveImageWriter(str(target)):
            target = target.with_suffix(".png")
        if target.exists() and target.samefile(result.source):
            raise InputError(f"{target} is the source itself", hint="name another --out")
        partial = target.with_name(f".partial-{target.name}")
        try:
            written = cv2.imwrite(str(partial), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise InputError(f"cannot write {target}: {error.err}") from error
        if not written:
            partial.unlink(missing_ok=True)
            raise InputError(f"cannot write {target}", hint="is there room, and the right to?")
        partial.replace(target)
        self.names.append(str(target))


class _Video:
    """A drawn mp4, H.264."""

    def __init__(self, out: Path, rate_hz: float) -> None:
        if out.suffix.lower() not in (".mp4", ".mov", ".mkv"):
            raise InputError(f"{out} is no name for a video", hint="use a name ending in .mp4")
        self._out = out
        self._partial = out.with_name(f".partial-{os.getpid()}-{out.name}")
        self._rate = Fraction(rate_hz).limit_denominator(1001)
        self._container: Any = None
        self._stream: Any = None
        self.names: list[str] = []

    def __enter__(self) -> "_Video":
        return self

    def add(self, _result: Result, pixels: Pixels) -> None:
        # 4:2:0 color needs even sides.
        height, width = pixels.shape[0] & ~1, pixels.shape[1] & ~1
        try:
            if self._container is None:
                self._open(width, height)
            frame = av.VideoFrame.from_ndarray(
                pixels[: self._stream.height, : self._stream.width].copy(), format="rgb24"
            )
            self._container.mux(self._stream.encode(frame))
        except (OSError, av.FFmpegError, ValueError) as error:
            raise InputError(f"cannot write {self._out}: {error}") from error

    def _open(self, width: int, height: int) -> None:
        self._container = av.open(str(self._partial), "w", format=_muxer(self._out))
        self._stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": _VIDEO_CRF, "preset": "veryfast"}
        )
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._container is None:
            return
        is_kept = kind is None or kind is KeyboardInterrupt
        try:
            if is_kept:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if is_kept:
                self._partial.replace(self._out)
                self.names.append(str(self._out))
        finally:
            self._partial.unlink(missing_ok=True)


def _muxer(out: Path) -> str:
    return {".mkv": "matroska"}.get(out.suffix.lower(), out.suffix.lower().lstrip("."))


class _Coco:
    """COCO results: ``[{"image_id", "category_id", "keypoints", "score"}]``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[dict[str, Any]] = []
        self._frames = 0
        self.names: list[str] = []

    def __enter__(self) -> "_Coco":
        return self

    def add(self, result: Result) -> None:
        image_id = _image_id(result, self._frames)
        self._frames += 1
        for person, score in enumerate(result.poses.scores if result.poses else ()):
            keypoints = result.poses.keypoints[person] if result.poses else ()
            self._entries.append(
                {
                    "image_id": image_id,
                    "category_id": _COCO_PERSON,
                    "keypoints": [round(float(v), 3) for point in keypoints for v in point],
                    "score": round(float(score), 5),
                }
            )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and kind is not KeyboardInterrupt:
            return
        partial = self._path.with_name(f".partial-{os.getpid()}-{self._path.name}")
        try:
            partial.write_text(json.dumps(self._entries))
            partial.replace(self._path)
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)
        self.names.append(str(self._path))


def _image_id(result: Result, position: int) -> int:
    """Return COCO's own id, which is the number in its file names; else the place in the run."""
    if result.frame is not None:
        return result.frame
    digits = re.search(r"(\d+)$", Path(result.source).stem)
    return int(digits[1]) if digits else position
