"""A graph at another output stride: which cells it keeps, and what cannot be made."""

import copy

import numpy as np
import pytest
from graphs import constant, convolution, infer, ints, placeholder

from models.convert.restride import restride
from models.errors import ConversionError

pytestmark = pytest.mark.integration

DEPTHWISE = "DepthwiseConv2dNative"
IMAGE = np.random.default_rng(5).normal(size=(33, 49, 3)).astype(np.float32)


def chain(*layers):
    """A chain of 3x3 depthwise convolutions, each (stride, dilation), with a 1x1 behind each."""
    random = np.random.default_rng(11)
    nodes, weights, last = [placeholder(3)], {}, "image"
    for number, (stride, dilation) in enumerate(layers):
        weights[f"w{number}"] = random.normal(size=(3, 3, 3, 1)).astype(np.float32)
        weights[f"p{number}"] = random.normal(size=(1, 1, 3, 3)).astype(np.float32)
        nodes += [constant(f"w{number}"), constant(f"p{number}")]
        inputs = [last, f"w{number}"]
        nodes.append(convolution(f"d{number}", inputs, DEPTHWISE, stride, dilation))
        last = "out" if number == len(layers) - 1 else f"c{number}"
        nodes.append(convolution(last, [f"d{number}", f"p{number}"]))
    return {"node": nodes}, weights


def maps(topology, weights, tmp_path):
    return infer(topology, weights, IMAGE, tmp_path)["out"]


@pytest.mark.parametrize("layers", [
    [(2, 1), (1, 1), (2, 1), (1, 1)],
    [(2, 1), (2, 1), (2, 1), (1, 1)],
    [(2, 1), (2, 1), (1, 1), (1, 2)],
])  # fmt: skip
@pytest.mark.parametrize("stride", [2, 4, 8, 16])
def test_the_coarser_maps_are_cells_of_the_finer_ones(layers, stride, tmp_path):
    topology, weights = chain(*layers)
    published = maps(topology, weights, tmp_path)
    has = 32 // (published.shape[0] - 1)
    made = maps(restride(topology, weights, stride), weights, tmp_path)
    assert made.shape[:2] == (32 // stride + 1, 48 // stride + 1)
    finer, coarser = (made, published) if stride < has else (published, made)
    every = max(stride, has) // min(stride, has)
    np.testing.assert_allclose(finer[::every, ::every], coarser, rtol=1e-4, atol=1e-3)


def test_the_given_graph_stays_as_it_was():
    topology, weights = chain((2, 1), (2, 1), (1, 1))
    before = copy.deepcopy(topology)
    restride(topology, weights, 2)
    assert topology == before


def test_nodes_may_come_in_any_order(tmp_path):
    topology, weights = chain((2, 1), (2, 1), (1, 1))
    expected = maps(restride(topology, weights, 2), weights, tmp_path)
    mixed = {"node": topology["node"][::-1]}
    np.testing.assert_array_equal(maps(restride(mixed, weights, 2), weights, tmp_path), expected)


def test_a_dilation_written_for_batch_and_height_is_read_as_meant(tmp_path):
    topology, weights = chain((2, 1), (1, 2))
    expected = maps(topology, weights, tmp_path)
    topology["node"][-2]["attr"]["dilations"] = ints(2, 2, 1, 1)
    assert not np.allclose(maps(topology, weights, tmp_path), expected, atol=1e-3)
    repaired = restride(topology, weights, 2)
    np.testing.assert_array_equal(maps(repaired, weights, tmp_path), expected)


@pytest.mark.parametrize("stride", [3, 6])
def test_a_stride_that_cannot_be_made_is_refused(stride):
    topology, weights = chain((2, 1), (2, 1), (1, 1))
    with pytest.raises(ConversionError, match=f"cannot be made {stride}"):
        restride(topology, weights, stride)


def test_convolutions_side_by_side_are_refused():
    topology, weights = chain((2, 1), (1, 1))
    weights["side"] = weights["w1"]
    topology["node"] += [constant("side"), convolution("beside", ["c0", "side"], DEPTHWISE)]
    with pytest.raises(ConversionError, match="are side by side"):
        restride(topology, weights, 2)


def test_a_strided_operation_that_is_no_convolution_is_refused():
    topology, weights = chain((2, 1), (1, 1))
    pool = {"name": "pool", "op": "MaxPool", "input": ["c0"], "attr": {"strides": ints(1, 2, 2, 1)}}
    topology["node"].append(pool)
    with pytest.raises(ConversionError, match=r"through MaxPool \(pool\)"):
        restride(topology, weights, 2)
