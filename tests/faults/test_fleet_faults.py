"""What a fleet survives, what it recovers from, and how it says no."""

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import threading
import time

import psutil
import pytest
from fleet_process import WAIT_S, eventually, is_alive, make_home, tell

from fleet.errors import ExitCode

pytestmark = [pytest.mark.integration, pytest.mark.fault, pytest.mark.timeout(300)]

SCENE = "synthetic:?people=3"


@pytest.fixture
def home(tmp_path_factory):
    return make_home(tmp_path_factory)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """A fleet that every test leaves as it found it."""
    home = make_home(tmp_path_factory)
    home.ok("up", "--detach", "--stream", SCENE)
    home.wait_pose()
    yield home
    traces = home.traces()
    home.ok("down")
    traces.assert_gone()


@pytest.fixture
def reader(fleet):
    """Reads every pose report of the stream from now on, in a thread."""
    with Reader(fleet.client()) as reader:
        yield reader


class Reader:
    """Collects deliveries; survives an outage of Redis."""

    def __init__(self, client):
        self.deliveries = []
        self._client = client
        self._stop = threading.Event()
        self._poses = client.poses("synthetic", timeout_s=WAIT_S)
        self._thread = threading.Thread(target=self._read, name="fleet-test-reader")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _read(self):
        for delivery in self._poses:
            self.deliveries.append((time.monotonic(), delivery))
            if self._stop.is_set():
                return

    def wait_for(self, condition):
        """Return the first delivery, with its time, that fulfils the condition."""
        return eventually(
            lambda: next((each for each in list(self.deliveries) if condition(*each)), None)
        )


def epoch_of(delivery):
    return delivery.report.epoch


def assert_complete(deliveries):
    """Every report that was published has been delivered, in order, exactly once."""
    assert [each.missed for each in deliveries] == [0] * len(deliveries)
    for one, other in itertools.pairwise(deliveries):
        before, after = one.report, other.report
        if before.epoch == after.epoch:
            assert after.index == before.index + 1
        else:
            assert (after.epoch > before.epoch, after.index) == (True, 0)


def events_since(fleet, at):
    with contextlib.closing(fleet.store()) as store:
        return [each.event for each in store.events() if each.event.at >= at]


def kill_named(fleet, name):
    """Kill a process of the fleet as the kernel does when memory runs out; return when."""
    [victim] = [each for each in fleet.traces().family if name in each.name()]
    at = time.monotonic()
    victim.kill()
    return at


def test_a_killed_agent_is_replaced(fleet, reader):
    _, before = reader.wait_for(lambda _, delivery: delivery.report.poses)
    with contextlib.closing(fleet.store()) as store:
        [heartbeat] = store.heartbeats().values()
    wall, at = time.time(), time.monotonic()

    psutil.Process(heartbeat.pid).kill()

    again, after = reader.wait_for(lambda _, each: epoch_of(each) > epoch_of(before))
    tell(f"poses flow {again - at:.1f} s after the agent was killed")
    assert after.report.index == 0
    told = [(each.kind, each.subject) for each in events_since(fleet, wall)]
    agent = heartbeat.accelerator
    assert told == [
        ("agent-lost", agent), ("stream-waiting", "synthetic"),
        ("agent-ready", agent), ("stream-moved", "synthetic"),
    ] or told == [
        ("agent-lost", agent), ("stream-waiting", "synthetic"),
        ("agent-ready", agent), ("stream-placed", "synthetic"),
    ]  # fmt: skip
    with contextlib.closing(fleet.store()) as store:
        [replaced] = eventually(lambda: list(store.heartbeats().values()))
    assert replaced.pid != heartbeat.pid


def test_a_killed_redis_comes_back_and_no_report_is_lost(fleet, reader):
    reader.wait_for(lambda _, delivery: delivery)
    run = fleet.run_file()
    at = kill_named(fleet, "valkey")
    again, _ = reader.wait_for(lambda when, each: when > at + 0.2 and each.report.index)
    tell(f"poses flow {again - at:.1f} s after Redis was killed")
    # What was captured after the server was there again shows that the backlog is through.
    reader.wait_for(lambda _, each: each.report.captured_at > time.time() - 1)
    assert_complete([delivery for _, delivery in list(reader.deliveries)])
    assert fleet.run_file() == run
    assert fleet.json("status")["accelerators"][0]["lost"] == 0


def test_a_second_fleet_is_refused_and_disturbs_nothing(fleet, reader):
    _, before = reader.wait_for(lambda _, delivery: delivery)
    run = fleet.run_file()
    for detach in ((), ("--detach",)):
        second = fleet.run("up", "--plain", "--stream", "synthetic:", *detach)
        assert second.returncode == ExitCode.CONFLICT
        assert f"a fleet is already running on this machine (process {run.pid})" in second.stderr
        assert "fleet down" in second.stderr
    assert fleet.run_file() == run
    reader.wait_for(lambda _, each: each.report.sequence > before.report.sequence + 30)
    delivered = [delivery for _, delivery in list(reader.deliveries)]
    assert {epoch_of(each) for each in delivered} == {epoch_of(before)}


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_without_ray_the_fleet_ends_and_says_so(home, name):
    with home.foreground("--stream", SCENE, stderr=subprocess.PIPE) as process:
        home.wait_ready()
        home.wait_pose()
        traces = home.traces()
        at = kill_named(home, name)
        _, said = process.communicate(timeout=20)
        tell(f"the fleet had ended {time.monotonic() - at:.1f} s after {name} was killed")
        assert process.returncode == ExitCode.FAILED
        assert "error: Ray ended unexpectedly\nhint: " in said
        assert "Traceback" not in said
        traces.assert_gone(timeout_s=1)
    assert (home.logs / "ray" / "gcs_server.out").exists()


def test_after_a_kill_nothing_lives_on_and_the_next_start_works_at_once(home):
    home.ok("up", "--detach", "--stream", SCENE)
    traces, dead = home.traces(), home.run_file()
    at = time.monotonic()
    psutil.Process(dead.pid).kill()
    eventually(lambda: not [each for each in traces.family if is_alive(each)], 10)
    tell(f"everything had ended {time.monotonic() - at:.1f} s after `fleet up` was killed")
    traces.assert_gone(run_files=("fleet.json", "fleet.lock"))
    assert home.run("status").returncode == ExitCode.NO_FLEET
    assert home.json("down") == {"ended": None}

    home.ok("up", "--detach", "--stream", SCENE)
    home.wait_pose()
    assert home.run_file().pid != dead.pid
    traces = home.traces()
    home.ok("down")
    traces.assert_gone()


def test_at_once_means_at_once(home):
    """The next start does not wait for the processes of the killed one to be gone."""
    home.ok("up", "--detach", "--stream", SCENE)
    traces = home.traces()
    psutil.Process(home.run_file().pid).kill()
    home.ok("up", "--detach", "--stream", SCENE)
    home.wait_pose()
    eventually(lambda: not [each for each in traces.family if is_alive(each)], 10)
    traces = home.traces()
    home.ok("down")
    traces.assert_gone()


def test_the_folder_of_a_fleet_whose_reaper_was_killed_too_is_removed_by_the_next(home):
    home.ok("up", "--detach", "--stream", SCENE)
    traces = home.traces()
    for process in traces.family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    for process in traces.family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    eventually(lambda: not [each for each in traces.family if is_alive(each)], 10)
    assert traces.ray_folder.exists()
    os.utime(traces.ray_folder, (0, 0))
    home.ok("up", "--detach", "--stream", SCENE)
    assert not traces.ray_folder.exists()
    home.ok("down")


def test_a_fleet_that_hangs_is_ended_by_force(home):
    home.ok("up", "--detach", "--stream", SCENE)
    traces = home.traces()
    psutil.Process(home.run_file().pid).suspend()
    assert home.json("down", "--timeout", 1)["ended"]
    traces.assert_gone()


def refused(home, *args, code, lasting=()):
    """Run `fleet up`, which must fail, and see that it leaves nothing; return what it says."""
    family_before = {each.pid for each in psutil.process_iter()}
    result = home.run("up", "--plain", *args)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert "\nhint: " in result.stderr
    run = home.state / "run"
    assert not run.is_dir() or not list(run.iterdir())
    left = [
        each
        for each in psutil.process_iter()
        if each.pid not in family_before and "posefleet" in _where(each)
    ]
    assert left == []
    return result.stderr


def _where(process):
    with contextlib.suppress(psutil.Error):
        return f"{process.cwd()} {' '.join(process.cmdline())}"
    return ""


def write(home, text):
    path = home.folder / "fleet.yaml"
    path.write_text(f"version: 1\n{text}")
    return path


def test_a_taken_port_is_named(home):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = write(home, f"redis: {{port: {port}}}\n")
        said = refused(home, config, code=ExitCode.CONFLICT)
    assert f"port {port} is taken" in said
    assert f"process {os.getpid()}" in said


def test_an_accelerator_that_is_not_there_is_answered_with_what_is(home):
    config = write(home, "accelerators: [{kind: myriad}]\n")
    said = refused(home, config, code=ExitCode.INPUT)
    assert "none of the accelerators" in said
    assert "cpu:CPU" in said
    assert not (home.state / "redis").exists()


def test_an_unknown_network_is_refused_before_anything_is_started(home):
    said = refused(home, "--model", "posenet-mobilenet-750", code=ExitCode.MODEL)
    assert "posenet-mobilenet-750" in said
    assert "did you mean posenet-mobilenet-075" in said
    assert not (home.state / "redis").exists()
    detached = home.run("up", "--detach", "--model", "posenet-mobilenet-750")
    assert detached.returncode == ExitCode.MODEL
    assert detached.stderr == said


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("streams: [\n", 3, ""),
        ("strems: []\n", 2, "streams"),
        ("streams:\n  - {id: a, url: 'synthetic:', fps: fast}\n", 3, "fps"),
    ],
)
def test_a_broken_configuration_is_answered_with_its_line(home, text, line, words):
    config = write(home, text)
    said = refused(home, config, code=ExitCode.INPUT)
    assert f"{config}:{line}:" in said
    assert words in said
    assert not home.state.exists()


def test_a_state_folder_that_cannot_be_written_is_named(home):
    home.folder.joinpath("state").write_text("a file, not a folder")
    for detach in ((), ("--detach",)):
        result = home.run("up", "--plain", *detach)
        assert result.returncode == ExitCode.FAILED
        assert f"cannot write {home.state}" in result.stderr
        assert "hint: set XDG_STATE_HOME" in result.stderr


def test_a_full_disk_is_named_and_nothing_is_left(home):
    """On a file system of 32 KiB of its own, where the record of Redis finds no room."""
    if shutil.which("unshare") is None or not _can_mount(home):
        pytest.skip("this user may not mount a file system of its own")
    (home.folder / "state").mkdir()
    result = _in_small_state(home, " ".join(home.command("up", "--plain", "--stream", SCENE)))
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error: ") == 1
    assert "No space left" in result.stderr or "Redis" in result.stderr
    assert "hint: " in result.stderr
    assert result.stdout.endswith("left:\n")


def _can_mount(home):
    (home.folder / "state").mkdir(exist_ok=True)
    can = _in_small_state(home, "true").returncode == 0
    (home.folder / "state").rmdir()
    return can


def _in_small_state(home, command):
    mount = f"mount -t tmpfs -o size=32k tmpfs {home.folder / 'state'}"
    run = home.state / "run"
    script = f"{mount} || exit 99; {command}; code=$?; echo left: $(ls {run}); exit $code"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True,
        timeout=WAIT_S, env=home.env(), cwd=home.folder,
    )  # fmt: skip
