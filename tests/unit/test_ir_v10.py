"""IR v10 made of IR v11: on a tree written by hand; that 2021.4 reads it, test_export shows."""

import copy
from xml.etree import ElementTree

import numpy as np
import pytest

from models.convert.ir_v10 import to_v10
from models.errors import ConversionError

BIAS = np.array([0.5, -2.0, 1.25], np.float32)


class Net:
    """A v11 network that grows layer by layer, each taking what the one before gives."""

    def __init__(self):
        self.root = ElementTree.Element("net", name="small", version="11")
        self.layers = ElementTree.SubElement(self.root, "layers")
        self.edges = ElementTree.SubElement(self.root, "edges")
        self.weights = b""
        self._last = None

    def layer(self, kind, shape=None, version="opset1", names="", constants=(), data=None, more=()):
        number = str(len(self.layers))
        made = ElementTree.Element(
            "layer", id=number, name=f"{kind}_{number}", type=kind, version=version
        )
        ElementTree.SubElement(made, "data", data or {})
        sources = ([self._last] if self._last else []) + [self.constant(c) for c in constants]
        number = str(len(self.layers))
        made.set("id", number)
        for port, (source, source_port, sizes, precision) in enumerate(sources):
            inputs = made.find("input")
            inputs = ElementTree.SubElement(made, "input") if inputs is None else inputs
            add_port(inputs, port, sizes, precision)
            ends = {"from-layer": source, "from-port": source_port}
            into = {"to-layer": number, "to-port": str(port)}
            ElementTree.SubElement(self.edges, "edge", {**ends, **into})
        self.layers.append(made)
        if shape is not None:
            output = ElementTree.SubElement(made, "output")
            first = len(sources)
            add_port(output, first, shape, "FP32", names)
            for extra, precision in enumerate(more, first + 1):
                add_port(output, extra, shape, precision)
            self._last = (number, str(first), shape, "FP32")
        return made

    def constant(self, value):
        number = str(len(self.layers))
        kind, precision = ("f32", "FP32") if value.dtype == np.float32 else ("i64", "I64")
        made = ElementTree.SubElement(
            self.layers, "layer", id=number, name=f"c{number}", type="Const", version="opset1"
        )
        content = value.tobytes()
        ElementTree.SubElement(
            made, "data", element_type=kind, shape=", ".join(map(str, value.shape)),
            offset=str(len(self.weights)), size=str(len(content)),
        )  # fmt: skip
        self.weights += content
        add_port(ElementTree.SubElement(made, "output"), 0, value.shape, precision)
        return number, "0", value.shape, precision

    def to_v10(self, precision="f16"):
        return to_v10(self.root, self.weights, precision)


def add_port(parent, number, sizes, precision, names=""):
    port = ElementTree.SubElement(parent, "port", id=str(number), precision=precision)
    if names:
        port.set("names", names)
    for size in sizes:
        ElementTree.SubElement(port, "dim").text = str(size)


def net(shape=(1, 4, 6, 3), bias=BIAS):
    made = Net()
    made.layer("Parameter", shape, names="image", data={"element_type": "f32", "shape": "1,4,6,3"})
    made.layer("Add", shape, names="head:0,other", constants=[bias])
    made.layer("Result")
    runtime = ElementTree.SubElement(made.root, "rt_info")
    ElementTree.SubElement(runtime, "MO_version", value="2026")
    ElementTree.SubElement(made.layers[0], "rt_info")
    return made


def find(root, kind):
    return [layer for layer in root.iter("layer") if layer.get("type") == kind]


def value(root, weights, layer):
    data = layer.find("data").attrib
    dtype = {"f16": "<f2", "f32": "<f4", "i64": "<i8"}[data["element_type"]]
    start, size = int(data["offset"]), int(data["size"])
    return np.frombuffer(weights[start : start + size], dtype)


def inputs_of(root, layer):
    """The layers that a layer takes, by port."""
    by_id = {each.get("id"): each for each in root.iter("layer")}
    edges = [edge for edge in root.iter("edge") if edge.get("to-layer") == layer.get("id")]
    return [by_id[e.get("from-layer")] for e in sorted(edges, key=lambda e: int(e.get("to-port")))]


def test_the_version_is_10_and_what_2021_does_not_know_is_gone():
    root, _ = net().to_v10()
    assert root.get("version") == "10"
    assert list(root.iter("rt_info")) == []
    assert all("names" not in port.attrib for port in root.iter("port"))


def test_an_output_is_called_as_its_tensor():
    root, _ = net().to_v10()
    (add,) = find(root, "Add")
    (result,) = find(root, "Result")
    assert add.get("name") == "head:0"
    assert result.get("name") != add.get("name")


def test_in_f16_everything_that_was_f32_is_f16():
    root, weights = net().to_v10("f16")
    (constant,) = find(root, "Const")
    np.testing.assert_array_equal(value(root, weights, constant), BIAS.astype(np.float16))
    assert {port.get("precision") for port in root.iter("port")} == {"FP16"}
    assert find(root, "Parameter")[0].find("data").get("element_type") == "f16"


def test_in_f32_the_weights_stay():
    root, weights = net().to_v10("f32")
    (constant,) = find(root, "Const")
    np.testing.assert_array_equal(value(root, weights, constant), BIAS)
    assert find(root, "Parameter")[0].find("data").get("element_type") == "f32"


def test_what_was_given_is_left_as_it_is():
    made = net()
    before = ElementTree.tostring(copy.deepcopy(made.root))
    made.to_v10()
    assert ElementTree.tostring(made.root) == before


def test_constants_that_share_their_weights_still_do():
    made = net()
    first = find(made.root, "Const")[0]
    made.constant(BIAS)
    second = find(made.root, "Const")[1]
    second.find("data").set("offset", first.find("data").get("offset"))
    add = find(made.root, "Add")[0]
    ends = {"from-layer": second.get("id"), "from-port": "0"}
    ElementTree.SubElement(made.edges, "edge", {**ends, "to-layer": add.get("id"), "to-port": "7"})
    root, weights = made.to_v10()
    offsets = {each.find("data").get("offset") for each in find(root, "Const")}
    assert len(offsets) == 1
    assert len(weights) == 8


@pytest.mark.parametrize(
    ("start", "stop", "step", "axes", "begin", "end", "strides"),
    [
        ([19], [57], [1], [3], [0, 0, 0, 19], [1, 4, 6, 57], [1, 1, 1, 1]),
        ([-19], [2**63 - 1], [1], [-1], [0, 0, 0, 38], [1, 4, 6, 57], [1, 1, 1, 1]),
        ([1, 0], [3, 6], [1, 2], [1, 2], [0, 1, 0, 0], [1, 3, 6, 57], [1, 1, 2, 1]),
    ],
)
def test_a_slice_becomes_a_strided_slice_of_every_axis(
    start, stop, step, axes, begin, end, strides
):
    made = Net()
    made.layer("Parameter", (1, 4, 6, 57), data={"element_type": "f32"})
    ends = [np.array(each, np.int64) for each in (start, stop, step, axes)]
    made.layer("Slice", (1, 4, 6, 38), "opset8", constants=ends)
    made.layer("Result")
    root, weights = made.to_v10()
    (sliced,) = find(root, "StridedSlice")
    assert sliced.get("version") == "opset1"
    given = [value(root, weights, each).tolist() for each in inputs_of(root, sliced)[1:]]
    assert given == [begin, end, strides]
    assert set(sliced.find("data").attrib.values()) == {"0,0,0,0"}
    assert len(find(root, "Const")) == 3
    ids = [layer.get("id") for layer in root.iter("layer")]
    assert len(set(ids)) == len(ids)


def test_a_max_pool_loses_its_indices():
    made = pooled()
    root, _ = made.to_v10()
    (pool,) = find(root, "MaxPool")
    assert pool.get("version") == "opset1"
    assert [port.get("id") for port in pool.find("output")] == ["1"]
    assert sorted(pool.find("data").attrib) == ["kernel", "strides"]


def pooled(dilations="1, 1"):
    made = Net()
    made.layer("Parameter", (1, 3, 4, 6), data={"element_type": "f32"})
    data = {
        "kernel": "2, 2", "strides": "2, 2", "dilations": dilations, "axis": "0",
        "index_element_type": "i64",
    }  # fmt: skip
    made.layer("MaxPool", (1, 3, 2, 3), "opset8", data=data, more=["I64"])
    made.layer("Result")
    return made


def test_a_max_pool_whose_indices_are_used_is_refused():
    made = pooled()
    made.edges[-1].set("from-port", "2")
    with pytest.raises(ConversionError, match="MaxPool that gives indices"):
        made.to_v10()


def test_a_dilated_max_pool_is_refused():
    with pytest.raises(ConversionError, match="MaxPool that is dilated"):
        pooled("2, 2").to_v10()


def test_an_operation_that_2021_does_not_know_is_named():
    made = Net()
    made.layer("Parameter", (1, 3), data={"element_type": "f32"})
    made.layer("Interpolate", (1, 3), "opset11")
    made.layer("Result")
    with pytest.raises(ConversionError, match=r"Interpolate of opset11 \(Interpolate_1\)") as error:
        made.to_v10()
    assert error.value.hint


def test_a_shape_that_is_not_fixed_is_refused():
    with pytest.raises(ConversionError, match="Parameter_0 has no fixed shape"):
        net(shape=(1, -1, -1, 3)).to_v10()


def test_a_weight_that_f16_cannot_hold_is_refused():
    made = net(bias=np.array([1, 2, 1e6], np.float32))
    with pytest.raises(ConversionError, match="is 1e\\+06; f16 ends at 65504"):
        made.to_v10("f16")
    made.to_v10("f32")


def test_weights_that_end_too_early_are_refused():
    made = net()
    with pytest.raises(ConversionError, match="the weights end before those of"):
        to_v10(made.root, made.weights[:-1])


def test_what_is_no_ir_is_refused():
    with pytest.raises(ConversionError, match="no <layers>"):
        to_v10(ElementTree.Element("html"), b"")
