"""PoseNetDecoder: the outputs of a PoseNet -> poses; checks them, `posenet_kernel` does the work.

Coordinates: the center of cell ``(y, x)`` is pixel ``(y * stride, x * stride)`` of the network's
input, where pixel centers are integers (see `models.geometry`). There is no half-cell shift: its
inputs are ``k * stride + 1`` wide and its convolutions pad both sides alike. So a keypoint is at
``cell * stride + offset``. That is not clipped: it may lie outside the input.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.decoders.base import Outputs
from models.decoders.checks import check_buffer, checked_map, checked_options
from models.decoders.posenet_kernel import (
    EDGES,
    KEYPOINTS,
    Maps,
    Scratch,
    Settings,
    compile_group,
    make_scratch,
)
from models.errors import DecodeError, ManifestError
from models.poses import PoseBuffer
from models.skeletons import COCO17, Skeleton

CHANNELS = {
    "heatmap": KEYPOINTS,
    "offset": 2 * KEYPOINTS,
    "displacement_forward": 2 * len(EDGES),
    "displacement_backward": 2 * len(EDGES),
}
"""Role of each output -> its channels. Heatmaps are logits; of the others, the first half of the
channels is y, the second x, in input pixels."""


class PoseNetOptions(BaseModel):
    """What a manifest may set; thresholds and radius as in the published PoseNet demos."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    max_poses: int = Field(default=100, ge=1, le=1000)
    """Most persons a frame may hold."""
    score_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Lowest keypoint score that a person is started from."""
    nms_radius: float = Field(default=20.0, ge=0)
    """Input pixels within which two equal keypoints are one."""
    min_pose_score: float = Field(default=0.25, ge=0, le=1)
    """Lowest pose score: mean of the keypoint scores, those of earlier persons counting 0."""
    max_candidates: int = Field(default=1700, ge=1)
    """Most peaks that are tried, the highest first: bounds the time of a frame of noise. 100 people
    with all their keypoints have 1700."""
    refinements: int = Field(default=0, ge=0, le=5)
    """How often a keypoint's position is looked up again from where its offset led. 0 is what
    posenet-python does, 1 what the TensorFlow.js package does (its offset refine step 2), 5
    what Coral's PosenetDecoderOp does."""
    sampling: Literal["nearest", "linear"] = "nearest"
    """Where maps are read at a position: the nearest cell, as posenet-python and the TensorFlow.js
    package do, or linearly between the four around it, as Coral's PosenetDecoderOp does."""


class PoseNetDecoder:
    """Find all persons by greedy decoding from the highest keypoints (PersonLab, arXiv:1803.08225).

    A value that is not a number is never a keypoint: what cannot be found has score 0 at (0, 0).
    """

    def __init__(self, skeleton: Skeleton, stride: int, options: Mapping[str, Any]) -> None:
        """Check the options; nothing is compiled yet.

        Raises:
            ManifestError: a skeleton other than COCO's, a stride below 1, or options that are
                unknown or out of range.
        """
        if skeleton.keypoints != COCO17.keypoints:
            raise ManifestError(
                f"the posenet decoder cannot fill skeleton {skeleton.name!r}",
                hint=f"PoseNet has the keypoints of {COCO17.name!r}",
            )
        if stride < 1:
            raise ManifestError(
                f"output stride {stride} is not positive",
                hint="published PoseNets have 8, 16 or 32",
            )
        settings = checked_options("posenet", PoseNetOptions, options)
        self.skeleton = skeleton
        self.capacity = settings.max_poses
        threshold = settings.score_threshold
        self._settings: Settings = (
            math.log(threshold / (1 - threshold)),
            float(stride),
            settings.nms_radius**2,
            settings.min_pose_score,
            settings.max_candidates,
            settings.refinements,
            int(settings.sampling == "linear"),
        )
        self._map_size = (0, 0)
        self._scratch: Scratch = make_scratch(0, 0, self.capacity)

    def decode(self, outputs: Outputs, into: PoseBuffer) -> None:
        """Write the persons of one frame, best first, in input pixels.

        Allocates when the size of the maps changes, and copies tensors that are not C-contiguous.

        Raises:
            DecodeError: an output is missing, has another shape or type than `CHANNELS` says, or
                the buffer is too small.
        """
        check_buffer(into, self.capacity, KEYPOINTS)
        maps = _maps(outputs)
        map_size = maps[0].shape[:2]
        if map_size != self._map_size:
            height, width = map_size
            self._scratch = make_scratch(height, width, self.capacity)
            self._map_size = map_size
        into.count = compile_group()(
            maps, self._settings, self._scratch, into.keypoints, into.scores
        )

    def warm(self) -> None:
        """Compile the kernel or load it from its cache: seconds, once a process."""
        compile_group()


def _maps(outputs: Outputs) -> Maps:
    """Return the four tensors in the order of `CHANNELS`, as the kernel needs them."""
    heatmap = checked_map(outputs, "heatmap", CHANNELS)
    offset = checked_map(outputs, "offset", CHANNELS)
    forward = checked_map(outputs, "displacement_forward", CHANNELS)
    backward = checked_map(outputs, "displacement_backward", CHANNELS)
    size = heatmap.shape[:2]
    if not offset.shape[:2] == forward.shape[:2] == backward.shape[:2] == size or 0 in size:
        sizes = ", ".join(f"{role} {outputs[role].shape[:2]}" for role in CHANNELS)
        raise DecodeError(f"the outputs are not maps of one size: {sizes}")
    return heatmap, offset, forward, backward
