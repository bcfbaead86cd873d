"""Fixtures every test may use, and the check that no test leaves something running."""

import os
import threading
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("FLEET_SHARED", ROOT.parent / "shared"))
"""Real pictures, videos and golden poses; absent on most machines."""


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test material; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no shared test material at {SHARED} (set FLEET_SHARED)")
    return SHARED


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Empty XDG folders, so that a test never sees or touches the developer's own."""
    for name in ("CACHE", "STATE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture(autouse=True)
def leaves_nothing_running():
    """Fail a test that leaves a thread of ours or a child process behind."""
    threads_before = set(threading.enumerate())
    me = psutil.Process()
    children_before = {child.pid for child in me.children(recursive=True)}
    yield
    deadline = time.monotonic() + 3
    while True:
        threads = [
            thread
            for thread in set(threading.enumerate()) - threads_before
            if thread.is_alive() and thread.name.startswith("fleet-")
        ]
        children = [
            child
            for child in me.children(recursive=True)
            if child.pid not in children_before and child.status() != psutil.STATUS_ZOMBIE
        ]
        if not threads and not children:
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    pytest.fail(f"left running: threads {threads}, processes {children}")
