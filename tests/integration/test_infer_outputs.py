"""`fleet infer --out` and `--coco`: what is written, and that nothing is ever written over."""

import json
import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from infer_cases import lines, names, read_video, write_picture, write_video

from fleet.errors import ExitCode

pytestmark = pytest.mark.integration


@pytest.fixture
def read_only(tmp_path):
    """A folder in which nothing can be written, not even by root."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.geteuid():
        yield folder
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=16k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("root may write everywhere, and may not mount here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class TestOut:
    @pytest.mark.parametrize("name", ["drawn.jpg", "drawn.png", "new/drawn.webp"])
    def test_a_picture(self, infer, picture, tmp_path, name):
        result = infer(picture, "--out", tmp_path / name)
        drawn = cv2.imread(str(tmp_path / name))
        assert drawn.shape == (48, 64, 3)
        assert np.abs(drawn.astype(int) - cv2.imread(str(picture))).max() > 50
        assert f"wrote {tmp_path / name}" in result.stderr
        assert names((tmp_path / name).parent)[0] == Path(name).name

    def test_a_folder_for_a_folder(self, infer, tmp_path):
        for name in ("a.png", "a.jpg"):
            write_picture(tmp_path / "in" / name)
        infer(tmp_path / "in", "--out", tmp_path / "drawn")
        assert names(tmp_path / "drawn") == ["a.jpg", "a.png"]

    def test_a_folder_for_one_picture(self, infer, picture, tmp_path):
        infer(picture, "--out", tmp_path / "drawn")
        assert names(tmp_path / "drawn") == ["door.png"]

    @pytest.mark.parametrize("name", ["drawn.mp4", "new/drawn.mkv", "drawn.mov"])
    def test_a_video_has_the_frames_size_and_times_of_its_source(
        self, infer, video, tmp_path, name
    ):
        infer(video, "--out", tmp_path / name)
        size, rate, times = read_video(tmp_path / name)
        assert (size, rate) == ((64, 48), 10.0)
        assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=2e-3)
        assert names((tmp_path / name).parent)[0] == Path(name).name

    @pytest.mark.parametrize(("size", "written"), [((65, 49), (66, 50)), ((17, 30), (18, 30))])
    def test_an_odd_sized_video_gains_a_column_or_row(self, infer, tmp_path, size, written):
        source = write_video(tmp_path / "odd.mkv", frames=3, size=size)
        infer(source, "--out", tmp_path / "drawn.mp4")
        assert read_video(tmp_path / "drawn.mp4")[0] == written
        assert len(read_video(tmp_path / "drawn.mp4")[2]) == 3

    def test_a_stream_keeps_its_pace(self, infer, tmp_path):
        words = ("synthetic:?size=64x48&fps=50&pace=max", "--count", 6)
        infer(*words, "--out", tmp_path / "drawn.mp4")
        assert np.diff(read_video(tmp_path / "drawn.mp4")[2]) == pytest.approx([0.02] * 5, abs=2e-3)

    @pytest.mark.parametrize(
        ("out", "said"),
        [
            ("drawn.gif.txt", "no name for a picture"),
            ("drawn.mp4", "no name for a picture"),
            ("in/door.png", "would be written over"),
            ("in", "would be written over"),
            ("in/../in/door.png", "would be written over"),
            ("in/door.png/deeper.png", "cannot write to"),
        ],
    )
    def test_a_name_that_does_not_fit_a_picture(self, infer, picture, tmp_path, out, said):
        before = picture.read_bytes()
        assert said in infer(picture, "--out", tmp_path / out, code=ExitCode.INPUT).stderr
        assert picture.read_bytes() == before
        assert (names(tmp_path), names(tmp_path / "in")) == (["in"], ["door.png"])

    @pytest.mark.parametrize(
        ("out", "said"),
        [
            ("drawn.jpg", "no name for a video"),
            ("in", "is a folder"),
            ("in/walk.mkv", "would be written over"),
            ("in/link.mkv", "would be written over"),
        ],
    )
    def test_a_name_that_does_not_fit_a_video(self, infer, video, tmp_path, out, said):
        before = video.read_bytes()
        (tmp_path / "in" / "link.mkv").symlink_to(video)
        assert said in infer(video, "--out", tmp_path / out, code=ExitCode.INPUT).stderr
        url = f"file:{video}?pace=max"
        assert said in infer(url, "--out", tmp_path / out, code=ExitCode.INPUT).stderr
        assert video.read_bytes() == before
        assert names(tmp_path) == ["in"]

    def test_one_name_for_many_pictures(self, infer, picture, tmp_path):
        write_picture(picture.with_name("yard.png"))
        result = infer(picture.parent, "--out", tmp_path / "drawn.png", code=ExitCode.INPUT)
        assert "one picture for 2" in result.stderr
        assert "folder" in result.stderr

    @pytest.mark.parametrize("option", ["--out", "--coco"])
    def test_where_nothing_can_be_written(self, infer, picture, video, read_only, option):
        for source, name in ((picture, "drawn.png"), (video, "drawn.mp4")):
            target = read_only / name
            result = infer(source, option, target, code=ExitCode.INPUT)
            assert f"error: cannot write {target}: " in result.stderr
        assert names(read_only) == []


class TestCoco:
    def test_the_results_are_what_coco_evaluates(self, infer, tmp_path):
        for name in ("000000000139.jpg", "COCO_val2014_000000000042.jpg"):
            write_picture(tmp_path / "in" / name)
        result = infer(tmp_path / "in", "--coco", tmp_path / "r.json", "--json")
        entries = json.loads((tmp_path / "r.json").read_text())
        assert {entry["image_id"] for entry in entries} == {139, 42}
        assert len(entries) == sum(len(one["poses"]) for one in lines(result))
        for entry in entries:
            assert set(entry) == {"image_id", "category_id", "keypoints", "score"}
            assert entry["category_id"] == 1
            assert len(entry["keypoints"]) == 51
            assert all(isinstance(value, float) for value in entry["keypoints"])
        first = lines(result)[0]["poses"][0]
        nose = [first["keypoints"][0][name] for name in ("x", "y", "score")]
        assert entries[0]["keypoints"][:3] == pytest.approx(nose, abs=1e-3)

    @pytest.mark.parametrize("other", ["yard1.png", "yard.png"])
    def test_names_without_a_number_of_their_own_are_numbered_by_place(
        self, infer, tmp_path, other
    ):
        for name in ("door1.png", other, "zoo7.png"):
            write_picture(tmp_path / "in" / name)
        infer(tmp_path / "in", "--coco", tmp_path / "r.json")
        entries = json.loads((tmp_path / "r.json").read_text())
        assert {entry["image_id"] for entry in entries} == {0, 1, 2}

    def test_the_frames_of_a_video_are_numbered(self, infer, video, tmp_path):
        infer(video, "--coco", tmp_path / "r.json", "--out", tmp_path / "drawn.mp4")
        entries = json.loads((tmp_path / "r.json").read_text())
        assert {entry["image_id"] for entry in entries} == {0, 1, 2, 3, 4}
        assert len(read_video(tmp_path / "drawn.mp4")[2]) == 5

    def test_it_never_replaces_what_is_read_or_drawn(self, infer, picture, tmp_path):
        drawn = tmp_path / "drawn.png"
        for words in (["--coco", picture], ["--out", drawn, "--coco", drawn]):
            assert "written over" in infer(picture, *words, code=ExitCode.INPUT).stderr
        assert names(tmp_path) == ["in"]
