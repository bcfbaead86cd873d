"""Photos panned slowly, and the sample stream that uses them."""

import cv2
import numpy as np
import pytest

from agents.errors import StreamError, StreamRefused
from agents.streams import open_stream
from agents.streams.pan import FRAMES_PER_PHOTO, PanSource


@pytest.fixture
def photos(tmp_path):
    """A grey ramp from left to right, wide, and a flat picture, tall."""
    ramp = np.tile(np.linspace(0, 255, 1200).astype(np.uint8), (300, 1))
    cv2.imwrite(str(tmp_path / "a.png"), ramp)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((900, 200, 3), (10, 20, 30), np.uint8))
    return (tmp_path / "a.png", tmp_path / "b.png")


def test_the_window_moves_over_one_photo_then_cuts_to_the_next_and_comes_round(photos):
    source = PanSource(photos, first_sequence=3, is_paced=False)
    frames = [source.read() for _ in range(2 * FRAMES_PER_PHOTO + 1)]
    assert [frame.sequence for frame in frames[:2]] == [3, 4]
    assert {(frame.width, frame.height) for frame in frames} == {(640, 480)}
    ramp = [int(frame.pixels("rgb")[240, 320, 0]) for frame in frames[:FRAMES_PER_PHOTO:20]]
    assert ramp == sorted(ramp)
    assert ramp[-1] - ramp[0] > 50
    assert tuple(frames[FRAMES_PER_PHOTO].pixels("rgb")[0, 0]) == (30, 20, 10)
    assert np.ptp(frames[-1].pixels("bgr")) > 50
    source.close()


def test_it_moves_slowly_and_without_jumps(photos):
    source = PanSource(photos, 0, is_paced=False)
    left = [source.read().pixels("bgr")[0, 0, 0].astype(int) for _ in range(FRAMES_PER_PHOTO)]
    source.close()
    assert np.abs(np.diff(left)).max() <= 3


def test_a_photo_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(StreamRefused):
        PanSource((tmp_path / "nothing.jpg",), 0)


def test_there_is_no_sample_of_that_name():
    with pytest.raises(StreamRefused, match="nobody"):
        open_stream("sample:nobody")


def test_wrong_options_of_the_sample_are_refused():
    with pytest.raises(StreamError, match="loop"):
        open_stream("sample:?loop=1")
