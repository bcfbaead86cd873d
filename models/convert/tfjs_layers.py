"""Turn a TensorFlow.js layers model (a Keras network) into the graph that `tfjs.graph_def` takes.

Every layer becomes the TensorFlow operations that Keras makes of it; OpenVINO's TensorFlow front
end then does layouts and folding (built of opset nodes in NHWC, the same network runs at half
speed). The input of the last layer is an output of its own, `FEATURES`: what a new head is trained
on.

Not guaranteed: layers beyond `_BUILDERS`; one that is not known is named.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from models.errors import ConversionError

Node = dict[str, Any]
Weights = dict[str, np.ndarray]

FEATURES = "features"
"""Name of the output that holds the input of the last layer."""

_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "softmax": "Softmax", "tanh": "Tanh"}


def graph(model: Mapping[str, Any], weights: Weights) -> tuple[dict[str, Any], Weights]:
    """Return ``modelTopology`` of a graph model, and all its constants.

    Args:
        model: ``modelTopology`` of a layers model: one input, one output, no nested models.
        weights: As `tfjs.read_weights` gives them, ``LAYER/NAME``.

    Raises:
        ConversionError: a layer, an activation or a wiring that is not known here.
    """
    config = model.get("model_config", model)["config"]
    layers = config["layers"]
    if len(config["input_layers"]) != 1 or len(config["output_layers"]) != 1:
        raise ConversionError("a layers model with several inputs or outputs is not converted")
    made = _Graph(dict(weights))
    for layer in layers:
        build = _BUILDERS.get(layer["class_name"])
        if build is None:
            raise ConversionError(
                f"layer {layer['name']} is a {layer['class_name']}, which is not converted",
                hint=f"known are {', '.join(_BUILDERS)}",
            )
        build(made, layer["name"], layer["config"], _sources(layer))
    last = next(each for each in layers if each["name"] == config["output_layers"][0][0])
    made.add(FEATURES, "Identity", _sources(last))
    return {"node": made.nodes}, made.constants


def _sources(layer: Mapping[str, Any]) -> list[str]:
    """Return the layers that feed a layer; one that is used twice would need two copies."""
    calls = layer["inbound_nodes"]
    if len(calls) > 1:
        raise ConversionError(f"layer {layer['name']} is used {len(calls)} times")
    return [source for source, _, _, _ in calls[0]] if calls else []


class _Graph:
    """Nodes and constants so far; the last node of a layer has the layer's name."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[Node] = []
        self.constants: Weights = {}
        self._weights = weights

    def add(self, name: str, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        attributes = {"T": {"type": "DT_FLOAT"}, **attributes}
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attributes})
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        dtype = "DT_INT32" if value.dtype.kind == "i" else "DT_FLOAT"
        attributes = {"dtype": {"type": dtype}, "value": {}}
        self.nodes.append({"name": name, "op": "Const", "input": [], "attr": attributes})
        self.constants[name] = value
        return name

    def weight(self, layer: str, name: str) -> str:
        full = f"{layer}/{name}"
        if full not in self._weights:
            raise ConversionError(f"layer {layer} has no weights {full} in the manifest")
        return self.constant(full, self._weights[full])

    def activated(self, name: str, config: Mapping[str, Any], steps: Sequence[Any]) -> None:
        """Add steps ``(op, inputs, attributes)``, each fed by the one before, then the activation.

        The last gets the layer's name.
        """
        kind = config.get("activation", "linear")
        chain = list(steps)
        if kind != "linear":
            if kind not in _ACTIVATIONS:
                raise ConversionError(f"layer {name} has the unknown activation {kind!r}")
            chain.append((_ACTIVATIONS[kind], [], {}))
        before: list[str] = []
        for number, (op, inputs, attributes) in enumerate(chain):
            is_last = number == len(chain) - 1
            made = self.add(
                name if is_last else f"{name}/{op}", op, [*before, *inputs], **attributes
            )
            before = [made]


Build = Callable[[_Graph, str, Mapping[str, Any], list[str]], None]


def _input(made: _Graph, name: str, config: Mapping[str, Any], sources: list[str]) -> None:
    shape = [{"size": -1 if side is None else side} for side in config["batch_input_shape"]]
    made.nodes.append(
        {
            "name": name, "op": "Placeholder", "input": sources,
            "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {"dim": shape}}},
        }
    )  # fmt: skip


def _pad(made: _Graph, name: str, config: Mapping[str, Any], sources: list[str]) -> None:
    _check_layout(name, config)
    rows = np.array([[0, 0], *config["padding"], [0, 0]], np.int32)
    padding = made.constant(f"{name}/paddings", rows)
    made.add(name, "Pad", [*sources, padding], Tpaddings={"type": "DT_INT32"})


def _convolution(made: _Graph, name: str, config: Mapping[str, Any], sources: list[str]) -> None:
    _check_layout(name, config)
    kernel = made.weight(name, "kernel")
    window = {
        **_window(config), "dilations": _integers([1, *config.get("dilation_rate", (1, 1)), 1])
    }  # fmt: skip
    steps: list[Any] = [("Conv2D", [*sources, kernel], window)]
    made.activated(name, config, steps + _bias(made, name, config))


def _dense(made: _Graph, name: str, config: Mapping[str, Any], sources: list[str]) -> None:
    steps: list[Any] = [("MatMul", [*sources, made.weight(name, "kernel")], {})]
    made.activated(name, config, steps + _bias(made, name, config))


def _bias(made: _Graph, name: str, config: Mapping[str, Any]) -> list[Any]:
    return [("BiasAdd", [made.weight(name, "bias")], {})] if config.get("use_bias", True) else []


def _batch_norm(made: _Graph, name: str, config: Mapping[str, Any], sources: list[str]) -> None:
    mean, variance = (made.weight(name, part) for part in ("moving_mean", "moving_variance"))
    ones = np.ones_like(made.constants[mean])
    gamma, beta = (
        made.weight(name, part) if config.get(switch, True)
        else made.constant(f"{name}/{part}", ones * value)
        for part, switch, value in (("gamma", "scale", 1.0), ("beta", "center", 0.0))
    )  # fmt: skip
    made.add(
        name, "FusedBatchNormV3", [*sources, gamma, beta, mean, variance],
        U={"type": "DT_FLOAT"}, epsilon={"f": config["epsilon"]}, is_training={"b": False},
    )  # fmt: skip


def _activation(made: _Graph, name: str, config: Mapping[str, Any], sources: list[str]) -> None:
    made.activated(name, config, [("Identity", sources, {})])


def _sum(made: _Graph, name: str, _: Mapping[str, Any], sources: list[str]) -> None:
    total = sources[0]
    for number, source in enumerate(sources[1:], 2):
        last = number == len(sources)
        total = made.add(name if last else f"{name}/{number}", "AddV2", [total, source])


def _max_pool(made: _Graph, name: str, config: Mapping[str, Any], sources: list[str]) -> None:
    _check_layout(name, config)
    size = _integers([1, *config["pool_size"], 1])
    made.add(name, "MaxPool", sources, ksize=size, **_window(config))


def _mean(made: _Graph, name: str, config: Mapping[str, Any], sources: list[str]) -> None:
    _check_layout(name, config)
    axes = made.constant(f"{name}/axes", np.array([1, 2], np.int32))
    made.add(name, "Mean", [*sources, axes], Tidx={"type": "DT_INT32"}, keep_dims={"b": False})


def _nothing(made: _Graph, name: str, _: Mapping[str, Any], sources: list[str]) -> None:
    """Dropout matters in training only."""
    made.add(name, "Identity", sources)


_BUILDERS: dict[str, Build] = {
    "InputLayer": _input,
    "ZeroPadding2D": _pad,
    "Conv2D": _convolution,
    "BatchNormalization": _batch_norm,
    "Activation": _activation,
    "Add": _sum,
    "MaxPooling2D": _max_pool,
    "GlobalAveragePooling2D": _mean,
    "Dense": _dense,
    "Dropout": _nothing,
}


def _window(config: Mapping[str, Any]) -> Node:
    return {
        "strides": _integers([1, *config["strides"], 1]),
        "padding": {"s": _bytes(config["padding"].upper())},
        "data_format": {"s": _bytes("NHWC")},
    }


def _integers(values: Sequence[int]) -> Node:
    return {"list": {"i": list(values)}}


def _bytes(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _check_layout(name: str, config: Mapping[str, Any]) -> None:
    if config.get("data_format", "channels_last") != "channels_last":
        raise ConversionError(f"layer {name} wants channels first, which is not converted")


def with_head(
    document: Mapping[str, Any], weights: Weights, head: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[dict[str, Any], bytes]:
    """Replace the last layer of a layers model by dense layers with sigmoids.

    Args:
        document: The model file.
        weights: As `tfjs.read_weights` gives them.
        head: Kernel and bias of each layer, ``(inputs, units)`` and ``(units,)``.

    Returns:
        The model file of the new network, and its one shard, which it calls ``weights.bin``.
    """
    topology = document["modelTopology"]
    config = topology.get("model_config", topology)["config"]
    old = config["output_layers"][0][0]
    layers = [layer for layer in config["layers"] if layer["name"] != old]
    source = _sources(next(each for each in config["layers"] if each["name"] == old))[0]
    kept = {name: value for name, value in weights.items() if not name.startswith(f"{old}/")}
    for number, (kernel, bias) in enumerate(head, 1):
        name = f"head_{number}"
        layers.append(
            {
                "name": name, "class_name": "Dense", "inbound_nodes": [[[source, 0, 0, {}]]],
                "config": {
                    "name": name, "units": kernel.shape[1], "activation": "sigmoid",
                    "use_bias": True,
                },
            }
        )  # fmt: skip
        kept |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
        source = name
    made = {**config, "layers": layers, "output_layers": [[source, 0, 0]]}
    arrays = {name: np.ascontiguousarray(value, "<f4") for name, value in kept.items()}
    entries = [
        {"name": name, "shape": list(value.shape), "dtype": "float32"}
        for name, value in arrays.items()
    ]
    model = {
        "format": "layers-model",
        "modelTopology": {"class_name": "Model", "config": made},
        "weightsManifest": [{"paths": ["weights.bin"], "weights": entries}],
    }
    return model, b"".join(value.tobytes() for value in arrays.values())
