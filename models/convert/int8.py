"""8-bit weights and activations by NNCF, after training: pictures say what values occur.

``nncf`` comes with the extra ``posefleet[convert]``; without it, this module does not import.
"""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

import nncf
import numpy as np
from numpy.typing import NDArray

from models.errors import ConversionError
from models.manifest import InputSpec

Pixels = NDArray[np.uint8]


def quantize(model: Any, pictures: Sequence[Pixels], spec: InputSpec) -> Any:
    """Return an OpenVINO model whose convolutions compute in 8 bits, all of them.

    PoseNet 075 at 481x353, 60 pictures, AP on 45 others: .251 (f32: .255), .250 with the heads left
    float, .246 with the first convolution float as well, .252 with the slow bias correction, which
    takes four times as long. So nothing is left out.

    Args:
        model: an ``openvino.Model`` with a fixed shape.
        pictures: ``(height, width, 3)`` RGB of the network's input size.
        spec: what the network takes.

    Raises:
        ConversionError: NNCF cannot quantize this network.
    """
    nncf.set_log_level(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):  # its progress bars
            return nncf.quantize(
                model,
                nncf.Dataset(_Samples(pictures, spec)),
                subset_size=len(pictures),
                preset=nncf.QuantizationPreset.MIXED,
            )
    except (nncf.ValidationError, nncf.InternalError, RuntimeError) as error:
        raise ConversionError(f"NNCF cannot quantize {model.friendly_name}: {error}") from error


class _Samples:
    """Makes floats of pictures when they are asked for: four times the memory."""

    def __init__(self, pictures: Sequence[Pixels], spec: InputSpec) -> None:
        self._pictures = pictures
        self._spec = spec

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (as_input(pixels, self._spec) for pixels in self._pictures)


def as_input(pixels: Pixels, spec: InputSpec) -> NDArray[Any]:
    """Return ``(1, height, width, 3)`` as a network takes it, of RGB pixels of its input size."""
    ordered = pixels[None, ..., ::-1] if spec.color == "bgr" else pixels[None]
    if spec.dtype != "float32":
        return np.ascontiguousarray(ordered, spec.dtype)
    mean, scale = np.array(spec.mean, np.float32), np.array(spec.scale, np.float32)
    return (ordered.astype(np.float32) - mean) / scale
