"""Ctrl-C while files are fetched; run by test_artifacts in a process of its own."""

import signal

import pytest
from unit.test_artifacts import (
    CHILDREN,
    GOOD_SITE,
    client,
    ended,
    leftovers,
    packed,
    serving,
    wanted,
)

from models.artifacts import ensure_files
from models.manifest import UrlSource

__all__ = ["client"]


def test_ctrl_c_ends_the_client_and_leaves_nothing(tmp_path, client):
    client(CHILDREN.format(tmp_path, "kill -INT $PPID"))
    source, _ = packed(tmp_path, b"x")
    files = wanted(tmp_path, source)
    with pytest.raises(KeyboardInterrupt):
        ensure_files(files)
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2
    assert ended(pids)
    assert leftovers(files) == []


# -- interruptions and the local disk -----------------------------------------------------------


def test_ctrl_c_inside_a_download_leaves_nothing(tmp_path):
    def interrupt(label, done, total):
        signal.raise_signal(signal.SIGINT)

    with serving(GOOD_SITE) as (site, _):
        files = wanted(tmp_path, UrlSource(url=f"{site}/net/"))
        with pytest.raises(KeyboardInterrupt):
            ensure_files(files, interrupt)
    assert leftovers(files) == []
