"""`fleet models eval`: a network over annotated pictures, on an accelerator of this machine.

Accuracy and time are taken apart: all lanes work on the pictures, then one lane alone is timed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from agents.accelerators import load_driver
from agents.accelerators.base import Precision
from agents.pipeline import STAGES, LoadedModel, PoseLane, load_model
from agents.probe import find_accelerator
from agents.streams.base import Pixels
from agents.streams.images import read_picture
from agents.telemetry.window import nearest_rank
from agents.wire.messages import AcceleratorInfo
from fleet.annotations import Annotations, Picture
from fleet.errors import InputError
from fleet.lanes import in_order
from fleet.scoring import MAX_POSES, Found, Score, score
from models.artifacts import Progress
from models.catalog import load_manifest
from models.errors import ManifestError
from models.manifest import ModelManifest
from models.skeletons import COCO17, SKELETONS

_TIMED_FRAMES = 40
"""Our choice: p95 is then the third longest, and a network of 50 ms takes two seconds."""
_TIMED_PICTURES = 20
"""That many pictures are kept in memory to be timed, again and again if they are fewer."""
_RESIZE = STAGES.index("resize")


@dataclass(frozen=True, slots=True)
class Trial:
    """A network as it is to be evaluated."""

    model: str
    device: str | None = None
    """Device or kind; None takes the first accelerator found."""
    precision: Precision | None = None
    """None: f32 where the accelerator has it; else its fastest."""
    size: tuple[int, int] | None = None
    """Input ``(width, height)`` in pixels; None: the network's own."""


@dataclass(frozen=True, slots=True)
class Milliseconds:
    """Wall time of one frame alone in one lane."""

    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How right and how fast a network is."""

    model: str
    accelerator: AcceleratorInfo
    precision: Precision
    size: tuple[int, int]
    found: tuple[Found, ...]
    """Of each picture."""
    score: Score
    infer: Milliseconds
    total: Milliseconds
    """Resizing, inference and grouping; neither reading the picture nor publishing."""
    reference: Score | None = None
    """Of the same network and size in f32 on the CPU; its own where that is what it is."""

    @property
    def is_reference(self) -> bool:
        """Whether others are compared with it."""
        return self.accelerator.kind == "cpu" and self.precision == "f32"

    @property
    def size_text(self) -> str:
        """The input size as ``--size`` takes it."""
        return f"{self.size[0]}x{self.size[1]}"


class OpenTrial:
    """A network that is loaded; made by `open_trial`."""

    def __init__(self, model: LoadedModel, accelerator: AcceleratorInfo) -> None:
        self._model = model
        self._accelerator = accelerator
        self._order = _coco_order(model.manifest)

    @property
    def precision(self) -> Precision:
        """What the accelerator really computes in."""
        return self._model.precision

    def evaluate(
        self, truth: Annotations, advance: Callable[[], None], *, pck_only: bool = False
    ) -> Evaluation:
        """Run it over all pictures; ``advance`` is called after each.

        Raises:
            InputError: a picture has another size than its annotations say.
            StreamError: a picture cannot be read.
            AcceleratorLost: the accelerator stopped answering.
        """
        found: list[Found] = []
        kept: list[Pixels] = []
        results = in_order(truth.pictures, self._model.lanes, self._find)
        try:
            for pixels, each in results:
                found.append(each)
                if len(kept) < _TIMED_PICTURES:
                    kept.append(pixels)
                advance()
        finally:
            results.close()
        infer, total = _time(self._model.lanes[0], kept)
        made = Evaluation(
            self._model.manifest.name, self._accelerator, self._model.precision, self._model.size,
            tuple(found), score(truth.pictures, found, pck_only=pck_only), infer, total,
        )  # fmt: skip
        return replace(made, reference=made.score) if made.is_reference else made

    def _find(self, picture: Picture, lane: PoseLane) -> tuple[Pixels, Found]:
        pixels = read_picture(picture.path, "rgb")
        size = (pixels.shape[1], pixels.shape[0])
        if size != picture.size:
            raise InputError(
                f"picture {picture.path} is {size[0]}x{size[1]}, its annotations are of "
                f"{picture.size[0]}x{picture.size[1]}",
                hint="evaluate on the pictures that were annotated, not on resized ones",
            )
        poses = lane.poses(lane.run_pixels(pixels))
        best = slice(MAX_POSES)
        return pixels, Found(poses.scores[best], poses.keypoints[best][:, self._order])


@contextmanager
def open_trial(trial: Trial, progress: Progress) -> Iterator[OpenTrial]:
    """Fetch, convert and load a network for as long as the context lasts.

    Raises:
        ModelError: the network cannot be had, does not take the size, or its keypoints are not
            COCO's.
        AcceleratorError: no such device, or it refuses the network.
    """
    manifest = load_manifest(trial.model)
    _coco_order(manifest)
    with ExitStack() as stack:
        accelerator = find_accelerator(trial.device)
        device = load_driver(accelerator.driver).open(accelerator.device)
        stack.callback(device.close)
        precision = trial.precision or ("f32" if "f32" in accelerator.precisions else None)
        model = load_model(
            device, manifest, size=trial.size, precision=precision, progress=progress
        )
        stack.callback(model.close)
        yield OpenTrial(model, accelerator)


def reference_of(trial: Trial) -> Trial:
    """Return the trial that others of the same network and size are compared with."""
    return replace(trial, device="CPU", precision="f32")


def with_references(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Compare each with the reference of its network and size, where that is among them."""
    references = {(each.model, each.size): each.score for each in evaluations if each.is_reference}
    return [
        replace(each, reference=references.get((each.model, each.size))) for each in evaluations
    ]


def _coco_order(manifest: ModelManifest) -> NDArray[np.intp]:
    """Return where each keypoint of COCO is among those of a network.

    Raises:
        ManifestError: it has not all of them.
    """
    names = SKELETONS[manifest.skeleton].keypoints
    absent = [name for name in COCO17.keypoints if name not in names]
    if absent:
        raise ManifestError(
            f"{manifest.name} does not find {', '.join(absent)}",
            hint="only networks with all keypoints of COCO can be evaluated",
        )
    return np.array([names.index(name) for name in COCO17.keypoints], np.intp)


def _time(lane: PoseLane, pictures: Sequence[Pixels]) -> tuple[Milliseconds, Milliseconds]:
    """Return the times of inference and of the whole frame."""
    infer, total = [], []
    for pixels in islice(cycle(pictures), _TIMED_FRAMES):
        lane.run_pixels(pixels)
        infer.append(lane.infer_s * 1000)
        total.append(sum(lane.durations_s[_RESIZE:]) * 1000)
    return _percentiles(infer), _percentiles(total)


def _percentiles(values: list[float]) -> Milliseconds:
    ordered = sorted(values)
    return Milliseconds(nearest_rank(ordered, 50), nearest_rank(ordered, 95))
