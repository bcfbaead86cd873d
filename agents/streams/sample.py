"""``sample:`` streams: freely licensed pictures of people that are fetched at first use."""

from agents.errors import StreamError, StreamRefused
from agents.streams.base import StreamSource
from agents.streams.media import open_video
from agents.streams.pan import PanSource
from agents.streams.urls import LocalUrl
from models.errors import ManifestError, ModelError
from models.samples import ensure_sample


def open_sample(url: str, first_sequence: int, _timeout_s: float) -> StreamSource:
    """Open ``sample:`` or ``sample:NAME``: a looping video or slowly panned photos of people.

    Fetching it may take longer than the timeout; with ``pace=max`` it plays as fast as it can.

    Raises:
        StreamError: it could not be fetched.
        StreamRefused: no such sample, wrong options.
    """
    where = LocalUrl.parse(url, ("pace",))
    try:
        sample = ensure_sample(where.target)
    except ManifestError as error:
        raise StreamRefused(f"{url}: {error}", hint=error.hint) from error
    except ModelError as error:
        raise StreamError(f"{url} cannot be fetched: {error}", hint=error.hint) from error
    if sample.kind == "photos":
        return PanSource(sample.paths, first_sequence, is_paced=where.pace())
    return open_video(
        sample.paths[0], first_sequence=first_sequence, loop=True, is_paced=where.pace()
    )
