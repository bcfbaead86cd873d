"""`fleet models convert`: what it writes is read and run by the runtimes that it is written for."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny_network
import yaml
from conftest import SHARED
from infer_cases import noise as picture
from infer_cases import write_picture
from typer.testing import CliRunner

from fleet import cli
from fleet.errors import ExitCode
from models.catalog import load_manifest
from models.convert import export, targets
from models.convert.edgetpu import compile_for_edgetpu
from models.convert.ir_v10 import to_v10
from models.errors import ConversionError

openvino = pytest.importorskip("openvino")
ops = pytest.importorskip("openvino.opset13")
opset8 = pytest.importorskip("openvino.opset8")

pytestmark = pytest.mark.integration

OLD_RUNTIME = "opencv-python-inference-engine==2022.1.5"
"""A wheel that carries OpenVINO 2021.4.2 with its CPU and MYRIAD plugins."""


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


def infer(path, image):
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().read_model(path)
    if model.is_dynamic():
        model.reshape(list(image.shape))
    compiled = openvino.Core().compile_model(model, "CPU", exact)
    result = compiled(image)
    return [result[output] for output in compiled.outputs]


def expected(image):
    cells = image[0, :: tiny_network.STRIDE, :: tiny_network.STRIDE]
    return [cells @ kernel[0, 0] for kernel in tiny_network.kernels().values()]


def noise(*shape):
    return np.random.default_rng(3).uniform(-1, 1, shape).astype(np.float32)


TARGETS = [
    ("ir", "f16", 2e-3), ("ir", "f32", 1e-5), ("ir-v10", "f16", 2e-3), ("ir-v10", "f32", 1e-5),
    ("onnx", "f32", 1e-5), ("onnx", "f16", 4e-3),
]  # fmt: skip


@pytest.mark.parametrize(("target", "precision", "tolerance"), TARGETS)
def test_what_is_written_computes_what_the_weights_say(convert, target, precision, tolerance):
    pytest.importorskip("onnx")
    words = ("--to", target, "--precision", precision, "--size", "113x65", "--json")
    made = json.loads(convert(*words).stdout)
    assert made["size"] == "113x65"
    assert [each["shape"] for each in made["inputs"]] == [[1, 65, 113, 3]]
    image = noise(1, 65, 113, 3)
    for found, wanted in zip(infer(made["files"][0]["path"], image), expected(image), strict=True):
        np.testing.assert_allclose(found[0], wanted, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("target", ["ir", "ir-v10", "onnx"])
def test_the_manifest_beside_it_makes_it_a_network_of_its_own(convert, home, target):
    pytest.importorskip("onnx")
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
    yield ("--to", "tflite"), ExitCode.MODEL, "TensorFlow's own"
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
    result = convert("--to", "ir", "--out", "second", code=ExitCode.FAILED)
    assert "cannot write second: No space left on device" in result.stderr
    assert not (home / "second").exists()
    assert not list(home.glob(".partial*"))


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


# Every operation that the writers know, in one network.


def constant(*shape):
    return ops.constant(noise(*shape))


def every_operation(height, width):
    image = ops.parameter([1, height, width, 3], np.float32, name="image")
    image.output(0).set_names({"image"})
    ones, pads = [1, 1], [0, 0]
    value = ops.transpose(image, np.array([0, 3, 1, 2]))
    value = ops.convolution(value, constant(8, 3, 3, 3), [2, 2], pads, pads, ones, "same_upper")
    value = ops.clamp(ops.add(value, constant(1, 8, 1, 1)), 0.0, 6.0)
    weights = constant(8, 1, 1, 3, 3)
    value = ops.group_convolution(value, weights, ones, pads, pads, [2, 2], "same_upper")
    value = ops.prelu(value, constant(8))
    pooled = opset8.max_pool(value, [2, 2], ones, pads, pads, [2, 2], "floor", "same_upper")
    lower = ops.convolution(value, constant(4, 8, 3, 3), [2, 2], pads, pads, ones, "same_lower")
    lower = ops.sigmoid(ops.elu(lower, 0.5))
    even = ops.convolution(
        pooled.output(0), constant(4, 8, 2, 2), [2, 2], [1, 0], [0, 1], ones, "explicit"
    )
    even = ops.relu(ops.multiply(ops.subtract(even, constant(1, 4, 1, 1)), constant(1, 4, 1, 1)))
    results = []
    for name, part in (("lower", lower), ("even", even)):
        both = ops.concat([part, part], 1)
        end = ops.slice(both, np.array([2]), np.array([7]), np.array([1]), np.array([1]))
        last = ops.transpose(end, np.array([0, 2, 3, 1]))
        last.output(0).set_names({name})
        results.append(ops.result(last))
    flat = ops.reshape(ops.divide(even, np.float32(3)), np.array([1, -1]), False)
    flat.output(0).set_names({"flat"})
    return openvino.Model([*results, ops.result(flat)], [image], "every-operation")


@pytest.fixture(params=[(33, 49), (32, 46), (31, 64)], ids=lambda size: "x".join(map(str, size)))
def written(request, tmp_path):
    """A network with every operation, as IR v11, and its answer to some noise."""
    path = tmp_path / "v11.xml"
    openvino.save_model(every_operation(*request.param), path, compress_to_fp16=False)
    image = noise(1, *request.param, 3)
    tree = ElementTree.parse(path).getroot()
    return tree, path.with_suffix(".bin").read_bytes(), image, infer(path, image)


def assert_alike(found, wanted, tolerance):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())


@pytest.fixture
def to_onnx():
    """The writer; the test is skipped where the library for it is not installed."""
    return pytest.importorskip("models.convert.onnx_graph").to_onnx


def test_onnx_runtime_and_openvino_compute_the_same_of_onnx(to_onnx, written, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    tree, weights, image, wanted = written
    for precision, tolerance in (("f32", 1e-5), ("f16", 1e-2)):
        path = tmp_path / f"{precision}.onnx"
        path.write_bytes(to_onnx(tree, weights, precision))
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        assert [each.name for each in session.get_outputs()] == ["lower", "even", "flat"]
        assert_alike(session.run(None, {"image": image}), wanted, tolerance)
        assert_alike(infer(path, image), wanted, tolerance)


def test_an_operation_that_onnx_is_not_written_of_is_named(to_onnx, tmp_path):
    image = ops.parameter([1, 4], np.float32)
    model = openvino.Model([ops.result(ops.erf(image))], [image], "erf")
    openvino.save_model(model, tmp_path / "erf.xml")
    tree = ElementTree.parse(tmp_path / "erf.xml").getroot()
    with pytest.raises(ConversionError, match="operation Erf"):
        to_onnx(tree, (tmp_path / "erf.bin").read_bytes())


def write_v10(written, folder, precision):
    tree, weights, *_ = written
    root, content = to_v10(tree, weights, precision)
    path = folder / "v10.xml"
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    path.with_suffix(".bin").write_bytes(content)
    return path


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", 1e-6), ("f16", 1e-2)])
def test_openvino_of_today_computes_the_same_of_v10(written, tmp_path, precision, tolerance):
    path = write_v10(written, tmp_path, precision)
    assert_alike(infer(path, written[2]), written[3], tolerance)


@pytest.fixture(scope="module")
def old_runtime(tmp_path_factory):
    """The C library of OpenVINO 2021.4; the test is skipped where it cannot be had."""
    folder = tmp_path_factory.mktemp("ncs")
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), OLD_RUNTIME]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=150, check=False
    )
    library = folder / "cv2" / "libinference_engine_c_api.so"
    if done.returncode != 0 or not library.is_file():
        pytest.skip(f"{OLD_RUNTIME} cannot be installed: {done.stderr.strip()[-200:]}")
    return library


def run_old(library, xml, image, folder):
    np.save(folder / "input.npy", image)
    script = Path(__file__).parent.parent / "ncs_runtime.py"
    files = (xml, folder / "input.npy", folder / "output.npz")
    done = subprocess.run(
        [sys.executable, str(script), str(library), *map(str, files)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(folder / "output.npz") as found:
        return json.loads(done.stdout), {name: found[name] for name in found.files}


@pytest.mark.network
@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_openvino_2021_reads_v10_and_computes_the_same(old_runtime, written, tmp_path, precision):
    path = write_v10(written, tmp_path, precision)
    image = written[2]
    said, found = run_old(old_runtime, path, image, tmp_path)
    assert said["inputs"] == [["image", list(image.shape)]]
    assert sorted(said["outputs"]) == ["even", "flat", "lower"]
    today = infer(path, image)  # of the same file: f16 weights are the same on both sides
    assert_alike([found["lower"], found["even"], found["flat"]], today, 1e-3)


@pytest.mark.network
def test_openvino_2021_runs_a_network_of_the_command(old_runtime, convert, tmp_path):
    made = json.loads(convert("--to", "ir-v10", "--json").stdout)
    image = noise(1, 49, 65, 3)
    said, found = run_old(old_runtime, made["files"][0]["path"], image, tmp_path)
    assert set(said["outputs"]) == set(found) == {each["name"] for each in made["outputs"]}
    for each, wanted in zip(made["outputs"], expected(image), strict=True):
        np.testing.assert_allclose(found[each["name"]][0], wanted, atol=2e-2)
