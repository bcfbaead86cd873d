"""`fleet models convert`: what it writes is read and run by the runtimes that it is written for."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import tiny_network
import yaml
from conftest import SHARED
from export_cases import expected, infer, noise
from infer_cases import noise as picture
from infer_cases import write_picture
from typer.testing import CliRunner

from fleet import cli
from fleet.convert import Agreement, agreement
from fleet.errors import ExitCode
from models.catalog import load_manifest
from models.convert import export, targets
from models.convert.edgetpu import compile_for_edgetpu
from models.errors import ConversionError
from models.poses import PoseSet
from models.skeletons import COCO17

pytestmark = pytest.mark.integration


@pytest.fixture
def manifest(home):
    """The path of a manifest of four convolutions, whose files lie beside it."""
    described = tiny_network.write(home / "published").model_dump(mode="json")
    described["sources"] = [{"folder": "published"}]
    path = home / "tiny.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


@pytest.fixture
def convert(manifest, home, monkeypatch):
    monkeypatch.chdir(home)

    def run(*words, name=manifest, code=ExitCode.OK):
        result = CliRunner().invoke(cli.app, ["models", "convert", str(name), *map(str, words)])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    return run


@pytest.fixture
def pictures(home):
    folder = home / "pictures"
    for index in range(7):
        write_picture(folder / f"{index}.png", picture(64, 48, seed=index))
    return folder


def extra_of(target):
    """Skip the test where the library that writes this target is not installed."""
    for known, library in (("onnx", "onnx"), ("tflite", "ai_edge_litert")):
        if target == known:
            pytest.importorskip(library)


TARGETS = [
    ("ir", "f16", 2e-3), ("ir", "f32", 1e-5), ("ir-v10", "f16", 2e-3), ("ir-v10", "f32", 1e-5),
    ("onnx", "f32", 1e-5), ("onnx", "f16", 4e-3), ("tflite", "f32", 1e-5),
]  # fmt: skip


@pytest.mark.parametrize(("target", "precision", "tolerance"), TARGETS)
def test_what_is_written_computes_what_the_weights_say(convert, target, precision, tolerance):
    extra_of(target)
    words = ("--to", target, "--precision", precision, "--size", "113x65", "--json")
    made = json.loads(convert(*words).stdout)
    assert made["size"] == "113x65"
    assert [each["shape"] for each in made["inputs"]] == [[1, 65, 113, 3]]
    image = noise(1, 65, 113, 3)
    for found, wanted in zip(infer(made["files"][0]["path"], image), expected(image), strict=True):
        np.testing.assert_allclose(found[0], wanted, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("target", ["ir", "ir-v10", "onnx", "tflite"])
def test_the_manifest_beside_it_makes_it_a_network_of_its_own(convert, home, target):
    extra_of(target)
    made = json.loads(convert("--to", target, "--json").stdout)
    described = load_manifest(made["manifest"])
    assert (
        described.name == made["name"] == f"tiny-{target}-" + made["folder"].split(f"{target}-")[1]
    )
    assert [file.path for file in described.files] == [
        Path(file["path"]).name for file in made["files"]
    ]
    picture = write_picture(home / "in" / "door.png")
    words = ["infer", str(picture), "--model", made["manifest"], "--json"]
    result = CliRunner().invoke(cli.app, words)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert made["name"] in result.stdout


def test_ir_takes_any_size_unless_one_is_given(convert):
    made = json.loads(convert("--to", "ir", "--json").stdout)
    assert made["size"] is None
    assert made["precision"] == "f16"
    assert made["inputs"][0]["shape"] == [1, None, None, 3]
    for size in ((49, 65), (17, 113)):
        image = noise(1, *size, 3)
        found = infer(made["files"][0]["path"], image)
        np.testing.assert_allclose(found[0][0], expected(image)[0], atol=1e-2)


def test_without_json_it_says_what_it_wrote(convert, home):
    result = convert("--to", "ir", "--out", "new/place")
    for name in ("network.xml", "network.bin", "manifest.yaml"):
        assert f"wrote new/place/{name}" in result.stdout
        assert (home / "new" / "place" / name).is_file()
    assert "1x?x?x3" in result.stdout


def test_int8_runs_and_shows_what_it_costs(convert, pictures, home):
    pytest.importorskip("nncf")
    words = ("--to", "ir", "-p", "int8", "--calibration", pictures, "--json")
    made = json.loads(convert(*words).stdout)
    assert made["agreement"]["pictures"] == 2
    assert made["agreement"]["people"] >= 0
    described = load_manifest(made["manifest"])
    assert described.name == "tiny-ir-65x49-int8"
    image = noise(1, 49, 65, 3)
    for found, wanted in zip(infer(made["files"][0]["path"], image), expected(image), strict=True):
        np.testing.assert_allclose(found[0], wanted, atol=0.02 * np.abs(wanted).max())
    assert not list(home.glob(".partial*"))


def test_int8_that_spoils_the_poses_is_warned_of(convert, pictures, monkeypatch):
    pytest.importorskip("nncf")
    monkeypatch.setattr("fleet.convert.compare", lambda *_: Agreement(0.5, 9, 2))
    result = convert("--to", "ir", "-p", "int8", "--calibration", pictures)
    assert "warning: the poses differ much" in result.stderr
    assert "9 people in 2 pictures" in result.stdout


def person():
    """A pose set of one person, all of whose keypoints are seen."""
    points = np.ones((1, 17, 3), np.float32)
    points[0, :, :2] = np.arange(34).reshape(17, 2)
    return PoseSet(COCO17, np.ones(1, np.float32), points)


def nobody():
    return PoseSet(COCO17, np.empty(0, np.float32), np.empty((0, 17, 3), np.float32))


def test_agreement_is_1_with_itself_and_0_with_nobody():
    one = person()
    assert agreement(one, one) == pytest.approx([1.0])
    assert agreement(one, nobody()) == [0.0]
    assert agreement(nobody(), one) == []


def test_agreement_falls_with_the_distance_and_leaves_out_who_has_no_size():
    one = person()
    values = []
    for shift in (0.1, 0.5, 2.0):
        moved = person()
        moved.keypoints[..., 0] += shift
        values += agreement(one, moved)
    assert 1 > values[0] > values[1] > values[2] > 0
    one.keypoints[0, 2:, 2] = 0  # two keypoints are seen
    assert agreement(one, one) == []


def refusals():
    """Words, exit code and a part of the message."""
    yield ("--to", "tar"), ExitCode.USAGE, "none of ir, ir-v10"
    yield ("--to", "ir", "-p", "int4"), ExitCode.USAGE, "none of f32, f16, int8"
    yield ("--to", "ir", "-s", "small"), ExitCode.USAGE, "WIDTHxHEIGHT"
    yield ("--to", "ir", "-s", "100x100"), ExitCode.MODEL, "does not take 100x100"
    yield ("--to", "ir-v10", "-p", "int8"), ExitCode.MODEL, "not written in int8"
    yield ("--to", "ir", "-p", "int8"), ExitCode.INPUT, "needs pictures"
    yield ("--to", "ir", "-p", "int8", "--calibration", "."), ExitCode.INPUT, "no picture"
    yield ("--to", "ir", "-p", "int8", "--calibration", "gone"), ExitCode.INPUT, "gone"
    yield ("--to", "ir", "--calibration", "."), ExitCode.USAGE, "only ir in int8"
    yield ("--to", "tflite", "-p", "int8"), ExitCode.MODEL, "not published as 8-bit TFLite"
    yield ("--to", "tflite", "-p", "f16"), ExitCode.MODEL, "not written in f16"
    yield ("--to", "edgetpu"), ExitCode.MODEL, "posenet-coral-075-edgetpu"
    yield ("--to", "ir", "--out", "tiny.yaml/x"), ExitCode.INPUT, "cannot write tiny.yaml/x"
    yield ("--to", "ir", "--out", "published"), ExitCode.INPUT, "is not empty"


@pytest.mark.parametrize(("words", "code", "message"), list(refusals()))
def test_a_wrong_order_is_one_clear_error_and_leaves_nothing(convert, home, words, code, message):
    pytest.importorskip("nncf")
    before = sorted(home.rglob("*"))
    result = convert(*words, code=code)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    left = [
        path
        for path in home.rglob("*")
        if path not in before and home / "cache" not in path.parents
    ]
    assert left in ([], [home / "cache"])


def test_one_picture_is_not_enough(convert, home):
    pytest.importorskip("nncf")
    write_picture(home / "one" / "a.png")
    result = convert("--to", "ir", "-p", "int8", "--calibration", "one", code=ExitCode.INPUT)
    assert "single picture" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(convert, home, monkeypatch):
    real = export.openvino.save_model

    def full(model, path, **options):
        real(model, path, **options)
        with Path("/dev/full").open("wb", buffering=0) as disk:
            disk.write(b"x")

    convert("--to", "ir", "--out", "first")  # fills the cache
    monkeypatch.setattr(export.openvino, "save_model", full)
    result = convert("--to", "ir", "--out", "a/second", code=ExitCode.FAILED)
    assert "cannot write a/second: No space left on device" in result.stderr
    assert not (home / "a").exists()


def test_a_library_that_is_missing_is_named_with_its_extra(convert, monkeypatch):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda _: None)
    result = convert("--to", "onnx", code=ExitCode.MODEL)
    assert "needs onnx" in result.stderr
    assert "posefleet[convert]" in result.stderr


# TFLite and the Edge TPU: the compiler is a small program that behaves like Google's.


@pytest.fixture
def coral(home):
    """A network that is published as TFLite; the test is skipped where its file is not."""
    name = "posenet_mobilenet_v1_075_353_481_quant.tflite"
    found = sorted((SHARED / "models" / "coral").rglob(name)) if SHARED.is_dir() else []
    if not found:
        pytest.skip(f"no {name} at {SHARED}")
    described = load_manifest("posenet-coral-075-int8").model_dump(mode="json")
    described |= {"sources": [{"folder": str(found[0].parent)}], "aliases": []}
    path = home / "coral.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


@pytest.fixture
def compiler(home, monkeypatch):
    """Return a function that puts an ``edgetpu_compiler`` on the PATH."""
    folder = home / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def write(script):
        path = folder / "edgetpu_compiler"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


def test_a_published_tflite_is_passed_on(convert, coral):
    made = json.loads(convert("--to", "tflite", "--json", name=coral).stdout)
    published = load_manifest(coral).model_file
    assert made["files"][0]["sha256"] == published.sha256
    assert made["inputs"][0]["dtype"] == "uint8"


def test_the_edge_tpu_compiler_is_run_and_its_log_shown(convert, coral, compiler):
    compiler('echo "Number of operations that will run on Edge TPU: 1"\n'
             'echo compiled > "$3/$(basename "$4" .tflite)_edgetpu.tflite"')  # fmt: skip
    made = json.loads(convert("--to", "edgetpu", "--json", name=coral).stdout)
    assert Path(made["files"][0]["path"]).read_text() == "compiled\n"
    assert len(made["files"]) == 1
    assert "run on Edge TPU: 1" in made["log"]
    assert load_manifest(made["manifest"]).needs == "edgetpu"


def test_what_the_edge_tpu_compiler_refuses_is_shown(convert, coral, compiler, home):
    compiler("echo 'Model not quantized' >&2; exit 1")
    result = convert("--to", "edgetpu", "--out", "tpu", name=coral, code=ExitCode.MODEL)
    assert "exit code 1" in result.stderr
    assert "Model not quantized" in result.stderr
    assert not (home / "tpu").exists()


def test_a_compiler_that_does_not_end_is_ended(home, compiler):
    compiler("exec sleep 60")
    with pytest.raises(ConversionError, match="did not end within"):
        compile_for_edgetpu(home / "a.tflite", home, timeout_s=0.2)
