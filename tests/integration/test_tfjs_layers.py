"""TensorFlow.js layers models: converted, they compute what their layers say; the rest is named."""

import numpy as np
import pytest
import tiny_layers

from agents.accelerators.base import NetworkFile
from agents.accelerators.openvino_runtime import OpenVinoDriver
from agents.pipeline import load_model
from models.catalog import load_manifest
from models.convert import tfjs, tfjs_layers
from models.convert.export import export
from models.convert.openvino_ir import ensure_ir
from models.convert.targets import Order
from models.decoders.classify import read_labels
from models.errors import ConversionError, ManifestError

pytestmark = pytest.mark.integration


def outputs(manifest, pixels):
    files, given = ensure_ir(manifest), manifest.input
    network = NetworkFile(
        files.path, (given.width, given.height), given.mean, given.scale, files.outputs
    )
    device = OpenVinoDriver().open("CPU")
    session = device.load(network, precision="f32", lanes=1)
    try:
        lane = session.lanes[0]
        lane.input[:] = pixels
        lane.start()
        lane.wait()
        return {role: value.copy() for role, value in lane.outputs.items()}
    finally:
        session.close()
        device.close()


def test_the_network_computes_what_its_layers_say(home):
    manifest = tiny_layers.write(home / "published")
    for seed in range(3):
        size = (tiny_layers.SIZE, tiny_layers.SIZE, 3)
        pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
        found = outputs(manifest, pixels)
        normalized = (pixels - np.array(manifest.input.mean)) / np.array(manifest.input.scale)
        features, scores = tiny_layers.run(normalized, tiny_layers.make_weights())
        assert np.allclose(found["features"], features, rtol=1e-4, atol=1e-5)
        assert np.allclose(found["scores"], scores, rtol=1e-4, atol=1e-5)


def test_a_new_head_takes_the_place_of_the_last_layer(home):
    weights = tiny_layers.make_weights()
    random = np.random.default_rng(1)
    head = [
        (random.normal(size=(8, 4)), random.normal(size=4)),
        (random.normal(size=(4, 1)), random.normal(size=1)),
    ]
    model, content = tfjs_layers.with_head(tiny_layers.document(weights), weights, head)
    read = tfjs.read_weights(model["weightsManifest"], {"weights.bin": content})
    assert {"last/kernel", "last/bias"}.isdisjoint(read)
    topology, constants = tfjs_layers.graph(model["modelTopology"], read)
    assert [node["name"] for node in topology["node"]].count("head_2") == 1
    assert np.allclose(constants["head_1/kernel"], head[0][0])
    assert topology["node"][-1] == {
        "name": "features", "op": "Identity", "input": ["head_1"],
        "attr": {"T": {"type": "DT_FLOAT"}},
    }  # fmt: skip


def change(made, name, **changes):
    for each in made:
        if each["name"] == name:
            each.update({key: value for key, value in changes.items() if key in each})
            config = {key: value for key, value in changes.items() if key not in each}
            each["config"].update(config)
    return made


@pytest.mark.parametrize(
    ("name", "changes", "complaint"),
    [
        ("pool", {"class_name": "LSTM"}, "layer pool is a LSTM, which is not converted"),
        ("relu", {"activation": "swish"}, "layer relu has the unknown activation 'swish'"),
        ("one", {"data_format": "channels_first"}, "layer one wants channels first"),
        ("sum", {"inbound_nodes": [[["relu", 0, 0, {}]]] * 2}, "layer sum is used 2 times"),
    ],
)
def test_a_layer_that_is_not_known_is_named(home, name, changes, complaint):
    manifest = tiny_layers.write(home / "published", change(tiny_layers.layers(), name, **changes))
    with pytest.raises(ConversionError, match=complaint):
        ensure_ir(manifest)


def test_weights_that_are_missing_are_named():
    weights = tiny_layers.make_weights()
    del weights["two/kernel"]
    model = tiny_layers.document(weights)["modelTopology"]
    with pytest.raises(ConversionError, match="layer two has no weights two/kernel"):
        tfjs_layers.graph(model, weights)


def test_several_inputs_are_refused():
    model = tiny_layers.document({})["modelTopology"]
    model["model_config"]["config"]["input_layers"] *= 2
    with pytest.raises(ConversionError, match="several inputs or outputs"):
        tfjs_layers.graph(model, {})


def test_a_classification_network_is_not_loaded_for_poses(home):
    device = OpenVinoDriver().open("CPU")
    with pytest.raises(ManifestError, match="colors finds no poses") as caught:
        load_model(device, tiny_layers.write(home / "published"))
    device.close()
    assert caught.value.hint == "use `fleet models classify`"


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_a_converted_one_classifies_the_same(home, precision):
    manifest = tiny_layers.write(home / "published")
    folder = home / "converted"
    folder.mkdir()
    export(manifest, Order("ir", precision, None), folder)
    again = load_manifest(folder / "manifest.yaml")
    assert read_labels((folder / again.labels_file.path).read_text()) == tiny_layers.CLASSES
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    one, other = outputs(manifest, pixels), outputs(again, pixels)
    assert np.allclose(one["scores"], other["scores"], atol=2e-3)
