"""Network and decoder in f32 against poses of the reference JavaScript implementation."""

import json

import numpy as np
import openvino
import pytest

from agents.accelerators.base import NetworkFile
from agents.accelerators.openvino_runtime import OpenVinoDriver
from models.catalog import load_manifest
from models.convert.openvino_ir import ensure_ir
from models.decoders import make_decoder
from models.poses import PoseBuffer
from models.skeletons import COCO17

pytestmark = [pytest.mark.integration, pytest.mark.network]

CONFIDENT = 0.5
"""Keypoints below are noise in both implementations."""
LEAST_POSE_SCORE = 0.25


@pytest.fixture(scope="module", params=["posenet-mobilenet-075", "posenet-mobilenet-100"])
def outputs_of(request, shared):
    """Runs a network in f32 on a float input of 257x257."""
    manifest = load_manifest(request.param)
    model = openvino.Core().read_model(ensure_ir(manifest).path)
    model.reshape([1, 257, 257, 3])
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(pixels):
        result = compiled(pixels[None])
        return {
            role: next(
                result[output][0]
                for output in compiled.outputs
                if any(fragment in name for name in output.names)
            )
            for role, fragment in manifest.outputs.items()
        }

    return manifest, run


def found_poses(manifest, outputs):
    """Decode with the reference's settings: 5 detections, threshold .5, NMS radius 20."""
    options = {**manifest.decoder.options, "max_poses": 5}
    decoder = make_decoder(manifest.decoder.name, manifest.skeleton, manifest.stride, options)
    buffer = PoseBuffer(decoder.capacity, len(COCO17.keypoints))
    decoder.decode(outputs, buffer)
    return buffer.scores[: buffer.count], buffer.keypoints[: buffer.count]


@pytest.mark.parametrize("picture", ["bus", "test_couple"])
def test_poses_agree_with_the_reference(outputs_of, shared, picture):
    manifest, run = outputs_of
    golden = shared / "models" / "golden"
    name = manifest.name.rsplit("-", 1)[1] + "_" + picture
    expected = json.loads((golden / "tfjs_posenet_golden.json").read_text())[name]
    expected = [pose for pose in expected if pose["score"] >= LEAST_POSE_SCORE]
    scores, keypoints = found_poses(manifest, run(np.load(golden / f"{picture}_input_257.npy")))
    width, height = {"bus": (480, 640), "test_couple": (640, 426)}[picture]
    # The reference padded to a centered square of 640 and scaled that to 257 without half pixels.
    padding = np.array([(640 - width) / 2, (640 - height) / 2])

    assert len(scores) == len(expected)
    # The reference lists poses in the order of their best keypoint, we by their score.
    expected.sort(key=lambda pose: -pose["score"])
    compared = 0
    for score, pose, reference in zip(scores, keypoints, expected, strict=True):
        assert score == pytest.approx(reference["score"], abs=0.005)
        for point, wanted in zip(pose, reference["keypoints"], strict=True):
            if wanted["score"] < CONFIDENT:
                continue
            compared += 1
            assert point[2] == pytest.approx(wanted["score"], abs=0.005)
            at = point[:2] * 640 / 257 - padding
            assert at == pytest.approx([wanted["position"]["x"], wanted["position"]["y"]], abs=0.05)
    assert compared > 20, "the comparison must not be empty"


def test_the_byte_input_of_the_driver_gives_the_same_maps(shared):
    """What the driver folds into the graph is what the golden input was made with."""
    manifest = load_manifest("posenet-mobilenet-075")
    network = NetworkFile(
        ensure_ir(manifest).path, (257, 257), manifest.input.mean, manifest.input.scale,
        manifest.outputs,
    )  # fmt: skip
    session = OpenVinoDriver().open("CPU").load(network, precision="f32", lanes=1)
    lane = session.lanes[0]
    golden = np.load(shared / "models" / "golden" / "bus_input_257.npy")
    exact = (golden + 1) * 127.5
    lane.input[:] = np.round(exact).astype(np.uint8)
    lane.start()
    lane.wait()
    heatmap = lane.outputs["heatmap"]
    assert session.precision == "f32"
    assert heatmap.shape == (17, 17, 17)
    assert np.isfinite(heatmap).all()
    session.close()
