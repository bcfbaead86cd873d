"""`fleet infer`: what it takes and prints, and how it fails; on a tiny network."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from infer_cases import lines, names, noise, read_video, write_picture, write_video
from typer.testing import CliRunner

from agents.errors import StreamError
from agents.streams.synthetic import SyntheticSource
from fleet import cli
from fleet.errors import ExitCode
from models.skeletons import COCO17

pytestmark = pytest.mark.integration

KEYS = {"source", "model", "device", "precision", "poses"}


class TestJson:
    def test_a_picture_is_one_line_of_the_documented_shape(self, infer, picture):
        (found,) = lines(infer(picture, "--json"))
        assert set(found) == KEYS
        assert found["source"] == str(picture)
        assert (found["model"], found["device"], found["precision"]) == ("tiny", "CPU", "f32")
        assert found["poses"]
        for pose in found["poses"]:
            assert set(pose) == {"score", "track_id", "keypoints"}
            assert pose["track_id"] is None
            assert [point["name"] for point in pose["keypoints"]] == list(COCO17.keypoints)
            assert {frozenset(point) for point in pose["keypoints"]} == {
                frozenset({"name", "x", "y", "score"})
            }
            assert 0 <= pose["score"] <= 1

    def test_a_video_is_a_line_a_frame_in_order(self, infer, video):
        found = lines(infer(video, "--json"))
        assert [one["frame"] for one in found] == [0, 1, 2, 3, 4]
        assert {frozenset(one) for one in found} == {frozenset(KEYS | {"frame"})}
        assert len({json.dumps(one["poses"]) for one in found}) == 5, "each frame has its own poses"

    def test_a_folder_is_a_line_a_picture_in_order_of_name(self, infer, tmp_path):
        for name in ("b.png", "a.jpg", "c.bmp"):
            write_picture(tmp_path / "in" / name)
        (tmp_path / "in" / "notes.txt").write_text("no picture")
        found = lines(infer(tmp_path / "in", "--json"))
        assert [Path(one["source"]).name for one in found] == ["a.jpg", "b.png", "c.bmp"]

    def test_the_frames_of_a_picture_and_of_a_video_of_it_agree(self, infer, video, tmp_path):
        """What comes out does not depend on the lane that did it, or on what came before."""
        write_picture(tmp_path / "third.png", noise(seed=2))
        (alone,) = lines(infer(tmp_path / "third.png", "--json"))
        assert lines(infer(video, "--json", "--no-track"))[2]["poses"] == alone["poses"]

    def test_people_of_a_video_have_ids_that_last_and_those_of_pictures_none(self, infer, tmp_path):
        """Five times the same picture, so everybody is the same person in every frame."""
        write_video(tmp_path / "still.mkv", seeds=[1] * 5)
        still = lines(infer(tmp_path / "still.mkv", "--json"))
        ids = [[pose["track_id"] for pose in one["poses"]] for one in still]
        assert ids == [list(range(1, len(ids[0]) + 1))] * 5
        assert ids[0]
        write_picture(tmp_path / "in" / "a.png")
        write_picture(tmp_path / "in" / "b.png")
        for source in (tmp_path / "in", tmp_path / "in" / "a.png"):
            for found in lines(infer(source, "--json", "--track")):
                assert {pose["track_id"] for pose in found["poses"]} == {None}

    def test_count_ends_an_endless_stream(self, infer):
        found = lines(infer("synthetic:?size=64x48&pace=max", "--count", 3, "--json"))
        assert [one["frame"] for one in found] == [0, 1, 2]
        assert found[0]["source"] == "synthetic:?size=64x48&pace=max"

    @pytest.mark.parametrize("precision", ["f32", "bf16"])
    def test_the_precision_is_the_one_that_was_asked_for(self, infer, picture, precision):
        words = (picture, "--precision", precision, "--json")
        result = CliRunner().invoke(cli.app, ["infer", *map(str, words)])
        if result.exit_code == ExitCode.ACCELERATOR:
            pytest.skip(f"this CPU does not compute in {precision}")
        assert lines(infer(*words))[0]["precision"] == precision


class TestText:
    def test_a_picture_is_one_line(self, infer, picture):
        result = infer(picture)
        assert result.stdout.startswith(f"{picture}: ")
        assert "on CPU f32" in result.stdout

    def test_a_video_is_a_summary(self, infer, video):
        assert infer(video).stdout.startswith("5 frames, ")


class TestSources:
    @pytest.mark.parametrize(
        ("name", "pixels"),
        [
            ("one.png", noise(1, 1)),
            ("wide.png", noise(30, 20_000)),
            ("high.png", noise(20_000, 3)),
            ("grey.png", noise(channels=1)),
            ("rgba.png", noise(channels=4)),
            ("deep.png", noise(dtype=np.uint16)),
            ("deep_grey.tiff", noise(channels=1, dtype=np.uint16)),
        ],
    )
    def test_pictures_of_any_kind(self, infer, tmp_path, name, pixels):
        source = write_picture(tmp_path / "in" / name, pixels)
        (found,) = lines(infer(source, "--json", "--out", tmp_path / "drawn.png"))
        drawn = cv2.imread(str(tmp_path / "drawn.png"))
        assert drawn.shape == (*pixels.shape[:2], 3)
        xs = [point["x"] for pose in found["poses"] for point in pose["keypoints"]]
        assert np.isfinite(xs).all()

    @pytest.mark.parametrize("name", ["cut.png", "text.mp4", "text.png", "cut.mp4", "missing.jpg"])
    def test_what_cannot_be_used_is_one_error_and_nothing_is_fetched(
        self, infer, tmp_path, monkeypatch, name
    ):
        def fetched(*_):
            raise AssertionError("fetched before the source was looked at")

        monkeypatch.setattr("agents.pipeline.ensure_ir", fetched)
        path = tmp_path / name
        if name.startswith("cut"):
            whole = path.with_stem("whole")
            if whole.suffix == ".png":
                write_picture(whole)
            else:
                write_video(whole.with_suffix(".mkv"), frames=1)
                whole = whole.with_suffix(".mkv")
            path.write_bytes(whole.read_bytes()[: 200 if name == "cut.mp4" else 60])
            whole.unlink()
        elif name.startswith("text"):
            path.write_text("this is not what its name says\n" * 50)
        before = names(tmp_path)
        result = infer(path, "--out", tmp_path / f"drawn{path.suffix}", code=ExitCode.INPUT)
        assert result.stderr.startswith("error: ")
        assert name in result.stderr
        assert result.stdout == ""
        assert names(tmp_path) == before

    def test_one_broken_picture_of_a_folder_is_said_and_the_others_are_done(self, infer, tmp_path):
        for name in ("a.png", "b.png", "c.png"):
            write_picture(tmp_path / "in" / name)
        whole = (tmp_path / "in" / "b.png").read_bytes()
        (tmp_path / "in" / "b.png").write_bytes(whole[:60])
        result = infer(
            tmp_path / "in", "--json", "--out", tmp_path / "drawn", "--coco", tmp_path / "r.json",
            code=ExitCode.INPUT,
        )  # fmt: skip
        assert [Path(one["source"]).name for one in lines(result)] == ["a.png", "c.png"]
        assert names(tmp_path / "drawn") == ["a.png", "c.png"]
        assert "warning: " in result.stderr
        assert "b.png" in result.stderr
        assert "error: 1 of 3 pictures could not be used" in result.stderr
        ids = {entry["image_id"] for entry in json.loads((tmp_path / "r.json").read_text())}
        assert ids == {0, 2}

    def test_an_empty_folder(self, infer, tmp_path):
        assert "no picture in folder" in infer(tmp_path, code=ExitCode.INPUT).stderr

    def test_a_number_is_that_camera(self, infer):
        assert "/dev/video97" in infer("97", code=ExitCode.INPUT).stderr

    def test_an_unreachable_camera_is_named_without_its_password(self, infer):
        result = infer("rtsp://me:s3cret@127.0.0.1:1/live", code=ExitCode.INPUT)
        assert "127.0.0.1:1/live" in result.stderr
        assert "s3cret" not in result.stderr

    def test_a_stream_that_breaks_keeps_what_was_done(self, infer, tmp_path, monkeypatch):
        read = SyntheticSource.read

        def breaks(source):
            if source._index == 4:
                raise StreamError("the camera ended the connection")
            return read(source)

        monkeypatch.setattr(SyntheticSource, "read", breaks)
        words = ("synthetic:?size=64x48&pace=max", "--json", "--out", tmp_path / "drawn.mp4")
        result = infer(*words, code=ExitCode.INPUT)
        assert [one["frame"] for one in lines(result)] == [0, 1, 2, 3]
        assert len(read_video(tmp_path / "drawn.mp4")[2]) == 4
        assert "the camera ended the connection" in result.stderr


class TestOptions:
    def test_a_size_that_the_network_does_not_take(self, infer, picture):
        result = infer(picture, "--size", "300x300", code=ExitCode.MODEL)
        assert "300x300" in result.stderr
        assert "305x305" in result.stderr

    def test_a_size_that_it_takes(self, infer, picture):
        default, wide = (
            lines(infer(picture, *words, "--json"))[0]["poses"]
            for words in ((), ("--size", "145x113"))
        )
        assert default != wide

    def test_an_unknown_model(self, infer, picture):
        result = infer(picture, "--model", "posenet-mobilenet-57", code=ExitCode.MODEL)
        assert "did you mean posenet-mobilenet-075" in result.stderr

    def test_an_unknown_device(self, infer, picture):
        result = infer(picture, "--device", "TPU.3", code=ExitCode.ACCELERATOR)
        assert "'TPU.3'" in result.stderr
        assert "CPU" in result.stderr

    @pytest.mark.parametrize("device", ["CPU", "cpu"])
    def test_a_device_by_name_or_kind(self, infer, picture, device):
        assert lines(infer(picture, "--device", device, "--json"))[0]["device"] == "CPU"

    def test_a_precision_that_the_device_lacks(self, infer, picture):
        result = infer(picture, "--precision", "int8", code=ExitCode.ACCELERATOR)
        assert "int8" in result.stderr
        assert "f32" in result.stderr

    @pytest.mark.parametrize(
        "words", [("--precision", "f64"), ("--size", "300"), ("--size", "0x300"), ("--count", "0")]
    )
    def test_a_value_that_makes_no_sense(self, infer, picture, words):
        result = infer(picture, *words, code=ExitCode.USAGE)
        assert words[0] in result.stderr


class TestCtrlC:
    """The pipe takes a few frames and then blocks, so the interrupt always falls in the middle."""

    def interrupted(self, tiny_manifest, *words):
        command = [
            sys.executable,
            "-m",
            "fleet",
            "infer",
            *map(str, words),
            "--model",
            str(tiny_manifest),
        ]
        process = subprocess.Popen(
            [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
        assert process.returncode == ExitCode.INTERRUPTED, said.decode()
        assert json.loads(first)["frame"] == 0
        assert b"Traceback" not in said
        return (first + rest).count(b"\n")

    def test_a_video_that_was_begun_is_kept_and_plays(self, tiny_manifest, tmp_path):
        (tmp_path / "in").mkdir()
        source = write_video(tmp_path / "in" / "long.mkv", frames=600, size=(160, 120))
        out, coco = tmp_path / "out" / "drawn.mp4", tmp_path / "out" / "r.json"
        printed = self.interrupted(tiny_manifest, source, "--out", out, "--coco", coco)
        size, _, times = read_video(out)
        assert size == (160, 120)
        assert 1 <= printed <= len(times) < 600
        ids = {entry["image_id"] for entry in json.loads(coco.read_text())}
        assert ids == set(range(len(ids)))
        assert names(tmp_path / "out") == ["drawn.mp4", "r.json"]

    def test_an_endless_stream_runs_until_then(self, tiny_manifest):
        assert self.interrupted(tiny_manifest, "synthetic:?size=64x48") >= 1
