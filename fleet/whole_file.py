"""A file that appears under its name only when it is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; what is there when the context ends becomes ``path``.

    An error or Ctrl-C leaves what was at ``path`` before, and nothing else.

    Raises:
        InputError: it cannot be written; said on entry, before any work is done.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint="name a file in it")
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
