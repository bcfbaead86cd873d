"""Video through PyAV: files, RTSP cameras over TCP or UDP, HTTP MJPEG and other network video.

Frames stay as they were decoded until somebody takes their pixels. Audio is never read.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path
from threading import Lock
from typing import Any

import av
import numpy as np
from av.error import ExitError, FFmpegError, InvalidDataError
from av.video.reformatter import VideoReformatter

from agents.errors import StreamError, StreamRefused
from agents.streams.base import ColorOrder, Frame, Pixels, StreamSource
from agents.streams.closing import Closing
from agents.streams.http_body import HttpBody
from agents.streams.pacing import Pacer, captured_now
from agents.streams.urls import redact, require_host

POLL_S = 0.73
"""A wait for RTSP data is left this often, to see whether the source was closed or has stalled.
FFmpeg goes on with the same connection afterwards, over TCP and over UDP (tested), unless it is
left within a packet, so this is no multiple or fraction of a slow camera's frame period."""

UNTIMED_RATE_HZ = 25.0
"""For recordings without time stamps or frame rate, e.g. bare H.264: FFmpeg assumes the same."""

_TEXT_ART = {"ansi", "bintext", "idf", "xbin"}
"""Codecs by which FFmpeg plays text files as pictures of their letters."""

# https://ffmpeg.org/ffmpeg-formats.html: begin with the first packets instead of gathering 5 s of
# them, and hold back at most 64 packets or 100 ms to put UDP packets in order (instead of 500).
_LOW_LATENCY = {
    "fflags": "nobuffer",
    "analyzeduration": "500000",
    "probesize": "200000",
    "fpsprobesize": "0",
}
_RTSP = _LOW_LATENCY | {
    "allowed_media_types": "video",
    "reorder_queue_size": "64",
    "max_delay": "100000",
}


def open_video(
    path: Path, *, first_sequence: int = 0, loop: bool = False, is_paced: bool = True
) -> StreamSource:
    """Open a video file; paced ones play at their own frame rate.

    Raises:
        StreamRefused: missing, not a video, or without one frame that can be decoded.
    """
    # The prefix keeps FFmpeg from reading a name such as "concat:x" as something else.
    how = _How(str(path), f"file:{path}", {}, timeout_s=None)
    return MediaSource(how, first_sequence, loop=loop, is_paced=is_paced)


def open_rtsp(url: str, first_sequence: int, timeout_s: float) -> StreamSource:
    """Open ``rtsp://`` (over TCP) or ``rtsp+udp://``; a `StreamOpener`."""
    require_host(url)
    scheme, _, rest = url.partition("://")
    transport = "udp" if scheme.lower() == "rtsp+udp" else "tcp"
    options = _RTSP | {"rtsp_transport": transport}
    how = _How(redact(url), f"rtsp://{rest}", options, timeout_s, poll_s=POLL_S)
    return MediaSource(how, first_sequence)


def open_http(url: str, first_sequence: int, timeout_s: float) -> StreamSource:
    """Open an MJPEG camera, or any video that FFmpeg plays over HTTP; a `StreamOpener`."""
    require_host(url)
    body = HttpBody(url, timeout_s)
    if not body.content_type.startswith("multipart/"):
        body.close()
        return MediaSource(_How(redact(url), url, {}, timeout_s), first_sequence)
    how = _How(body.name, body, _LOW_LATENCY, timeout_s, container_format="mpjpeg")
    try:
        return MediaSource(how, first_sequence)
    except StreamError:
        body.close()
        raise


@dataclass(frozen=True, slots=True)
class _How:
    """What FFmpeg is given to open a container."""

    name: str
    """How errors call it; without credentials."""
    file: str | HttpBody
    options: dict[str, str]
    timeout_s: float | None
    """Longest wait for the opening and for a frame; None for files."""
    poll_s: float | None = None
    """How long one wait for data lasts where that can go on afterwards; None: `timeout_s`."""
    container_format: str | None = None


class _Video:
    """An opened container: the frames of its first video stream, decoded one after the other."""

    def __init__(self, how: _How) -> None:
        self._how = how
        self._container = _open_container(how)
        streams = self._container.streams.video
        if not streams or streams[0].codec_context is None or streams[0].name in _TEXT_ART:
            self._container.close()
            raise StreamRefused(f"{how.name} holds no video that can be decoded")
        self._stream = streams[0]
        # 640x480 H.264 on 2 cores, CPU ms a frame: 1 thread .92, by slice .94, by frame 1.08, auto
        # 1.07 (measured). One thread also holds no frame back, as threads by frame do.
        self._stream.codec_context.thread_count = 1
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.period_s = 1 / float(rate) if rate else 1 / UNTIMED_RATE_HZ
        self.frame_count = self._stream.frames or None
        # What FFmpeg plays over HTTP may be a recording; it then knows how long it lasts.
        self.is_live = how.timeout_s is not None and (
            how.poll_s is not None
            or isinstance(how.file, HttpBody)
            or self._container.duration is None
        )

    def frames(self) -> Iterator[av.VideoFrame | None]:
        """Yield frames to the end; None whenever a packet or a wait gave none.

        Raises:
            StreamError: the connection broke.
        """
        while True:
            try:
                for packet in self._container.demux():
                    decoded = self._decode(packet) if packet.stream is self._stream else []
                    yield from decoded or (None,)
            except ExitError:
                yield None
            except InvalidDataError:
                # How a damaged file ends, and a TCP connection that was cut within a packet.
                return
            except FFmpegError as error:
                raise StreamError(f"{self._how.name} broke: {error.strerror}") from None
            else:
                return

    def _decode(self, packet: "av.Packet[Any]") -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except InvalidDataError:  # A damaged packet; the decoder goes on with the next.
            return []

    def close(self) -> None:
        self._container.close()
        if isinstance(self._how.file, HttpBody):
            self._how.file.close()


def _open_container(how: _How) -> av.container.InputContainer:
    began = time.monotonic()
    timeout = None if how.timeout_s is None else (how.timeout_s, how.poll_s or how.timeout_s)
    try:
        return av.open(
            how.file, "r", format=how.container_format, options=how.options, timeout=timeout
        )
    except FFmpegError as error:
        # FFmpeg reports some waits that it gave up as invalid data; the clock knows better. Its
        # message holds the URL, so only the reason is taken and the cause is not chained.
        if how.timeout_s is not None and time.monotonic() - began >= how.timeout_s:
            raise StreamError(
                f"{how.name} did not answer within {how.timeout_s:g} s",
                hint="is the camera on, and its address right?",
            ) from None
        raise _explained(how, error) from None
    except UnicodeDecodeError:
        raise StreamRefused(f"{how.name} holds text that cannot be read") from None


def _explained(how: _How, error: FFmpegError) -> StreamError:
    """Say what an opening that failed at once means."""
    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return StreamRefused(
            f"{how.name} refuses us: {error.strerror}",
            hint="put the right user and password into the URL: scheme://user:password@host/...",
        )
    if isinstance(error, av.error.HTTPNotFoundError):
        return StreamRefused(f"{how.name}: the host is there, the path is not ({error.strerror})")
    # A camera that starts or goes down says such things too; it is asked again.
    if isinstance(error, InvalidDataError) and how.poll_s is None:
        return StreamRefused(
            f"{how.name} is not a video, or it is cut off before its index",
            hint="does another player play it?",
        )
    if how.timeout_s is None:
        return StreamRefused(f"{how.name} cannot be opened: {error.strerror}")
    return StreamError(f"{how.name} cannot be reached: {error.strerror}")


class MediaSource:
    """Frames of a recording at its own pace, or of a camera as they come."""

    def __init__(
        self, how: _How, first_sequence: int, *, loop: bool = False, is_paced: bool = True
    ) -> None:
        self._how = how
        self._loop = loop
        self._sequences = count(first_sequence)
        self._converter = _Converter()
        self._start()
        interrupt = how.file.interrupt if isinstance(how.file, HttpBody) else None
        self._closing = Closing(self._release, interrupt)
        self.is_live = self._video.is_live
        self.rate_hz = 1 / self._video.period_s
        """Frames a second, as far as the container knows."""
        self.frame_count = self._video.frame_count
        """Frames of one turn; None when unknown."""
        self._pacer = Pacer(self._closing, is_paced=is_paced and not self.is_live)
        self._timeline = _Timeline(self._video.period_s)

    def _start(self) -> None:
        """Open the container; of a file also decode one frame, to know that there is any."""
        self._video = _Video(self._how)
        self._frames = self._video.frames()
        if self._how.timeout_s is not None:
            return
        first = next((frame for frame in self._frames if frame is not None), None)
        if first is None:
            self._video.close()
            raise StreamRefused(f"{self._how.name} holds no frame that can be decoded")
        self._frames = chain((first,), self._frames)

    def read(self) -> Frame | None:
        """Return the next frame; see `StreamSource`."""
        with self._closing.reading() as is_open:
            decoded = self._next() if is_open else None
            if decoded is None and self._loop and not self._closing.is_closed:
                self._video.close()
                self._start()
                self._timeline.start_again()
                decoded = self._next()
            if decoded is None or not self._pacer.wait(self._timeline.offset_s(decoded.time)):
                return None
            turns = decoded.rotation // 90 % 4
            size = (decoded.width, decoded.height)
            return captured_now(
                next(self._sequences),
                size if turns % 2 == 0 else size[::-1],
                partial(self._converter.pixels, decoded, turns),
            )

    def _next(self) -> av.VideoFrame | None:
        """Return the next decoded frame; None at the end of a recording and when closed."""
        name, timeout_s = self._how.name, self._how.timeout_s
        began = time.monotonic()
        if isinstance(self._how.file, HttpBody):
            self._how.file.expect_frame()
        try:
            for decoded in self._frames:
                if self._closing.is_closed:
                    return None
                if decoded is not None:
                    return decoded
                if timeout_s is not None and time.monotonic() - began > timeout_s:
                    raise StreamError(f"{name}: no frame for {timeout_s:g} s")
            if self.is_live:
                raise StreamError(f"{name}: the camera ended the connection")
        except StreamError:
            if not self._closing.is_closed:
                raise
        return None

    def close(self) -> None:
        """Release the source; idempotent."""
        self._closing.close()

    def _release(self) -> None:
        self._video.close()
        # The decoder's memory goes with the last reference, without waiting for the collector.
        self._frames = iter(())
        del self._video


class _Timeline:
    """Turns presentation times into offsets that go on when a recording starts again."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._zero_s: float | None = None
        self._next_s = 0.0

    def offset_s(self, presented_s: float | None) -> float:
        """Return when to show a frame, in seconds since the first; None: one period later."""
        if presented_s is None:
            offset_s = self._next_s
        else:
            if self._zero_s is None:
                self._zero_s = presented_s - self._next_s
            offset_s = presented_s - self._zero_s
        self._next_s = offset_s + self._period_s
        return offset_s

    def start_again(self) -> None:
        """The next frame is the first of another turn; it follows the last by one period."""
        self._zero_s = None


class _Converter:
    """Makes pixels of decoded frames, in the thread of whoever wants them.

    One converter for all frames, without threads of its own, takes .17 CPU ms a 640x480 frame;
    `VideoFrame.to_ndarray` makes one anew for each frame, with threads: .58 (measured).
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._in_use = Lock()

    def pixels(self, decoded: av.VideoFrame, turns: int, color: ColorOrder) -> Pixels:
        """Convert one frame and turn it upright, by ``turns`` quarters counterclockwise."""
        with self._in_use:
            converted = self._reformatter.reformat(decoded, format=f"{color}24", threads=1)
        return np.ascontiguousarray(np.rot90(converted.to_ndarray(), turns))
