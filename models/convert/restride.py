"""Give a convolutional graph another output stride, with the same weights.

Finer (atrous convolution, arXiv:1412.7062): every stride beyond the wanted one becomes 1, and the
convolutions behind it are dilated by what it was. Coarser: the reverse where the graph is dilated;
elsewhere the last depthwise convolution is strided. Either way the cells of the coarser map are
those of the finer one, with the same values: every second one in each direction.

Dilations are written anew. PoseNet 100 was published with [2, 2, 1, 1] where [1, 2, 2, 1] is meant,
batch and channels not being dilated: TensorFlow.js and OpenVINO read 2 rows and 1 column, and find
a third fewer of the keypoints (AP .16 instead of .27 on 61 COCO pictures at 481x353).
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from models.errors import ConversionError

_DEPTHWISE = ("DepthwiseConv2dNative", "FusedDepthwiseConv2dNative")
_CONVOLUTIONS = ("Conv2D", "_FusedConv2D", *_DEPTHWISE)

Nodes = Mapping[str, dict[str, Any]]


def restride(
    topology: Mapping[str, Any], weights: Mapping[str, np.ndarray], stride: int
) -> dict[str, Any]:
    """Return a ``modelTopology`` whose maps have the wanted stride.

    Args:
        topology: NHWC; unchanged.
        weights: by name; their shapes tell which convolutions are wider than 1x1.
        stride: input pixels a cell; a power of two times or a part of what the graph has.

    Raises:
        ConversionError: this stride cannot be made of the graph.
    """
    made = copy.deepcopy(dict(topology))
    nodes = {node["name"]: node for node in made["node"]}
    layers = list(_layers(nodes, weights))
    has = math.prod(_get(layer, "strides") for layer in layers)
    while has < stride:
        _coarsen(layers)
        has *= 2
    reached = dilation = 1
    for layer in layers:
        _set(layer, "dilations", _get(layer, "dilations") * dilation)
        if reached < stride:
            reached *= _get(layer, "strides")
        else:
            dilation *= _get(layer, "strides")
            _set(layer, "strides", 1)
    if reached != stride:
        raise ConversionError(f"the output stride {has} of the graph cannot be made {stride}")
    return made


def _layers(nodes: Nodes, weights: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Yield the convolutions wider than 1x1, in the order of the data; they must be a chain."""
    depth: dict[str, int] = {}
    seen: dict[int, str] = {}
    for name in _ordered(nodes):
        node = nodes[name]
        depth[name] = max((depth[source] for source in _sources(node, nodes)), default=0)
        if node["op"] not in _CONVOLUTIONS:
            if "strides" in node.get("attr", {}):
                raise ConversionError(f"no other stride can be made through {node['op']} ({name})")
            continue
        kernel = weights[node["input"][1]].shape[:2]
        if kernel == (1, 1) and _get(node, "strides") == 1:
            continue
        depth[name] += 1
        if depth[name] in seen:
            raise ConversionError(
                f"no other stride can be made: {name} and {seen[depth[name]]} are side by side"
            )
        seen[depth[name]] = name
        yield node


def _ordered(nodes: Nodes) -> list[str]:
    """Return the names so that each comes after its inputs."""
    order: dict[str, None] = {}
    stack = [(name, False) for name in reversed(list(nodes))]
    while stack:
        name, is_ready = stack.pop()
        if is_ready:
            order[name] = None
        elif name not in order:
            stack.append((name, True))
            stack += [(source, False) for source in _sources(nodes[name], nodes)]
    return list(order)


def _sources(node: Mapping[str, Any], nodes: Nodes) -> list[str]:
    names = (source.lstrip("^").partition(":")[0] for source in node.get("input", []))
    return [name for name in names if name in nodes]


def _coarsen(layers: list[dict[str, Any]]) -> None:
    """Double the stride of the last maps."""
    dilated = [at for at, layer in enumerate(layers) if _get(layer, "dilations") > 1]
    if dilated:
        at = dilated[0] - 1
        for later in dilated:
            _set(layers[later], "dilations", _get(layers[later], "dilations") // 2)
    else:
        at = max(at for at, layer in enumerate(layers) if layer["op"] in _DEPTHWISE)
    _set(layers[at], "strides", _get(layers[at], "strides") * 2)


def _get(layer: Mapping[str, Any], key: str) -> int:
    """Return what is meant for height and width; TensorFlow writes the dilation 1 as nothing."""
    values = layer["attr"].get(key, {}).get("list", {}).get("i") or ["1"] * 4
    return max(int(value) for value in values)


def _set(layer: dict[str, Any], key: str, value: int) -> None:
    layer["attr"][key] = {"list": {"i": ["1", str(value), str(value), "1"]}}
