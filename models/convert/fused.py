"""Expand the fused operations of TensorFlow.js graph models into those that TensorFlow has.

tfjs fuses a convolution or matrix product with its bias and activation into one node. The last of
the nodes made of it keeps its name, so that every other node still finds its input.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.errors import ConversionError

Node = Mapping[str, Any]

PLAIN = {
    "_FusedConv2D": "Conv2D",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedMatMul": "MatMul",
}
"""Fused operation -> the operation it begins with."""
_OWN_ATTRIBUTES = {"fused_ops", "num_args", "epsilon", "leakyrelu_alpha"}
"""Attributes that only the fused operation has."""
_ACTIVATIONS = ("Relu", "Relu6", "Elu", "Sigmoid", "LeakyRelu", "Prelu")


def expand(topology: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``modelTopology`` without fused operations.

    Raises:
        ConversionError: an operation is fused with something that is not known here.
    """
    nodes = [made for node in topology["node"] for made in _expanded(node)]
    return {**topology, "node": nodes}


def _expanded(node: Node) -> Iterator[Node]:
    op, name = node["op"], node["name"]
    if op == "Prelu":
        data, alpha = node["input"]
        yield from _prelu(name, data, alpha, _type(node))
    elif op in PLAIN:
        yield from _unfused(node, _fused_ops(node))
    elif op.startswith(("_Fused", "Fused")) and not op.startswith("FusedBatchNorm"):
        raise ConversionError(f"operation {op} ({name}) is fused; this converter cannot expand it")
    else:
        yield node


def _fused_ops(node: Node) -> list[str]:
    coded = node.get("attr", {}).get("fused_ops", {}).get("list", {}).get("s", [])
    names = [base64.b64decode(each).decode() for each in coded]
    if names[:1] != ["BiasAdd"] or len(names) > 2 or any(n not in _ACTIVATIONS for n in names[1:]):
        raise ConversionError(
            f"operation {node['op']} ({node['name']}) is fused with {', '.join(names) or 'nothing'}"
            "; this converter cannot expand it"
        )
    return names


def _unfused(node: Node, fused: Sequence[str]) -> Iterator[Node]:
    """Yield the plain operation, its bias and its activation; the last one has the old name."""
    name, inputs, kind = node["name"], node["input"], _type(node)
    attributes = {key: value for key, value in node["attr"].items() if key not in _OWN_ATTRIBUTES}
    if not attributes.get("explicit_paddings", {}).get("list"):
        attributes.pop("explicit_paddings", None)
    names = [f"{name}/{part}" for part in ("plain", *fused)]
    names[-1] = name
    yield {
        "name": names[0], "op": PLAIN[node["op"]], "input": inputs[:2], "attr": attributes,
    }  # fmt: skip
    layout = {**kind, **_only(attributes, "data_format")}
    yield {"name": names[1], "op": "BiasAdd", "input": [names[0], inputs[2]], "attr": layout}
    if len(fused) == 2 and fused[1] == "Prelu":
        yield from _prelu(name, names[1], inputs[3], kind)
    elif len(fused) == 2:
        slope = {"alpha": node["attr"].get("leakyrelu_alpha", {"f": 0.2})}
        extra = slope if fused[1] == "LeakyRelu" else {}
        yield {"name": name, "op": fused[1], "input": [names[1]], "attr": {**kind, **extra}}


def _prelu(name: str, data: str, alpha: str, kind: Node) -> Iterator[Node]:
    """``x`` where it is positive, ``alpha * x`` elsewhere: ``relu(x) - alpha * relu(-x)``."""
    steps = (
        ("positive", "Relu", [data]),
        ("mirrored", "Neg", [data]),
        ("negative", "Relu", [f"{name}/mirrored"]),
        ("scaled", "Mul", [f"{name}/negative", alpha]),
    )
    for part, op, inputs in steps:
        yield {"name": f"{name}/{part}", "op": op, "input": inputs, "attr": kind}
    inputs = [f"{name}/positive", f"{name}/scaled"]
    yield {"name": name, "op": "Sub", "input": inputs, "attr": kind}


def _type(node: Node) -> dict[str, Any]:
    return _only(node.get("attr", {}), "T") or {"T": {"type": "DT_FLOAT"}}


def _only(attributes: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {key: attributes[key]} if key in attributes else {}
