"""The TensorFlow.js reader: weights by hand, and a GraphDef checked with a reader of its own."""

import numpy as np
import pytest
import tiny_network

from models.convert.tfjs import graph_def, read_weights
from models.errors import ConversionError


def entry(name="w", shape=(2, 2), dtype="float32", **fields):
    return {"name": name, "shape": list(shape), "dtype": dtype, **fields}


def read_one(entry, data):
    group = {"paths": ["a", "b"], "weights": [entry]}
    return read_weights([group], {"a": data[:3], "b": data[3:]})[entry["name"]]


def test_a_weight_may_lie_across_shards():
    values = np.array([[1.5, -2], [3, 4]], np.float32)
    np.testing.assert_array_equal(read_one(entry(), values.tobytes()), values)


def test_a_scalar_and_an_empty_weight_are_read():
    weights = read_weights(
        [
            {
                "paths": ["a"],
                "weights": [entry("s", ()), entry("e", (0, 3)), entry("i", (1,), "int32")],
            }
        ],
        {"a": np.float32(2.5).tobytes() + np.int32(-7).tobytes()},
    )
    assert weights["s"] == 2.5
    assert weights["s"].shape == ()
    assert weights["e"].shape == (0, 3)
    assert weights["i"].tolist() == [-7]


@pytest.mark.parametrize(("dtype", "stored"), [("uint8", np.uint8), ("uint16", np.uint16)])
def test_quantized_weights_are_scaled_and_shifted(dtype, stored):
    q = np.array([[0, 1], [100, 255]], stored)
    quantization = {"dtype": dtype, "scale": 0.5, "min": -3.0}
    weight = read_one(entry(quantization=quantization), q.tobytes())
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, q * 0.5 - 3)


def test_half_precision_weights_are_widened():
    half = np.array([[1, -0.5], [65504, 0]], np.float16)
    weight = read_one(entry(quantization={"dtype": "float16"}), half.tobytes())
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, half)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\0" * 15, "ends at byte 16, the shards at 15"),
        (b"\0" * 17, "hold 17 bytes, the manifest"),
    ],
)
def test_shards_of_another_length_are_refused(data, complaint):
    with pytest.raises(ConversionError, match=complaint) as caught:
        read_one(entry(), data)
    assert "pull" in caught.value.hint


def test_a_missing_shard_is_named():
    with pytest.raises(ConversionError, match="weight shard b is missing"):
        read_weights([{"paths": ["a", "b"], "weights": []}], {"a": b""})


@pytest.mark.parametrize("dtype", ["complex64", "string", "uint8"])
def test_an_unknown_weight_type_is_named(dtype):
    with pytest.raises(ConversionError, match=f"weight w has unsupported dtype {dtype}"):
        read_one(entry(dtype=dtype), b"")


def fields(message):
    """Read protobuf wire format: ``[(field number, value)]``; the twin of what is under test."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        number, wire_type = divmod(varint(), 8)
        if wire_type == 0:
            found.append((number, varint()))
        else:
            size = {5: 4}.get(wire_type) or varint()
            found.append((number, message[at : at + size]))
            at += size
    return found


def attributes(node):
    pairs = [dict(fields(value)) for number, value in fields(node) if number == 5]
    return {pair[1].decode(): fields(pair[2]) for pair in pairs}


def encode(*nodes, weights=None):
    return [value for _, value in fields(graph_def({"node": list(nodes)}, weights or {}))]


def test_the_graph_keeps_names_operations_and_inputs():
    model, shard = tiny_network.document()
    weights = read_weights(model["weightsManifest"], {"shard.bin": shard})
    nodes = [fields(value) for _, value in fields(graph_def(model["modelTopology"], weights))]
    heads = [node for node in nodes if (2, b"Conv2D") in node]
    assert len(heads) == len(tiny_network.HEADS)
    assert heads[0][:4] == [
        (1, b"net/heatmap_2/Conv"), (2, b"Conv2D"), (3, b"image"), (3, b"heatmap/w")
    ]  # fmt: skip


def test_every_kind_of_attribute_is_encoded():
    (node,) = encode(
        {
            "name": "n",
            "op": "X",
            "attr": {
                "i": {"i": "-1"},
                "f": {"f": 0.5},
                "b": {"b": True},
                "s": {"s": "U0FNRQ=="},
                "type": {"type": "DT_INT32"},
                "shape": {"shape": {"dim": [{"size": "-1"}, {}]}},
                "list": {"list": {"i": ["1", "300"]}},
                "empty": {"list": {}},
            },
        }
    )
    found = attributes(node)
    assert found["i"] == [(3, (1 << 64) - 1)]
    assert found["f"] == [(4, np.float32(0.5).tobytes())]
    assert found["b"] == [(5, 1)]
    assert found["s"] == [(2, b"SAME")]
    assert found["type"] == [(6, 3)]
    dims = [fields(value) for _, value in fields(found["shape"][0][1])]
    assert dims == [[(1, (1 << 64) - 1)], [(1, 0)]]
    assert fields(found["list"][0][1]) == [(3, 1), (3, 300)]
    assert found["empty"] == [(1, b"")]


def test_a_constant_carries_its_weights():
    values = np.array([[1, 2, 3]], np.int32)
    const = {"name": "c", "op": "Const", "attr": {"dtype": {"type": "DT_INT32"}, "value": {}}}
    (node,) = encode(const, weights={"c": values})
    ((number, tensor),) = attributes(node)["value"]
    found = dict(fields(tensor))
    assert number == 8
    assert found[1] == 3
    assert [fields(dim) for _, dim in fields(found[2])] == [[(1, 1)], [(1, 3)]]
    assert found[4] == values.tobytes()


@pytest.mark.parametrize(
    ("node", "complaint"),
    [
        ({"name": "c", "op": "Const", "attr": {"value": {}}}, "constant c has no weights"),
        ({"name": "f", "op": "_FusedConv2D"}, r"_FusedConv2D \(f\) is fused"),
        ({"name": "f", "op": "FusedDepthwiseConv2dNative"}, "is fused"),
        ({"name": "x", "op": "X", "attr": {"a": {"func": {}}}}, "attribute a has no value"),
        ({"name": "x", "op": "X", "attr": {"a": {"list": {"func": [1]}}}}, "unsupported items"),
    ],
)
def test_what_it_cannot_convert_is_refused_by_name(node, complaint):
    with pytest.raises(ConversionError, match=complaint):
        encode(node)
