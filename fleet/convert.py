"""`fleet models convert`: writes a network into a folder that appears only when it is complete.

In 8 bits, also how far its poses are from those of the network that it was made of.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.accelerators import load_driver
from agents.accelerators.base import Accelerator
from agents.pipeline import load_model
from agents.probe import find_accelerator
from agents.streams.base import Pixels
from agents.streams.images import pictures_in, read_picture
from fleet.errors import FleetError, InputError
from models.accuracy import Floats, People, object_similarity, pair, similarities
from models.artifacts import Progress
from models.catalog import load_manifest
from models.convert.export import MANIFEST, Export, export
from models.convert.targets import Order
from models.decoders import DECODERS
from models.manifest import ModelManifest
from models.poses import PoseSet
from models.preprocess import Preprocessor
from models.skeletons import COCO17, SKELETONS

MAX_PICTURES = 300
"""NNCF's own number of calibration samples (`nncf.quantize`, subset_size)."""
HELD_OUT = 5
"""Every fifth picture is kept to compare with: our choice."""
_SEEN = 0.3
"""A keypoint counts from this score on, as it is drawn (`models.draw.MIN_KEYPOINT_SCORE`)."""
_FEWEST_SEEN = 3
"""A person with fewer keypoints has no size to measure distances by."""

Advance = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike the poses of two networks are on the same pictures."""

    oks: float | None
    """Mean over the persons that the first one sees, 0 for those the other misses; None: nobody."""
    people: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Pictures:
    """The two parts of a calibration folder, as ``(height, width, 3)`` RGB."""

    calibration: tuple[Pixels, ...]
    """Of the network's input size."""
    held_out: tuple[Path, ...]


def read_pictures(
    folder: Path, manifest: ModelManifest, size: tuple[int, int], advance: Advance
) -> Pictures:
    """Read a calibration folder, fitted into the input as the pipeline does.

    Raises:
        StreamError: the folder cannot be read or holds no picture, or one is damaged.
        InputError: it holds a single picture.
    """
    paths = pictures_in(folder)[:MAX_PICTURES]
    if len(paths) < 2:
        raise InputError(
            f"{folder} holds a single picture: one to calibrate with and one to compare are needed",
            hint="some hundred pictures of what the cameras see are best",
        )
    preprocessor = Preprocessor(size, keep_aspect=manifest.input.keep_aspect)
    held_out = paths[1::HELD_OUT]
    calibration = []
    for path in paths:
        if path not in held_out:
            fitted = np.empty((size[1], size[0], 3), np.uint8)
            preprocessor.prepare(read_picture(path, "rgb"), fitted)
            calibration.append(fitted)
        advance()
    return Pictures(tuple(calibration), held_out)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Lend a folder that becomes ``path`` when the context ends without an error.

    An error or Ctrl-C leaves nothing.

    Raises:
        InputError: ``path`` holds something already, or cannot be written; said on entry.
        FleetError: the disk refused in the middle.
    """
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    made = [folder for folder in partial.parents if not folder.exists()]
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path} is not empty", hint="name another --out, or remove it first")
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise FleetError(
            f"cannot write {path}: {error.strerror or error}", hint="is the disk full?"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # it holds what was written
                folder.rmdir()


def convert(
    manifest: ModelManifest,
    order: Order,
    folder: Path,
    pictures: Pictures | None,
    progress: Progress,
) -> Export:
    """Write a network into a folder that `new_folder` lent; see `models.convert.export.export`."""
    return export(manifest, order, folder, progress, pictures.calibration if pictures else ())


def compare(
    manifest: ModelManifest, order: Order, folder: Path, pictures: Sequence[Path], advance: Advance
) -> Agreement:
    """Compare what was written with the network that it was made of, both in f32 on the CPU.

    Raises:
        ModelError: one of the two cannot be had.
        AcceleratorError: there is no CPU that runs them.
    """
    with ExitStack() as stack:
        accelerator = find_accelerator("CPU")
        device = load_driver(accelerator.driver).open(accelerator.device)
        stack.callback(device.close)
        first = stack.enter_context(_finder(device, manifest, order))
        second = stack.enter_context(_finder(device, load_manifest(folder / MANIFEST), order))
        found: list[float] = []
        for path in pictures:
            pixels = read_picture(path, "rgb")
            found += agreement(first(pixels), second(pixels))
            advance()
    mean = float(np.mean(found)) if found else None
    return Agreement(mean, len(found), len(pictures))


def agreement(expected: PoseSet, found: PoseSet) -> list[float]:
    """Return the OKS of each person of the first set with the pose of the second it is paired with.

    Persons without a size are left out.
    """
    order = [expected.skeleton.keypoints.index(name) for name in COCO17.keypoints]
    people = _people(expected.keypoints[:, order].astype(np.float64))
    oks = object_similarity(similarities(found.keypoints[:, order], people), people)
    return [float(oks[pose, person]) if pose >= 0 else 0.0 for person, pose in enumerate(pair(oks))]


def _people(keypoints: Floats) -> People:
    is_seen = keypoints[..., 2] >= _SEEN
    keep = is_seen.sum(axis=1) >= _FEWEST_SEEN
    keypoints, is_seen = keypoints[keep], is_seen[keep]
    spots = np.where(is_seen[..., None], keypoints[..., :2], np.nan)
    spans = np.zeros((len(spots), 2))
    if len(spots):
        spans = np.nanmax(spots, axis=1) - np.nanmin(spots, axis=1)
    labelled = keypoints.copy()
    labelled[..., 2] = is_seen
    return People(labelled, spans.prod(axis=1), spans.max(axis=1))


@contextmanager
def _finder(
    device: Accelerator, manifest: ModelManifest, order: Order
) -> Iterator[Callable[[Pixels], PoseSet]]:
    model = load_model(device, manifest, size=order.size, precision="f32", lanes=1)
    try:
        lane = model.lanes[0]
        yield lambda pixels: lane.poses(lane.run_pixels(pixels))
    finally:
        model.close()


def can_compare(manifest: ModelManifest) -> bool:
    """Tell whether its poses can be compared: it groups, and finds the keypoints of COCO."""
    names = SKELETONS[manifest.skeleton].keypoints
    return manifest.decoder.name in DECODERS and set(COCO17.keypoints) <= set(names)
