"""`fleet models list|pull|verify`, on a network of a few bytes that comes from a folder."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet import cli
from fleet.cli import complete
from fleet.errors import ExitCode
from models.catalog import list_manifests

MANIFEST = """
name: tiny
title: A network of two files
task: pose
license: Apache-2.0
attribution: nobody
homepage: https://example.org/
format: tfjs-graph
files:
  - {{role: model, path: model.json, size: 5, sha256: {model}}}
  - {{role: shard, path: shard.bin, size: 3, sha256: {shard}}}
sources: [{{folder: origin}}]
input: {{layout: NHWC, color: rgb, mean: 127.5, scale: 127.5, width: 257, height: 257, step: 16}}
outputs: {{heatmap: heatmap}}
stride: 16
skeleton: coco17
decoder: {{name: posenet}}
"""


def run(*args):
    return CliRunner().invoke(cli.app, ["models", *map(str, args)])


@pytest.fixture
def manifest(home):
    """A manifest whose files lie in a folder beside it."""
    (home / "origin").mkdir()
    (home / "origin" / "model.json").write_bytes(b"model")
    (home / "origin" / "shard.bin").write_bytes(b"abc")
    digests = {
        "model": hashlib.sha256(b"model").hexdigest(),
        "shard": hashlib.sha256(b"abc").hexdigest(),
    }
    path = home / "tiny.yaml"
    path.write_text(MANIFEST.format(**digests))
    return path


def states(result):
    return {
        file["path"].rpartition("/")[2]: file["state"]
        for model in json.loads(result.stdout)["models"]
        for file in model["files"]
    }


def test_list_names_every_network_of_the_catalog(home):
    found = json.loads(run("list", "--json").stdout)["models"]
    assert [each["name"] for each in found] == [each.name for each in list_manifests()]
    assert found[0]["license"] == "Apache-2.0"
    assert found[0]["bytes"] == sum(file.size for file in list_manifests()[0].files)
    assert all(each["is_cached"] is False for each in found)
    assert {each["task"] for each in found} >= {"pose"}
    assert "posenet-mobilenet-075" in run("list").stdout


def test_list_says_what_can_be_fetched_and_which_strides_there_are(home):
    found = {each["name"]: each for each in json.loads(run("list", "--json").stdout)["models"]}
    assert found["posenet-mobilenet-075"]["can_fetch"]
    assert found["posenet-mobilenet-075"]["strides"] == [8, 32]
    assert not found["posenet-mobilenet-050"]["can_fetch"]
    assert found["posenet-mobilenet-050"]["bytes"] == 0
    assert not found["bodypix-mobilenet-050"]["can_fetch"]
    line = next(row for row in run("list").stdout.splitlines() if "posenet-mobilenet-050" in row)
    assert "by hand" in line


def test_pulling_what_nobody_can_verify_says_where_it_is(home):
    result = run("pull", "posenet-mobilenet-050")
    assert result.exit_code == ExitCode.MODEL
    assert "checksums of its files are not known" in result.stderr
    assert "posenet/mobilenet/float/050/" in result.stderr
    assert "sha256" in result.stderr
    assert run("verify", "posenet-mobilenet-050").exit_code == ExitCode.MODEL
    assert not (home / "cache").exists()


def test_pulling_what_has_no_source_says_where_to_place_it(home):
    result = run("pull", "bodypix-050")
    assert result.exit_code == ExitCode.MODEL
    assert "no source is known" in result.stderr
    assert "place MobileNetV1-x050-stride16.onnx into" in result.stderr


def test_a_stride_of_a_network_shares_its_files(manifest):
    text = manifest.read_text().replace("stride: 16", "stride: 16\nvariant_of: other")
    manifest.write_text(text)
    [model] = json.loads(run("pull", manifest, "--json").stdout)["models"]
    assert all("/models/other/" in file["path"] for file in model["files"])


def test_pull_then_verify(manifest):
    assert states(run("verify", manifest, "--json")) == {
        "model.json": "missing", "shard.bin": "missing",
    }  # fmt: skip
    result = run("pull", manifest)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert result.stdout == "tiny is in the cache\n"
    assert "tiny: model.json" in result.stderr

    result = run("verify", manifest, "--json")
    assert result.exit_code == ExitCode.OK
    assert states(result) == {"model.json": "ok", "shard.bin": "ok"}


def test_pull_tells_a_program_where_the_files_are(manifest):
    [model] = json.loads(run("pull", manifest, "--json").stdout)["models"]
    assert model["name"] == "tiny"
    contents = {Path(file["path"]).read_bytes() for file in model["files"]}
    assert contents == {b"model", b"abc"}
    assert [file["size"] for file in model["files"]] == [5, 3]


def test_verify_names_what_is_damaged(manifest):
    [model] = json.loads(run("pull", manifest, "--json").stdout)["models"]
    shard = next(file["path"] for file in model["files"] if file["path"].endswith("shard.bin"))
    Path(shard).write_bytes(b"abX")
    result = run("verify", manifest, "--json")
    assert result.exit_code == ExitCode.MODEL
    assert states(result) == {"model.json": "ok", "shard.bin": "damaged"}
    assert "files of tiny are damaged" in result.stderr
    assert "fleet models pull" in result.stderr


def test_what_is_missing_is_an_error_only_when_it_was_named(home):
    result = run("verify", "--json")
    assert result.exit_code == ExitCode.OK
    assert set(states(result).values()) == {"missing"}
    result = run("verify", "posenet")
    assert result.exit_code == ExitCode.MODEL
    assert "model-stride16.json" in result.stdout


def test_a_source_that_lies_is_refused(manifest):
    (manifest.parent / "origin" / "shard.bin").write_bytes(b"xyz")
    result = run("pull", manifest)
    assert result.exit_code == ExitCode.MODEL
    assert "sha256" in result.stderr
    assert set(states(run("verify", manifest, "--json")).values()) == {"missing"}


def test_pull_needs_names_or_all(home):
    for args in (["pull"], ["pull", "posenet", "--all"]):
        assert run(*args).exit_code == ExitCode.USAGE


def test_an_unknown_network_is_named_with_the_nearest(home):
    for command in ("pull", "verify"):
        result = run(command, "posenet-mobilnet-075")
        assert result.exit_code == ExitCode.MODEL
        assert "posenet-mobilenet-075" in result.stderr


def test_the_shell_completes_names():
    assert complete.models("") == sorted(each.name for each in list_manifests())
    assert complete.models("posenet-mobilenet-1") == ["posenet-mobilenet-100"]
    assert complete.models("x") == []
