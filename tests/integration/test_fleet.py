"""`fleet up` to `fleet down` on this machine: real Redis, Ray, OpenVINO and poses."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import termios
import time
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from fleet_process import MODEL, WAIT_S, eventually, family_of, interrupt, is_alive, make_home, tell

from fleet.errors import StoreError
from fleet.store.embedded import find_server
from fleet.store.redis_store import RedisStore

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SCENE = "synthetic:?people=3"


@pytest.fixture
def home(tmp_path_factory):
    return make_home(tmp_path_factory)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """A fleet that runs in the background, started where folders are named like our packages."""
    home = make_home(tmp_path_factory)
    for name in ("fleet", "agents", "models"):
        (home.folder / name).mkdir()
        (home.folder / name / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    (home.folder / ".ray").mkdir()
    (home.folder / ".ray" / "auth_token").write_text("a stray token")
    manifest = resources.files("models") / "manifests" / f"{MODEL}.yaml"
    shutil.copy(str(manifest), home.folder / "network.yaml")
    begun = time.monotonic()
    home.ok("up", "--detach", "--stream", SCENE, "--model", "network.yaml")
    up_s = time.monotonic() - begun
    home.wait_pose()
    tell(f"first pose after {time.monotonic() - begun:.1f} s, `up --detach` {up_s:.1f} s")
    yield home
    traces = home.traces()
    begun = time.monotonic()
    pid = home.run_file().pid
    assert home.json("down") == {"ended": pid}
    tell(f"`fleet down` took {time.monotonic() - begun:.1f} s")
    traces.assert_gone()


def test_tail_prints_reports_of_the_documented_shape(fleet):
    reports = [
        json.loads(line)
        for line in fleet.ok("tail", "synthetic", "--count", 3, "--json").splitlines()
    ]
    assert len(reports) == 3
    for report in reports:
        assert set(report) == {
            "stream", "sequence", "captured_at", "latency_ms", "accelerator", "model", "poses",
        }  # fmt: skip
        assert (report["stream"], report["model"]) == ("synthetic", MODEL)
        assert 0 < report["latency_ms"] < 60_000
        assert abs(report["captured_at"] - time.time()) < 600
        for pose in report["poses"]:
            assert set(pose) == {"score", "track_id", "keypoints"}
            assert len(pose["keypoints"]) == 17
            assert set(pose["keypoints"][0]) == {"name", "x", "y", "score"}
    assert any(report["poses"] for report in reports)
    sequences = [report["sequence"] for report in reports]
    assert sequences == sorted(set(sequences))


def test_status_tells_what_runs(fleet):
    def measured():
        found = fleet.json("status")
        # A busy machine may warn of something while the fleet starts; it must not last.
        is_calm = found["fps"] > 0 and not found["warnings"] and not found["streams"][0]["error"]
        return found if is_calm and found["streams"][0]["latency_ms"] else None

    found = eventually(measured)
    [stream], [accelerator] = found["streams"], found["accelerators"]
    assert (stream["id"], stream["state"], stream["error"]) == ("synthetic", "streaming", "")
    latency = stream["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert accelerator["state"] == "ready"
    assert accelerator["id"] == stream["accelerator"]
    assert accelerator["streams"] == ["synthetic"]
    assert found["warnings"] == []
    lost = sum(stream["dropped"].values())
    assert stream["captured"] == stream["published"] + lost + stream["in_flight"]


def test_nodes_and_streams_are_listed(fleet):
    [node] = fleet.json("nodes")["nodes"]
    assert [each["kind"] for each in node["accelerators"]].count("cpu") == 1
    [stream] = fleet.json("stream", "list")["streams"]
    assert (stream["url"], stream["origin"]) == (SCENE, "config")


def test_a_stream_comes_and_goes_while_the_fleet_runs(fleet):
    added = fleet.json("stream", "add", "synthetic:?people=1&fps=10", "--id", "hall")["stream"]
    # The network that the fleet was started with, by a path that means the same everywhere.
    assert added["model"] == str(fleet.folder / "network.yaml")
    fleet.wait_pose("hall")
    fleet.ok("stream", "rm", "hall")
    eventually(lambda: [s["id"] for s in fleet.json("status")["streams"]] == ["synthetic"])
    eventually(lambda: fleet.json("status")["accelerators"][0]["streams"] == ["synthetic"])
    with contextlib.closing(fleet.store()) as store:
        kinds = [each.event.kind for each in store.events() if each.event.subject == "hall"]
    assert kinds == ["stream-added", "stream-placed", "stream-removed"]


def test_it_listens_on_the_loopback_interface_only(fleet):
    addresses = {address.removeprefix("::ffff:") for address, _ in fleet.traces().addresses}
    assert addresses == {"127.0.0.1"}


def test_secrets_are_private_and_in_no_log_and_no_command_line(fleet):
    run, traces = fleet.run_file(), fleet.traces()
    token = traces.ray_folder / "token"
    for path in (fleet.state / "run" / "fleet.json", token):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(traces.ray_folder.stat().st_mode) == 0o700
    secrets = [token.read_text(), *(url.split("@")[0].split(":")[2] for url in run.redis.values())]
    seen = " ".join(" ".join(process.cmdline()) for process in traces.family)
    for log in (file for file in fleet.logs.rglob("*") if file.is_file()):
        seen += log.read_text(errors="replace")
    assert "agent-ready" in seen
    assert not [secret for secret in secrets if secret in seen]


def test_the_logs_tell_the_story(fleet):
    told = (fleet.logs / "fleet.log").read_text()
    parts = ("stream-added synthetic", "agent-ready", "stream-placed synthetic")
    assert [told.index(part) for part in parts] == sorted(told.index(part) for part in parts)
    assert f"stream {SCENE} is streaming" in (fleet.logs / "agent-cpu-CPU.log").read_text()


def test_a_token_of_another_ray_is_neither_used_nor_changed(fleet):
    folder = fleet.folder / ".ray"
    assert [each.name for each in folder.iterdir()] == ["auth_token"]
    assert (folder / "auth_token").read_text() == "a stray token"


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 3])
def test_a_signal_ends_everything(home, signals):
    with home.foreground("--stream", SCENE) as process:
        run = home.wait_ready()
        assert run.pid == process.pid
        home.wait_pose()
        traces = home.traces()
        begun = time.monotonic()
        for number in signals:
            interrupt(process, number)
            time.sleep(0.1)  # like a person who presses again
        output, _ = process.communicate(timeout=10)
        tell(f"ended {time.monotonic() - begun:.1f} s after {signals[0].name}")
        assert process.returncode == 0, output
        assert "Traceback" not in output
        assert "ending the fleet" in output
        traces.assert_gone(timeout_s=1)
    assert not (home.folder / ".ray").exists()


@pytest.mark.parametrize("phase", ["gcs_server", "raylet", "ray::"])
def test_ctrl_c_while_ray_starts_leaves_nothing(home, phase):
    def has_begun():
        return any(each.name().startswith(phase) for each in family_of(process.pid))

    with home.foreground("--stream", SCENE) as process:
        eventually(has_begun)
        family = family_of(process.pid)
        folder = next(Path(each.cwd()) for each in family if each.name() == "gcs_server")
        assert folder.name.startswith("pf-ray-")
        interrupt(process)
        output, _ = process.communicate(timeout=20)
        assert process.returncode in (0, 130), output
        assert "Traceback" not in output
        eventually(lambda: not [each for each in family if is_alive(each)], 5)
        assert not folder.exists()
        assert list((home.state / "run").iterdir()) == []


def test_the_live_view_shows_streams_and_accelerators_until_ctrl_c(home):
    """In a terminal of 160 columns, with a person's Ctrl-C."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))

    def own_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        home.command("up", "--stream", SCENE), stdin=follower, stdout=follower, stderr=follower,
        env={**home.env(), "TERM": "xterm"}, cwd=home.folder, start_new_session=True,
        preexec_fn=own_terminal,
    )  # fmt: skip
    os.close(follower)
    shown = ""

    def read_until(pattern):
        nonlocal shown
        deadline = time.monotonic() + WAIT_S
        while not re.search(pattern, shown, re.DOTALL):
            assert time.monotonic() < deadline, shown[-3000:]
            assert select.select([leader], [], [], WAIT_S)[0], shown[-3000:]
            shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(leader, 65536).decode())

    try:
        read_until(r"STREAM +STATE +ACCELERATOR +IN/S +OUT/S +PEOPLE +P50 MS +P95 MS +P99 MS")
        read_until(r"ACCELERATOR +NAME +STATE +PRECISION +STREAMS +OUT/S")
        read_until(r"synthetic +streaming +\S+cpu:CPU +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+")
        read_until(r"stream-placed synthetic")
        traces = home.traces()
        os.write(leader, b"\x03")
        read_until(r"ending the fleet")
        assert process.wait(10) == 0
        traces.assert_gone(timeout_s=1)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def test_a_camera_that_does_not_answer_disturbs_no_other_stream(home):
    picture = home.folder / "pictures" / "grey.png"
    picture.parent.mkdir()
    cv2.imwrite(str(picture), np.full((120, 160, 3), 128, np.uint8))
    config = home.folder / "configs" / "lab.yaml"
    config.parent.mkdir()
    config.write_text(
        f"""version: 1
streams:
  - id: scene
    url: {SCENE}
  - id: dead
    url: rtsp://user:hunter2@127.0.0.1:1/live
  - id: picture
    url: ../pictures/grey.png?loop=1&fps=5
"""
    )
    with home.foreground("configs/lab.yaml") as process:
        home.wait_ready()
        for stream in ("scene", "picture"):
            home.wait_pose(stream)

        def streams():
            found = {each["id"]: each for each in home.json("stream", "list")["streams"]}
            return found if found["dead"]["error"] else None

        found = eventually(streams)
        assert found["dead"]["state"] == "connecting"
        assert "127.0.0.1:1" in found["dead"]["error"]
        assert found["scene"]["state"] == found["picture"]["state"] == "streaming"
        assert found["scene"]["fps_out"] > 0
        assert any("dead" in warning for warning in home.json("status")["warnings"])
        interrupt(process)
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 0
    logs = "".join(log.read_text() for log in home.logs.glob("*.log"))
    assert "hunter2" not in output + logs


def test_an_existing_redis_is_used_and_left_alone(home):
    port = _free_port()
    settings = f"port {port}\nbind 127.0.0.1\nsave ''\nrequirepass sesame\ndir {home.folder}\n"
    server = subprocess.Popen(
        [find_server(), "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        with server.stdin as stdin:
            stdin.write(settings.encode())
        url = f"redis://:sesame@127.0.0.1:{port}/0"
        eventually(lambda: _answers(url))
        home.ok("up", "--detach", "--stream", SCENE, "--redis", url)
        traces = home.traces()
        assert not [each for each in traces.family if "valkey" in each.name()]
        assert "sesame" not in " ".join(" ".join(each.cmdline()) for each in traces.family)
        home.wait_pose()
        home.ok("down")
        traces.assert_gone()
        assert server.poll() is None
        with contextlib.closing(RedisStore(url)) as store:
            assert [spec.id for spec in store.streams()] == ["synthetic"]
        assert not (home.state / "redis").exists()
        logs = "".join(log.read_text() for log in home.logs.glob("*.log"))
        assert "sesame" not in logs
    finally:
        server.kill()
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(url: str) -> bool:
    try:
        RedisStore(url).close()
    except StoreError:
        return False
    return True
