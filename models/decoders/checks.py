"""What every decoder checks the same way: its options, its tensors, the buffer it writes."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from models.decoders.base import Outputs
from models.errors import DecodeError, ManifestError
from models.poses import PoseBuffer

_Options = TypeVar("_Options", bound=BaseModel)


def checked_options(decoder: str, schema: type[_Options], options: Mapping[str, Any]) -> _Options:
    """Return the options of a manifest as the decoder's own type.

    Raises:
        ManifestError: one is unknown or out of range; all are named.
    """
    try:
        return schema.model_validate(dict(options))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        raise ManifestError(
            f"bad options of the {decoder} decoder: {faults}",
            hint=f"known: {', '.join(schema.model_fields)}",
        ) from None


def checked_map(outputs: Outputs, role: str, channels: Mapping[str, int]) -> NDArray[np.float32]:
    """Return one output ``(height, width, channels[role])``, C-contiguous and aligned.

    Copies only what is not. Raises:
        DecodeError: it is missing, or of another shape or type.
    """
    tensor = outputs.get(role)
    if tensor is None:
        raise DecodeError(
            f"output {role!r} is missing", hint=f"the manifest must name {', '.join(channels)}"
        )
    if tensor.ndim != 3 or tensor.shape[2] != channels[role] or tensor.dtype != np.float32:
        raise DecodeError(
            f"output {role!r} is {tensor.dtype} {tensor.shape}",
            hint=f"it should be float32 (height, width, {channels[role]})",
        )
    flags = tensor.flags
    return tensor if flags.c_contiguous and flags.aligned else np.require(tensor, None, ["C", "A"])


def check_buffer(into: PoseBuffer, capacity: int, keypoint_count: int) -> None:
    """Raise `DecodeError` unless the buffer has room for so many persons and keypoints."""
    if len(into.scores) < capacity or into.keypoints.shape[1:] != (keypoint_count, 3):
        raise DecodeError(
            f"the pose buffer has room for {into.keypoints.shape[:2]} (persons, keypoints)",
            hint=f"make it PoseBuffer({capacity}, {keypoint_count})",
        )
