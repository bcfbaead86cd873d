"""8-bit weights and activations by NNCF, after training: a calibration set says what values occur.

``nncf`` comes with the extra ``posefleet[convert]``; without it, this module does not import.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import nncf
import numpy as np
from numpy.typing import NDArray

from models.errors import ConversionError
from models.manifest import InputSpec

_HEAD = ("Convolution", "GroupConvolution", "MatMul")


def quantize(
    model: Any, samples: Iterable[NDArray[Any]], count: int, *, heads: bool
) -> Any:
    """Return an OpenVINO model whose convolutions compute in 8 bits.

    Args:
        model: an ``openvino.Model`` with a fixed shape; unchanged.
        samples: inputs as the network takes them, ``(1, height, width, 3)``; read several times.
        count: how many there are.
        heads: also the last convolution before each output; else they stay float.

    Raises:
        ConversionError: NNCF cannot quantize this network.
    """
    ignored = None if heads else nncf.IgnoredScope(names=sorted(set(_last_layers(model))))
    try:
        with _quiet():
            return nncf.quantize(
                model,
                nncf.Dataset(samples),
                subset_size=count,
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=ignored,
            )
    except (nncf.ValidationError, nncf.InternalError, RuntimeError) as error:
        raise ConversionError(f"NNCF cannot quantize {model.friendly_name}: {error}") from error


def as_input(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[Any]:
    """Return what a network takes of ``(height, width, 3)`` RGB pixels of its input size."""
    ordered = pixels[..., ::-1] if spec.color == "bgr" else pixels
    if spec.dtype != "float32":
        return np.ascontiguousarray(ordered[None].astype(spec.dtype))
    mean, scale = np.array(spec.mean, np.float32), np.array(spec.scale, np.float32)
    return (ordered[None].astype(np.float32) - mean) / scale


def _last_layers(model: Any) -> Iterator[str]:
    """Yield the name of the convolution that each output comes from, through whatever lies between.
    """
    for result in model.get_results():
        node = result.input_value(0).get_node()
        while node.get_type_name() not in _HEAD:
            if not node.get_input_size():
                break
            node = node.input_value(0).get_node()
        else:
            yield str(node.get_friendly_name())
