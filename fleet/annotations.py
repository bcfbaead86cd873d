"""Reads COCO keypoint annotations: which pictures there are, and who is in them.

Everything that could spoil a measurement is an error here; the pictures themselves are only looked
for, not read.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet.errors import InputError
from models.accuracy import People
from models.skeletons import COCO17

_VALUES = 3 * len(COCO17.keypoints)
_HINT = "COCO's own files are called person_keypoints_*.json"


class _Loose(BaseModel):
    # Annotation files hold more than we need, and every publisher something else.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Image(_Loose):
    """A picture as the file names it."""

    id: int
    file_name: str = Field(min_length=1)
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class Person(_Loose):
    """An annotation of the category of persons."""

    image_id: int
    category_id: int
    keypoints: tuple[float, ...] = ()
    """x, y, v of each keypoint; v is 0 where it is not labelled. Empty: nobody labelled any."""
    bbox: Annotated[tuple[float, ...], Field(min_length=4, max_length=4)]
    """Left, top, width, height in pixels."""
    area: float = Field(ge=0)
    iscrowd: bool = False

    @property
    def is_counted(self) -> bool:
        """Whether it is one person with at least one labelled keypoint."""
        return not self.iscrowd and any(self.keypoints[2::3])


class _Category(_Loose):
    id: int
    name: str
    keypoints: tuple[str, ...] = ()


class _Annotation(_Loose):
    id: int
    category_id: int


class _Document(_Loose):
    images: tuple[Image, ...]
    annotations: tuple[dict[str, object], ...]
    categories: tuple[_Category, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to evaluate on, and all who are annotated in it."""

    id: int
    path: Path
    size: tuple[int, int]
    """Width and height in pixels, as annotated."""
    persons: tuple[Person, ...]

    def people(self) -> People:
        """Return those that count."""
        counted = [person for person in self.persons if person.is_counted]
        keypoints = [person.keypoints for person in counted]
        return People(
            np.array(keypoints, np.float64).reshape(-1, len(COCO17.keypoints), 3),
            np.array([person.area for person in counted], np.float64),
            np.array([max(person.bbox[2:]) for person in counted], np.float64),
        )


@dataclass(frozen=True, slots=True)
class Annotations:
    """The pictures of a set, in the order of the file."""

    name: str
    pictures: tuple[Picture, ...]
    missing: int
    """Pictures left out because they are not there."""

    @property
    def people(self) -> int:
        """Persons that count, in all pictures."""
        return sum(person.is_counted for picture in self.pictures for person in picture.persons)


def read_annotations(
    path: Path, folder: Path, *, limit: int | None = None, skip_missing: bool = False
) -> Annotations:
    """Read annotations of pictures in a folder.

    Args:
        path: JSON file in COCO's format for keypoints.
        folder: where its pictures are.
        limit: the first so many pictures; None: all.
        skip_missing: leave pictures out that are not there.

    Raises:
        InputError: the file is not that, contradicts itself, or names pictures that are not there.
    """
    document = _read(path)
    persons = _persons(document, path)
    by_image: dict[int, list[Person]] = {image.id: [] for image in document.images}
    for person in persons:
        if person.image_id not in by_image:
            raise InputError(
                f"{path}: an annotation belongs to picture {person.image_id}, which it lacks"
            )
        by_image[person.image_id].append(person)
    if not folder.is_dir():
        raise InputError(f"no folder {folder}", hint="name the folder of the annotated pictures")
    images = document.images[:limit]
    there = [image for image in images if (folder / image.file_name).is_file()]
    missing = len(images) - len(there)
    if missing and not (skip_missing and there):
        first = next(image.file_name for image in images if image not in there)
        raise InputError(
            f"{missing} of {len(images)} annotated pictures are not in {folder}, first {first}",
            hint="name their folder with --images" if not there else
            "--skip-missing evaluates on the others",
        )  # fmt: skip
    pictures = tuple(
        Picture(
            image.id, folder / image.file_name, (image.width, image.height),
            tuple(by_image[image.id]),
        )
        for image in there
    )  # fmt: skip
    found = Annotations(path.name, pictures, missing)
    if not found.people:
        raise InputError(
            f"no person with keypoints in the {len(pictures)} pictures taken from {path}",
            hint="take more pictures",
        )
    return found


def _read(path: Path) -> _Document:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"annotations {path} cannot be read: {error.strerror}") from error
    try:
        document = _Document.model_validate_json(content)
    except ValidationError as error:
        raise _fault(path, "", error) from None
    if not document.images or not document.annotations:
        what = "annotations" if document.images else "pictures"
        raise InputError(f"{path} has no {what}", hint=_HINT)
    _refuse_twice(path, "picture id", (image.id for image in document.images))
    _refuse_twice(path, "picture", (image.file_name for image in document.images))
    return document


def _persons(document: _Document, path: Path) -> list[Person]:
    category = next((each for each in document.categories if each.keypoints), None)
    if category is None:
        raise InputError(f"{path} has no keypoint annotations", hint=_HINT)
    if category.keypoints != COCO17.keypoints:
        raise InputError(
            f"{path}: the keypoints of {category.name!r} are not the {len(COCO17.keypoints)} of "
            "COCO in its order",
            hint=f"COCO's: {', '.join(COCO17.keypoints)}",
        )
    persons: list[Person] = []
    ids: list[int] = []
    for index, entry in enumerate(document.annotations):
        try:
            head = _Annotation.model_validate(entry)
            ids.append(head.id)
            if head.category_id == category.id:
                persons.append(Person.model_validate(entry))
        except ValidationError as error:
            raise _fault(path, f"annotations.{index}.", error) from None
        if persons and len(persons[-1].keypoints) not in (0, _VALUES):
            raise InputError(
                f"{path}: annotations.{index}.keypoints has {len(persons[-1].keypoints)} values, "
                f"not {_VALUES}"
            )
    _refuse_twice(path, "annotation id", ids)
    if not any(person.is_counted for person in persons):
        raise InputError(f"{path} has no keypoint annotations", hint=_HINT)
    return persons


def _refuse_twice(path: Path, what: str, values: Iterable[Hashable]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
        raise InputError(f"{path} has {what} {twice[0]}{more} more than once")


def _fault(path: Path, where: str, error: ValidationError) -> InputError:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return InputError(f"{path} is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    place = where + ".".join(map(str, first["loc"]))
    what = f"{place}: {first['msg']}" if place else first["msg"]
    return InputError(f"{path} is not in COCO's annotation format: {what}", hint=_HINT)
