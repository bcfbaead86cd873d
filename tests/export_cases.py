"""What the tests of exported networks share: noise, and OpenVINO's answer to it."""

import numpy as np
import pytest
import tiny_network  # before openvino: what it imports keeps that from reporting its use

openvino = pytest.importorskip("openvino")


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


def assert_alike(found, wanted, tolerance):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())
