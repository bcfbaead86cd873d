"""The files of a network and where each kind of source has them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

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


_SOURCE_KINDS = ("url", "npm", "pypi", "folder")


def _source_kind(value: Any) -> str | None:
    keys = value if isinstance(value, Mapping) else vars(value)
    kinds = [kind for kind in _SOURCE_KINDS if kind in keys]
    return f"{kinds[0]} source" if len(kinds) == 1 else None


Source = Annotated[
    Annotated[UrlSource, Tag("url source")]
    | Annotated[NpmSource, Tag("npm source")]
    | Annotated[PypiSource, Tag("pypi source")]
    | Annotated[FolderSource, Tag("folder source")],
    Discriminator(
        _source_kind,
        custom_error_type="source_kind",
        custom_error_message=f"a source has exactly one of the keys {', '.join(_SOURCE_KINDS)}",
    ),
]
Sources = Annotated[tuple[Source, ...], Field(min_length=1)]
