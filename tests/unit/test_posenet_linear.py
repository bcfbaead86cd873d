"""Reading PoseNet's maps between cells, by hand."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from models.decoders import posenet_kernel, posenet_linear

KEYPOINT = np.uint64(1)


def test_the_kernel_is_compiled_anew_when_this_file_changes():
    """The compiled kernel on disk holds this file's code, and is found by the kernel's text."""
    text = Path(posenet_linear.__file__).read_bytes()
    assert zlib.crc32(text) == posenet_kernel.LINEAR_CRC32, "write the new checksum into the kernel"


@pytest.mark.parametrize(
    ("y", "x", "value"),
    [(0, 0, 0), (0, 1, 1), (1, 0, 10), (0.5, 0.5, 5.5), (0.25, 1, 3.5), (-9, 0.5, 0.5), (9, 9, 11)],
)
def test_values_between_cells_are_linear_and_the_border_goes_on(y, x, value):
    maps = np.array([[[7, 0], [7, 1]], [[7, 10], [7, 11]]], np.float32)
    assert posenet_linear.read_linear(maps, float(y), float(x), KEYPOINT) == pytest.approx(value)


def offsets(height, width, to):
    """Offsets of keypoint 1 that lead from every cell to one position, cells of 8 pixels."""
    maps = np.zeros((height, width, 4), np.float32)
    rows, columns = np.mgrid[:height, :width] * 8
    maps[..., 1], maps[..., 3] = to[0] - rows, to[1] - columns
    return maps


def test_offsets_are_followed_to_where_they_lead():
    heat = np.zeros((3, 3, 2), np.float32)
    heat[1, :, 1] = 4
    found = posenet_linear.refine_linear(heat, offsets(3, 3, (4, 9)), KEYPOINT, 8.0, (15.0, 1.0), 3)
    assert found == pytest.approx((4, 9, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_what_leads_nowhere_is_no_keypoint(value):
    maps = np.full((2, 2, 4), value, np.float32)
    heat = np.zeros((2, 2, 2), np.float32)
    found = posenet_linear.refine_linear(heat, maps, KEYPOINT, 8.0, (1.0, 1.0), 5)
    assert np.isnan(found[2])
