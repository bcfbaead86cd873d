"""Turn a TensorFlow.js graph model (model.json + weight shards) into a TensorFlow GraphDef.

OpenVINO's TensorFlow front end reads GraphDef, so TensorFlow itself is never needed. The protobuf
wire format is written by hand: GraphDef needs two wire types and eleven field numbers, all of them
frozen by TensorFlow's compatibility promise (tensorflow/core/framework/{graph,node_def,attr_value,
tensor,tensor_shape,types}.proto). Fused operations are expanded first (`models.convert.fused`).
"""

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from models.convert.fused import expand
from models.errors import ConversionError

DATA_TYPES = {"DT_FLOAT": 1, "DT_INT32": 3, "DT_STRING": 7, "DT_INT64": 9, "DT_BOOL": 10}
"""types.proto: the enum values of the element types that graph models use."""

_STORED = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "uint16": "<u2", "float16": "<f2"}
_TENSOR_TYPES = {"float32": 1, "int32": 3}


def read_weights(
    manifest: Sequence[Mapping[str, Any]], shards: Mapping[str, bytes]
) -> dict[str, np.ndarray]:
    """Return every weight of a ``weightsManifest`` by name, dequantized to its declared dtype.

    Quantized weights follow tfjs: ``value = q * scale + min`` (uint8, uint16) or a plain cast
    (float16).

    Raises:
        ConversionError: a shard is missing, too short, or of an unknown dtype.
    """
    weights: dict[str, np.ndarray] = {}
    for group in manifest:
        missing = [path for path in group["paths"] if path not in shards]
        if missing:
            raise ConversionError(f"weight shard {missing[0]} is missing", hint="pull it again")
        data = b"".join(shards[path] for path in group["paths"])
        at = 0
        for entry in group["weights"]:
            array, size = _read_weight(entry, data, at)
            weights[entry["name"]] = array
            at += size
        if at != len(data):
            raise ConversionError(
                f"weight shards hold {len(data)} bytes, the manifest describes {at}",
                hint="the shards belong to another model.json; pull the network again",
            )
    return weights


def _read_weight(entry: Mapping[str, Any], data: bytes, at: int) -> tuple[np.ndarray, int]:
    quantization = entry.get("quantization")
    stored = quantization["dtype"] if quantization else entry["dtype"]
    if stored not in _STORED or entry["dtype"] not in _TENSOR_TYPES:
        raise ConversionError(f"weight {entry['name']} has unsupported dtype {stored}")
    count = int(np.prod(entry["shape"], dtype=np.int64))
    dtype = np.dtype(_STORED[stored])
    size = count * dtype.itemsize
    if at + size > len(data):
        raise ConversionError(
            f"weight {entry['name']} ends at byte {at + size}, the shards at {len(data)}",
            hint="the download is truncated; pull the network again",
        )
    raw = np.frombuffer(data, dtype, count, at)
    if quantization and stored != "float16":
        raw = raw.astype(np.float32) * np.float32(quantization["scale"]) + np.float32(
            quantization["min"]
        )
    return raw.astype(_STORED[entry["dtype"]]).reshape(entry["shape"]), size


def graph_def(topology: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> bytes:
    """Return the serialized GraphDef of a ``modelTopology`` with its weights inlined as constants.

    Raises:
        ConversionError: a constant without weights, or an operation fused with something unknown.
    """
    return b"".join(_field(1, _node(node, weights)) for node in expand(topology)["node"])


def _node(node: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> bytes:
    name, op = node["name"], node["op"]
    attributes = dict(node.get("attr", {}))
    parts = [_field(1, name.encode()), _field(2, op.encode())]
    parts += [_field(3, source.encode()) for source in node.get("input", [])]
    if op == "Const":
        if name not in weights:
            raise ConversionError(f"constant {name} has no weights in the manifest")
        del attributes["value"]
        parts.append(_attribute("value", _field(8, _tensor(weights[name]))))
    parts += [_attribute(key, _value(value, key)) for key, value in attributes.items()]
    return b"".join(parts)


def _attribute(key: str, value: bytes) -> bytes:
    return _field(5, _field(1, key.encode()) + _field(2, value))


def _value(value: Mapping[str, Any], key: str) -> bytes:
    """Encode one AttrValue; proto3 JSON omits default values, hence the ``get`` calls."""
    for kind, content in value.items():
        if kind == "list":
            return _field(1, b"".join(_list_items(content, key)))
        if kind in _SCALARS:
            number, encode = _SCALARS[kind]
            return bytes(encode(number, content))
    raise ConversionError(f"attribute {key} has no value this converter knows: {sorted(value)}")


def _list_items(content: Mapping[str, Any], key: str) -> Iterator[bytes]:
    for kind, items in content.items():
        if kind not in _SCALARS:
            raise ConversionError(f"list attribute {key} has unsupported items: {kind}")
        number, encode = _SCALARS[kind]
        yield from (encode(number, item) for item in items)


def _tensor(array: np.ndarray) -> bytes:
    shape = b"".join(_field(2, _tag(1, 0) + _varint(size)) for size in array.shape)
    dtype = _tag(1, 0) + _varint(_TENSOR_TYPES[array.dtype.name])
    return dtype + _field(2, shape) + _field(4, np.ascontiguousarray(array).tobytes())


def _shape(number: int, content: Mapping[str, Any]) -> bytes:
    dims = (
        _field(2, _tag(1, 0) + _varint(int(dim.get("size", 0)))) for dim in content.get("dim", [])
    )
    return _field(number, b"".join(dims))


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _field(number: int, content: bytes) -> bytes:
    return _tag(number, 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative int64 travels as ten bytes of two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SCALARS: dict[str, tuple[int, Any]] = {
    "s": (2, lambda number, v: _field(number, base64.b64decode(v))),
    "i": (3, lambda number, v: _tag(number, 0) + _varint(int(v))),
    "f": (4, lambda number, v: _tag(number, 5) + struct.pack("<f", v)),
    "b": (5, lambda number, v: _tag(number, 0) + _varint(int(v))),
    "type": (6, lambda number, v: _tag(number, 0) + _varint(DATA_TYPES[v])),
    "shape": (7, _shape),
}
"""attr_value.proto: JSON key -> (field number, encoder); the same numbers serve ListValue."""
