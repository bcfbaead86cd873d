"""Networks of the zoo on real pictures, against what others or we ourselves make of them."""

import csv

import cv2
import numpy as np
import pytest

from agents.accelerators.base import NetworkFile
from agents.accelerators.openvino_runtime import OpenVinoDriver
from agents.pipeline import load_model
from models.artifacts import model_files, verify
from models.catalog import load_manifest
from models.convert.openvino_ir import ensure_ir
from models.decoders import DECODERS, make_decoder
from models.poses import PoseBuffer

pytestmark = [pytest.mark.integration, pytest.mark.network]

CONFIDENT = 0.5


@pytest.fixture
def manifest_of(shared):
    """Return a manifest; files that no source has, or only a big one, must be there already."""

    def manifest_of(name):
        manifest = load_manifest(name)
        is_big = any(getattr(source, "size", 0) > 50e6 for source in manifest.sources)
        wanted = model_files(manifest)
        if name.startswith("posenet-coral"):
            wanted.folder.mkdir(parents=True, exist_ok=True)
            for file in wanted.files:
                content = (shared / "models" / "coral" / file.path).read_bytes()
                (wanted.folder / file.path).write_bytes(content)
        elif (is_big or not manifest.can_fetch) and verify(wanted):
            pytest.skip(f"{name} is not in the cache (`fleet models pull {name}`)")
        return manifest

    return manifest_of


@pytest.fixture
def run(manifest_of):
    """Run a network on the bytes of an input and return its outputs by role."""
    sessions = []

    def run(name, pixels):
        manifest = manifest_of(name)
        files = ensure_ir(manifest)
        given = manifest.input
        size = (pixels.shape[1], pixels.shape[0])
        network = NetworkFile(files.path, size, given.mean, given.scale, files.outputs)
        session = OpenVinoDriver().open("CPU").load(network, precision="f32", lanes=1)
        sessions.append(session)
        lane = session.lanes[0]
        lane.input[:] = pixels
        lane.start()
        lane.wait()
        return lane.outputs

    yield run
    for session in sessions:
        session.close()


@pytest.fixture
def couple(shared):
    """Two persons, RGB."""
    picture = cv2.imread(str(shared / "models" / "coral" / "test_couple.jpg"))
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def square(picture):
    return cv2.resize(picture, (257, 257))


@pytest.mark.parametrize(
    ("finer", "coarser"),
    [
        ("posenet-mobilenet-075-stride8", "posenet-mobilenet-075"),
        ("posenet-mobilenet-075", "posenet-mobilenet-075-stride32"),
        ("posenet-mobilenet-100-stride8", "posenet-mobilenet-100-stride16"),
        ("posenet-mobilenet-100-stride16", "posenet-mobilenet-100-stride32"),
    ],
)
def test_strides_of_the_same_weights_agree_cell_by_cell(run, couple, finer, coarser):
    pixels = square(couple)
    fine, coarse = run(finer, pixels), run(coarser, pixels)
    cells = 256 // load_manifest(coarser).stride + 1
    for role, tensor in coarse.items():
        assert tensor.shape[:2] == (cells, cells)
        np.testing.assert_allclose(fine[role][::2, ::2], tensor, atol=2e-3)


def test_making_the_stride_that_a_sound_graph_has_changes_nothing(run, couple, monkeypatch):
    pixels = square(couple)
    published = run("posenet-mobilenet-075", pixels)
    made = load_manifest("posenet-mobilenet-075").at_stride(16)
    files = ensure_ir(made)
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(files.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    result = compiled((pixels[None].astype(np.float32) - 127.5) / 127.5)
    for output in compiled.outputs:
        same = [np.allclose(result[output][0], tensor, atol=2e-3) for tensor in published.values()
                if tensor.shape == result[output][0].shape]  # fmt: skip
        assert any(same)


def people(manifest, picture):
    device = OpenVinoDriver().open("CPU")
    model = load_model(device, manifest, precision="f32", lanes=1)
    try:
        lane = model.lanes[0]
        found = lane.poses(lane.run_pixels(picture))
    finally:
        model.close()
        device.close()
    return found


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        # Torsos of two persons about 900 px tall; the networks differ, the persons do not.
        ("posenet-mobilenet-075-stride8", 30),
        ("posenet-mobilenet-075-stride32", 30),
        ("posenet-mobilenet-100-stride8", 45),
        ("posenet-mobilenet-100-stride16", 45),
        ("posenet-mobilenet-100-stride32", 45),
        ("posenet-coral-075-int8", 45),
        ("bodypix-mobilenet-050", 45),
        ("bodypix-mobilenet-050-stride8", 45),
        ("movenet-multipose", 45),
        ("openpose-mobilenet", 45),
    ],
)
def test_every_network_finds_the_two_persons(manifest_of, couple, name, tolerance):
    manifest = manifest_of(name)
    if manifest.decoder.name not in DECODERS:
        pytest.skip(f"no decoder {manifest.decoder.name} yet")
    found = people(manifest, couple)
    names = found.skeleton.keypoints
    torso = [names.index(part) for part in ("left_shoulder", "right_shoulder", "right_hip")]
    reference = people(load_manifest("posenet-mobilenet-075"), couple)
    theirs = [reference.skeleton.keypoints.index(names[part]) for part in torso]
    assert len(found) == len(reference) == 2
    order = np.argsort(found.keypoints[:, torso[0], 0])
    wanted = np.argsort(reference.keypoints[:, theirs[0], 0])
    away = found.keypoints[order][:, torso, :2] - reference.keypoints[wanted][:, theirs, :2]
    assert np.hypot(away[..., 0], away[..., 1]).max() < tolerance


@pytest.mark.parametrize("name", ["movenet-lightning", "movenet-thunder"])
def test_a_network_for_one_person_finds_one_of_them(manifest_of, couple, name):
    found = people(manifest_of(name), couple)
    assert len(found) == 1


def test_openpose_gives_the_maps_of_the_golden_case(run, shared):
    golden = shared / "models" / "golden"
    case = np.load(golden / "grouping" / "paf_real_couple.npz")
    picture = cv2.imread(str(golden / "test_couple_640.png"))  # BGR, as the network takes it
    outputs = run("openpose-mobilenet", cv2.resize(picture, (432, 368)))
    np.testing.assert_allclose(outputs["heatmap"], np.moveaxis(case["heatmaps"], 0, 2), atol=1e-4)
    np.testing.assert_allclose(outputs["paf"], np.moveaxis(case["pafs"], 0, 2), atol=1e-4)


def coral_reference(shared, size):
    """Return Coral's own poses of at least .25: ``(17, 3)`` arrays of x, y, score."""
    name = f"posenet_mobilenet_v1_075_{size[1]}_{size[0]}_quant_decoder_reference.csv"
    poses: dict[int, list] = {}
    with (shared / "models" / "coral" / name).open() as lines:
        for row in csv.DictReader(lines):
            if float(row["pose_score"]) >= 0.25:
                point = [float(row[f"keypoint_{part}"]) for part in ("x", "y", "score")]
                poses.setdefault(int(row["pose_id"]), []).append(point)
    return [np.array(pose) for pose in poses.values()]


def nearest_pixels(picture, size):
    """Stretch without blending, each pixel from the center of its area: fits Coral's poses best."""
    return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST_EXACT)


@pytest.mark.parametrize("size", [(481, 353), (641, 481), (1281, 721)])
def test_coral_in_8_bits_agrees_with_its_reference(run, shared, couple, size):
    """2 px and .03 for nearly every confident keypoint; 8-bit kernels round each in its own way."""
    manifest = load_manifest("posenet-coral-075-int8")
    outputs = run(manifest.name, nearest_pixels(couple, size))
    decoder = make_decoder("posenet", "coco17", 16, manifest.decoder.options)
    found = PoseBuffer(decoder.capacity, 17)
    decoder.decode(outputs, found)
    reference = coral_reference(shared, size)
    assert found.count == len(reference) == 2
    distances, differences = [], []
    for wanted in reference:
        sure = wanted[:, 2] > CONFIDENT
        away = found.keypoints[:2, sure] - wanted[sure]
        away = min(away, key=lambda each: np.abs(each).mean())
        distances += list(np.hypot(away[:, 0], away[:, 1]))
        differences += list(np.abs(away[:, 2]))
    assert len(distances) > 20
    assert np.mean(np.array(distances) <= 2) >= 0.95
    assert np.mean(np.array(differences) <= 0.03) >= 0.85
    assert max(distances) < 3
    assert max(differences) < 0.05
