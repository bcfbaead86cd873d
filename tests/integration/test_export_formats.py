"""What the writers of IR v10, ONNX and TFLite write, in the runtimes that it is written for."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tiny_network
from export_cases import assert_alike, expected, infer, noise

from models.convert.export import export
from models.convert.ir_v10 import to_v10
from models.convert.targets import order
from models.errors import ConversionError

openvino = pytest.importorskip("openvino")
ops = pytest.importorskip("openvino.opset13")
opset8 = pytest.importorskip("openvino.opset8")

pytestmark = pytest.mark.integration

OLD_RUNTIME = "opencv-python-inference-engine==2022.1.5"
"""A wheel that carries OpenVINO 2021.4.2 with its CPU and MYRIAD plugins."""


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


def every_tflite_operation(height, width):
    image = ops.parameter([1, height, width, 3], np.float32, name="image")
    image.output(0).set_names({"image"})
    ones, pads = [1, 1], [0, 0]
    value = ops.transpose(image, np.array([0, 3, 1, 2]))
    value = ops.convolution(value, constant(8, 3, 3, 3), [2, 2], pads, pads, ones, "same_upper")
    value = ops.clamp(ops.add(value, constant(1, 8, 1, 1)), 0.0, 6.0)
    weights = constant(8, 1, 1, 3, 3)
    wide = ops.group_convolution(value, weights, ones, pads, pads, [2, 2], "same_upper")
    both = ops.relu(ops.add(value, wide))  # neither a bias nor one consumer: nothing to fuse with
    pooled = opset8.max_pool(both, [2, 2], ones, pads, pads, [2, 2], "floor", "same_upper")
    small = ops.convolution(both, constant(4, 8, 1, 1), [2, 2], pads, pads, ones, "valid")
    joined = ops.concat([pooled.output(0), small], 1)
    last = ops.transpose(ops.clamp(joined, 0.0, 6.0), np.array([0, 2, 3, 1]))
    results = []
    for name, first, end in (("one", 0, 5), ("other", -4, 2**31)):
        bounds = (np.array([each]) for each in (first, end, 1, -1))
        part = ops.slice(last, *bounds)
        part.output(0).set_names({name})
        results.append(ops.result(part))
    return openvino.Model(results, [image], "every-tflite-operation")


@pytest.mark.parametrize("size", [(33, 49), (32, 46)])
def test_litert_and_openvino_compute_the_same_of_tflite(tmp_path, size):
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    to_tflite = pytest.importorskip("models.convert.tflite_graph").to_tflite
    openvino.save_model(every_tflite_operation(*size), tmp_path / "v11.xml", compress_to_fp16=False)
    image = noise(1, *size, 3)
    wanted = infer(tmp_path / "v11.xml", image)
    tree = ElementTree.parse(tmp_path / "v11.xml").getroot()
    path = tmp_path / "network.tflite"
    path.write_bytes(to_tflite(tree, (tmp_path / "v11.bin").read_bytes()))
    interpreter = interpreters.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    details = interpreter.get_output_details()
    assert [each["name"] for each in details] == ["one", "other"]
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["one", "other"]}
    }
    assert_alike([interpreter.get_tensor(each["index"]) for each in details], wanted, 1e-5)
    assert_alike(infer(path, image), wanted, 1e-5)


def test_what_tflite_has_no_words_for_is_named(written):
    to_tflite = pytest.importorskip("models.convert.tflite_graph").to_tflite
    tree, weights, *_ = written
    with pytest.raises(ConversionError, match="operation PReLU"):
        to_tflite(tree, weights)


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
def test_openvino_2021_runs_a_network_that_is_exported(old_runtime, home):
    manifest = tiny_network.write(home / "published")
    made = export(manifest, order(manifest, "ir-v10"), home)
    image = noise(1, 49, 65, 3)
    said, found = run_old(old_runtime, home / made.files[0], image, home)
    assert set(said["outputs"]) == set(found) == {each.name for each in made.outputs}
    assert set(said["plugins"]) == {"CPU", "MYRIAD"}
    for each, wanted in zip(made.outputs, expected(image), strict=True):
        np.testing.assert_allclose(found[each.name][0], wanted, atol=2e-2)
