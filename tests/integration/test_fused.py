"""Fused operations compute what their parts would, one after the other."""

import numpy as np
import pytest
from graphs import FLOATS, constant, convolution, infer, placeholder, text, texts

from models.convert.fused import expand
from models.errors import ConversionError

pytestmark = pytest.mark.integration

SLOPE = 0.3
ACTIVATIONS = {
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "LeakyRelu": lambda x: np.where(x > 0, x, SLOPE * x),
    "Prelu": lambda x: np.where(x > 0, x, SLOPE * x),
}


def weights(kernel):
    random = np.random.default_rng(3)
    return {
        "w": random.normal(size=kernel, scale=3).astype(np.float32),
        "b": np.array([1, -2, 0.5], np.float32),
        "alpha": np.full((1, 1, 3), SLOPE, np.float32),
    }


def fused(op, *activation, inputs=("image", "w", "b", "alpha")):
    extra = {"leakyrelu_alpha": {"f": SLOPE}, "epsilon": {"f": 0}, "num_args": {"i": "1"}}
    node = convolution(
        "out", inputs, op, fused_ops=texts("BiasAdd", *activation),
        explicit_paddings={"list": {}}, **extra,
    )  # fmt: skip
    return {"node": [placeholder(3), *(constant(name) for name in ("w", "b", "alpha")), node]}


IMAGE = np.random.default_rng(1).normal(size=(4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_a_convolution_with_bias_and_activation(activation, tmp_path):
    known = weights((1, 1, 3, 3))
    topology = fused("_FusedConv2D", *([activation] if activation else []))
    found = infer(topology, known, IMAGE, tmp_path)["out"]
    expected = IMAGE @ known["w"][0, 0] + known["b"]
    expected = ACTIVATIONS[activation](expected) if activation else expected
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_depthwise_convolution(tmp_path):
    known = weights((1, 1, 3, 1))
    topology = fused("FusedDepthwiseConv2dNative", "Relu6")
    found = infer(topology, known, IMAGE, tmp_path)["out"]
    expected = np.clip(IMAGE * known["w"][0, 0, :, 0] + known["b"], 0, 6)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_an_activation_with_slopes_of_its_own(tmp_path):
    known = weights((1, 1, 3, 3))
    node = {"name": "out", "op": "Prelu", "input": ["image", "alpha"]}
    found = infer({"node": [placeholder(3), constant("alpha"), node]}, known, IMAGE, tmp_path)
    expected = np.where(IMAGE > 0, IMAGE, SLOPE * IMAGE)
    np.testing.assert_allclose(found["out"], expected, rtol=1e-5, atol=1e-6)


def test_a_matrix_product(tmp_path):
    known = weights((1, 1, 3, 3))
    known["w"] = known["w"][0, 0]
    flat = {"name": "flat", "op": "Reshape", "input": ["image", "shape"], "attr": {"T": FLOATS}}
    product = {
        "name": "out", "op": "_FusedMatMul", "input": ["flat", "w", "b"],
        "attr": {
            "T": FLOATS, "transpose_a": {"b": False}, "transpose_b": {"b": False},
            "fused_ops": texts("BiasAdd", "Relu"),
        },
    }  # fmt: skip
    shape = {"name": "shape", "op": "Const", "attr": {"dtype": {"type": "DT_INT32"}, "value": {}}}
    nodes = [placeholder(3), constant("w"), constant("b"), shape, flat, product]
    known["shape"] = np.array([-1, 3], np.int32)
    found = infer({"node": nodes}, known, IMAGE, tmp_path)["out"]
    expected = np.maximum(IMAGE[0, 0] @ known["w"] + known["b"], 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)  # `infer` gives the first row


@pytest.mark.parametrize("with_what", [("FusedBatchNorm",), ("BiasAdd", "Tanh"), ()])
def test_what_is_fused_with_something_unknown_is_refused(with_what):
    node = convolution("out", ["image", "w"], "_FusedConv2D", fused_ops=texts(*with_what))
    with pytest.raises(ConversionError, match=r"_FusedConv2D \(out\) is fused with"):
        expand({"node": [node]})


def test_other_nodes_stay_as_they_are():
    nodes = [placeholder(3), {"name": "n", "op": "FusedBatchNormV3", "attr": {"x": text("y")}}]
    assert expand({"node": nodes, "versions": {}}) == {"node": nodes, "versions": {}}
