"""Fetch, verify and cache the files that manifests and samples name."""

from models.artifacts.cache import (
    Fault,
    FileSet,
    cache_dir,
    cannot_write,
    ensure_files,
    exclusive,
    model_files,
    staging,
    verify,
    writing,
)
from models.artifacts.sources import Progress, silent

__all__ = [
    "Fault",
    "FileSet",
    "Progress",
    "cache_dir",
    "cannot_write",
    "ensure_files",
    "exclusive",
    "model_files",
    "silent",
    "staging",
    "verify",
    "writing",
]
