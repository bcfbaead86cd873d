"""`fleet config schema|check`."""

import json

from typer.testing import CliRunner

from fleet import cli
from fleet.config.schema import config_schema
from fleet.errors import ExitCode


def run(*args):
    return CliRunner().invoke(cli.app, ["config", *map(str, args)])


def test_schema_prints_the_schema():
    result = run("schema")
    assert result.exit_code == ExitCode.OK
    assert json.loads(result.stdout) == config_schema()


def test_check_of_a_right_file(tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text("version: 1\nstreams: [{id: a, url: 'sample:'}]\n")
    assert run("check", path).stdout == f"{path} is valid: 1 stream\n"
    assert json.loads(run("check", path, "--json").stdout) == {
        "file": str(path), "valid": True, "problems": [],
    }  # fmt: skip


def test_check_of_a_wrong_file(tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text("version: 1\nmodle: x\nzzz: 1\n")
    result = run("check", path)
    assert result.exit_code == ExitCode.INPUT
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == f"error: {path} has 2 errors:"
    assert lines[1] == f"  {path}:2:1: unknown key `modle`; did you mean `model`?"
    assert lines[3].startswith("hint: ")

    result = run("check", path, "--json")
    assert result.exit_code == ExitCode.INPUT
    document = json.loads(result.stdout)
    assert document["valid"] is False
    assert document["problems"][0] == {
        "line": 2, "column": 1, "key": "", "message": "unknown key `modle`",
        "suggestion": "did you mean `model`?",
    }  # fmt: skip


def test_check_of_no_file(tmp_path):
    result = run("check", tmp_path / "none.yaml", "--json")
    assert result.exit_code == ExitCode.INPUT
    assert result.stdout == ""
    assert "no configuration file" in result.stderr
