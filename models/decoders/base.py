"""The Decoder protocol: output tensors of one frame -> poses in input pixels."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.poses import PoseBuffer
from models.skeletons import Skeleton

Outputs = Mapping[str, NDArray[np.float32]]
"""Role of the output (as the manifest names it) -> tensor without its batch axis."""


class Decoder(Protocol):
    """Turn the outputs of one frame into poses; one instance a lane, not shared between threads."""

    skeleton: Skeleton
    capacity: int
    """Most persons a frame may hold; the size of the `PoseBuffer` it writes."""

    def decode(self, outputs: Outputs, into: PoseBuffer) -> None:
        """Write the persons of one frame, best first, in input pixels.

        Raises:
            DecodeError: an output is missing or its shape does not fit.
        """
        ...

    def warm(self) -> None:
        """Compile whatever is compiled on first use, so that no frame pays for it."""
        ...


class DecoderFactory(Protocol):
    """What a `DECODERS` entry names: builds a decoder for one network at one output stride."""

    def __call__(self, skeleton: Skeleton, stride: int, options: Mapping[str, Any]) -> Decoder:
        """Raise `ManifestError` for options that the decoder does not know."""
        ...
