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

_CONVOLUTIONS = ("Convolution", "GroupConvolution")


def quantize(model: Any, pictures: Sequence[Pixels], spec: InputSpec) -> Any:
    """Return an OpenVINO model whose convolutions compute in 8 bits, but for those of the heads.

    PoseNet 075 at 481x353, calibrated with 60 pictures of COCO. On others, mean OKS with f32 (243
    people) and AP (45 pictures, .255 in f32): .915 and .254 as it is done here; .913 and .252 with
    the heads in 8 bits too (PoseNet 100: .943 instead of .955); .885 and .250 with the fast bias
    correction, which takes a quarter of the 15 s; .869 and .246 with that and the first
    convolution float as well.

    Args:
        model: an ``openvino.Model`` with a fixed shape.
        pictures: ``(height, width, 3)`` RGB of the network's input size.
        spec: what the network takes.

    Raises:
        ConversionError: NNCF cannot quantize this network.
    """
    # Not nncf.set_log_level: it also changes the handlers of everybody else.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):  # its progress bars
            return nncf.quantize(
                model,
                nncf.Dataset(_Samples(pictures, spec)),
                subset_size=len(pictures),
                preset=nncf.QuantizationPreset.MIXED,
                fast_bias_correction=False,
                ignored_scope=nncf.IgnoredScope(names=sorted(set(_heads(model)))),
            )
    except (nncf.ValidationError, nncf.InternalError, RuntimeError) as error:
        raise ConversionError(f"NNCF cannot quantize {model.friendly_name}: {error}") from error


def _heads(model: Any) -> Iterator[str]:
    """Yield the names of the convolutions that the outputs come from."""
    for result in model.get_results():
        node = result.input_value(0).get_node()
        while node.get_type_name() not in _CONVOLUTIONS and node.get_input_size():
            node = node.input_value(0).get_node()
        if node.get_type_name() in _CONVOLUTIONS:
            yield node.get_friendly_name()


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
