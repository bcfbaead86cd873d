"""What the pipeline feeds a network: its colors, its scaling, its number type."""

import time

import numpy as np
import pytest
import tiny_network

from agents.accelerators.base import NetworkFile
from agents.accelerators.openvino_runtime import OpenVinoDriver
from agents.pipeline import load_model
from agents.streams.base import Frame

pytestmark = pytest.mark.integration

MEAN, SCALE = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]
SIZE = (65, 49)


@pytest.fixture
def device():
    opened = OpenVinoDriver().open("CPU")
    yield opened
    opened.close()


@pytest.fixture
def load(home, device):
    """Load the tiny network, its input changed."""
    models = []

    def load(**changes):
        given = {
            "layout": "NHWC", "color": "rgb", "mean": MEAN, "scale": SCALE,
            "width": SIZE[0], "height": SIZE[1], "step": 16,
        }  # fmt: skip
        manifest = tiny_network.write(home / "published", input={**given, **changes})
        models.append(load_model(device, manifest, precision="f32", lanes=1))
        return models[-1]

    yield load
    for model in models:
        model.close()


def picture(seed=1):
    return np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)


def expected(pixels):
    """The offsets that the network gives for pixels in its own order of colors."""
    cells = (pixels[::16, ::16].astype(np.float32) - MEAN) / SCALE
    return cells @ tiny_network.kernels()["offset"][0, 0]


def offsets(model):
    return model.lanes[0]._lane.outputs["offset"]


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_a_picture_reaches_the_network_in_its_colors(load, color):
    model = load(color=color)
    rgb = picture()
    model.lanes[0].run_pixels(rgb)
    own = rgb if color == "rgb" else rgb[..., ::-1]
    np.testing.assert_allclose(offsets(model), expected(own), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_a_frame_is_asked_for_the_network_s_colors(load, color):
    model = load(color=color)
    asked = []

    def render(order):
        asked.append(order)
        return picture() if order == "rgb" else picture()[..., ::-1].copy()

    model.lanes[0].run(Frame(0, time.time(), time.monotonic(), SIZE, render))
    assert asked == [color]
    own = picture() if color == "rgb" else picture()[..., ::-1]
    np.testing.assert_allclose(offsets(model), expected(own), rtol=1e-4, atol=1e-4)


def test_a_network_that_wants_no_padding_gets_the_whole_input(load):
    square = np.full((50, 50, 3), 200, np.uint8)
    model = load(keep_aspect=False)
    model.lanes[0].run_pixels(square)
    assert model.lanes[0]._lane.input.min() == 200


def test_a_network_of_integers_gets_bytes_as_they_are(device, tmp_path):
    ov, ops = pytest.importorskip("openvino"), pytest.importorskip("openvino.opset13")
    given = ops.parameter([1, -1, -1, 3], ov.Type.i32, name="data")
    doubled = ops.convert(ops.multiply(given, np.int32(2)), "f32")
    doubled.output(0).get_tensor().set_names({"twice"})
    path = tmp_path / "integers.xml"
    ov.save_model(ov.Model([ops.result(doubled)], [given], "integers"), path)
    network = NetworkFile(path, SIZE, (0, 0, 0), (1, 1, 1), {"out": "twice"})
    session = device.load(network, precision="f32", lanes=1)
    lane = session.lanes[0]
    lane.input[:] = picture()
    lane.start()
    lane.wait()
    np.testing.assert_array_equal(lane.outputs["out"], picture().astype(np.float32) * 2)
    session.close()
