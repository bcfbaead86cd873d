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
    "tflite": ("f32", "int8"),
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
    is_published = manifest.format == "tflite" and target in ("tflite", "edgetpu")
    chosen = precision or ("int8" if is_published else PRECISIONS[target][0])
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
    if target == "tflite" and chosen == "f32":
        _require_library("ai_edge_litert")
    if target in ("tflite", "edgetpu") and chosen == "int8":
        _require_published(manifest, target)
    return Order(target, chosen, size)


def _require_library(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise ConversionError(
            f"this needs {name}, which this environment lacks",
            hint="pip install 'posefleet[convert]'",
        )


def _require_published(manifest: ModelManifest, target: Target) -> None:
    """8-bit TFLite is only passed on where it is published.

    Google's ai-edge-quantizer 0.10 does quantize PoseNet 075 as we write it, but on the picture
    tried its offsets correlated only .82 with those in f32, and OpenVINO does not read the result.
    """
    if manifest.needs == "edgetpu":
        raise ConversionError(
            f"{manifest.name} is compiled for the Edge TPU already",
            hint=f"`fleet models pull {manifest.name}` fetches it",
        )
    if manifest.format != "tflite":
        ready = "posenet-coral-075-edgetpu" if target == "edgetpu" else "posenet-coral-075-int8"
        raise ConversionError(
            f"{manifest.name} is not published as 8-bit TFLite, and a float network is not "
            "quantized to it here",
            hint=f"take {ready}; or quantize what `fleet models convert {manifest.name} --to "
            "tflite` writes with Google's ai-edge-quantizer, and evaluate that before you trust it",
        )
    if target == "edgetpu" and shutil.which(EDGETPU_COMPILER) is None:
        raise ConversionError(
            f"this needs {EDGETPU_COMPILER}, which is not on the PATH",
            hint="Google publishes it for Debian on x86_64: "
            "https://coral.ai/docs/edgetpu/compiler/#download. Or take the network that is "
            "compiled already, posenet-coral-075-edgetpu",
        )
