"""`--help` is there at once because nothing heavy is imported for it."""

import subprocess
import sys

import pytest
from typer.main import get_command

from fleet.cli import app

HEAVY = (
    "ray", "openvino", "cv2", "numba", "av", "numpy", "redis", "pydantic", "rich", "yaml",
    "psutil", "platformdirs", "asyncio",
)  # fmt: skip

PROBE = """
import sys
sys.argv = ["fleet", *sys.argv[1:]]
from fleet import cli
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, loaded
"""


def loads_nothing_heavy(*args):
    command = [sys.executable, "-c", PROBE.format(heavy=HEAVY), *args]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def subcommands():
    """Every command and group of the application, as words."""

    def walk(command, words):
        yield words
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, (*words, name))

    return list(walk(get_command(app), ()))


@pytest.mark.parametrize("words", subcommands(), ids=" ".join)
def test_help_loads_nothing_heavy(words):
    assert "Usage: fleet" in loads_nothing_heavy(*words, "--help")


def test_version_loads_nothing_heavy():
    assert loads_nothing_heavy("--version").startswith("posefleet ")
