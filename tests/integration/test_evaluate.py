"""`fleet models eval` and `compare`, on a tiny network and pictures of noise.

What the network finds is taken for the truth: then it is right everywhere, and any other truth is
known to be wrong by how much.
"""

import json
import re
import sys
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import tiny_network
import yaml
from typer.testing import CliRunner

from fleet import cli
from fleet.cli import render
from fleet.errors import ExitCode
from models.skeletons import COCO17

pytest.importorskip("pycocotools", reason="needs the extra posefleet[eval]")
pytestmark = pytest.mark.integration

SIZE = (64, 48)
PICTURES = 4
KEYS = {
    "model", "device", "precision", "size", "images", "people", "ap", "ap50", "ap75", "ap_medium",
    "ap_large", "ar", "pck", "measure", "ci95", "oks_per_keypoint", "ms", "ratio_to_f32",
    "ratio_ci95",
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The path of a manifest whose network is converted; random weights find people in noise."""
    folder = tmp_path_factory.mktemp("tiny")
    manifest = tiny_network.write(folder / "published").model_dump(mode="json")
    manifest["sources"] = [{"folder": "published"}]
    manifest["decoder"]["options"] = {"max_poses": 5}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(manifest))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield path


def run(*args, code=ExitCode.OK):
    result = CliRunner().invoke(cli.app, ["models", *map(str, args)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


class Data:
    """Pictures of noise and annotations of them."""

    def __init__(self, folder):
        self.images = folder / "images"
        self.truth = folder / "truth.json"
        self.images.mkdir()
        for number in range(PICTURES):
            self.write_picture(number)
        self.write([make_person(0, np.full((17, 3), 2.0))])

    def write_picture(self, number, size=SIZE):
        noise = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8)
        assert cv2.imwrite(str(self.images / f"{number}.png"), noise)

    def write(self, persons):
        for number, person in enumerate(persons):
            person["id"] = number
        document = {
            "images": [
                {"id": n, "file_name": f"{n}.png", "width": SIZE[0], "height": SIZE[1]}
                for n in range(PICTURES)
            ],
            "annotations": persons,
            "categories": [{"id": 1, "name": "person", "keypoints": COCO17.keypoints}],
        }
        self.truth.write_text(json.dumps(document))

    @property
    def options(self):
        return ["--images", self.images, "--annotations", self.truth]


def make_person(picture, keypoints, area=400.0):
    return {
        "image_id": picture, "category_id": 1, "iscrowd": 0, "area": area, "bbox": [0, 0, 30, 30],
        "keypoints": np.asarray(keypoints, float).ravel().tolist(),
    }  # fmt: skip


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path)


@pytest.fixture(scope="module")
def found(tiny, tmp_path_factory):
    """COCO results of the network on the pictures of `Data`."""
    folder = tmp_path_factory.mktemp("found")
    data = Data(folder)
    run("eval", tiny, *data.options, "--out", folder / "results.json")
    return json.loads((folder / "results.json").read_text())


@pytest.fixture
def right(data, found):
    """Annotations that say what the network finds."""
    persons = []
    for entry in found:
        keypoints = np.array(entry["keypoints"]).reshape(17, 3)
        keypoints[:, 2] = 2
        persons.append(make_person(entry["image_id"], keypoints))
    data.write(persons)
    return data


def test_the_results_are_in_coco_format(found):
    assert {entry["image_id"] for entry in found} == set(range(PICTURES))
    for entry in found:
        assert set(entry) == {"image_id", "category_id", "keypoints", "score"}
        assert entry["category_id"] == 1
        assert len(entry["keypoints"]) == 51
        assert 0 <= entry["score"] <= 1


def test_a_network_that_is_right_everywhere(tiny, right, found):
    made = json.loads(run("eval", tiny, *right.options, "--json").stdout)
    assert set(made) == KEYS
    assert (made["model"], made["device"], made["precision"]) == ("tiny", "CPU", "f32")
    assert (made["size"], made["images"], made["people"]) == ("65x49", PICTURES, len(found))
    for name in ("ap", "ap50", "ap75", "ar", "pck"):
        assert made[name] == pytest.approx(1, abs=1e-3), name
    assert made["ci95"] == pytest.approx([1, 1], abs=1e-3)
    assert made["measure"] == "ap"
    assert made["ap_large"] is None, "nobody is that large: not a number"
    assert list(made["oks_per_keypoint"]) == list(COCO17.keypoints)
    assert min(made["oks_per_keypoint"].values()) > 0.99
    assert made["ratio_to_f32"] == 1
    for times in made["ms"].values():
        assert 0 < times["p50"] <= times["p95"]
    assert made["ms"]["infer"]["p50"] < made["ms"]["total"]["p50"]


def test_half_of_the_people_is_half_of_the_recall(tiny, right):
    """As many more persons as there are, far from anything that is found."""
    persons = json.loads(right.truth.read_text())["annotations"]
    far = np.tile([5000.0, 5000.0, 2], (17, 1))
    right.write([*persons, *(make_person(person["image_id"], far) for person in persons)])
    made = json.loads(run("eval", tiny, *right.options, "--json").stdout)
    assert made["ar"] == pytest.approx(0.5, abs=1e-3)
    assert made["pck"] == pytest.approx(0.5, abs=1e-3)
    assert made["ap"] == pytest.approx(51 / 101, abs=1e-3)
    assert min(made["oks_per_keypoint"].values()) > 0.99, "of those that were found"


def test_nothing_right_is_0_and_has_no_ratio(tiny, data):
    data.write([make_person(0, np.tile([5000.0, 5000.0, 2], (17, 1)))])
    made = json.loads(run("eval", tiny, *data.options, "--json").stdout)
    assert (made["ap"], made["pck"], made["ratio_to_f32"]) == (0, 0, None)
    assert set(made["oks_per_keypoint"].values()) == {None}


def test_pck_only(tiny, right):
    made = json.loads(run("eval", tiny, *right.options, "--pck-only", "--json").stdout)
    assert [made[name] for name in ("ap", "ap50", "ap75", "ar")] == [None] * 4
    assert (made["measure"], made["pck"], made["ci95"]) == ("pck", 1, [1, 1])


def test_the_table_shows_the_interval(tiny, right):
    text = run("eval", tiny, *right.options).stdout
    assert re.search(r"tiny +CPU +f32 +65x49 +1\.000 +1\.000-1\.000", text)
    assert "4 pictures" in text
    assert "left_shoulder" in text


def test_another_precision_is_compared_with_f32(tiny, right):
    words = ["eval", tiny, *right.options, "--precision", "bf16", "--json"]
    result = CliRunner().invoke(cli.app, ["models", *map(str, words)])
    if result.exit_code == ExitCode.ACCELERATOR:
        pytest.skip("this CPU does not compute in bf16")
    made = json.loads(result.stdout)
    assert made["precision"] == "bf16"
    assert 0 < made["ratio_to_f32"] < 1.01
    low, high = made["ratio_ci95"]
    assert low <= made["ratio_to_f32"] <= high
    assert json.loads(run(*words, "--no-reference").stdout)["ratio_to_f32"] is None


def test_size_and_limit(tiny, right):
    made = json.loads(
        run("eval", tiny, *right.options, "--size", "81x65", "--limit", 2, "--json").stdout
    )
    assert (made["size"], made["images"]) == ("81x65", 2)
    assert made["ap"] < 1


class TestCompare:
    def test_each_size_of_each_network(self, tiny, right, tmp_path):
        pytest.importorskip("matplotlib", reason="needs the extra posefleet[eval]")
        folder = tmp_path / "new" / "chart"
        words = ("compare", tiny, *right.options, "--size", "65x49,81x65", "--out", folder)
        made = json.loads(run(*words, "--json").stdout)["evaluations"]
        assert [each["size"] for each in made] == ["65x49", "81x65"]
        assert {frozenset(each) for each in made} == {frozenset(KEYS)}
        assert made[0]["ap"] > made[1]["ap"]

        assert sorted(path.name for path in folder.iterdir()) == ["accuracy.html", "accuracy.png"]
        drawn = cv2.imread(str(folder / "accuracy.png"))
        assert drawn.shape[1] > 1000
        assert drawn.std() > 5
        page = (folder / "accuracy.html").read_text()
        assert page.count("<tr>") == 1 + 2
        for text in ("81x65", "<svg", "4 pictures", f"{made[1]['ap']:.3f}"):
            assert text in page
        assert not re.search(r"(src|href)=[\"']?http|url\(http|@import|<script", page)

    def test_what_does_not_run_is_left_out_and_said(self, tiny, right):
        result = run("compare", tiny, *right.options, "--size", "65x49,66x50", code=ExitCode.FAILED)
        assert "1.000" in result.stdout
        assert "1 of 2 could not run: " in result.stderr
        assert "does not take 66x50" in result.stderr

    def test_an_unknown_name_is_said_before_anything_runs(self, tiny, right, tmp_path):
        words = ("compare", tiny, "posenet-mobilnet-075", *right.options, "--out", tmp_path / "c")
        result = run(*words, code=ExitCode.MODEL)
        assert "posenet-mobilenet-075" in result.stderr
        assert result.stdout == ""
        assert not (tmp_path / "c").exists()


class TestBadInput:
    def test_a_picture_of_another_size(self, tiny, data):
        data.write_picture(2, size=(32, 24))
        error = run("eval", tiny, *data.options, code=ExitCode.INPUT).stderr
        assert "2.png is 32x24, its annotations are of 64x48" in error

    def test_a_picture_that_is_none(self, tiny, data, tmp_path):
        (data.images / "1.png").write_text("no picture")
        out = tmp_path / "results.json"
        error = run("eval", tiny, *data.options, "--out", out, code=ExitCode.INPUT).stderr
        assert "1.png is not a picture" in error
        assert not list(tmp_path.glob("*results*")), "nothing half-done is left"

    def test_missing_pictures(self, tiny, data):
        (data.images / "3.png").unlink()
        error = run("eval", tiny, *data.options, code=ExitCode.INPUT).stderr
        assert "1 of 4 annotated pictures are not in" in error
        result = run("eval", tiny, *data.options, "--skip-missing", "--json")
        assert json.loads(result.stdout)["images"] == 3
        assert "warning: 1 annotated pictures" in result.stderr

    def test_annotations_that_are_none(self, tiny, data):
        data.truth.write_text("{]")
        assert "is not JSON" in run("eval", tiny, *data.options, code=ExitCode.INPUT).stderr

    def test_results_that_cannot_be_written_are_said_first(self, tiny, data, tmp_path):
        error = run("eval", tiny, *data.options, "--out", tmp_path, code=ExitCode.INPUT).stderr
        assert "is a folder" in error

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (("--precision", "f99"), ExitCode.USAGE),
            (("--size", "wide"), ExitCode.USAGE),
            (("--size", "66x50"), ExitCode.MODEL),
            (("--device", "toaster"), ExitCode.ACCELERATOR),
            (("--limit", "0"), ExitCode.USAGE),
        ],
    )
    def test_options(self, tiny, data, words, code):
        run("eval", tiny, *data.options, *words, code=code)

    @pytest.mark.parametrize("command", ["eval", "compare"])
    def test_without_the_extra(self, tiny, data, command, monkeypatch):
        monkeypatch.setitem(sys.modules, "pycocotools", None)  # as if it were not installed
        error = run(command, tiny, *data.options, code=ExitCode.FAILED).stderr
        assert "needs pycocotools" in error
        assert "posefleet[eval]" in error


def test_ctrl_c_in_the_middle_leaves_nothing(tiny, data, tmp_path, monkeypatch):
    @contextmanager
    def steps(title, total):
        def advance():
            raise KeyboardInterrupt

        yield advance

    monkeypatch.setattr(render, "steps", steps)
    out = tmp_path / "out" / "results.json"
    result = run("eval", tiny, *data.options, "--out", out, code=ExitCode.INTERRUPTED)
    assert (result.stdout, result.stderr) == ("", "")
    assert not list(out.parent.iterdir())
