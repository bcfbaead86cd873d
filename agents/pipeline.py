"""One frame through convert -> resize -> infer -> group, with a duration for each stage.

A `PoseLane` belongs to one thread. Nothing is copied between the stages: the frame is resized
straight into the request's own memory, and the decoder reads the request's own outputs.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agents.accelerators.base import Accelerator, Lane, NetworkFile, Precision, Session
from agents.streams.base import Frame, Pixels
from agents.wire.poses import STAGES as REPORTED_STAGES
from models.artifacts import Progress, silent
from models.convert.openvino_ir import ensure_ir
from models.decoders import make_decoder
from models.decoders.base import Decoder
from models.errors import ManifestError
from models.geometry import ImageTransform
from models.manifest import ModelManifest
from models.poses import PoseBuffer, PoseSet
from models.preprocess import Preprocessor

STAGES = REPORTED_STAGES[: REPORTED_STAGES.index("encode")]
"""Stages of a frame in a lane, in order; ``wait`` is the time in the slot. Packing and tracking
follow."""


class PoseLane:
    """One request of a session with everything a frame needs on its way through it."""

    def __init__(
        self,
        lane: Lane,
        preprocessor: Preprocessor,
        decoder: Decoder,
        color: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        """Take what one lane needs; `color` is the order of the network's channels."""
        self._lane = lane
        self._color = color
        self._preprocessor = preprocessor
        self._decoder = decoder
        self.skeleton = decoder.skeleton
        self.buffer = PoseBuffer(decoder.capacity, len(decoder.skeleton.keypoints))
        """The poses of the last frame, in input pixels."""
        self.durations_s = [0.0] * len(STAGES)
        """Wall seconds of each stage of `STAGES` for the last frame."""

    def run(self, frame: Frame) -> ImageTransform:
        """Find the poses of one frame; they lie in `buffer`, in input pixels.

        Returns:
            The transform that maps `buffer` back to the frame.

        Raises:
            AcceleratorLost: the accelerator stopped answering.
            DecodeError: its outputs do not fit the decoder.
        """
        taken = time.monotonic()
        pixels = frame.pixels(self._color)
        converted = time.monotonic()
        transform = self._run(pixels, self._color)
        self.durations_s[0] = taken - frame.captured_monotonic
        self.durations_s[1] = converted - taken
        return transform

    def run_pixels(self, pixels: Pixels) -> ImageTransform:
        """Find the poses of one picture, ``(height, width, 3)`` RGB."""
        return self._run(pixels, "rgb")

    def _run(self, pixels: Pixels, color: Literal["rgb", "bgr"]) -> ImageTransform:
        durations = self.durations_s
        start = time.monotonic()
        transform = self.prepare(pixels)
        if color != self._color:  # a picture; frames of streams come as the network wants them
            self._lane.input[:] = self._lane.input[..., ::-1].copy()
        resized = time.monotonic()
        self.infer()
        inferred = time.monotonic()
        self.group()
        durations[2] = resized - start
        durations[3] = inferred - resized
        durations[4] = time.monotonic() - inferred
        return transform

    @property
    def infer_s(self) -> float:
        """Wall seconds of the last inference."""
        return self.durations_s[STAGES.index("infer")]

    def warm(self) -> None:
        """Run one black picture through, so that no frame pays for what happens only once."""
        self._decoder.warm()
        height, width = self._lane.input.shape[:2]
        self.run_pixels(np.zeros((height, width, 3), np.uint8))

    def prepare(self, pixels: Pixels) -> ImageTransform:
        """Resize a picture straight into the request's own memory; its colors stay as they are."""
        return self._preprocessor.prepare(pixels, self._lane.input)

    def infer(self) -> None:
        """Run the network on what `prepare` wrote, without holding the interpreter lock."""
        self._lane.start()
        self._lane.wait()

    def group(self) -> None:
        """Decode the request's own outputs into `buffer`."""
        self._decoder.decode(self._lane.outputs, self.buffer)

    def poses(self, transform: ImageTransform) -> PoseSet:
        """Copy the poses of the last frame out of `buffer`, in frame pixels."""
        count = self.buffer.count
        return PoseSet(
            self._decoder.skeleton,
            self.buffer.scores[:count].copy(),
            transform.to_frame(self.buffer.keypoints[:count]),
        )


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A pose network on an accelerator, warm, with its lanes."""

    manifest: ModelManifest
    size: tuple[int, int]
    """Input ``(width, height)`` in pixels."""
    session: Session
    lanes: Sequence[PoseLane]

    @property
    def precision(self) -> Precision:
        """What the accelerator really computes in."""
        return self.session.precision

    def close(self) -> None:
        """Unload the network."""
        self.session.close()


def load_model(
    accelerator: Accelerator,
    manifest: ModelManifest,
    *,
    size: tuple[int, int] | None = None,
    precision: Precision | None = None,
    lanes: int | None = None,
    progress: Progress = silent,
) -> LoadedModel:
    """Fetch, convert and load a network; returns when the first frame will run at full speed.

    Raises:
        ModelError: the network cannot be had, or does not take this size.
        AcceleratorError: it does not run on this accelerator.
    """
    if manifest.task != "pose":
        raise ManifestError(
            f"{manifest.name} finds no poses, it classifies pictures",
            hint="use `fleet models classify`",
        )
    size = size or (manifest.input.width, manifest.input.height)
    manifest.input.check_size(*size)
    files = ensure_ir(manifest, progress)
    network = NetworkFile(
        path=files.path,
        size=size,
        mean=manifest.input.mean,
        scale=manifest.input.scale,
        outputs=files.outputs,
    )
    session = accelerator.load(network, precision=precision, lanes=lanes)
    try:
        made = [
            PoseLane(
                lane,
                Preprocessor(size, keep_aspect=manifest.input.keep_aspect),
                make_decoder(
                    manifest.decoder.name,
                    manifest.skeleton,
                    manifest.stride,
                    manifest.decoder.options,
                ),
                manifest.input.color,
            )
            for lane in session.lanes
        ]
        for lane in made:
            lane.warm()
    except BaseException:
        session.close()
        raise
    return LoadedModel(manifest, size, session, made)
