"""The run file: private, replaced in one step, ignored when its fleet is dead."""

import os
import stat
import subprocess
import sys
import time

import psutil
import pytest

from fleet import paths
from fleet.errors import ConflictError, FleetError
from fleet.run_file import RunFile, read_run_file, remove_run_file, write_run_file


def make_run(**fields):
    defaults = {
        "pid": os.getpid(),
        "started": time.time(),
        "redis": {"consumer": "redis://consumer:secret@127.0.0.1:1/0"},
    }
    return RunFile(**{**defaults, **fields})


def test_folders_are_those_of_xdg_at_the_time_of_the_call(home, monkeypatch):
    assert paths.cache_folder() == home / "cache" / "posefleet"
    assert paths.data_folder() == home / "data" / "posefleet"
    assert paths.state_folder() == home / "state" / "posefleet"
    assert paths.redis_folder() == home / "state" / "posefleet" / "redis"
    assert paths.run_file() == home / "state" / "posefleet" / "run" / "fleet.json"
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "elsewhere"))
    assert paths.state_folder() == home / "elsewhere" / "posefleet"
    assert [path.name for path in home.iterdir()] == ["run"]


def test_no_fleet_no_run_file(home):
    assert read_run_file() is None
    remove_run_file(os.getpid())


def test_what_is_written_is_read_and_only_its_owner_may(home):
    run = make_run(namespace="lab")
    path = write_run_file(run)

    assert read_run_file() == run
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["fleet.json"]


def test_passwords_do_not_show_in_its_text():
    assert "secret" not in repr(make_run())


def test_the_file_of_a_dead_fleet_is_ignored_and_replaced(home):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_run_file(make_run(pid=ended.pid))

    assert read_run_file() is None
    write_run_file(make_run())
    assert read_run_file() is not None


def test_a_process_that_inherited_the_number_is_not_the_fleet(home):
    born = psutil.Process().create_time()
    assert make_run(started=born + 5).is_running()
    assert not make_run(started=born - 60).is_running()


def test_a_second_fleet_is_refused_by_the_number_of_the_first(home):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        write_run_file(make_run(pid=other.pid))
        with pytest.raises(ConflictError, match=str(other.pid)) as caught:
            write_run_file(make_run())
        assert "fleet down" in caught.value.hint


def test_only_the_owner_removes_it(home):
    path = write_run_file(make_run())
    remove_run_file(os.getpid() + 1)
    assert path.exists()
    remove_run_file(os.getpid())
    assert not path.exists()


def test_a_file_that_is_not_ours_is_named(home):
    path = write_run_file(make_run())
    path.write_text('{"pid": "many"}')
    with pytest.raises(FleetError, match=str(path)):
        read_run_file()
    remove_run_file(os.getpid())
    assert path.exists()


def test_a_folder_that_others_may_write_is_refused(home):
    paths.runtime_folder().mkdir(parents=True)
    paths.runtime_folder().chmod(0o777)
    with pytest.raises(FleetError, match="written by others"):
        write_run_file(make_run())
