"""STREAMS: URL scheme -> where its opener lives, and `open_stream`."""

import pkgutil
from importlib.metadata import entry_points
from typing import cast

from agents.errors import StreamRefused
from agents.streams.base import StreamOpener, StreamSource
from agents.streams.urls import redact, scheme_of

STREAMS: dict[str, str] = {
    "file": "agents.streams.files:open_file",
    "rtsp": "agents.streams.media:open_rtsp",
    "rtsp+udp": "agents.streams.media:open_rtsp",
    "http": "agents.streams.media:open_http",
    "https": "agents.streams.media:open_http",
    "v4l2": "agents.streams.camera:open_camera",
    "synthetic": "agents.streams.synthetic:open_synthetic",
    "sample": "agents.streams.sample:open_sample",
}
"""Each value names a `StreamOpener`; a path without a scheme is a ``file``."""

ENTRY_POINTS = "posefleet.streams"
"""Group in which other distributions offer openers: scheme = "module:function"."""

DEFAULT_TIMEOUT_S = 5.0
"""Our choice: rides over a lost key frame or a Wi-Fi handover, and shows a dead camera soon."""


def open_stream(
    url: str, first_sequence: int = 0, timeout_s: float = DEFAULT_TIMEOUT_S
) -> StreamSource:
    """Open the stream that a URL or path names.

    Args:
        url: e.g. ``rtsp://camera/live``, ``video.mp4``, ``file:clip.mp4?loop=1``, ``synthetic:``.
        first_sequence: sequence number of its first frame.
        timeout_s: longest wait for an answer and, on a live stream, for the next frame.

    Raises:
        StreamError: it cannot be opened now; trying again later may help.
        StreamRefused: it never can as given (no such file, unknown scheme, wrong option).
    """
    return _opener(url)(url, first_sequence, timeout_s)


def _opener(url: str) -> StreamOpener:
    scheme = scheme_of(url)
    target = STREAMS.get(scheme)
    if target is None:
        offered = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
        if scheme not in offered:
            raise StreamRefused(
                f"{redact(url)}: unknown stream scheme {scheme!r}",
                hint=f"known: {', '.join([*STREAMS, *offered])}; or is it a file that is missing?",
            )
        target = offered[scheme]
    try:
        return cast(StreamOpener, pkgutil.resolve_name(target))
    except (ImportError, AttributeError) as error:
        raise StreamRefused(
            f"streams of scheme {scheme!r} cannot be opened: {error}",
            hint=f"is the package that offers {target} installed completely?",
        ) from error
