"""``file:`` streams: decides by content whether a path is a folder, a picture or a video."""

from pathlib import Path

from agents.errors import StreamRefused
from agents.streams.base import StreamSource
from agents.streams.images import PictureSource, is_picture, pictures_in
from agents.streams.media import open_video
from agents.streams.urls import LocalUrl

VIDEO_OPTIONS = ("loop", "pace")
PICTURE_OPTIONS = ("loop", "fps")


def open_file(url: str, first_sequence: int, _timeout_s: float) -> StreamSource:
    """Open ``PATH`` or ``file:PATH?loop=1``; a `StreamOpener`.

    A video plays at its own frame rate, or with ``pace=max`` as fast as it can be read. Pictures
    are shown ``fps`` a second, 1 unless given. Both end, or with ``loop=1`` start again.

    Raises:
        StreamRefused: no such file, nothing readable in it, wrong options.
    """
    where = LocalUrl.parse(url, tuple(dict.fromkeys(VIDEO_OPTIONS + PICTURE_OPTIONS)))
    path = Path(where.target).expanduser()
    if path.is_dir():
        pictures = pictures_in(path)
    elif path.is_file():
        pictures = (path,) if is_picture(path) else ()
    elif path.exists():
        raise StreamRefused(f"{path} is neither a file nor a folder", hint="cameras: v4l2:0")
    else:
        raise StreamRefused(f"no such file or folder: {path}", hint="is the path spelled right?")
    where = LocalUrl.parse(url, PICTURE_OPTIONS if pictures else VIDEO_OPTIONS)
    if pictures:
        rate_hz = where.number("fps", 1.0, 0.01, 240.0)
        return PictureSource(pictures, first_sequence, rate_hz=rate_hz, loop=where.flag("loop"))
    return open_video(
        path, first_sequence=first_sequence, loop=where.flag("loop"), is_paced=where.pace()
    )
