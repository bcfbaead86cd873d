"""Files as streams: what plays, how it plays, and one clear error for what cannot."""

import os
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from agents.errors import StreamRefused
from agents.streams import open_stream
from agents.streams.images import MAX_PIXELS, read_picture

RED = (200, 30, 40)
"""In RGB order."""


def write_video(path, frames=10, rate=25, codec="libx264", color=RED, size=(160, 120)):
    """Write frames of one color with a white bar that moves down by 8 pixels a frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), color, np.uint8)
            pixels[number * 8 : number * 8 + 8] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def play(url, limit=1000):
    source = open_stream(str(url))
    frames = []
    while len(frames) < limit and (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def bars(frames):
    """Return which frame of the video each one is, by the place of its bar."""
    return [int(np.argmax(frame.pixels("rgb")[4::8, 5, 1] > 150)) for frame in frames]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4")


class TestVideo:
    @pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.h264"])
    def test_all_frames_come_in_order(self, tmp_path, name):
        frames = play(f"{write_video(tmp_path / name)}?pace=max")
        assert bars(frames) == list(range(10))
        assert [frame.sequence for frame in frames] == list(range(10))

    def test_colors_arrive_in_the_order_asked_for(self, video):
        (frame,) = play(video, limit=1)
        assert frame.pixels("rgb")[100, 80] == pytest.approx(RED, abs=8)
        assert frame.pixels("bgr")[100, 80] == pytest.approx(RED[::-1], abs=8)

    def test_odd_sizes_give_contiguous_pixels(self, tmp_path):
        path = write_video(tmp_path / "odd.avi", codec="mjpeg", size=(101, 99))
        (frame,) = play(path, limit=1)
        pixels = frame.pixels("rgb")
        assert pixels.shape == (99, 101, 3)
        assert pixels.flags.c_contiguous

    def test_it_plays_at_its_own_rate(self, video):
        frames = play(video)
        played_s = frames[-1].captured_monotonic - frames[0].captured_monotonic
        assert played_s > 8.5 / 25
        assert frames[-1].captured_at - frames[0].captured_at == pytest.approx(played_s, abs=0.1)

    def test_it_starts_again_when_looped(self, video):
        frames = play(f"{video}?loop=1&pace=max", limit=25)
        assert bars(frames) == [*range(10), *range(10), *range(5)]
        assert [frame.sequence for frame in frames] == list(range(25))

    def test_a_looped_video_keeps_its_rate_over_the_seam(self, tmp_path):
        path = write_video(tmp_path / "short.mp4", frames=2)
        frames = play(f"{path}?loop=1", limit=10)
        assert frames[-1].captured_monotonic - frames[0].captured_monotonic > 8.5 / 25

    def test_one_that_was_turned_is_shown_upright(self, tmp_path, video):
        data = bytearray(video.read_bytes())
        matrix = data.index(b"tkhd") + 4 + 40  # ISO 14496-12, 8.3.2: the matrix of version 0
        one, minus = (1 << 16).to_bytes(4), (-1 << 16).to_bytes(4, signed=True)
        zero = bytes(4)
        data[matrix : matrix + 20] = zero + one + zero + minus + zero
        path = tmp_path / "turned.mp4"
        path.write_bytes(data)
        (frame,) = play(path, limit=1)
        assert (frame.width, frame.height) == (120, 160)
        shown, expected = frame.pixels("bgr"), cv2.VideoCapture(str(path)).read()[1]
        assert np.abs(shown.astype(int) - expected).mean() < 3

    def test_a_truncated_one_plays_what_it_has(self, tmp_path):
        whole = write_video(tmp_path / "whole.mkv", frames=15).read_bytes()
        path = tmp_path / "cut.mkv"
        path.write_bytes(whole[: len(whole) * 2 // 3])
        frames = play(f"{path}?pace=max")
        assert 0 < len(frames) < 15
        assert bars(frames) == sorted(set(bars(frames)))
        assert len(play(f"{path}?pace=max&loop=1", limit=40)) == 40

    def test_damage_in_the_middle_costs_frames_only(self, tmp_path):
        data = bytearray(write_video(tmp_path / "clip.avi", codec="mjpeg").read_bytes())
        middle = len(data) // 2
        data[middle : middle + 600] = os.urandom(600)
        (tmp_path / "clip.avi").write_bytes(data)
        assert 5 <= len(play(f"{tmp_path / 'clip.avi'}?pace=max")) <= 10


class TestRefused:
    def refused(self, url):
        with pytest.raises(StreamRefused) as caught:
            open_stream(str(url))
        return str(caught.value)

    def test_a_missing_file(self, tmp_path):
        assert "no such file" in self.refused(tmp_path / "nothing.mp4")

    @pytest.mark.parametrize("content", [b"", b"some text\n" * 1000, b"\0" * 10_000])
    @pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.txt"])
    def test_a_file_that_is_no_video(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        assert name in self.refused(tmp_path / name)

    def test_a_video_cut_off_before_its_index_or_first_frame(self, tmp_path, video):
        for size in (100, 1000):
            path = tmp_path / f"{size}.mp4"
            path.write_bytes(video.read_bytes()[:size])
            assert path.name in self.refused(path)

    def test_sound_without_pictures(self, tmp_path):
        path = tmp_path / "sound.wav"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
            frame.rate = 8000
            container.mux(stream.encode(frame))
        assert "no video" in self.refused(path)

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "notes.txt").touch()
        assert "no picture" in self.refused(tmp_path)

    def test_something_that_is_no_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.mp4")
        assert "neither" in self.refused(tmp_path / "pipe.mp4")

    def test_options_of_the_other_kind(self, tmp_path, video):
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((2, 2, 3), np.uint8))
        assert "pace" in self.refused(f"{tmp_path / 'a.png'}?pace=max")
        assert "fps" in self.refused(f"{video}?fps=3")
        assert "loop=2" in self.refused(f"{video}?loop=2")


class TestPictures:
    def write(self, path, picture):
        assert cv2.imwrite(str(path), picture)
        return path

    def test_one_picture_is_one_frame(self, tmp_path):
        path = self.write(tmp_path / "a.png", np.full((20, 30, 3), RED[::-1], np.uint8))
        (frame,) = play(path)
        assert (frame.width, frame.height) == (30, 20)
        assert tuple(frame.pixels("rgb")[3, 3]) == RED
        assert tuple(frame.pixels("bgr")[3, 3]) == RED[::-1]

    def test_a_folder_plays_by_name_and_leaves_out_what_it_cannot_read(self, tmp_path, caplog):
        for number in (2, 0, 1):
            self.write(tmp_path / f"{number}.png", np.full((8, 8, 3), number * 50, np.uint8))
        (tmp_path / "1b.jpg").write_text("not a picture")
        frames = play(f"{tmp_path}?fps=240&loop=1", limit=7)
        assert [frame.pixels("rgb")[0, 0, 0] // 50 for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
        assert caplog.text.count("1b.jpg") == 1

    def test_a_folder_in_which_nothing_can_be_read_is_refused(self, tmp_path):
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).write_text("not a picture")
        with pytest.raises(StreamRefused, match="none of the 2 pictures"):
            open_stream(str(tmp_path))

    def test_pictures_last_as_long_as_asked(self, tmp_path):
        path = self.write(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
        frames = play(f"{path}?loop=1&fps=50", limit=6)
        assert frames[-1].captured_monotonic - frames[0].captured_monotonic > 4.5 / 50

    @pytest.mark.parametrize(
        ("picture", "expected"),
        [
            (np.full((5, 4), 90, np.uint8), (90, 90, 90)),
            (np.full((5, 4), 90 * 257, np.uint16), (90, 90, 90)),
            (np.full((5, 4, 3), (10 * 257, 20 * 257, 30 * 257), np.uint16), (30, 20, 10)),
            (np.full((5, 4, 4), (10, 20, 30, 128), np.uint8), (30, 20, 10)),
            (np.full((1, 1, 3), (10, 20, 30), np.uint8), (30, 20, 10)),
        ],
        ids=["grey", "grey of 16 bits", "16 bits", "transparent", "one pixel"],
    )
    def test_every_kind_becomes_8_bits_of_three_channels(self, tmp_path, picture, expected):
        read = read_picture(self.write(tmp_path / "a.png", picture), "rgb")
        assert read.dtype == np.uint8
        assert read.shape == (*picture.shape[:2], 3)
        assert tuple(read[0, 0]) == expected

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_a_very_wide_one_is_read(self, tmp_path, suffix):
        path = self.write(tmp_path / f"wide.{suffix}", np.full((10, 20_000, 3), 90, np.uint8))
        assert read_picture(path).shape == (10, 20_000, 3)

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_one_above_the_limit_is_refused_before_it_is_unpacked(self, tmp_path, suffix):
        path = self.write(tmp_path / f"a.{suffix}", np.zeros((16, 16, 3), np.uint8))
        data = bytearray(path.read_bytes())
        at = 16 if suffix == "png" else data.index(b"\xff\xc0") + 5
        side = (20_000).to_bytes(4 if suffix == "png" else 2)
        data[at : at + 2 * len(side)] = side * 2
        path.write_bytes(data)
        assert MAX_PIXELS < 20_000**2
        with pytest.raises(StreamRefused, match="20000 x 20000"):
            read_picture(path)

    @pytest.mark.parametrize("keep", [0, 1, 30, 100])
    def test_a_cut_off_one_is_refused(self, tmp_path, keep):
        whole = self.write(tmp_path / "a.png", np.zeros((90, 90, 3), np.uint8)).read_bytes()
        (tmp_path / "cut.png").write_bytes(whole[:keep])
        with pytest.raises(StreamRefused, match=r"cut\.png"):
            read_picture(tmp_path / "cut.png")

    def test_a_folder_or_nothing_at_all_is_no_picture(self, tmp_path):
        for path in (tmp_path, tmp_path / "nothing.png"):
            with pytest.raises(StreamRefused, match="cannot be read"):
                read_picture(path)


def test_a_late_reader_does_not_race_after_the_schedule(tmp_path):
    source = open_stream("synthetic:?fps=20&people=0&size=32x32")
    first = source.read()
    time.sleep(1.0)  # The reader was busy; there is nothing to wait for.
    late = source.read()
    after = source.read()
    source.close()
    assert (first.sequence, late.sequence, after.sequence) == (0, 1, 2)
    assert after.captured_monotonic - late.captured_monotonic > 0.04
