"""The preprocessor writes the whole input, in place, for frames of any size."""

import cv2
import numpy as np
import pytest

from models.preprocess import Preprocessor


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8)


@pytest.fixture
def request_memory():
    """An input as a driver lends it: a view into memory that is not ours."""
    memory = np.full((3, 353, 481, 3), 77, np.uint8)
    yield memory[1]
    assert (memory[0] == 77).all()
    assert (memory[2] == 77).all()


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1920, 1080), (481, 353), (30, 20)])
def test_the_frame_lands_where_the_transform_says_and_the_rest_is_zero(size, request_memory):
    pixels = noise(*size)
    t = Preprocessor((481, 353)).prepare(pixels, request_memory)
    inside = request_memory[t.top : t.top + t.height, t.left : t.left + t.width]
    np.testing.assert_array_equal(inside, cv2.resize(pixels, (t.width, t.height)))
    assert (t.frame_width, t.frame_height) == size
    assert t.width == 481 or t.height == 353
    inside[:] = 0
    assert not request_memory.any()


def test_stretched_frames_fill_the_input(request_memory):
    pixels = noise(640, 100)
    t = Preprocessor((481, 353), keep_aspect=False).prepare(pixels, request_memory)
    assert (t.left, t.top, t.width, t.height) == (0, 0, 481, 353)
    np.testing.assert_array_equal(request_memory, cv2.resize(pixels, (481, 353)))


def test_nothing_of_the_frame_before_shines_through(request_memory):
    preprocessor = Preprocessor((481, 353))
    fresh = np.zeros_like(request_memory)
    for size in [(640, 480), (480, 640), (640, 480), (1000, 10), (10, 1000)]:
        preprocessor.prepare(noise(*size, seed=size[0]), request_memory)
        Preprocessor((481, 353)).prepare(noise(*size, seed=size[0]), fresh)
        np.testing.assert_array_equal(request_memory, fresh)
        fresh[:] = 0


@pytest.mark.parametrize("size", [(1, 1), (20000, 1), (1, 20000), (20000, 30), (2, 20000)])
@pytest.mark.parametrize("keep_aspect", [True, False])
def test_extreme_frames_work(size, keep_aspect, request_memory):
    pixels = np.full((size[1], size[0], 3), 200, np.uint8)
    t = Preprocessor((481, 353), keep_aspect=keep_aspect).prepare(pixels, request_memory)
    inside = request_memory[t.top : t.top + t.height, t.left : t.left + t.width]
    assert inside.size >= 3
    assert (inside == 200).all()
    assert request_memory.sum(dtype=np.int64) == 200 * inside.size


def test_the_frame_may_be_a_view(request_memory):
    pixels = noise(800, 600)
    view = pixels[50:530:1, 100:740]
    Preprocessor((481, 353)).prepare(view, request_memory)
    expected = np.zeros_like(request_memory)
    Preprocessor((481, 353)).prepare(view.copy(), expected)
    np.testing.assert_array_equal(request_memory, expected)


@pytest.mark.parametrize(
    ("pixels", "into"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((33, 65, 3), np.uint8)),
        (np.zeros((4, 4, 4), np.uint8), np.zeros((33, 65, 3), np.uint8)),
        (np.zeros((4, 4, 3), np.uint16), np.zeros((33, 65, 3), np.uint8)),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((33, 65, 3), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((65, 33, 3), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((33, 65, 3), np.float32)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((66, 65, 3), np.uint8)[::2]),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(pixels, into):
    with pytest.raises(ValueError, match="not"):
        Preprocessor((65, 33)).prepare(pixels, into)
    assert not into.any()
