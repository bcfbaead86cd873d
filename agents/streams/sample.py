"""``sample:`` streams: the freely licensed pictures of people that are fetched at first use."""

import pkgutil
from pathlib import Path
from typing import Literal, Protocol

from agents.errors import StreamError, StreamRefused
from agents.streams.base import StreamSource
from agents.streams.media import open_video
from agents.streams.pan import PanSource
from agents.streams.urls import LocalUrl
from models.errors import ModelError


class _Sample(Protocol):
    """What `models.samples` resolves to."""

    kind: Literal["video", "photos"]
    paths: tuple[Path, ...]


def open_sample(url: str, *, first_sequence: int, timeout_s: float) -> StreamSource:
    """Open ``sample:``, a looping video or slowly panned photos of people; a `StreamOpener`.

    Fetching it may take longer than `timeout_s`; with ``pace=max`` it plays as fast as it can.

    Raises:
        StreamError: it could not be fetched.
        StreamRefused: wrong options.
    """
    where = LocalUrl.parse(url, ("pace",))
    if where.target:
        raise StreamRefused(f"{url}: there is one sample", hint="write sample:")
    try:
        # By name: what fetches over the network is not loaded by nodes that never play it.
        sample: _Sample = pkgutil.resolve_name("models.samples:resolve")()
    except ModelError as error:
        raise StreamError(f"the sample cannot be fetched: {error}", hint=error.hint) from error
    if sample.kind == "video":
        return open_video(
            sample.paths[0], first_sequence=first_sequence, loop=True, is_paced=where.pace()
        )
    return PanSource(sample.paths, first_sequence, is_paced=where.pace())
