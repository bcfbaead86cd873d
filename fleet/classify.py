"""A classification network on this machine: pictures in, scores of its outputs out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.accelerators import load_driver
from agents.accelerators.base import Lane, NetworkFile, Precision
from agents.probe import find_accelerator
from agents.streams.images import read_picture
from agents.wire.messages import AcceleratorInfo
from models.artifacts import Progress, ensure_files, model_files
from models.convert.openvino_ir import ensure_ir
from models.decoders.classify import Label, rank, read_labels
from models.errors import ManifestError
from models.manifest import ModelManifest
from models.preprocess import Preprocessor

SCORES = "scores"
"""Role of the output that `rank` reads."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A loaded network; one thread at a time."""

    manifest: ModelManifest
    accelerator: AcceleratorInfo
    precision: Precision
    labels: Sequence[str]
    files: Mapping[str, Path]
    """The published files of the network, by their path in the manifest."""
    _lane: Lane
    _preprocessor: Preprocessor

    def run(self, picture: Path) -> Mapping[str, NDArray[np.float32]]:
        """Return a copy of every output for a picture, by role.

        Raises:
            StreamRefused: the picture cannot be read.
            AcceleratorLost: the accelerator stopped answering.
        """
        pixels = read_picture(picture, self.manifest.input.color)
        self._preprocessor.prepare(pixels, self._lane.input)
        self._lane.start()
        self._lane.wait()
        return {role: output.copy() for role, output in self._lane.outputs.items()}

    def classify(self, picture: Path) -> tuple[Label, ...]:
        """Return every label of the network, the likeliest first."""
        return rank(self.run(picture)[SCORES], self.labels)


@contextmanager
def open_classifier(
    manifest: ModelManifest, device: str | None, precision: Precision | None, progress: Progress
) -> Iterator[Classifier]:
    """Fetch, convert and load a network; without a precision in f32 where the device has it.

    Raises:
        ManifestError: the network does not classify.
        ModelError: it cannot be had.
        AcceleratorError: no such device, or it refuses the network.
    """
    if manifest.task != "classify":
        raise ManifestError(
            f"{manifest.name} finds poses, it does not classify", hint="use `fleet infer`"
        )
    accelerator = find_accelerator(device)
    converted = ensure_ir(manifest, progress)
    files = ensure_files(model_files(manifest), progress)
    labels = read_labels(files[manifest.labels_file.path].read_text(encoding="utf-8"))
    given = manifest.input
    size = (given.width, given.height)
    network = NetworkFile(converted.path, size, given.mean, given.scale, converted.outputs)
    with ExitStack() as stack:
        opened = load_driver(accelerator.driver).open(accelerator.device)
        stack.callback(opened.close)
        wanted = precision or ("f32" if "f32" in accelerator.precisions else None)
        session = opened.load(network, precision=wanted, lanes=1)
        stack.callback(session.close)
        yield Classifier(
            manifest, accelerator, session.precision, labels, files, session.lanes[0],
            Preprocessor(size, keep_aspect=given.keep_aspect),
        )  # fmt: skip
