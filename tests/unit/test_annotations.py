"""Reading COCO keypoint annotations: what is taken, and one clear error for each thing wrong."""

import json

import numpy as np
import pytest

from fleet.annotations import read_annotations
from fleet.errors import InputError
from models.skeletons import COCO17

POINTS = [10, 20, 2] * len(COCO17.keypoints)


def make_image(number, **fields):
    return {
        "id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48, "license": 1,
        **fields,
    }  # fmt: skip


def make_person(number, image, **fields):
    return {
        "id": number, "image_id": image, "category_id": 1, "keypoints": POINTS, "iscrowd": 0,
        "bbox": [5, 10, 20, 30], "area": 400.5, "segmentation": [[1, 2, 3]], **fields,
    }  # fmt: skip


@pytest.fixture
def read(tmp_path):
    """Write a document of two pictures with a person each, changed, and read it."""

    def run(content=None, *, pictures=("1.jpg", "2.jpg"), limit=None, skip=False, **changes):
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for name in pictures:
            (folder / name).touch()
        document = {
            "images": [make_image(1), make_image(2)],
            "annotations": [make_person(1, 1), make_person(2, 2)],
            "categories": [
                {"id": 7, "name": "dog"},
                {"id": 1, "name": "person", "keypoints": COCO17.keypoints, "skeleton": []},
            ],
            **changes,
        }
        path = tmp_path / "truth.json"
        path.write_text(json.dumps(document) if content is None else content)
        return read_annotations(path, folder, limit=limit, skip_missing=skip)

    return run


def test_pictures_and_people_in_the_order_of_the_file(read, tmp_path):
    found = read(images=[make_image(2), make_image(1)])
    assert [picture.id for picture in found.pictures] == [2, 1]
    assert found.pictures[0].path == tmp_path / "pictures" / "2.jpg"
    assert found.pictures[0].size == (64, 48)
    assert (found.name, found.people, found.missing) == ("truth.json", 2, 0)
    people = found.pictures[0].people()
    assert people.keypoints.shape == (1, 17, 3)
    assert people.areas.tolist() == [400.5]
    assert people.sides.tolist() == [30]


def test_crowds_and_persons_without_keypoints_are_kept_but_do_not_count(read):
    found = read(
        annotations=[
            make_person(1, 1),
            make_person(2, 1, iscrowd=1),
            make_person(3, 1, keypoints=[0] * 51),
            make_person(4, 1, keypoints=[]),
            make_person(5, 1, category_id=7, keypoints=[]),
        ]
    )
    assert found.people == 1
    assert len(found.pictures[0].persons) == 4
    assert len(found.pictures[0].people().areas) == 1
    assert found.pictures[1].people().keypoints.shape == (0, 17, 3)


def test_annotation_id_0_is_as_good_as_any(read):
    assert read(annotations=[make_person(0, 1)]).people == 1


def test_limit_takes_the_first(read):
    assert [picture.id for picture in read(limit=1).pictures] == [1]
    assert len(read(limit=10).pictures) == 2


def test_missing_pictures_are_an_error_unless_left_out(read, tmp_path):
    with pytest.raises(InputError, match=r"1 of 2 annotated pictures .* first 2\.jpg") as caught:
        read(pictures=["1.jpg"])
    assert "--skip-missing" in caught.value.hint
    found = read(pictures=["1.jpg"], skip=True)
    assert [picture.id for picture in found.pictures] == [1]
    assert found.missing == 1


@pytest.mark.parametrize("skip", [False, True])
def test_no_picture_at_all_is_an_error(read, skip):
    with pytest.raises(InputError, match="2 of 2") as caught:
        read(pictures=[], skip=skip)
    assert "--images" in caught.value.hint


def twice(*entries):
    return [*entries, entries[0]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"content": ""}, "is not JSON"),
        ({"content": "{"}, "is not JSON"),
        ({"content": "[]"}, "not in COCO's annotation format"),
        ({"content": "{}"}, "images: Field required"),
        ({"images": []}, "has no pictures"),
        ({"annotations": []}, "has no annotations"),
        ({"categories": []}, "no keypoint annotations"),
        ({"categories": [{"id": 1, "name": "person"}]}, "no keypoint annotations"),
        (
            {"categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}]},
            "not the 17 of COCO",
        ),
        ({"annotations": [make_person(1, 1, category_id=7)]}, "no keypoint annotations"),
        ({"annotations": [make_person(1, 1, keypoints=[0] * 51)]}, "no keypoint annotations"),
        ({"annotations": [make_person(1, 1, iscrowd=1)]}, "no keypoint annotations"),
        (
            {"annotations": [make_person(1, 1), make_person(2, 1, keypoints=[1, 2, 3])]},
            r"annotations\.1\.keypoints has 3 values, not 51",
        ),
        ({"annotations": [make_person(1, 1, bbox=[1, 2, 3])]}, r"annotations\.0\.bbox"),
        ({"annotations": [make_person(1, 1, area="big")]}, r"annotations\.0\.area"),
        ({"annotations": [make_person(1, 1, area=float("nan"))]}, "finite|JSON"),
        ({"annotations": [make_person(1, 9)]}, "picture 9"),
        ({"annotations": twice(make_person(1, 1))}, "annotation id 1 more than once"),
        ({"images": twice(make_image(1), make_image(2))}, "picture id 1 more than once"),
        ({"images": [make_image(1), make_image(2, file_name="1.jpg")]}, "more than once"),
        ({"images": [make_image(1, width=0), make_image(2)]}, r"images\.0\.width"),
    ],
)
def test_what_is_wrong_is_said(read, changes, says):
    with pytest.raises(InputError, match=says) as caught:
        read(**changes)
    assert "truth.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_people_beyond_the_limit_do_not_help(read):
    with pytest.raises(InputError, match="no person with keypoints in the 1 pictures"):
        read(annotations=[make_person(1, 2)], limit=1)


def test_no_such_file_or_folder(tmp_path):
    with pytest.raises(InputError, match=r"truth\.json cannot be read"):
        read_annotations(tmp_path / "truth.json", tmp_path)
    (tmp_path / "t.json").write_text(
        json.dumps(
            {
                "images": [make_image(1)],
                "annotations": [make_person(1, 1)],
                "categories": [{"id": 1, "name": "person", "keypoints": COCO17.keypoints}],
            }
        )
    )
    with pytest.raises(InputError, match="no folder"):
        read_annotations(tmp_path / "t.json", tmp_path / "nowhere")


def test_arrays_are_of_floats(read):
    people = read().pictures[0].people()
    assert {array.dtype for array in (people.keypoints, people.areas, people.sides)} == {
        np.dtype(np.float64)
    }


@pytest.mark.parametrize(
    ("truth", "images", "pictures", "people"),
    [
        ("coco/annotations/person_keypoints_val_exact.json", "coco/images", 45, 125),
        ("coco/annotations/person_keypoints_val_abc.json", "coco/images", 61, 177),
        ("lspet/lspet_keypoints.json", "lspet/images", 150, 150),
    ],
)
def test_real_annotations(shared, truth, images, pictures, people):
    found = read_annotations(shared / "data" / truth, shared / "data" / images)
    assert (len(found.pictures), found.people, found.missing) == (pictures, people, 0)
