"""Every error becomes one message, a hint and its documented exit code, without a traceback."""

import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from agents.errors import AcceleratorError, AgentError, StreamError, StreamRefused
from fleet import __version__, cli
from fleet import app as fleet_app
from fleet.errors import (
    ConfigError,
    ConflictError,
    ExitCode,
    FleetError,
    InputError,
    NoFleetError,
    StoreError,
)
from models.errors import ArtifactError, ManifestError, ModelError


def run(*args, **options):
    return CliRunner().invoke(cli.app, args, **options)


def fleet(*args, **options):
    command = [sys.executable, "-m", "fleet", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def failing(monkeypatch):
    """Let every command that needs a fleet fail with a given error."""

    def fail_with(error):
        def fail():
            raise error

        monkeypatch.setattr(fleet_app, "open_client", fail)

    return fail_with


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FleetError("x"), ExitCode.FAILED),
        (StoreError("x"), ExitCode.FAILED),
        (ConfigError("x"), ExitCode.INPUT),
        (InputError("x"), ExitCode.INPUT),
        (NoFleetError("x"), ExitCode.NO_FLEET),
        (ConflictError("x"), ExitCode.CONFLICT),
        (ModelError("x"), ExitCode.MODEL),
        (ManifestError("x"), ExitCode.MODEL),
        (ArtifactError("x"), ExitCode.MODEL),
        (AcceleratorError("x"), ExitCode.ACCELERATOR),
        (StreamError("x"), ExitCode.INPUT),
        (StreamRefused("x"), ExitCode.INPUT),
        (AgentError("x"), ExitCode.FAILED),
        (OSError(28, "No space left on device", "/cache/x"), ExitCode.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_errors_become_a_message_and_an_exit_code(failing, error, code):
    failing(error)
    result = run("status")
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_the_hint_follows_the_message(failing):
    failing(NoFleetError("no fleet runs here", hint="start one with: fleet up"))
    result = run("status", "--json")
    assert result.stderr == "error: no fleet runs here\nhint: start one with: fleet up\n"
    assert result.stdout == ""


def test_a_full_disk_is_named(failing):
    failing(OSError(28, "No space left on device", "/cache/x"))
    assert run("status").stderr == "error: No space left on device: /cache/x\n"


def test_debug_shows_the_traceback(failing):
    failing(FleetError("broken"))
    for result in (run("--debug", "status"), run("status", env={"FLEET_DEBUG": "1"})):
        assert "Traceback (most recent call last)" in result.stderr
        assert result.stderr.endswith("error: broken\n")
        assert result.exit_code == ExitCode.FAILED


def test_our_own_bugs_are_not_dressed_up(failing):
    failing(ZeroDivisionError("bug"))
    assert isinstance(run("status").exception, ZeroDivisionError)


def test_ctrl_c_ends_with_130(failing):
    failing(KeyboardInterrupt())
    result = run("status")
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "Traceback" not in result.stderr


def test_version():
    assert run("--version").stdout == f"posefleet {__version__}\n"


def test_the_help_documents_every_exit_code():
    text = run("--help").stdout
    codes = text[text.index("Exit codes:") :]
    for code in ExitCode:
        assert f" {code.value} " in codes, code


def test_the_help_of_a_command_is_the_one_that_typer_prints(home):
    for words in (["tail"], ["stream", "add"], ["models"], []):
        short, long = fleet(*words, "-h"), fleet(*words, "--help")
        assert short.returncode == long.returncode == ExitCode.OK
        expected = run(*words, "--help", prog_name="fleet").stdout
        assert short.stdout == long.stdout
        assert short.stdout.split() == expected.split()  # whatever the width of the terminal
    assert (
        fleet("stream", "add", "x", "--fps", "1", "--help").stdout
        == fleet("stream", "add", "--help").stdout
    )
    assert fleet("nonsense", "--help").returncode == ExitCode.USAGE


@pytest.mark.parametrize("args", [["nonsense"], ["tail"], ["tail", "x", "--count", "0"], ["--x"]])
def test_a_wrong_command_line_ends_with_2(args):
    result = run(*args)
    assert result.exit_code == ExitCode.USAGE
    assert "Usage: " in result.stderr


def test_without_a_fleet(home):
    result = fleet("status")
    assert result.returncode == ExitCode.NO_FLEET
    assert result.stdout == ""
    assert result.stderr.startswith("error: no fleet runs on this machine\nhint: ")


def test_a_reader_that_leaves_is_no_error(home):
    command = f"{sys.executable} -m fleet config schema | true"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    result = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, env=environment,
    )  # fmt: skip
    assert result.stderr == ""
    assert result.stdout == "0\n"


def test_sigint_of_a_real_process_ends_with_130(home, tmp_path):
    fifo = tmp_path / "config.yaml"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet", "config", "check", str(fifo)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # Opening for writing returns once the process has opened the other end: it is in the command.
    with fifo.open("w"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED
    assert (out, err) == ("", "")
