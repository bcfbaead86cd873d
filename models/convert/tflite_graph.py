"""Write an OpenVINO IR as TensorFlow Lite, without TensorFlow.

The IR computes in NCHW between two transpositions, TFLite in NHWC: tensors keep the channels last
from one end to the other, and the transpositions are left out. Bias and activation go into the
convolution that they follow. The schema comes with ``ai-edge-litert``, of the extra
``posefleet[convert]``; without it, this module does not import.
"""

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from models.convert.ir_tree import Element, IrTree, numbers, only, shape, tensor_name
from models.errors import ConversionError

_VERSION = 3
"""Of the schema, in its own words; the file begins with the identifier TFL3."""
_SIGNATURE = "serving_default"
"""What TensorFlow calls the only signature."""
_TYPES = {
    "float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32,
}  # fmt: skip
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_PADDINGS = {"same_upper": schema.Padding.SAME, "valid": schema.Padding.VALID}
_Key = tuple[str | None, str | None]


def to_tflite(net: Element, weights: bytes) -> bytes:
    """Return a network in f32 as a TFLite file.

    Args:
        net: root of the IR's XML, with fixed shapes and float32 weights, NHWC at both ends.
        weights: the contents of its ``.bin``.

    Raises:
        ConversionError: an operation that cannot be written; the message names it.
    """
    model = _Writer(IrTree(net, weights)).write(net.get("name", "network"))
    builder = flatbuffers.Builder(len(weights) + (1 << 16))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Writer:
    """Walks the layers once; the XML lists each after those that it needs."""

    def __init__(self, tree: IrTree) -> None:
        self._tree = tree
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._buffers = [schema.BufferT()]  # the first one is empty and stands for "none"
        self._codes: dict[int, int] = {}
        """Operation -> its number in the file."""
        self._tensors: dict[_Key, tuple[int, bool]] = {}
        """Layer and port -> number of the tensor, and whether the IR has its channels first."""
        self._done: set[str | None] = set()
        """Layers that went into the one before them."""
        self._writers: dict[str, Callable[[Element], None]] = {
            "Transpose": self._transpose,
            "Convolution": self._convolution,
            "GroupConvolution": self._depthwise,
            "Add": self._sum,
            "ReLU": self._activation,
            "Clamp": self._activation,
            "MaxPool": self._max_pool,
            "Concat": self._concat,
            "Slice": self._slice,
        }

    def write(self, name: str) -> Any:
        for layer in self._tree.layers:
            kind = layer.get("type", "")
            if kind == "Parameter":
                port = only(layer, "output").findall("port")[0]
                made = self._tensor(tensor_name(port) or "input", shape(port))
                self._graph.inputs.append(made)
                self._tensors[layer.get("id"), port.get("id")] = (made, False)
            elif kind == "Result":
                self._output(layer)
            elif kind in self._writers:
                if layer.get("id") not in self._done:
                    self._writers[kind](layer)
            elif kind != "Const":
                raise self._cannot(layer)
        self._graph.name = name
        model = schema.ModelT()
        model.version, model.description = _VERSION, "posefleet"
        model.subgraphs, model.buffers = [self._graph], self._buffers
        model.operatorCodes = [_code(each) for each in self._codes]
        model.signatureDefs = [self._signature()]
        return model

    def _signature(self) -> Any:
        """Say inputs and outputs by name, as quantizers want them."""
        made = schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = _SIGNATURE, 0
        made.inputs = [self._named(each) for each in self._graph.inputs]
        made.outputs = [self._named(each) for each in self._graph.outputs]
        return made

    def _named(self, number: int) -> Any:
        made = schema.TensorMapT()
        made.name, made.tensorIndex = self._graph.tensors[number].name, number
        return made

    def _cannot(self, layer: Element, why: str = "") -> ConversionError:
        kind = f"{layer.get('type')} ({layer.get('name')})"
        return ConversionError(
            f"the operation {kind} cannot be written as TFLite{why and f': {why}'}",
            hint="take another network, or convert this one with --to ir",
        )

    def _tensor(self, name: str, sizes: list[int], value: NDArray[Any] | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name, sizes, 0
        made.type = _TYPES["float32" if value is None else value.dtype.name]
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
            made.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._graph.tensors.append(made)
        return len(self._graph.tensors) - 1

    def _constant(self, layer: Element, name: str, value: NDArray[Any]) -> int:
        return self._tensor(f"{layer.get('name')}/{name}", list(value.shape), value)

    def _input(self, layer: Element, *, is_first: bool = True) -> int:
        """Return the first input of a layer, which takes the channels first or last."""
        return self._taken(layer, self._tree.edges_into(layer)[0], is_first)

    def _taken(self, layer: Element, edge: Element, is_first: bool) -> int:
        key = (edge.get("from-layer"), edge.get("from-port"))
        if key not in self._tensors or self._tensors[key][1] != is_first:
            raise self._cannot(layer, "its input is constant, or has its channels elsewhere")
        return self._tensors[key][0]

    def _add(
        self, code: int, inputs: list[int], made: tuple[Element, bool], **options: Any
    ) -> None:
        """Add an operation whose result is that of a layer.

        Args:
            code: of the operation.
            inputs: its tensors.
            made: the layer, and whether the IR has its channels first.
            options: name of the options' class -> their values.
        """
        layer, is_first = made
        port = only(layer, "output").findall("port")[0]
        sizes = shape(port)
        if is_first:
            sizes = [sizes[axis] for axis in _TO_LAST]
        result = self._tensor(f"{layer.get('name')}#{layer.get('id')}", sizes)
        self._tensors[layer.get("id"), port.get("id")] = (result, is_first)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs, operator.outputs = inputs, [result]
        for kind, values in options.items():
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(schema, f"{kind}T")()
            for key, value in values.items():
                setattr(operator.builtinOptions, key, value)
        self._graph.operators.append(operator)

    def _output(self, layer: Element) -> None:
        edge = self._tree.edges_into(layer)[0]
        made = self._taken(layer, edge, is_first=False)
        name = tensor_name(self._tree.source_port(edge))
        self._graph.tensors[made].name = name or layer.get("name")
        self._graph.outputs.append(made)

    def _transpose(self, layer: Element) -> None:
        """Only a change of the order in which the IR counts the axes."""
        edge, order = self._tree.edges_into(layer)
        is_first = self._tree.integers(order) == _TO_FIRST
        if not is_first and self._tree.integers(order) != _TO_LAST:
            raise self._cannot(layer, "it does more than move the channels")
        made = self._taken(layer, edge, not is_first)
        port = only(layer, "output").findall("port")[0]
        self._tensors[layer.get("id"), port.get("id")] = (made, is_first)

    def _convolution(self, layer: Element) -> None:
        kernel = self._tree.constant(self._tree.edges_into(layer)[1])
        self._convolve(layer, kernel.transpose(0, 2, 3, 1), "CONV_2D", "Conv2DOptions")

    def _depthwise(self, layer: Element) -> None:
        """OpenVINO's ``(channel, 1, 1, height, width)`` is ``(1, height, width, channel)`` here."""
        kernel = self._tree.constant(self._tree.edges_into(layer)[1])
        if kernel.shape[1:3] != (1, 1):
            raise self._cannot(layer, "its groups are wider than one channel")
        weights = kernel[:, 0, 0].transpose(1, 2, 0)[None]
        options = "DepthwiseConv2DOptions"
        self._convolve(layer, weights, "DEPTHWISE_CONV_2D", options, depthMultiplier=1)

    def _convolve(
        self, layer: Element, weights: NDArray[Any], code: str, kind: str, **more: int
    ) -> None:
        source, options = self._input(layer), self._window(layer)
        down, right = numbers(only(layer, "data"), "dilations")
        options |= {"dilationHFactor": down, "dilationWFactor": right, **more}
        channels = shape(only(layer, "output").findall("port")[0])[1]
        last, bias = self._take_bias(layer, channels)
        last, options["fusedActivationFunction"] = self._take_activation(last)
        inputs = [
            source, self._constant(layer, "weights", weights), self._constant(layer, "bias", bias)
        ]  # fmt: skip
        self._add(getattr(schema.BuiltinOperator, code), inputs, (last, True), **{kind: options})

    def _take_bias(self, layer: Element, channels: int) -> tuple[Element, NDArray[Any]]:
        """Return the sum that follows a layer, and what it adds to each channel."""
        after = self._only_consumer(layer)
        if after is not None and after.get("type") == "Add":
            other = self._tree.edges_into(after)[1]
            if self._tree.source(other).get("type") == "Const":
                value = self._tree.constant(other)
                if value.shape in ((1, channels, 1, 1), (channels, 1, 1)):
                    self._done.add(after.get("id"))
                    return after, value.reshape(channels)
        return layer, np.zeros(channels, np.float32)

    def _take_activation(self, layer: Element) -> tuple[Element, int]:
        after = self._only_consumer(layer)
        found = None if after is None else _activation(after)
        if after is None or found is None:
            return layer, schema.ActivationFunctionType.NONE
        self._done.add(after.get("id"))
        return after, getattr(schema.ActivationFunctionType, found)

    def _only_consumer(self, layer: Element) -> Element | None:
        """Return the layer that takes the result of one, where there is a single one."""
        out = [edge for edge in self._tree.edges if edge.get("from-layer") == layer.get("id")]
        if len(out) != 1:
            return None
        wanted = out[0].get("to-layer")
        return next(each for each in self._tree.layers if each.get("id") == wanted)

    def _window(self, layer: Element) -> dict[str, int]:
        data = only(layer, "data")
        how = data.get("auto_pad", "explicit")
        if how == "explicit" and not any(numbers(data, "pads_begin") + numbers(data, "pads_end")):
            how = "valid"
        if how not in _PADDINGS:
            raise self._cannot(layer, "TFLite pads as TensorFlow does, or not at all")
        down, right = numbers(data, "strides")
        return {"padding": _PADDINGS[how], "strideH": down, "strideW": right}

    def _max_pool(self, layer: Element) -> None:
        data, options = only(layer, "data"), self._window(layer)
        if any(each != 1 for each in numbers(data, "dilations")):
            raise self._cannot(layer, "it is dilated")
        options["filterHeight"], options["filterWidth"] = numbers(data, "kernel")
        code = schema.BuiltinOperator.MAX_POOL_2D
        self._add(code, [self._input(layer)], (layer, True), Pool2DOptions=options)

    def _sum(self, layer: Element) -> None:
        inputs = [self._taken(layer, edge, True) for edge in self._tree.edges_into(layer)]
        self._add(schema.BuiltinOperator.ADD, inputs, (layer, True), AddOptions={})

    def _activation(self, layer: Element) -> None:
        found = _activation(layer)
        if found is None:
            raise self._cannot(layer, "only 0 to 6 is written")
        code = getattr(schema.BuiltinOperator, found)
        self._add(code, [self._input(layer)], (layer, True))

    def _concat(self, layer: Element) -> None:
        if only(layer, "data").get("axis") != "1":
            raise self._cannot(layer, "only channels are put together")
        inputs = [self._taken(layer, edge, True) for edge in self._tree.edges_into(layer)]
        options = {"axis": 3}
        code = schema.BuiltinOperator.CONCATENATION
        self._add(code, inputs, (layer, True), ConcatenationOptions=options)

    def _slice(self, layer: Element) -> None:
        """Cut channels out, behind the last transposition."""
        _, *edges = self._tree.edges_into(layer)
        start, stop, step, axis = (self._tree.integers(edge) for edge in edges)
        sizes = shape(only(layer, "input").findall("port")[0])
        if step != [1] or axis not in ([-1], [len(sizes) - 1]):
            raise self._cannot(layer, "only channels are cut out")
        begin, end, _ = slice(start[0], stop[0]).indices(sizes[-1])
        ends = ([0] * (len(sizes) - 1) + [begin], [*sizes[:-1], end - begin])
        inputs = [self._input(layer, is_first=False)] + [
            self._constant(layer, name, np.array(each, np.int32))
            for name, each in zip(("begin", "size"), ends, strict=True)
        ]
        self._add(schema.BuiltinOperator.SLICE, inputs, (layer, False), SliceOptions={})


def _activation(layer: Element) -> str | None:
    """Return TFLite's name of an activation; None where it has none."""
    data = layer.find("data")
    ends = None if data is None else (data.get("min"), data.get("max"))
    if layer.get("type") == "Clamp" and ends == ("0", "6"):
        return "RELU6"
    return "RELU" if layer.get("type") == "ReLU" else None


def _code(operation: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = operation
    code.deprecatedBuiltinCode = operation  # of readers from before 2020; all of ours are below 127
    code.version = 1
    return code
