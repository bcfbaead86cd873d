"""The files of a network and where each kind of source has them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from models.manifest.fields import ByteCount, RelativePath, Sha256, Strict, Text, WebAddress


class FileSpec(Strict):
    """One file to have, and how to know that it is the right one."""

    path: RelativePath
    """Where it lies below the folder of its network, the URL or the archive prefix."""
    size: ByteCount
    sha256: Sha256


class ModelFile(FileSpec):
    """A file of a network."""

    role: Literal["model", "shard", "labels"]
    """``model``: what the converter opens; ``shard``: weights that the model file names;
    ``labels``: the classes, see `models.decoders.classify.read_labels`."""


class UrlSource(Strict):
    """Files below a base URL."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+/$")]


class NpmSource(Strict):
    """Files inside a package that the installed npm client fetches."""

    npm: Annotated[str, Field(pattern=r"^(@[a-z0-9][\w.-]*/)?[a-z0-9][\w.-]*@\d[\w.+-]*$")]
    """``name@version``."""
    size: ByteCount
    """Of the tarball."""
    sha256: Sha256
    prefix: RelativePath
    """Folder of the files inside the tarball."""


class PypiSource(Strict):
    """Files inside a wheel that this Python's pip fetches."""

    pypi: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*==\d[\w.+!-]*$")]
    """``distribution==version``."""
    size: ByteCount
    """Of the wheel."""
    sha256: Sha256
    prefix: RelativePath
    """Folder of the files inside the wheel."""


class FolderSource(Strict):
    """Files in a folder of this machine; relative folders start at the manifest's own."""

    folder: Text


class Upstream(Strict):
    """Where a network is published that no source of its manifest can give, and why not."""

    url: WebAddress
    files: tuple[Text, ...] = ()
    """Names of the files there, where checksums of them are not known."""
    note: Text
    """Why nothing is fetched from there."""


_SOURCE_KINDS = {
    "url": "UrlSource",
    "npm": "NpmSource",
    "pypi": "PypiSource",
    "folder": "FolderSource",
}


def _source_kind(value: Any) -> str | None:
    if isinstance(value, BaseModel):
        return type(value).__name__
    keys = value if isinstance(value, Mapping) else ()
    kinds = [kind for key, kind in _SOURCE_KINDS.items() if key in keys]
    return kinds[0] if len(kinds) == 1 else None


Source = Annotated[
    Annotated[UrlSource, Tag("UrlSource")]
    | Annotated[NpmSource, Tag("NpmSource")]
    | Annotated[PypiSource, Tag("PypiSource")]
    | Annotated[FolderSource, Tag("FolderSource")],
    Discriminator(
        _source_kind,
        custom_error_type="source_kind",
        custom_error_message=f"a source has exactly one of the keys {', '.join(_SOURCE_KINDS)}",
    ),
]
Sources = Annotated[tuple[Source, ...], Field(min_length=1)]
