"""OpenPoseDecoder: heatmaps and part affinity fields -> poses; `openpose_kernel` does the work.

Coordinates: training maps put the center of cell ``(y, x)`` at pixel ``cell * stride + stride / 2
- .5`` of the network's input, where pixel centers are integers (see `models.geometry`); a pixel
``p`` of the maps upsampled 4 times is at ``(p + .5) * stride / 4 - .5``, which is the same point.
Nothing is clipped to the input.

Scores: a keypoint's is the height of its peak, at most 1. A person's is the sum of its keypoints'
scores and its limbs' affinities over the most there can be, 18 + 17: what is missing counts 0.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from models.decoders.base import Outputs
from models.decoders.checks import check_buffer, checked_map, checked_options
from models.decoders.openpose_kernel import Maps, Scratch, Settings, compile_group, make_scratch
from models.decoders.openpose_peaks import CHANNELS as HEATMAPS
from models.decoders.openpose_peaks import FIELDS
from models.decoders.openpose_pixels import UPSAMPLING
from models.errors import DecodeError, ManifestError
from models.poses import PoseBuffer
from models.skeletons import OPENPOSE18, Skeleton

CHANNELS = {"heatmap": HEATMAPS, "paf": 2 * FIELDS}
"""Role of each output -> its channels; of an affinity field x comes first, then y."""


class OpenPoseOptions(BaseModel):
    """What a manifest may set; thresholds as in lightweight-human-pose-estimation.pytorch."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    mode: Literal["fast", "reference"] = "fast"
    """``fast`` looks for peaks on the maps as they are and refines them; ``reference`` gives the
    result of that project on maps upsampled 4 times, with its two defects below."""
    keep: Literal["leftmost", "highest"] = "leftmost"
    """Which of the peaks within 6 pixels of the upsampled maps stays, in ``reference`` mode. The
    reference's defect: the leftmost, whatever its score; ``highest`` repairs it."""
    merge_fragments: bool | None = None
    """Whether a limb from shoulder to ear joins two persons that share no keypoint. The reference's
    defect: it gives both of them the other's keypoint, so one person is found as several. By
    default only ``fast`` merges."""
    max_poses: int = Field(default=100, ge=1, le=1000)
    """Most persons a frame may hold."""
    score_threshold: float = Field(default=0.1, gt=0, lt=1)
    """Lowest height of a peak."""
    affinity_threshold: float = Field(default=0.05, ge=0, lt=1)
    """What the field must say at least, in the direction of the limb, at a point that passes."""
    min_keypoints: int = Field(default=3, ge=1, le=18)
    """Fewest keypoints of a person, the neck included."""
    min_mean_score: float = Field(default=0.2, ge=0)
    """Lowest sum of scores over number of keypoints."""
    max_candidates: int = Field(default=64, ge=1, le=1000)
    """Most peaks of each keypoint, the highest: bounds the time of a frame of noise."""


class OpenPoseDecoder:
    """Find all persons by greedy matching of limbs, one kind after the other (arXiv:1611.08050).

    A value that is not a number is never a peak and never passes; a keypoint that cannot be found
    has score 0 at (0, 0).
    """

    def __init__(self, skeleton: Skeleton, stride: int, options: Mapping[str, Any]) -> None:
        """Check the options; nothing is compiled yet.

        Args:
            skeleton: of the poses; its keypoints, by name, are some of OpenPose's.
            stride: input pixels a cell of the maps.
            options: see `OpenPoseOptions`.

        Raises:
            ManifestError: a skeleton with a keypoint that OpenPose has not, a stride below 1, or
                options that are unknown or out of range.
        """
        unknown = [name for name in skeleton.keypoints if name not in OPENPOSE18.keypoints]
        if unknown:
            raise ManifestError(
                f"the openpose decoder cannot fill skeleton {skeleton.name!r}: no {unknown[0]!r}",
                hint=f"OpenPose has the keypoints of {OPENPOSE18.name!r}",
            )
        if stride < 1:
            raise ManifestError(
                f"output stride {stride} is not positive", hint="published OpenPoses have 8"
            )
        checked = checked_options("openpose", OpenPoseOptions, options)
        self.skeleton = skeleton
        self.capacity = checked.max_poses
        self._options = checked
        is_fast = checked.mode == "fast"
        merges = is_fast if checked.merge_fragments is None else checked.merge_fragments
        self._settings: Settings = (
            checked.score_threshold,
            checked.affinity_threshold,
            stride / (1 if is_fast else UPSAMPLING),
            checked.min_mean_score,
            checked.min_keypoints,
            checked.max_candidates,
            checked.keep == "leftmost",
            merges,
        )
        self._targets = np.array([OPENPOSE18.keypoints.index(k) for k in skeleton.keypoints])
        self._map_size = (1, 1)
        self._scratch = self._make_scratch()

    def decode(self, outputs: Outputs, into: PoseBuffer) -> None:
        """Write the persons of one frame, best first, in input pixels.

        Allocates when the size of the maps changes, and copies tensors that are not C-contiguous.

        Raises:
            DecodeError: an output is missing, has another shape or type than `CHANNELS` says, or
                the buffer is too small.
        """
        check_buffer(into, self.capacity, len(self._targets))
        maps = _maps(outputs)
        map_size = maps[0].shape[:2]
        if map_size != self._map_size:
            self._map_size = map_size
            self._scratch = self._make_scratch()
        output = self._targets, into.keypoints, into.scores
        group = compile_group(self._options.mode)
        into.count = group(maps, self._settings, self._scratch, output)

    def warm(self) -> None:
        """Compile the kernel or load it from its cache: seconds, once a process."""
        compile_group(self._options.mode)

    def _make_scratch(self) -> Scratch:
        height, width = self._map_size
        options = self._options
        return make_scratch(options.mode, height, width, options.max_candidates, self.capacity)


def _maps(outputs: Outputs) -> Maps:
    """Return the two tensors as the kernel needs them."""
    heatmap, paf = checked_map(outputs, "heatmap", CHANNELS), checked_map(outputs, "paf", CHANNELS)
    if paf.shape[:2] != heatmap.shape[:2] or 0 in heatmap.shape:
        raise DecodeError(
            f"the outputs are not maps of one size: heatmap {heatmap.shape[:2]}, "
            f"paf {paf.shape[:2]}"
        )
    return heatmap, paf
