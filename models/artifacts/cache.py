"""The artifact cache: a folder a file set, filled by one process at a time, whole files only.

A file enters the cache under its final name only after its size and checksum were right. Guaranteed
for errors, full disks and Ctrl-C; after a kill -9 a ``.partial`` folder may stay until the next
fetch of the same set removes it.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from models.artifacts.sources import Progress, SourceError, fetch, label, silent
from models.errors import ArtifactError
from models.manifest import FileSpec, ModelManifest, Source

LOCK_TIMEOUT_S = 1800.0
"""How long to wait for another process that fetches the same files; longer than any one source."""
_LOCK_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files that belong together: where they lie and where they can be had."""

    name: str
    folder: Path
    """Their place in the cache."""
    files: Sequence[FileSpec]
    sources: Sequence[Source]
    """Tried in this order."""
    published: str = ""
    """Where they are published that no source has them, as the end of a message."""

    @property
    def paths(self) -> dict[str, Path]:
        """Where each file belongs, by the path that its `FileSpec` has."""
        return {file.path: self.folder / file.path for file in self.files}


@dataclass(frozen=True, slots=True)
class Fault:
    """A file of the cache that is not what it should be."""

    file: FileSpec
    path: Path
    cause: str


def cache_dir() -> Path:
    """Return our folder in the user's cache (``$XDG_CACHE_HOME/posefleet``); it may not exist."""
    return Path(platformdirs.user_cache_dir("posefleet"))


def model_files(manifest: ModelManifest) -> FileSet:
    """Return the files of a network.

    Raises:
        ArtifactError: no checksums are known, so that nothing can be fetched and trusted.
    """
    there = manifest.upstream
    if there and not manifest.files:
        raise ArtifactError(
            f"{manifest.name} cannot be fetched: {there.note}\n"
            f"  it is published at {there.url} ({', '.join(there.files)})",
            hint="fetch it by hand into a folder; copy its manifest (models/manifests/"
            f"{manifest.variant_of or manifest.name}.yaml), give the copy `files:` with path, size "
            "and sha256 of each and `sources: [{folder: FOLDER}]`, and name the copy's path "
            "instead of the network",
        )
    folder = cache_dir() / "models" / (manifest.variant_of or manifest.name)
    published = f": {there.note} ({there.url})" if there else ""
    return FileSet(manifest.name, folder, manifest.files, manifest.sources, published)


def verify(wanted: FileSet) -> list[Fault]:
    """Check size and checksum of every file; an empty list means that all are right."""
    faults = []
    for file in wanted.files:
        path = wanted.folder / file.path
        try:
            cause = _compare(path, file)
        except FileNotFoundError:
            cause = "is missing"
        except OSError as error:
            cause = f"cannot be read: {error.strerror}"
        if cause:
            faults.append(Fault(file, path, cause))
    return faults


def _compare(path: Path, file: FileSpec) -> str:
    size = path.stat().st_size
    if size != file.size:
        return f"has {size} bytes, expected {file.size}"
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return "" if digest == file.sha256 else "has a wrong sha256"


def ensure_files(wanted: FileSet, progress: Progress = silent) -> dict[str, Path]:
    """Return the path of every file, fetching those that are missing or wrong.

    Raises:
        ArtifactError: no source gave the files (the message lists each with its cause), or the
            cache cannot be written. Nothing partial is left.
    """
    if verify(wanted):
        with writing(wanted.folder), exclusive(wanted.folder, progress):
            # Asked again: another process may have fetched them while we waited for the lock.
            faults = verify(wanted)
            if faults:
                _fetch(wanted, [fault.file for fault in faults], progress)
    return wanted.paths


def _fetch(wanted: FileSet, files: Sequence[FileSpec], progress: Progress) -> None:
    causes = []
    with staging(wanted.folder) as partial:
        for source in wanted.sources:
            try:
                fetch(source, files, partial, progress)
            except SourceError as error:
                causes.append(f"  {label(source)}: {error}")
                continue
            for file in files:
                target = wanted.folder / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                (partial / file.path).replace(target)
            return
    names = ", ".join(file.path for file in files)
    place = f"place {names} into {wanted.folder} by hand and try again"
    if not wanted.sources:
        raise ArtifactError(
            f"cannot get {wanted.name}: no source is known{wanted.published}",
            hint=f"{place}; the files are checked against their known sha256",
        )
    raise ArtifactError(
        "\n".join([f"cannot get {wanted.name}: no source works", *causes]),
        hint=f"check the network, or {place}",
    )


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Lend an empty folder on the same file system; it is gone afterwards, whatever happens.

    Only for the holder of `exclusive` on the same folder.
    """
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # it holds files: then it stays
            folder.rmdir()


@contextmanager
def exclusive(folder: Path, progress: Progress = silent) -> Iterator[None]:
    """Let one process at a time fill a folder; the lock file is removed at the end.

    Raises:
        ArtifactError: another process held the lock for `LOCK_TIMEOUT_S`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise ArtifactError(
                f"another process has been filling {folder} for {LOCK_TIMEOUT_S:.0f} s",
                hint=f"end the process that holds {path}",
            )
        progress(f"waiting for another process to fill {folder.name}", 0, None)
        time.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A holder that left removed the name: a lock on a file without the name protects nothing.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the local disk refuses (OSError) into one clear `ArtifactError`."""
    try:
        yield
    except OSError as error:
        raise cannot_write(folder, error.strerror or str(error)) from error


def cannot_write(folder: Path, cause: str) -> ArtifactError:
    """Return the error for a folder that the local disk does not let us fill."""
    return ArtifactError(
        f"cannot write to {folder}: {cause}",
        hint="free some space or fix the permissions, or point XDG_CACHE_HOME elsewhere",
    )
