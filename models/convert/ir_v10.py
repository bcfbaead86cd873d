"""Rewrite OpenVINO IR v11 as v10, which the last runtime for Movidius sticks (2021.4) reads.

Works on the XML tree and the weights, so no old OpenVINO is needed. 2021.4 knows the operation sets
1 to 7 (its documentation, "Available Operations Sets"); of the later ones, those that our networks
have are said in older words. Shapes must be fixed: that runtime knows no others.
"""

import copy
from typing import Literal
from xml.etree import ElementTree

import numpy as np

from models.convert.ir_tree import Element, IrTree, numbers, only, shape, tensor_name
from models.errors import ConversionError

LAST_OPSET = 7
"""Of OpenVINO 2021.4."""
_HALF = {"f32": "f16", "FP32": "FP16"}
_ALIGNMENT = 8
"""Bytes: the widest element, int64."""
_MASKS = ("begin_mask", "end_mask", "new_axis_mask", "shrink_axis_mask", "ellipsis_mask")


def to_v10(
    net: Element, weights: bytes, precision: Literal["f32", "f16"] = "f16"
) -> tuple[Element, bytes]:
    """Return the XML tree and the weights of the same network in IR v10.

    A runtime of that time calls an output what the layer is called that computes it; that layer
    gets the name of the output's tensor.

    Args:
        net: root of the v11 XML, with float32 weights and fixed shapes; unchanged.
        weights: the contents of the ``.bin``.
        precision: of weights and computation; Movidius sticks compute in f16 only.

    Raises:
        ConversionError: an operation that 2021.4 does not have, a shape that is not fixed, or a
            weight that f16 cannot hold.
    """
    made = copy.deepcopy(net)
    made.set("version", "10")
    for parent in list(made.iter()):
        for child in parent.findall("rt_info"):
            parent.remove(child)
    graph = _Graph(made, weights)
    _name_outputs(graph)
    for layer in list(graph.layers):
        _replace(layer, graph)
    _drop_unused(graph)
    for port in made.iter("port"):
        port.attrib.pop("names", None)
    if precision == "f16":
        _halve(graph)
    return made, _pack(graph, precision)


class _Graph(IrTree):
    """A network that is being rewritten."""

    def add_constant(self, values: list[int], name: str, into: Element, port: int) -> None:
        """Add a list of int64 and an edge from it to a new port of a layer."""
        content = np.array(values, "<i8").tobytes()
        number = str(1 + max(int(layer.get("id", "0")) for layer in self.layers))
        layer = ElementTree.Element("layer", id=number, name=name, type="Const", version="opset1")
        place = {"offset": str(len(self.weights)), "size": str(len(content))}
        count = str(len(values))
        ElementTree.SubElement(layer, "data", {"element_type": "i64", "shape": count, **place})
        for parent, at in (
            (ElementTree.SubElement(layer, "output"), 0),
            (only(into, "input"), port),
        ):
            added = ElementTree.SubElement(parent, "port", id=str(at), precision="I64")
            ElementTree.SubElement(added, "dim").text = count
        ends = {"from-layer": number, "from-port": "0"}
        target = {"to-layer": into.get("id", ""), "to-port": str(port)}
        ElementTree.SubElement(self.edges, "edge", {**ends, **target})
        self.layers.insert(0, layer)
        self.weights += content


def _name_outputs(graph: _Graph) -> None:
    for result in graph.layers:
        if result.get("type") != "Result":
            continue
        edge = graph.edges_into(result)[0]
        if name := tensor_name(graph.source_port(edge)):
            graph.source(edge).set("name", name)
            result.set("name", f"{name}/result")


def _replace(layer: Element, graph: _Graph) -> None:
    """Say one layer in the words of 2021.4."""
    kind, opset = layer.get("type", ""), layer.get("version", "")
    number = opset.removeprefix("opset")
    if kind == "FakeQuantize":
        raise ConversionError(
            f"{layer.get('name')} computes in 8 bits, and Movidius sticks compute in f16 only",
            hint="take a network that is not quantized, e.g. posenet-mobilenet-075",
        )
    if number.isdigit() and int(number) <= LAST_OPSET:
        return
    if (kind, opset) == ("MaxPool", "opset8"):
        _replace_max_pool(layer, graph)
    elif (kind, opset) == ("Slice", "opset8"):
        _replace_slice(layer, graph)
    else:
        raise ConversionError(
            f"OpenVINO 2021.4 does not know the operation {kind} of {opset} ({layer.get('name')})",
            hint="take another network for this device, e.g. posenet-mobilenet-075",
        )


def _replace_max_pool(layer: Element, graph: _Graph) -> None:
    """MaxPool-1 neither dilates nor says where the largest value was."""
    data, output = only(layer, "data"), only(layer, "output")
    indices = output.findall("port")[1:]
    unknown = {port.get("id") for port in indices}
    is_used = any(
        edge.get("from-layer") == layer.get("id") and edge.get("from-port") in unknown
        for edge in graph.edges
    )
    if is_used or any(each != 1 for each in numbers(data, "dilations")):
        what = "gives indices" if is_used else "is dilated"
        raise ConversionError(
            f"OpenVINO 2021.4 does not know a MaxPool that {what} ({layer.get('name')})"
        )
    for port in indices:
        output.remove(port)
    for name in ("dilations", "axis", "index_element_type"):
        data.attrib.pop(name, None)
    layer.set("version", "opset1")


def _replace_slice(layer: Element, graph: _Graph) -> None:
    """StridedSlice-1 says of every axis what Slice-8 says of some."""
    inputs = only(layer, "input")
    ports = inputs.findall("port")
    end = shape(ports[0])
    begin, strides = [0] * len(end), [1] * len(end)
    edges = graph.edges_into(layer)[1:]
    starts, stops, steps, *rest = (graph.integers(edge) for edge in edges)
    axes = rest[0] if rest else range(len(starts))
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        if step < 1:
            raise ConversionError(f"{layer.get('name')} slices backward: no IR v10 is written")
        begin[axis], end[axis], strides[axis] = slice(start, stop, step).indices(end[axis])
    for edge, port in zip(edges, ports[1:], strict=True):
        graph.edges.remove(edge)
        inputs.remove(port)
    for number, values in enumerate((begin, end, strides), 1):
        graph.add_constant(values, f"{layer.get('name')}/{number}", layer, number)
    for data in layer.findall("data"):
        layer.remove(data)
    # No bit is set: every begin and end counts, no axis comes or goes.
    unset = ",".join("0" for _ in end)
    layer.insert(0, ElementTree.Element("data", dict.fromkeys(_MASKS, unset)))
    layer.set("type", "StridedSlice")
    layer.set("version", "opset1")


def _drop_unused(graph: _Graph) -> None:
    """Leave out constants that nothing takes any more."""
    taken = {edge.get("from-layer") for edge in graph.edges}
    for layer in list(graph.layers):
        if layer.get("type") == "Const" and layer.get("id") not in taken:
            graph.layers.remove(layer)


def _halve(graph: _Graph) -> None:
    """Say f16 where f32 is said; constants keep their type until `_pack` has converted them."""
    for port in graph.layers.iter("port"):
        port.set("precision", _HALF.get(port.get("precision", ""), port.get("precision", "")))
    for layer in graph.layers:
        for data in layer.findall("data"):
            if layer.get("type") != "Const":
                data.attrib.update({k: _HALF[v] for k, v in data.attrib.items() if v in _HALF})


def _pack(graph: _Graph, precision: str) -> bytes:
    """Write the constants anew, one after the other, and tell each where it is now."""
    parts: list[bytes] = []
    places: dict[tuple[str | None, ...], tuple[int, int]] = {}
    at = 0
    for layer in graph.layers:
        if layer.get("type") != "Const":
            continue
        data = only(layer, "data")
        kind = data.get("element_type", "")
        is_wide = precision == "f16" and kind == "f32"
        key = (data.get("offset"), data.get("size"), kind)
        if key not in places:
            value = graph.value(layer)
            content = (_half(value, layer.get("name", "")) if is_wide else value).tobytes()
            padding = -len(content) % _ALIGNMENT
            places[key] = (at, len(content))
            parts.append(content + bytes(padding))
            at += len(content) + padding
        data.set("element_type", "f16" if is_wide else kind)
        data.set("offset", str(places[key][0]))
        data.set("size", str(places[key][1]))
    return b"".join(parts)


def _half(wide: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f2")
    if np.isinf(narrow).any() and not np.isinf(wide).any():
        raise ConversionError(
            f"a weight of {name} is {np.abs(wide).max():.6g}; f16 ends at 65504",
            hint="write this network with --precision f32",
        )
    return narrow
