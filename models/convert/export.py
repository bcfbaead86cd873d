"""Write a network for a runtime outside this program: IR, IR v10, ONNX, TFLite, Edge TPU.

Beside each lies a manifest, so that the result is a network like those of the catalog. The input
and outputs are those of our own IR (see `models.convert.openvino_ir`), except of 8-bit TFLite,
which is passed on as it was published.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import openvino
import yaml
from numpy.typing import NDArray
from openvino.passes import ConstantFolding, Manager

from models.artifacts import Progress, ensure_files, model_files, silent
from models.convert.openvino_ir import ensure_ir
from models.convert.targets import Order
from models.errors import ConversionError
from models.manifest import ModelManifest

MANIFEST = "manifest.yaml"
_LABELS = "labels.json"
_ROLES = {_LABELS: "labels"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of what was written."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    """None: any size."""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written into a folder."""

    manifest: ModelManifest
    files: tuple[str, ...]
    """Their names in the folder, the manifest's own last."""
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    log: str = ""
    """What an outer compiler said."""


def export(
    manifest: ModelManifest,
    order: Order,
    folder: Path,
    progress: Progress = silent,
    pictures: Sequence[NDArray[np.uint8]] = (),
) -> Export:
    """Convert a network and write it, with its manifest, into an empty folder.

    Args:
        manifest: of the network.
        order: as `models.convert.targets.order` has checked it.
        folder: exists; what is in it after an error is of no use.
        progress: of fetching and converting.
        pictures: what int8 is calibrated with, ``(height, width, 3)`` RGB of the input size.

    Raises:
        ModelError: the network cannot be had or converted.
        OSError: the folder cannot be written.
    """
    if order.target in ("tflite", "edgetpu") and order.precision == "int8":
        return _pass_on(manifest, order, folder, progress)
    network = ensure_ir(manifest, progress)
    model = openvino.Core().read_model(network.path)
    if order.size is not None:
        _fix_size(model, order.size)
    progress(f"writing {order.target} {order.precision}", 0, None)
    if order.precision == "int8":
        from models.convert.int8 import quantize  # noqa: PLC0415  it comes with an extra

        model = quantize(model, pictures, manifest.input)
    names = _write(model, order, folder)
    if manifest.task == "classify":
        labels = ensure_files(model_files(manifest), progress)[manifest.labels_file.path]
        shutil.copyfile(labels, folder / _LABELS)
        names += (_LABELS,)
    made = _describe(manifest, order, folder, names, network.outputs)
    inputs, outputs = ([_tensor(each) for each in side] for side in (model.inputs, model.outputs))
    return Export(made, (*names, MANIFEST), tuple(inputs), tuple(outputs))


def _fix_size(model: openvino.Model, size: tuple[int, int]) -> None:
    """Give a network one size, and work out what then no longer depends on the picture."""
    model.reshape([1, size[1], size[0], 3])
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)


def _write(model: openvino.Model, order: Order, folder: Path) -> tuple[str, ...]:
    xml, weights = folder / "network.xml", folder / "network.bin"
    is_half = order.target == "ir" and order.precision == "f16"
    try:
        openvino.save_model(model, xml, compress_to_fp16=is_half)
    except RuntimeError as error:  # it hides the operating system's error number
        raise ConversionError(f"cannot write {xml}: OpenVINO says {error}") from error
    if order.target == "ir":
        return xml.name, weights.name
    root, content = ElementTree.parse(xml).getroot(), weights.read_bytes()
    precision: Literal["f32", "f16"] = "f16" if order.precision == "f16" else "f32"
    if order.target == "ir-v10":
        from models.convert.ir_v10 import to_v10  # noqa: PLC0415  as the others

        root, content = to_v10(root, content, precision)
        ElementTree.ElementTree(root).write(xml, encoding="utf-8", xml_declaration=True)
        weights.write_bytes(content)
        return xml.name, weights.name
    xml.unlink()
    weights.unlink()
    path = folder / f"network.{order.target}"
    if order.target == "onnx":
        from models.convert.onnx_graph import to_onnx  # noqa: PLC0415  onnx comes with an extra

        path.write_bytes(to_onnx(root, content, precision))
    else:
        from models.convert.tflite_graph import to_tflite  # noqa: PLC0415  as the others

        path.write_bytes(to_tflite(root, content))
    return (path.name,)


def _pass_on(manifest: ModelManifest, order: Order, folder: Path, progress: Progress) -> Export:
    """Copy a TFLite file as it was published; compile it where it is for the Edge TPU."""
    published = ensure_files(model_files(manifest), progress)[manifest.model_file.path]
    log, name = "", "network.tflite"
    shutil.copyfile(published, folder / name)
    if order.target == "edgetpu":
        from models.convert.edgetpu import compile_for_edgetpu  # noqa: PLC0415  only where needed

        progress("compiling for the Edge TPU", 0, None)
        compiled, log = compile_for_edgetpu(folder / name, folder)
        (folder / name).unlink()
        name = compiled.name
    model = openvino.Core().read_model(published)
    made = _describe(manifest, order, folder, (name,), None)
    inputs, outputs = ([_tensor(each) for each in side] for side in (model.inputs, model.outputs))
    return Export(made, (name, MANIFEST), tuple(inputs), tuple(outputs), log)


def _describe(
    manifest: ModelManifest,
    order: Order,
    folder: Path,
    names: tuple[str, ...],
    outputs: Mapping[str, str] | None,
) -> ModelManifest:
    """Write the manifest of what was written, and return it.

    Args:
        manifest: of the network that it was made of.
        order: what was asked for.
        folder: where it lies.
        names: the files, the one to open first.
        outputs: role -> name of the output; None: as they were.
    """
    size = "any" if order.size is None else f"{order.size[0]}x{order.size[1]}"
    files = [
        {
            "role": _ROLES.get(name, "shard" if at else "model"),
            "path": name,
            **_digest(folder / name),
        }
        for at, name in enumerate(names)
    ]
    formats = {"ir": "openvino-ir", "ir-v10": "openvino-ir", "onnx": "onnx"}
    document = manifest.model_dump(mode="json")
    document |= {
        "name": f"{manifest.name}-{order.target}-{size}-{order.precision}",
        "title": f"{manifest.title}, as {order.target} in {order.precision}",
        "aliases": [], "accuracy": [], "strides": [], "upstream": None, "variant_of": None,
        "format": formats.get(order.target, "tflite"),
        "files": files,
        "sources": [{"folder": "."}],
        "needs": "edgetpu" if order.target == "edgetpu" else None,
    }  # fmt: skip
    if outputs is not None:
        document["outputs"] = dict(outputs)
        document["input"]["layout"] = "NHWC"
    if order.size is not None and outputs is not None:
        document["input"] |= {"width": order.size[0], "height": order.size[1], "step": None}
    made = ModelManifest.model_validate_json(json.dumps(document))
    (folder / MANIFEST).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return made


def _digest(path: Path) -> dict[str, int | str]:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _tensor(port: Any) -> Tensor:
    shape = tuple(
        size.get_length() if size.is_static else None for size in port.get_partial_shape()
    )
    return Tensor(min(port.get_names()), port.get_element_type().to_dtype().name, shape)
