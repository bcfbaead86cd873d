"""What a network can be converted to, and what this environment lacks for it; imports nothing."""

import importlib.util
import shutil
from dataclasses import dataclass
from typing import Literal

from models.errors import ConversionError
from models.manifest import ModelManifest

Target = Literal["ir", "ir-v10", "onnx", "tflite", "edgetpu"]
Precision = Literal["f32", "f16", "int8"]

PRECISIONS: dict[Target, tuple[Precision, ...]] = {
    "ir": ("f16", "f32", "int8"),
    "ir-v10": ("f16", "f32"),
    "onnx": ("f32", "f16"),
    "tflite": ("int8",),
    "edgetpu": ("int8",),
}
"""What can be written, the usual one first."""
EDGETPU_COMPILER = "edgetpu_compiler"
_CORAL = "posenet-coral-075-int8"


@dataclass(frozen=True, slots=True)
class Order:
    """A conversion that was asked for."""

    target: Target
    precision: Precision
    size: tuple[int, int] | None
    """Input ``(width, height)`` in pixels; None: any, where the target allows it."""


def order(
    manifest: ModelManifest,
    target: Target,
    precision: Precision | None = None,
    size: tuple[int, int] | None = None,
) -> Order:
    """Return the order in full; everything that can be known before any work is checked.

    Only `ir` in f32 or f16 can leave the size open.

    Raises:
        ConversionError: the target is not written in this precision or of this network, or a
            library or tool for it is missing; the hint says how to get it.
        ManifestError: the network does not take this size.
    """
    if target in ("tflite", "edgetpu"):
        _require_tflite(manifest, target)
    chosen = precision or PRECISIONS[target][0]
    if chosen not in PRECISIONS[target]:
        raise ConversionError(
            f"{target} is not written in {chosen}", hint=f"use {' or '.join(PRECISIONS[target])}"
        )
    if size is not None:
        manifest.input.check_size(*size)
    elif target != "ir" or chosen == "int8":
        size = (manifest.input.width, manifest.input.height)
    if chosen == "int8" and target == "ir":
        _require_library("nncf")
    if target == "onnx":
        _require_library("onnx")
    return Order(target, chosen, size)


def _require_library(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise ConversionError(
            f"this needs {name}, which this environment lacks",
            hint="pip install 'posefleet[convert]'",
        )


def _require_tflite(manifest: ModelManifest, target: Target) -> None:
    """Only networks that are published as TFLite: all writers of it are parts of TensorFlow."""
    if manifest.needs == "edgetpu":
        raise ConversionError(
            f"{manifest.name} is compiled for the Edge TPU already",
            hint=f"`fleet models pull {manifest.name}` fetches it",
        )
    if manifest.format != "tflite":
        ready = "posenet-coral-075-edgetpu" if target == "edgetpu" else _CORAL
        raise ConversionError(
            f"{manifest.name} cannot be written as TFLite here: that takes TensorFlow's own "
            "converter",
            hint=f"take {ready}, or run `fleet models convert {manifest.name} --to onnx` and give "
            "the .onnx to onnx2tf (`pip install onnx2tf` in an environment of its own, with "
            "TensorFlow; `onnx2tf -i FILE -oiqt` quantizes to 8 bits)",
        )
    if target == "edgetpu" and shutil.which(EDGETPU_COMPILER) is None:
        raise ConversionError(
            f"this needs {EDGETPU_COMPILER}, which is not on the PATH",
            hint="Google publishes it for Debian on x86_64: "
            "https://coral.ai/docs/edgetpu/compiler/#download. Or take the network that is "
            "compiled already, posenet-coral-075-edgetpu",
        )
