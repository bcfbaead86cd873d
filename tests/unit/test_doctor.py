"""`fleet doctor`: every kind of finding, each with its level and what to do."""

import json
import os
import shutil
import sys
import time
from collections import namedtuple
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest
from builders import make_accelerator, make_heartbeat
from pose_reports import make_advert
from typer.testing import CliRunner

from agents.telemetry.redis_sink import RedisSink
from fleet import cli, doctor
from fleet.doctor import Finding, examine, probe_node
from fleet.errors import ExitCode, FleetError
from fleet.run_file import RunFile, write_run_file
from fleet.store.embedded import EmbeddedRedis
from models.artifacts import model_files
from models.catalog import DEFAULT_MODEL, load_manifest

Usage = namedtuple("Usage", "total used free")

pytestmark = pytest.mark.usefixtures("home")


def the(check) -> Finding:
    """The only finding of a check."""
    [finding] = check()
    assert finding.message
    assert bool(finding.fix) == (finding.level != "ok")
    return finding


def program(path, text) -> str:
    """Write an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Replace the interpreter of child processes by a script."""

    def replace(text):
        monkeypatch.setattr(sys, "executable", program(tmp_path / "python", text))

    return replace


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a posefleet of our own making before the real one."""

    def install(record):
        info = tmp_path / "site" / "posefleet-9.9.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: posefleet\nVersion: 9.9\n")
        (info / "RECORD").write_text(record)
        monkeypatch.syspath_prepend(tmp_path / "site")
        return info.parent

    return install


def test_an_intact_installation(installed):
    # sha256 of nothing, as an installer writes it.
    site = installed("a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\na.pyc,,\n")
    (site / "a.py").touch()
    assert the(doctor._installation) == Finding("installation", "ok", "posefleet 9.9 is intact")


def test_a_changed_and_a_missing_file_are_named(installed):
    installed("a.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\nb.py,sha256=x,1\n")
    finding = the(doctor._installation)
    assert finding.level == "error"
    assert "2 installed files were changed: a.py, b.py" in finding.message


def test_no_installation(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "distribution", missing)
    assert the(doctor._installation).level == "error"


def test_a_package_of_our_name_by_somebody_else(monkeypatch):
    monkeypatch.setattr(doctor, "_is_ours", lambda package: package != "models")
    finding = the(doctor._installation)
    assert (finding.level, finding.message) == ("error", "another package provides models")


def test_versions(monkeypatch):
    assert [each.level for each in doctor._versions()] == ["ok", "ok"]
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    monkeypatch.setattr(doctor, "LIBRARIES", ("numpy", "no-such-library"))
    python, libraries = doctor._versions()
    assert (python.level, python.fix) == ("error", "every node of a fleet runs Python 3.11")
    assert (libraries.level, libraries.message) == ("error", "missing: no-such-library")


@pytest.mark.parametrize(
    ("script", "level", "words"),
    [
        ("echo 2.60.7", "ok", "2.60.7"),
        ("echo 2.59.0", "error", "version 2.59.0"),
        ("echo 'ImportError: no libray' >&2; exit 1", "error", "ImportError: no libray"),
        ("exit 9", "error", "exit 9"),
        ("exec sleep 60", "error", "hung"),
    ],
)
def test_ray(python, monkeypatch, script, level, words):
    python(script)
    if "sleep" in script:
        monkeypatch.setattr(doctor, "PROBE_TIMEOUT_S", 0.2)
    finding = the(doctor._ray)
    assert finding.level == level
    assert words in finding.message


def test_the_embedded_redis(monkeypatch, tmp_path):
    assert "v=" in the(doctor._redis).message
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    finding = the(doctor._redis)
    assert finding.level == "warning"
    assert "--redis URL" in finding.fix
    program(tmp_path / "bin" / "valkey-server", "exit 127")
    finding = the(doctor._redis)
    assert (finding.level, finding.fix) == ("error", "use --redis URL")


def test_accelerators_and_what_a_driver_complains_of(python):
    advert = make_advert(accelerators=(make_accelerator(),)).to_json()
    python(f"echo 'driver x: no libx' >&2; echo '{advert}'")
    found, complaint = doctor._accelerators()
    assert (found.level, found.message) == ("ok", "pi/cpu:CPU: A processor, computes in f32")
    assert (complaint.level, complaint.message) == ("warning", "driver x: no libx")
    assert complaint.fix


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"echo '{make_advert(accelerators=()).to_json()}'", "none found"),
        ("echo gibberish", "answered nonsense"),
        ("kill -SEGV $$", "exit -11"),
    ],
)
def test_a_probe_that_brings_nothing_is_an_error(python, script, words):
    python(script)
    finding = the(doctor._accelerators)
    assert finding.level == "error"
    assert words in finding.message


def test_a_probe_that_hangs_is_given_up(python):
    python("exec sleep 60")
    with pytest.raises(FleetError, match="hung for 0 s"):
        probe_node(timeout_s=0.2)


def test_the_default_model():
    finding = the(doctor._model)
    assert (finding.level, finding.fix) == ("warning", f"run `fleet models pull {DEFAULT_MODEL}`")
    first = doctor.verify(model_files(load_manifest(DEFAULT_MODEL)))[0].path
    first.parent.mkdir(parents=True)
    first.write_bytes(b"not a network")
    finding = the(doctor._model)
    assert finding.level == "error"
    assert str(first) in finding.message


@pytest.mark.parametrize(
    ("free", "level"), [(50_000_000, "error"), (500_000_000, "warning"), (5_000_000_000, "ok")]
)
def test_the_disk(monkeypatch, free, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 0, free))
    cache, state = doctor._disk()
    assert (cache.level, state.level) == (level, level)
    assert ("cache folder" in cache.message, "state folder" in state.message) == (True, True)
    assert bool(cache.fix) == (level != "ok")


def test_small_shared_memory(monkeypatch):
    assert the(doctor._memory).level == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(2**26, 0, 2**26))
    _, shared = doctor._memory()
    assert (shared.check, shared.level) == ("shared memory", "warning")
    assert "--shm-size" in shared.fix


@pytest.mark.parametrize(("answer", "level"), [(0, "ok"), (5, "warning")])
def test_the_clock(monkeypatch, answer, level):
    kernel = SimpleNamespace(adjtimex=lambda _: answer)
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda _: kernel)
    assert the(doctor._clock).level == level


def test_a_machine_without_that_clock(monkeypatch):
    monkeypatch.setattr(doctor.ctypes, "CDLL", lambda _: object())
    assert the(doctor._clock).level == "warning"


def test_no_fleet():
    assert the(doctor._fleet) == Finding("fleet", "ok", "none runs on this machine")


def test_a_fleet_whose_redis_is_gone():
    write_run_file(
        RunFile(
            pid=os.getpid(), started=time.time(), redis={"consumer": "redis://u:p@127.0.0.1:1/0"}
        )
    )
    finding = the(doctor._fleet)
    assert finding.level == "error"
    assert "cannot be reached" in finding.message


@pytest.mark.integration
def test_a_fleet_with_and_without_a_sign_of_life(home):
    server = EmbeddedRedis()
    server.start()
    try:
        roles = {role: server.url(role) for role in ("agent", "consumer")}
        write_run_file(RunFile(pid=os.getpid(), started=time.time(), redis=roles))
        sink = RedisSink(roles["agent"])
        sink.publish_advert(make_advert(accelerators=(make_accelerator(),)))
        sink.close(5)
        finding = the(doctor._fleet)
        assert finding.level == "error"
        assert "no sign of life from pi/cpu:CPU" in finding.message
        sink = RedisSink(roles["agent"])
        sink.publish_heartbeat(make_heartbeat())
        sink.close(5)
        finding = the(doctor._fleet)
        assert finding.level == "ok"
        assert "serves 0 streams" in finding.message
    finally:
        server.stop()


def test_the_command_shows_each_finding_and_fails_on_an_error(monkeypatch):
    found = [
        Finding("disk", "ok", "room enough"),
        Finding("clock", "warning", "not synchronized", "run NTP"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: iter(found))
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines() == [
        "ok       disk: room enough",
        "warning  clock: not synchronized",
        "         -> run NTP",
    ]
    found.append(Finding("ray", "error", "gone", "install it"))
    result = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert result.exit_code == ExitCode.UNHEALTHY
    assert json.loads(result.stdout)["findings"][2] == {
        "check": "ray", "level": "error", "message": "gone", "fix": "install it",
    }  # fmt: skip


@pytest.mark.integration
def test_this_machine_is_examined_without_an_exception():
    checks = [finding.check for finding in examine()]
    assert {"installation", "python", "ray", "embedded redis", "disk", "clock", "fleet"} <= {
        *checks
    }
