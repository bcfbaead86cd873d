"""Whatever a network came as, its IR takes NHWC and gives one float32 tensor a role."""

import hashlib
import json

import numpy as np
import pytest

from models.catalog import load_manifest
from models.convert.openvino_ir import ensure_ir
from models.errors import ConversionError
from models.manifest import ModelManifest, parse

pytestmark = pytest.mark.integration

KERNEL = np.random.default_rng(2).normal(size=(6, 3, 1, 1)).astype(np.float32)


@pytest.fixture
def ov():
    # Not at the top: `models` must come first, it keeps openvino from reporting its use.
    return pytest.importorskip("openvino")


@pytest.fixture
def publish(home):
    """Write files into a folder and return the manifest of a network that comes from there."""

    def publish(format_, contents, **changes):
        folder = home / "published"
        folder.mkdir()
        files = []
        for path, content in contents.items():
            (folder / path).write_bytes(content)
            role = "shard" if path.endswith(".bin") else "model"
            digest = hashlib.sha256(content).hexdigest()
            files.append({"role": role, "path": path, "size": len(content), "sha256": digest})
        fields = {
            "name": "net", "title": "A network", "task": "pose", "license": "MIT",
            "attribution": "the tests", "homepage": "https://example.org/", "format": format_,
            "files": files, "sources": [{"folder": str(folder)}],
            "input": {
                "layout": "NCHW", "color": "bgr", "mean": 0, "scale": 1, "width": 64, "height": 32,
                "step": 8, "offset": 0,
            },
            "outputs": {"heatmap": "maps_a", "paf": "maps_b"}, "stride": 8, "skeleton": "coco17",
            "decoder": {"name": "posenet"},
        }  # fmt: skip
        return parse(json.dumps({**fields, **changes}), ModelManifest, "net.yaml")

    return publish


@pytest.fixture
def saved(ov, tmp_path):
    """Return the files of an IR, given a function from the input node to named outputs."""

    def saved(build, shape=(1, 3, 32, 64), dtype="f32"):
        ops = pytest.importorskip("openvino.opset13")
        given = ops.parameter(list(shape), getattr(ov.Type, dtype), name="data")
        results = []
        for name, node in build(ops, given).items():
            node.output(0).get_tensor().set_names({name})
            node.set_friendly_name(name)
            results.append(ops.result(node))
        path = tmp_path / "net.xml"
        ov.save_model(ov.Model(results, [given], "net"), path, compress_to_fp16=False)
        return {"net.xml": path.read_bytes(), "net.bin": path.with_suffix(".bin").read_bytes()}

    return saved


def infer(ov, files, image):
    model = ov.Core().read_model(files.path)
    model.reshape([1, *image.shape])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled(image[None])
    found = {}
    for role, fragment in files.outputs.items():
        fits = [o for o in compiled.outputs if any(fragment in name for name in o.get_names())]
        assert len(fits) == 1
        found[role] = result[fits[0]][0]
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    return found


def two_maps(ops, given):
    nothing = [0, 0]
    first, second = (
        ops.convolution(given, kernel, [8, 8], nothing, nothing, [1, 1])
        for kernel in (KERNEL[:4], KERNEL[4:])
    )
    return {"maps_a": first, "maps_b": second}


@pytest.mark.parametrize("size", [(32, 64), (40, 24)])
@pytest.mark.parametrize("version", [11, 10])
def test_an_ir_of_planes_takes_and_gives_pixels(ov, publish, saved, size, version):
    files = saved(two_maps)
    if version == 10:  # as OpenVINO 2021 wrote it: names of nodes, none of tensors
        text = files["net.xml"].decode().replace('version="11"', 'version="10"', 1)
        text = text.replace(' names="maps_a"', "").replace(' names="maps_b"', "")
        files["net.xml"] = text.encode()
    image = np.random.default_rng(1).normal(size=(*size, 3)).astype(np.float32)
    found = infer(ov, ensure_ir(publish("openvino-ir", files)), image)
    expected = image[::8, ::8] @ KERNEL[:, :, 0, 0].T
    np.testing.assert_allclose(found["heatmap"], expected[..., :4], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["paf"], expected[..., 4:], rtol=1e-4, atol=1e-5)


def test_roles_may_share_a_tensor(ov, publish, saved):
    outputs = {
        "heatmap": {"tensor": "maps", "channels": [0, 2]},
        "paf": {"tensor": "maps", "channels": [2, 6]},
    }

    def build(ops, given):
        return {"maps": ops.convolution(given, KERNEL, [8, 8], [0, 0], [0, 0], [1, 1])}

    manifest = publish("openvino-ir", saved(build), outputs=outputs)
    image = np.random.default_rng(1).normal(size=(32, 64, 3)).astype(np.float32)
    found = infer(ov, ensure_ir(manifest), image)
    expected = image[::8, ::8] @ KERNEL[:, :, 0, 0].T
    assert found["heatmap"].shape == (4, 8, 2)
    np.testing.assert_allclose(found["heatmap"], expected[..., :2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["paf"], expected[..., 2:], rtol=1e-4, atol=1e-5)


NHWC = {"layout": "NHWC", "color": "rgb", "mean": 0, "scale": 1, "width": 64, "height": 32}


def test_quantized_outputs_become_numbers(ov, publish, saved):
    manifest = publish(
        "openvino-ir",
        saved(lambda ops, given: {"q": ops.add(given, np.uint8(1))}, (1, 32, 64, 3), "u8"),
        input={**NHWC, "dtype": "uint8"},
        outputs={"heatmap": {"tensor": "q", "scale": 0.5, "zero": 128}},
        stride=1,
    )
    image = np.random.default_rng(1).integers(0, 200, (32, 64, 3), np.uint8)
    found = infer(ov, ensure_ir(manifest), image)["heatmap"]
    np.testing.assert_array_equal(found, (image.astype(np.float32) + 1 - 128) / 2)


def test_positions_become_pixels_at_any_size(ov, publish, saved):
    rows = np.random.default_rng(4).random((1, 2, 7)).astype(np.float32)

    def build(ops, given):
        zero = ops.multiply(ops.reduce_mean(given, np.array([0, 1, 2, 3]), False), np.float32(0))
        return {"persons": ops.add(ops.constant(rows), zero)}

    persons = {"tensor": "persons", "channels": [0, 6], "normalized": True}
    manifest = publish(
        "openvino-ir",
        saved(build, (1, -1, -1, 3)),
        input={**NHWC, "step": 32, "offset": 0},
        outputs={"keypoints": persons, "score": {"tensor": "persons", "channels": [6, 7]}},
    )
    files = ensure_ir(manifest)
    for height, width in ((32, 64), (96, 32)):
        found = infer(ov, files, np.zeros((height, width, 3), np.float32))
        factors = np.tile([height, width, 1], 2)
        np.testing.assert_allclose(found["keypoints"], rows[0, :, :6] * factors, rtol=1e-6)
        np.testing.assert_array_equal(found["score"], rows[0, :, 6:])


def test_outputs_without_a_role_are_left_out(ov, publish, saved):
    manifest = publish("openvino-ir", saved(two_maps), outputs={"heatmap": "maps_a"})
    assert len(ov.Core().read_model(ensure_ir(manifest).path).outputs) == 1


def test_a_whole_name_is_preferred_to_a_part_of_one(ov, publish, saved):
    def build(ops, given):
        maps = two_maps(ops, given)
        return {"maps": maps["maps_a"], "other_maps": maps["maps_b"]}

    manifest = publish("openvino-ir", saved(build), outputs={"heatmap": "maps"})
    assert (
        infer(ov, ensure_ir(manifest), np.zeros((32, 64, 3), np.float32))["heatmap"].shape[2] == 4
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"input": {**NHWC, "layout": "NCHW", "dtype": "int32"}},
            "takes float32, its manifest says",
        ),
        ({"outputs": {"heatmap": "heat"}}, "0 outputs of net have 'heat'"),
        ({"stride": 16}, "not of stride 16"),
        ({"format": "onnx"}, "OpenVINO cannot read net"),
        ({"format": "tfjs-layers"}, "is not a TensorFlow.js layers model"),
        ({"needs": "edgetpu"}, "is compiled for an Edge TPU .* no such device is here"),
    ],
)
def test_what_does_not_convert_is_one_clear_error(publish, saved, changes, complaint):
    files = saved(two_maps)
    if changes.get("format") == "onnx":
        files = {"net.onnx": b"not a network"}
    with pytest.raises(ConversionError, match=complaint):
        ensure_ir(publish(changes.pop("format", "openvino-ir"), files, **changes))


def test_a_file_for_the_edge_tpu_is_recognized_without_its_manifest_saying_so(shared, publish):
    name = "posenet_mobilenet_v1_075_353_481_quant_decoder_edgetpu.tflite"
    content = (shared / "models" / "coral" / name).read_bytes()
    manifest = publish("tflite", {name: content}, input={**NHWC, "dtype": "uint8"})
    with pytest.raises(ConversionError, match="compiled for an Edge TPU and runs on no other"):
        ensure_ir(manifest)


def test_the_edge_tpu_network_of_the_catalog_names_the_missing_device(home):
    with pytest.raises(ConversionError, match="accelerator kind 'edgetpu'"):
        ensure_ir(load_manifest("posenet-coral-075-edgetpu"))
    assert not (home / "cache" / "posefleet").exists(), "nothing may be fetched for it"
