"""The lock that keeps a second fleet of a user from starting on a machine."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from fleet import paths
from fleet.errors import ConflictError, FleetError
from fleet.run_file import RunFile, fleet_lock, fleet_pid, write_run_file

HOLD = """
import sys
from fleet.run_file import fleet_lock
with fleet_lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(home):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_it_tells_who_holds_it_and_is_gone_afterwards(home):
    assert fleet_pid() is None
    with fleet_lock():
        assert fleet_pid() == os.getpid()
    assert fleet_pid() is None
    assert list(paths.runtime_folder().iterdir()) == []


def test_a_second_fleet_is_told_about_the_first(holder):
    with pytest.raises(ConflictError, match=f"process {holder.pid}") as refused, fleet_lock():
        pass
    assert "fleet down" in refused.value.hint
    assert fleet_pid() == holder.pid


def test_it_is_free_when_its_holder_was_killed(holder):
    write_run_file(RunFile(pid=holder.pid, started=time.time(), redis={"agent": "secret"}))
    holder.kill()
    holder.wait()
    assert paths.lock_file().exists()
    assert fleet_pid() is None
    with fleet_lock():
        assert not paths.run_file().exists()
        assert fleet_pid() == os.getpid()


def test_another_process_of_the_same_number_is_not_the_holder(home):
    with fleet_lock():
        before = psutil.Process().create_time() - 60
        os.utime(paths.lock_file(), (before, before))
        assert fleet_pid() is None


def test_a_lock_whose_file_was_removed_locks_nothing(home):
    """Between opening and locking it the holder may have ended and taken the file away."""
    with fleet_lock():
        paths.lock_file().unlink()
        with fleet_lock():
            assert fleet_pid() == os.getpid()


def test_a_folder_that_cannot_be_written_is_named(home):
    (home / "state").write_text("a file")
    with pytest.raises(FleetError, match="cannot write") as refused, fleet_lock():
        pass
    assert "XDG_STATE_HOME" in refused.value.hint
