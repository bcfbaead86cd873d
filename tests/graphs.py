"""Small TensorFlow.js graphs for tests: nodes by hand, and OpenVINO's answer to them."""

import base64

import numpy as np
import pytest

from models.convert.tfjs import graph_def

FLOATS = {"type": "DT_FLOAT"}


def text(value):
    return {"s": base64.b64encode(value.encode()).decode()}


def ints(*values):
    return {"list": {"i": [str(value) for value in values]}}


def texts(*values):
    return {"list": {"s": [base64.b64encode(value.encode()).decode() for value in values]}}


def placeholder(channels):
    dims = [{"size": str(size)} for size in (1, -1, -1, channels)]
    return {
        "name": "image", "op": "Placeholder",
        "attr": {"dtype": FLOATS, "shape": {"shape": {"dim": dims}}},
    }  # fmt: skip


def constant(name):
    return {"name": name, "op": "Const", "attr": {"dtype": FLOATS, "value": {}}}


def convolution(name, inputs, op="Conv2D", stride=1, dilation=1, **attributes):
    fixed = {
        "T": FLOATS, "strides": ints(1, stride, stride, 1), "padding": text("SAME"),
        "dilations": ints(1, dilation, dilation, 1), "data_format": text("NHWC"),
    }  # fmt: skip
    return {"name": name, "op": op, "input": list(inputs), "attr": {**fixed, **attributes}}


def infer(topology, weights, image, tmp_path):
    """Return the outputs by node name, as OpenVINO computes them in f32."""
    # Not at the top: `models` must come first, it keeps openvino from reporting its use.
    openvino = pytest.importorskip("openvino")
    path = tmp_path / "graph.pb"
    path.write_bytes(graph_def(topology, weights))
    model = openvino.Core().read_model(path)
    model.reshape([1, *image.shape])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(model, "CPU", exact)
    result = compiled(image[None].astype(np.float32))
    return {
        name.partition(":")[0]: result[output][0]
        for output in compiled.outputs
        for name in output.get_names()
    }
