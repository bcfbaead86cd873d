"""An OpenVINO IR as its XML tree and weights: what the writers of other formats read of it."""

from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from models.errors import ConversionError

Element = ElementTree.Element

_DTYPES = {
    "f32": "<f4", "f16": "<f2", "i64": "<i8", "i32": "<i4", "i8": "i1", "u8": "u1", "boolean": "?"
}  # fmt: skip


class IrTree:
    """Layers, edges and constants of a network with fixed shapes."""

    def __init__(self, net: Element, weights: bytes) -> None:
        """Take the root of the XML and the contents of the ``.bin``.

        Raises:
            ConversionError: it is no IR, or a shape in it is not fixed.
        """
        self.layers = only(net, "layers")
        self.edges = only(net, "edges")
        self.weights = weights
        self._by_id = {layer.get("id"): layer for layer in self.layers}
        for layer in self.layers:
            if any(dim.text == "-1" for dim in layer.iter("dim")):
                raise ConversionError(
                    f"{layer.get('name')} has no fixed shape, which this format needs",
                    hint="what this network computes depends on what it sees; take another one",
                )

    def edges_into(self, layer: Element) -> list[Element]:
        """Return the edges into a layer, in the order of its ports."""
        into = [edge for edge in self.edges if edge.get("to-layer") == layer.get("id")]
        return sorted(into, key=lambda edge: int(edge.get("to-port", "0")))

    def source(self, edge: Element) -> Element:
        """Return the layer that an edge comes from."""
        return self._by_id[edge.get("from-layer")]

    def source_port(self, edge: Element) -> Element:
        """Return the output port that an edge comes from."""
        ports = only(self.source(edge), "output").findall("port")
        return next(port for port in ports if port.get("id") == edge.get("from-port"))

    def constant(self, edge: Element) -> NDArray[np.generic]:
        """Return the value that comes through an edge.

        Raises:
            ConversionError: it is computed.
        """
        layer = self.source(edge)
        if layer.get("type") != "Const":
            raise ConversionError(
                f"{layer.get('name')} is computed where this format needs a constant"
            )
        return self.value(layer)

    def integers(self, edge: Element) -> list[int]:
        """Return the integers that come through an edge, as `constant` does."""
        return [int(value) for value in np.ravel(self.constant(edge))]

    def value(self, layer: Element) -> NDArray[np.generic]:
        """Return the value of a constant.

        Raises:
            ConversionError: its type is not known here, or the weights end before it.
        """
        data = only(layer, "data")
        kind = data.get("element_type", "")
        if kind not in _DTYPES:
            raise ConversionError(f"the constant {layer.get('name')} is of the unknown type {kind}")
        offset, size = int(data.get("offset", "0")), int(data.get("size", "0"))
        content = self.weights[offset : offset + size]
        if len(content) != size:
            raise ConversionError(f"the weights end before those of {layer.get('name')}")
        return np.frombuffer(content, _DTYPES[kind]).reshape(numbers(data, "shape"))


def only(parent: Element, tag: str) -> Element:
    """Return the child with a tag.

    Raises:
        ConversionError: there is none.
    """
    found = parent.find(tag)
    if found is None:
        raise ConversionError(
            f"{parent.get('name', parent.tag)} has no <{tag}>: this is no OpenVINO IR"
        )
    return found


def numbers(data: Element, name: str) -> list[int]:
    """Return a list of integers that an attribute holds; empty where it is not there."""
    text = data.get(name, "")
    return [int(each) for each in text.split(",")] if text.strip() else []


def shape(port: Element) -> list[int]:
    """Return the shape that a port has."""
    return [int(dim.text or "0") for dim in port.findall("dim")]


def tensor_name(port: Element) -> str:
    """Return the first tensor name of a port, empty where it has none."""
    return port.get("names", "").split(",")[0]
