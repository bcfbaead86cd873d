"""Write an OpenVINO IR as ONNX, without TensorFlow: neither OpenVINO nor it writes that format.

From the IR, so that every network of the zoo has one way in, whatever it came as: NHWC input, one
output a role. Shapes are fixed, and padding "same" is written as the numbers that it comes to.
``onnx`` comes with the extra ``posefleet[convert]``; without it, this module does not import.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.convert.ir_tree import Element, IrTree, numbers, only, shape, tensor_name
from models.errors import ConversionError

OPSET = 13
"""Our choice: of 2020, read by every ONNX runtime still in use, and it has all that we write."""
IR_VERSION = 8
"""The file format that goes with it; what `onnx` would take is newer than many runtimes."""

_TYPES = {
    "FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16, "I64": TensorProto.INT64,
    "I32": TensorProto.INT32, "U8": TensorProto.UINT8, "I8": TensorProto.INT8,
}  # fmt: skip
_ELEMENTS = {"f32": "FP32", "f16": "FP16", "i64": "I64", "i32": "I32", "u8": "U8", "i8": "I8"}
_SAME_NAME = {
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Divide": "Div", "Sigmoid": "Sigmoid",
    "ReLU": "Relu",
}  # fmt: skip
"""Operations without attributes: OpenVINO's name -> ONNX's."""


def to_onnx(net: Element, weights: bytes, precision: Literal["f32", "f16"] = "f32") -> bytes:
    """Return a network as a serialized ONNX model.

    Args:
        net: root of the IR's XML, with fixed shapes and float32 weights.
        weights: the contents of its ``.bin``.
        precision: of weights and computation; input and outputs keep their types.

    Raises:
        ConversionError: an operation that cannot be written; the message names it.
    """
    writer = _Writer(IrTree(net, weights), precision)
    graph = writer.write(net.get("name", "network"))
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], producer_name="posefleet")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _Writer:
    """Walks the layers once; the XML lists each after those that it needs."""

    def __init__(self, tree: IrTree, precision: str) -> None:
        self._tree = tree
        self._is_half = precision == "f16"
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._names: dict[tuple[str | None, str | None], str] = {}
        """Layer id and port id -> name of the tensor."""
        self._writers: dict[str, Callable[[Element], None]] = {
            "Transpose": self._transpose,
            "Convolution": self._convolution,
            "GroupConvolution": self._convolution,
            "Clamp": self._clamp,
            "Elu": self._elu,
            "PReLU": self._prelu,
            "MaxPool": self._max_pool,
            "Concat": self._concat,
            "Slice": self._slice,
            "Reshape": self._reshape,
            "Convert": self._convert,
        }

    def write(self, name: str) -> onnx.GraphProto:
        inputs, outputs = [], []
        for layer in self._tree.layers:
            match layer.get("type"):
                case "Const":
                    pass  # written where it is needed, in the shape that is needed there
                case "Parameter":
                    inputs.append(self._input(layer))
                case "Result":
                    outputs.append(self._output(layer))
                case kind:
                    self._operation(layer, str(kind))
        return helper.make_graph(
            self._nodes, name, inputs, outputs, initializer=list(self._constants.values())
        )

    def _operation(self, layer: Element, kind: str) -> None:
        if kind in _SAME_NAME:
            self._add(layer, _SAME_NAME[kind], self._inputs(layer))
        elif kind in self._writers:
            self._writers[kind](layer)
        else:
            raise ConversionError(
                f"the operation {kind} ({layer.get('name')}) cannot be written as ONNX yet",
                hint="take another network, or convert this one with --to ir",
            )

    def _input(self, layer: Element) -> onnx.ValueInfoProto:
        port = only(layer, "output").findall("port")[0]
        name = tensor_name(port) or layer.get("name", "")
        kind = _TYPES[port.get("precision", "")]
        key = (layer.get("id"), port.get("id"))
        self._names[key] = name
        if self._is_half and kind == TensorProto.FLOAT:
            self._names[key] = f"{name}/half"
            self._cast(name, self._names[key], TensorProto.FLOAT16)
        return helper.make_tensor_value_info(name, kind, shape(port))

    def _output(self, layer: Element) -> onnx.ValueInfoProto:
        edge = self._tree.edges_into(layer)[0]
        port = self._tree.source_port(edge)
        name = tensor_name(port) or layer.get("name", "")
        source, kind = self._source(edge), _TYPES[port.get("precision", "")]
        if self._is_half and kind == TensorProto.FLOAT:
            self._cast(source, name, TensorProto.FLOAT)
        else:
            self._nodes.append(helper.make_node("Identity", [source], [name]))
        return helper.make_tensor_value_info(name, kind, shape(port))

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], to=kind))

    def _add(self, layer: Element, kind: str, inputs: list[str], **attributes: Any) -> None:
        port = only(layer, "output").findall("port")[0]
        made = f"{layer.get('name')}#{layer.get('id')}"
        self._names[layer.get("id"), port.get("id")] = made
        self._nodes.append(helper.make_node(kind, inputs, [made], name=made, **attributes))

    def _inputs(self, layer: Element) -> list[str]:
        return [self._source(edge) for edge in self._tree.edges_into(layer)]

    def _first(self, layer: Element) -> str:
        return self._source(self._tree.edges_into(layer)[0])

    def _source(self, edge: Element) -> str:
        layer = self._tree.source(edge)
        if layer.get("type") == "Const":
            return self._constant(f"const#{layer.get('id')}", self._tree.value(layer))
        try:
            return self._names[edge.get("from-layer"), edge.get("from-port")]
        except KeyError:
            raise ConversionError(
                f"output {edge.get('from-port')} of {layer.get('name')} cannot be written as ONNX"
            ) from None

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if self._is_half and value.dtype == np.float32:
            value = value.astype(np.float16)
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def _weights(self, layer: Element, sizes: list[int], suffix: str) -> str:
        """Write the second input of a layer, a constant, in another shape."""
        value = self._tree.constant(self._tree.edges_into(layer)[1]).reshape(sizes)
        return self._constant(f"{layer.get('name')}#{layer.get('id')}/{suffix}", value)

    def _transpose(self, layer: Element) -> None:
        first, order = self._tree.edges_into(layer)
        perm = self._tree.integers(order)
        self._add(layer, "Transpose", [self._source(first)], perm=perm)

    def _convolution(self, layer: Element) -> None:
        """In groups, OpenVINO keeps the group as an axis of its own, the first of the weights."""
        sizes = shape(only(layer, "input").findall("port")[1])
        group = 1
        if layer.get("type") == "GroupConvolution":
            group = sizes[0]
            sizes = [sizes[0] * sizes[1], *sizes[2:]]
        inputs = [self._first(layer), self._weights(layer, sizes, "weights")]
        window = _window(layer, sizes[2:])
        self._add(layer, "Conv", inputs, group=group, kernel_shape=sizes[2:], **window)

    def _max_pool(self, layer: Element) -> None:
        data = only(layer, "data")
        kernel = numbers(data, "kernel")
        is_up = data.get("rounding_type") == "ceil"
        window = _window(layer, kernel)
        self._add(
            layer, "MaxPool", self._inputs(layer),
            kernel_shape=kernel, ceil_mode=int(is_up), **window,
        )  # fmt: skip

    def _clamp(self, layer: Element) -> None:
        name, data = f"{layer.get('name')}#{layer.get('id')}", only(layer, "data")
        ends = [
            self._constant(f"{name}/{end}", np.array(float(data.get(end, "0")), np.float32))
            for end in ("min", "max")
        ]
        self._add(layer, "Clip", [*self._inputs(layer), *ends])

    def _elu(self, layer: Element) -> None:
        self._add(
            layer, "Elu", self._inputs(layer), alpha=float(only(layer, "data").get("alpha", "1"))
        )

    def _prelu(self, layer: Element) -> None:
        """OpenVINO's slopes lie along axis 1, ONNX's along the last unless told."""
        first, slopes = only(layer, "input").findall("port")
        sizes = shape(slopes)
        if len(sizes) == 1 and len(shape(first)) > 2:
            sizes = [*sizes, *[1] * (len(shape(first)) - 2)]
        self._add(layer, "PRelu", [self._first(layer), self._weights(layer, sizes, "slopes")])

    def _concat(self, layer: Element) -> None:
        self._add(
            layer, "Concat", self._inputs(layer), axis=int(only(layer, "data").get("axis", "0"))
        )

    def _slice(self, layer: Element) -> None:
        """OpenVINO has the steps before the axes, ONNX after them."""
        source, start, stop, step, *axes = self._inputs(layer)
        if not axes:
            raise ConversionError(f"{layer.get('name')} slices without saying which axes")
        self._add(layer, "Slice", [source, start, stop, *axes, step])

    def _reshape(self, layer: Element) -> None:
        """The result's shape is fixed, whatever the target says of zeros."""
        target = np.array(shape(only(layer, "output").findall("port")[0]), np.int64)
        name = self._constant(f"{layer.get('name')}#{layer.get('id')}/shape", target)
        self._add(layer, "Reshape", [self._first(layer), name])

    def _convert(self, layer: Element) -> None:
        kind = _TYPES[_ELEMENTS[only(layer, "data").get("destination_type", "")]]
        if self._is_half and kind == TensorProto.FLOAT:
            kind = TensorProto.FLOAT16
        self._add(layer, "Cast", self._inputs(layer), to=kind)


def _window(layer: Element, kernel: list[int]) -> dict[str, list[int]]:
    """Return what ONNX says of a moving window: strides, dilations, padding in numbers."""
    data = only(layer, "data")
    strides = numbers(data, "strides")
    dilations = numbers(data, "dilations") or [1] * len(kernel)
    begin, end = numbers(data, "pads_begin"), numbers(data, "pads_end")
    how = data.get("auto_pad", "explicit")
    if how == "valid":
        begin = end = [0] * len(kernel)
    elif how in ("same_upper", "same_lower"):
        taken, made = (shape(only(layer, s).findall("port")[0])[2:] for s in ("input", "output"))
        reach = [(wide - 1) * apart + 1 for wide, apart in zip(kernel, dilations, strict=True)]
        begin, end = _same(taken, made, reach, strides)
        if how == "same_lower":
            begin, end = end, begin
    return {"strides": strides, "dilations": dilations, "pads": [*begin, *end]}


def _same(
    sizes: list[int], made: list[int], reach: list[int], strides: list[int]
) -> tuple[list[int], list[int]]:
    """Return the padding before and after, the odd one after: as TensorFlow pads."""
    total = [
        max(0, (out - 1) * stride + wide - size)
        for size, out, wide, stride in zip(sizes, made, reach, strides, strict=True)
    ]
    before = [each // 2 for each in total]
    return before, [each - half for each, half in zip(total, before, strict=True)]
