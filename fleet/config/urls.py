"""URLs and names as a person gives them: checked, made absolute, and turned into short ids."""

import re
from collections.abc import Container
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote

from agents.streams import ENTRY_POINTS, STREAMS
from agents.streams.urls import redact, scheme_of
from fleet.errors import InputError
from models.catalog import load_manifest

_LONGEST_SLUG = 60
"""Leaves room for a number below the 64 characters that a stream id may have."""


def check_scheme(url: str) -> None:
    """Refuse a URL that no stream source opens.

    Raises:
        InputError: its scheme is unknown.
    """
    scheme = scheme_of(url)
    known = [*STREAMS, *(point.name for point in entry_points(group=ENTRY_POINTS))]
    if scheme not in known:
        raise InputError(
            f"{redact(url)}: unknown stream scheme `{scheme}`", hint=f"known: {', '.join(known)}"
        )


def absolute_url(url: str) -> str:
    """Return the URL with a path that means the same in every working directory.

    Raises:
        InputError: it names a file or folder that is not there.
    """
    if scheme_of(url) != "file" or url.startswith("file://"):
        return url
    prefix = "file:" if url.startswith("file:") else ""
    rest = url.removeprefix(prefix)
    path, mark, options = (rest, "", "") if Path(rest).exists() else rest.partition("?")
    if not Path(path).exists():
        raise InputError(
            f"no file or folder {path}", hint="check the path; a camera needs rtsp:// or http://"
        )
    return f"{prefix}{Path(path).absolute()}{mark}{options}"


def anchored_url(url: str, folder: Path) -> str:
    """Return the URL with a relative path taken from a folder; the file need not be there yet."""
    if scheme_of(url) != "file" or url.startswith("file://"):
        return url
    prefix = "file:" if url.startswith("file:") else ""
    path = url.removeprefix(prefix)
    if not path or path.startswith(("/", "~")):
        return url
    # What follows `file:` is percent-encoded, a plain path is not.
    base = quote(str(folder.absolute())) if prefix else str(folder.absolute())
    return f"{prefix}{base}/{path}"


def is_manifest_path(model: str) -> bool:
    """Tell whether a network is named by the path of its manifest, as the catalog does."""
    return "/" in model or model.endswith((".yaml", ".yml"))


def network_name(model: str) -> str:
    """Return a name that means the same network in every process: no alias, no relative path.

    Raises:
        ManifestError: there is no such network.
    """
    manifest = load_manifest(model)
    return str(Path(model).absolute()) if is_manifest_path(model) else manifest.name


def stream_id(url: str, taken: Container[str] = ()) -> str:
    """Derive a readable id from a URL, one that is not among the ``taken`` ones.

    ``rtsp://10.0.0.7/door`` gives ``10.0.0.7-door``, ``/videos/street 1.mp4`` gives ``street-1``;
    the second of the same gets ``-2``.
    """
    scheme = scheme_of(url)
    target = re.split(r"[?#]", redact(url))[0]
    rest = target.partition(":")[2] if target.lower().startswith(f"{scheme}:") else target
    if scheme != "file" and rest.startswith("//"):
        readable = rest
    elif scheme == "file" or "/" in rest:
        readable = Path(rest).stem
    else:
        readable = f"{scheme}-{rest}"
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", readable).strip("-._")[:_LONGEST_SLUG].rstrip("-._")
    slug = slug or "stream"
    unique, number = slug, 1
    while unique in taken:
        number += 1
        unique = f"{slug}-{number}"
    return unique
