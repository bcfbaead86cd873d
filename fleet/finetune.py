"""Train a new head for a classification network on a folder of two classes, and keep the result.

The network itself stays as it is: each picture is run through it once, and only the head learns
from what comes out (`models.head`). The result is a network of its own with a manifest, which
converts and runs like any other.
"""

import csv
import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from agents.streams.images import pictures_in
from fleet.classify import SCORES, Classifier
from fleet.errors import ConflictError, InputError
from models.convert import tfjs
from models.convert.tfjs_layers import FEATURES, with_head
from models.errors import ManifestError
from models.head import Floats, Head, Training, train
from models.manifest import FolderSource, ModelFile, ModelManifest

LABELS = "labels.csv"
TEST_SHARE = 0.3
"""Of each class, where no lists are given."""


class Example(NamedTuple):
    """A picture and which of the classes it shows."""

    path: Path
    name: str
    """Its path below the folder."""
    label: str


@dataclass(frozen=True, slots=True)
class Examples:
    """The pictures of two classes, split into what is learned from and what is asked."""

    classes: tuple[str, str]
    """The score of the new network says how likely the first is."""
    train: tuple[Example, ...]
    test: tuple[Example, ...]


class Mistake(NamedTuple):
    """A picture of the test that the new network takes for the other class."""

    example: Example
    score: float
    """Of the class that it is wrongly taken for, .5..1."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained head and how right it is."""

    head: Head
    examples: Examples
    train_accuracy: float
    test_accuracy: float
    confusion: tuple[tuple[int, int], tuple[int, int]]
    """Of the test: a row for each true class, a column for each answer."""
    mistakes: tuple[Mistake, ...]


def read_examples(folder: Path) -> list[Example]:
    """Read ``labels.csv`` (file,label), or a folder a class.

    Raises:
        InputError: there are not two classes, or a listed picture is not there.
        StreamRefused: a folder of a class holds no picture.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    if (folder / LABELS).is_file():
        found = _listed(folder)
    else:
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        found = [
            Example(path, str(path.relative_to(folder)), each.name)
            for each in classes
            for path in pictures_in(each)
        ]
    labels = dict.fromkeys(example.label for example in found)
    if len(labels) != 2:
        raise InputError(
            f"{folder} has {len(labels)} classes ({', '.join(labels) or 'none'}), not two",
            hint=f"make a folder of pictures for each class in it, or a {LABELS} (file,label)",
        )
    return found


def _listed(folder: Path) -> list[Example]:
    where = folder / LABELS
    try:
        with where.open(newline="", encoding="utf-8") as content:
            rows = [(row["file"], row["label"]) for row in csv.DictReader(content)]
    except (KeyError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{where} is no table of the columns file,label") from error
    found = [Example(folder / name, name, label) for name, label in rows]
    missing = [example.name for example in found if not example.path.is_file()]
    if missing:
        raise InputError(f"{where} names {len(missing)} pictures that are not there: {missing[0]}")
    return found


def split_by_lists(found: Sequence[Example], train_list: Path, test_list: Path) -> Examples:
    """Split by two files that name a picture a line, as it is called below the folder.

    Raises:
        InputError: a list names what is not there, or both name the same picture.
    """
    by_name = {example.name: example for example in found}
    parts = []
    for where in (train_list, test_list):
        try:
            names = where.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {where}") from error
        wanted = dict.fromkeys(name.strip() for name in names if name.strip())
        unknown = [name for name in wanted if name not in by_name]
        if unknown:
            raise InputError(f"{where} names {unknown[0]}, which is not among the pictures")
        parts.append(tuple(by_name[name] for name in wanted))
    both = {example.name for example in parts[0]} & {example.name for example in parts[1]}
    if both:
        raise InputError(
            f"{min(both)} is in {train_list} and in {test_list}",
            hint="what is learned cannot be asked",
        )
    return _examples(found, *parts)


def split_by_chance(found: Sequence[Example], seed: int) -> Examples:
    """Keep `TEST_SHARE` of each class for the test; the same seed gives the same split."""
    shuffle = random.Random(seed)
    chosen: set[str] = set()
    for label in dict.fromkeys(example.label for example in found):
        names = sorted(example.name for example in found if example.label == label)
        chosen |= set(shuffle.sample(names, max(1, round(TEST_SHARE * len(names)))))
    return _examples(
        found,
        tuple(example for example in found if example.name not in chosen),
        tuple(example for example in found if example.name in chosen),
    )


def _examples(
    found: Sequence[Example], train_part: tuple[Example, ...], test_part: tuple[Example, ...]
) -> Examples:
    first, second = dict.fromkeys(example.label for example in found)
    for part, what in ((train_part, "to learn from"), (test_part, "for the test")):
        if {example.label for example in part} != {first, second}:
            raise InputError(f"the pictures {what} are not of both classes")
    return Examples((first, second), train_part, test_part)


def finetune(
    classifier: Classifier, examples: Examples, how: Training, advance: Callable[[], None]
) -> Outcome:
    """Train a head on the features of the pictures, and try it on those kept for the test.

    Raises:
        ManifestError: the network gives no features.
        StreamRefused: a picture cannot be read.
    """
    if FEATURES not in classifier.manifest.outputs:
        raise ManifestError(
            f"{classifier.manifest.name} has no output {FEATURES!r} to train a head on",
            hint="take resnet50-imagenet",
        )

    def features(part: Sequence[Example]) -> Floats:
        rows = []
        for example in part:
            rows.append(classifier.run(example.path)[FEATURES].ravel().astype(np.float64))
            advance()
        return np.array(rows)

    first = examples.classes[0]
    learned, asked = (
        np.array([example.label == first for example in part])
        for part in (examples.train, examples.test)
    )
    rows = features(examples.train)
    head = train(rows, learned, how)
    scores = head.scores(features(examples.test))
    said = scores >= 0.5
    counts = [[int((said[asked == t] == s).sum()) for s in (True, False)] for t in (True, False)]
    wrong = np.flatnonzero(said != asked)
    return Outcome(
        head=head,
        examples=examples,
        train_accuracy=float(((head.scores(rows) >= 0.5) == learned).mean()),
        test_accuracy=float((said == asked).mean()),
        confusion=((counts[0][0], counts[0][1]), (counts[1][0], counts[1][1])),
        mistakes=tuple(
            Mistake(examples.test[i], float(max(scores[i], 1 - scores[i]))) for i in wrong
        ),
    )


def check_target(name: str, folder: Path) -> None:
    """Say what is wrong with a name or a folder before any work is done.

    Raises:
        ConflictError: the folder is there already.
        InputError: the name is none.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):  # as `models.manifest.Name`
        raise InputError(
            f"`{name}` is no name of a network",
            hint="it may hold lower-case letters, digits, '-', '_' and '.', the first no mark",
        )
    if folder.exists():
        raise ConflictError(f"{folder} is there already", hint="choose another name or folder")


def save(outcome: Outcome, classifier: Classifier, name: str, folder: Path) -> Path:
    """Write the new network into a new folder and return its manifest.

    Raises:
        ConflictError: the folder is there already.
        InputError: it cannot be written, or the name is none.
    """
    check_target(name, folder)
    partial = folder.with_name(f".partial-{os.getpid()}-{folder.name}")
    try:
        partial.mkdir(parents=True)
        manifest = _write(outcome, classifier, name, partial)
        text = yaml.safe_dump(
            manifest.model_dump(mode="json", exclude_unset=True), sort_keys=False, width=100
        )
        (partial / "manifest.yaml").write_text(text, encoding="utf-8")
        partial.rename(folder)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "manifest.yaml"


def _write(outcome: Outcome, classifier: Classifier, name: str, folder: Path) -> ModelManifest:
    base = classifier.manifest
    document = json.loads(classifier.files[base.model_file.path].read_bytes())
    home = base.model_file.path.rpartition("/")[0]
    shards = {
        file.path.removeprefix(f"{home}/"): classifier.files[file.path].read_bytes()
        for file in base.files
        if file.role == "shard"
    }
    weights = tfjs.read_weights(document["weightsManifest"], shards)
    head = outcome.head
    layers = [(head.hidden_weights, head.hidden_bias), (head.weights, head.bias)]
    model, content = with_head(document, weights, layers)
    parts = {
        "model.json": ("model", json.dumps(model).encode()),
        "weights.bin": ("shard", content),
        "labels.json": ("labels", json.dumps(outcome.examples.classes).encode()),
    }
    files = []
    for path, (role, data) in parts.items():
        (folder / path).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        files.append(
            ModelFile.model_validate(
                {"role": role, "path": path, "size": len(data), "sha256": digest}
            )
        )
    inherited = ("task", "license", "homepage", "format", "input", "decoder")
    return ModelManifest.model_validate(
        {key: getattr(base, key) for key in inherited}
        | {
            "name": name,
            "title": f"{' or '.join(outcome.examples.classes)}, a head on {base.name}",
            "attribution": f"{base.attribution}; head trained on this machine",
            "files": tuple(files),
            "sources": (FolderSource(folder="."),),
            "outputs": {SCORES: model["modelTopology"]["config"]["output_layers"][0][0]},
        }
    )
