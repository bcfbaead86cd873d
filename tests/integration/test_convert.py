"""OpenVINO reads what the converter writes: values, cache, and networks unlike their manifest."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_network

from models.artifacts import ensure_files, model_files
from models.convert.openvino_ir import ensure_ir, find_outputs
from models.errors import ArtifactError, ConversionError

pytestmark = pytest.mark.integration


def infer(path, image):
    # Not at the top: `models` must come first, it keeps openvino from reporting its use.
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(path)
    model.reshape([1, *image.shape])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", exact)
    result = compiled(image[None])
    return [(output.get_names(), result[output][0]) for output in compiled.outputs]


@pytest.fixture
def manifest(home):
    return tiny_network.write(home / "published")


@pytest.mark.parametrize("size", [(49, 65), (17, 113)])
def test_the_converted_network_computes_what_the_weights_say(manifest, size):
    image = np.random.default_rng(1).normal(size=(*size, 3)).astype(np.float32)
    outputs = infer(ensure_ir(manifest).path, image)
    roles = find_outputs(manifest, [names for names, _ in outputs])
    cells = image[:: tiny_network.STRIDE, :: tiny_network.STRIDE]
    for role, fragment in manifest.outputs.items():
        expected = cells @ tiny_network.kernels()[fragment][0, 0]
        np.testing.assert_allclose(outputs[roles[role]][1], expected, rtol=1e-5, atol=1e-5)


def test_the_second_time_it_comes_from_the_cache(manifest):
    first = ensure_ir(manifest)
    written = first.path.stat().st_mtime_ns
    second = ensure_ir(manifest)
    assert first.conversion_s > 0
    assert second.conversion_s == 0
    assert second.path == first.path
    assert second.path.stat().st_mtime_ns == written
    assert sorted(p.name for p in first.path.parent.iterdir()) == [
        "files.json", "network.bin", "network.xml",
    ]  # fmt: skip
    assert [p.name for p in first.path.parent.parent.iterdir()] == [first.path.parent.name]


@pytest.mark.parametrize("damage", ["network.bin", "network.xml", "files.json"])
def test_a_damaged_result_is_converted_again(manifest, damage):
    files = ensure_ir(manifest)
    intact = files.weights.read_bytes()
    (files.path.parent / damage).write_bytes(b"{}")
    assert ensure_ir(manifest).conversion_s > 0
    assert files.weights.read_bytes() == intact


def test_other_inputs_have_a_place_of_their_own(manifest, home):
    outputs = dict(list(manifest.outputs.items())[:2])
    other = tiny_network.write(home / "published", outputs=outputs)
    assert ensure_ir(manifest).path != ensure_ir(other).path
    retitled = manifest.model_copy(update={"title": "The same network"})
    assert ensure_ir(retitled).conversion_s == 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"outputs": {"heatmap": "heat", "paf": "paf"}}, "0 outputs of tiny have 'paf' in"),
        ({"outputs": {"displacement": "displacement"}}, "2 outputs of tiny have 'displacement'"),
        ({"stride": 8}, r"output heatmap of tiny is \[1, 4, 5, 17\] for 65x49 .* not of stride 8"),
    ],
)
def test_a_network_unlike_its_manifest_is_refused_and_nothing_is_kept(home, changes, complaint):
    manifest = tiny_network.write(home / "published", **changes)
    with pytest.raises(ConversionError, match=complaint):
        ensure_ir(manifest)
    assert list((home / "cache/posefleet/ir").iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"no json", b"[]", b'{"modelTopology": {}}', b'{"weightsManifest": []}']
)
def test_a_model_file_of_another_format_is_refused(home, content):
    manifest = tiny_network.write(home / "published", model_json=content)
    with pytest.raises(ConversionError, match=r"model\.json of tiny is not a TensorFlow\.js graph"):
        ensure_ir(manifest)


def test_a_graph_that_openvino_cannot_read_is_refused(home, monkeypatch):
    manifest = tiny_network.write(home / "published")
    monkeypatch.setattr("models.convert.tfjs.graph_def", lambda *_: b"\xff not a graph")
    with pytest.raises(ConversionError, match="OpenVINO cannot read tiny"):
        ensure_ir(manifest)
    assert list((home / "cache/posefleet/ir").iterdir()) == []


@pytest.fixture
def small_disk(home, manifest):
    """The cache's ir folder, on a file system without room for the network."""
    ensure_files(model_files(manifest))
    folder = home / "cache/posefleet/ir"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_clear_error(manifest, small_disk):
    with pytest.raises(ArtifactError, match=r"cannot write to .*/ir/tiny-") as caught:
        ensure_ir(manifest)
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert list(small_disk.iterdir()) == []


ENSURE = """
import sys, threading
from models.catalog import load_manifest
from models.convert.openvino_ir import ensure_ir
print(ensure_ir(load_manifest(sys.argv[1])).conversion_s > 0)
assert threading.active_count() == 1, threading.enumerate()
"""


def test_of_several_processes_one_converts_and_none_reports_its_use(home):
    manifest = tiny_network.write(home / "published")
    path = home / "tiny.yaml"
    path.write_text(manifest.model_dump_json(exclude_none=True))
    command = [sys.executable, "-c", ENSURE, str(path)]
    root = str(Path(tiny_network.__file__).parent.parent)
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": root}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(3)
    ]
    said = [process.communicate(timeout=60)[0].decode().strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(said) == ["False", "False", "True"]
    # Where openvino_telemetry keeps what it sends.
    assert not (home / "intel").exists()
