"""Sample streams: media with real people in it, fetched on first use like a network."""

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from models.artifacts import FileSet, Progress, cache_dir, ensure_files, silent, verify
from models.errors import ArtifactError, ManifestError
from models.manifest import FileSpec, Name, Sources, Strict, Text, parse


class SampleSpec(Strict):
    """One sample, as its file in ``models/samples`` describes it."""

    name: Name
    title: Text
    rank: Annotated[int, Field(gt=0)]
    """1 is tried first."""
    kind: Literal["video", "photos"]
    license: Text
    """As its publisher states it."""
    attribution: Text
    homepage: Text
    files: Annotated[tuple[FileSpec, ...], Field(min_length=1)]
    """In the order in which they are shown."""
    sources: Sources

    @property
    def wanted(self) -> FileSet:
        """The files, their place in the cache and their sources."""
        return FileSet(self.name, cache_dir() / "samples" / self.name, self.files, self.sources)


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample on disk."""

    kind: Literal["video", "photos"]
    """``video``: one file; ``photos``: pictures of different sizes, to be panned slowly."""
    paths: tuple[Path, ...]
    title: str
    license: str


def list_samples() -> tuple[SampleSpec, ...]:
    """Return every sample that the package knows, in the order in which they are tried.

    Raises:
        ManifestError: a description is malformed.
    """
    folder = resources.files("models.samples")
    specs = [
        parse(entry.read_text(encoding="utf-8"), SampleSpec, entry.name)
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    ]
    return tuple(sorted(specs, key=lambda spec: spec.rank))


def ensure_sample(name: str = "", progress: Progress = silent) -> Sample:
    """Return a sample; without a name the first that is in the cache, else the first to be had.

    Raises:
        ManifestError: no sample has this name.
        ArtifactError: it cannot be fetched; without a name: none of them can.
    """
    specs = list_samples()
    if name:
        return _ensure(_named(name, specs), progress)
    for spec in specs:
        if not verify(spec.wanted):
            return _ensure(spec, progress)
    causes = []
    for spec in specs:
        try:
            return _ensure(spec, progress)
        except ArtifactError as error:
            causes.append(str(error))
    raise ArtifactError(
        "\n".join(["no sample stream can be had", *causes]),
        hint="check the network, or give a stream of your own",
    )


def _named(name: str, specs: tuple[SampleSpec, ...]) -> SampleSpec:
    known = {spec.name: spec for spec in specs}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1) or list(known)
    raise ManifestError(f"no sample is named {name!r}", hint=f"did you mean {' or '.join(near)}?")


def _ensure(spec: SampleSpec, progress: Progress) -> Sample:
    paths = ensure_files(spec.wanted, progress)
    return Sample(spec.kind, tuple(paths[f.path] for f in spec.files), spec.title, spec.license)
