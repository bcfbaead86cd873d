"""ImageTransform: there and back again is the same point, and cv2 agrees where that point is."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.geometry import ImageTransform
from models.preprocess import Preprocessor

sides = st.integers(1, 20_000)
frames = st.tuples(sides, sides)
inputs = st.tuples(st.integers(2, 80), st.integers(2, 80)).map(
    lambda k: (k[0] * 16 + 1, k[1] * 16 + 1)
)


@given(frames, inputs, st.booleans(), st.data())
def test_there_and_back_is_the_same_point(frame, size, keep_aspect, data):
    transform = ImageTransform.fit(frame, size, keep_aspect=keep_aspect)
    share = st.floats(0, 1, width=32)
    x, y, score = data.draw(share), data.draw(share), data.draw(share)
    points = np.array([[[x * frame[0], y * frame[1], score]]], np.float32)
    back = transform.to_frame(transform.to_input(points))
    # float32 holds the input coordinate to 2^-24 of its value, the way back magnifies that.
    precision = 2**-22 * (max(size) / np.array(transform.scale) + np.array(frame))
    assert np.all(np.abs(back - points)[0, 0, :2] <= precision)
    assert back[0, 0, 2] == points[0, 0, 2]


@given(frames, inputs, st.booleans())
def test_the_frame_fills_its_rectangle_and_the_rectangle_fits(frame, size, keep_aspect):
    t = ImageTransform.fit(frame, size, keep_aspect=keep_aspect)
    assert t.left >= 0
    assert t.left + t.width <= size[0]
    assert t.top >= 0
    assert t.top + t.height <= size[1]
    assert t.width == size[0] or t.height == size[1]
    edges = np.array([[-0.5, -0.5, 1], [frame[0] - 0.5, frame[1] - 0.5, 1]], np.float32)
    corners = [[t.left - 0.5, t.top - 0.5], [t.left + t.width - 0.5, t.top + t.height - 0.5]]
    np.testing.assert_allclose(t.to_input(edges)[:, :2], corners, atol=2e-3)


@given(frames, inputs)
def test_padding_is_centered_and_keeps_the_aspect(frame, size):
    t = ImageTransform.fit(frame, size)
    assert abs(2 * t.left + t.width - size[0]) <= 1
    assert abs(2 * t.top + t.height - size[1]) <= 1
    # Rounding to whole pixels moves a side by at most half a pixel, and never below one.
    exact = min(size[0] / frame[0], size[1] / frame[1])
    assert abs(t.width - max(1, frame[0] * exact)) <= 0.5 + 1e-9
    assert abs(t.height - max(1, frame[1] * exact)) <= 0.5 + 1e-9


def blob(frame, center):
    """Draw a soft round spot, ``exp(-d^2 / 2 sigma^2)``, at an exact place."""
    width, height = frame
    sigma = max(4.0, min(frame) / 16)
    x = np.exp(-((np.arange(width) - center[0]) ** 2) / (2 * sigma**2))
    y = np.exp(-((np.arange(height) - center[1]) ** 2) / (2 * sigma**2))
    gray = np.rint(255 * y[:, None] * x[None]).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def centroid(gray):
    weight = gray.astype(np.float64)
    ys, xs = np.indices(weight.shape)
    return np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()


@pytest.mark.parametrize("keep_aspect", [True, False])
@pytest.mark.parametrize("frame", [(640, 480), (480, 640), (1280, 720), (200, 150), (1920, 1080)])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.31, 0.62), (0.7, 0.28)])
def test_a_drawn_spot_lands_where_the_transform_says(frame, place, keep_aspect):
    cv2.setNumThreads(1)
    center = np.array([place[0] * frame[0] + 0.37, place[1] * frame[1] - 0.21])
    into = np.zeros((353, 481, 3), np.uint8)
    transform = Preprocessor((481, 353), keep_aspect=keep_aspect).prepare(blob(frame, center), into)
    expected = transform.to_input(np.array([[*center, 1]], np.float32))[0, :2]
    # In float32 cv2 agrees within 0.007 px; 8 bits cost up to 0.042 px at scales near 1.
    # Corner-aligned or corner-based pixels would be off by 0.12 px and more where it is not.
    np.testing.assert_allclose(centroid(into[..., 1]), expected, atol=0.05)
    back = transform.to_frame(np.array([[*centroid(into[..., 1]), 1]], np.float32))[0, :2]
    np.testing.assert_allclose(back, center, atol=0.05 / min(transform.scale))
