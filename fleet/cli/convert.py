"""`fleet models convert`: write a network for another runtime."""

import typing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli import complete, render
from fleet.cli.choices import parse_size
from fleet.cli.status import JsonOption
from fleet.errors import InputError

if TYPE_CHECKING:
    from fleet.convert import Agreement, Pictures
    from models.convert.export import Export
    from models.convert.targets import Order
    from models.manifest import ModelManifest


_FAITHFUL_OKS = 0.75
"""COCO's strict threshold (https://cocodataset.org/#keypoints-eval, 1.1: AP75)."""


def convert(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete.models)],
    to: Annotated[
        str, typer.Option("--to", "-t", help="ir, ir-v10 (Movidius), onnx, tflite or edgetpu.")
    ],
    precision: Annotated[
        str | None,
        typer.Option("--precision", "-p", help="f32, f16 or int8; the target's usual if left out."),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", "-s", metavar="WxH", help="Input of the network.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="FOLDER", help="Pictures, for ir in int8."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="New; else ./NAME-TARGET-SIZE-PREC."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a network for another runtime, with a manifest beside it.

    `fleet infer -m FOLDER/manifest.yaml` and `fleet models eval FOLDER/manifest.yaml` run what was
    written. Only ir in f32 and f16 takes pictures of any size; the others have one, the network's
    own where --size does not say. ir in int8 is calibrated with pictures of the folder; every fifth
    of them is kept to show what it costs. tflite and edgetpu in int8 take a network that is
    published so.

    --json prints {"name", "target", "precision", "size", "folder", "manifest", "files": [{"path",
    "size", "sha256"}], "inputs": [{"name", "dtype", "shape"}], "outputs": [...], "agreement":
    {"oks", "people", "pictures"}, "log"}. agreement is with f32, null but for int8; log is the
    Edge TPU compiler's. A size that is open is null.
    """
    from models.catalog import load_manifest

    manifest = load_manifest(name)
    wanted = _order(manifest, to, precision, size)
    _check_calibration(wanted, calibration)
    folder = out if out is not None else Path(_folder_name(manifest, wanted))
    made, alike = _write(manifest, wanted, folder, calibration)
    _show(made, alike, wanted, folder, json)


def _order(manifest: "ModelManifest", to: str, precision: str | None, size: str | None) -> "Order":
    from models.convert.targets import Precision, Target, order

    target = _one_of(to, typing.get_args(Target), "--to")
    chosen = None if precision is None else precision.lower()
    if chosen is not None:
        _one_of(chosen, typing.get_args(Precision), "--precision")
    return order(
        manifest,
        typing.cast("Target", target),
        typing.cast("Precision | None", chosen),
        parse_size(size),
    )


def _one_of(text: str, known: tuple[str, ...], option: str) -> str:
    if text not in known:
        raise typer.BadParameter(f"`{text}` is none of {', '.join(known)}", param_hint=option)
    return text


def _check_calibration(order: "Order", folder: Path | None) -> None:
    is_needed = (order.target, order.precision) == ("ir", "int8")
    if is_needed and folder is None:
        raise InputError(
            "int8 needs pictures to calibrate with",
            hint="--calibration FOLDER, some hundred pictures of what the cameras see",
        )
    if folder is not None and not is_needed:
        raise typer.BadParameter("only ir in int8 is calibrated", param_hint="--calibration")


def _folder_name(manifest: "ModelManifest", order: "Order") -> str:
    size = "any" if order.size is None else f"{order.size[0]}x{order.size[1]}"
    return f"{manifest.name}-{order.target}-{size}-{order.precision}"


def _write(
    manifest: "ModelManifest", order: "Order", folder: Path, calibration: Path | None
) -> tuple["Export", "Agreement | None"]:
    from fleet.convert import can_compare, compare, convert, new_folder

    with new_folder(folder) as partial:
        pictures = _read(manifest, order, calibration)
        with render.progress(manifest.name) as progress:
            made = convert(manifest, order, partial, pictures, progress)
        alike = None
        if pictures is not None and can_compare(manifest):
            with render.steps("comparing with f32", len(pictures.held_out)) as advance:
                alike = compare(manifest, order, partial, pictures.held_out, advance)
    if alike is not None and alike.oks is not None and alike.oks < _FAITHFUL_OKS:
        render.warning(
            f"the poses differ much from those in f32: mean OKS {alike.oks:.2f}; calibrate with "
            "other pictures, or stay with f16"
        )
    return made, alike


def _read(manifest: "ModelManifest", order: "Order", calibration: Path | None) -> "Pictures | None":
    from fleet.convert import read_pictures

    if calibration is None or order.size is None:
        return None
    with render.steps("reading pictures", None) as advance:
        return read_pictures(calibration, manifest, order.size, advance)


def _show(
    made: "Export", alike: "Agreement | None", order: "Order", folder: Path, json: bool
) -> None:
    from models.convert.export import MANIFEST

    if json:
        document: dict[str, Any] = {
            "name": made.manifest.name,
            "target": order.target,
            "precision": order.precision,
            "size": None if order.size is None else f"{order.size[0]}x{order.size[1]}",
            "folder": str(folder),
            "manifest": str(folder / MANIFEST),
            "files": [
                {"path": str(folder / file.path), "size": file.size, "sha256": file.sha256}
                for file in made.manifest.files
            ],
            "inputs": [asdict(each) for each in made.inputs],
            "outputs": [asdict(each) for each in made.outputs],
            "agreement": asdict(alike) if alike else None,
            "log": made.log or None,
        }
        render.document(document)
        return
    for file in made.manifest.files:
        render.line(f"wrote {folder / file.path} ({render.bytes_text(file.size)})")
    render.line(f"wrote {folder / MANIFEST}")
    sides = [("input", made.inputs), ("output", made.outputs)]
    rows = [
        (side, each.name, each.dtype, "x".join("?" if n is None else str(n) for n in each.shape))
        for side, tensors in sides
        for each in tensors
    ]
    render.table(("SIDE", "TENSOR", "TYPE", "SHAPE"), rows, empty="")
    if made.log:
        render.note(made.log)
    if alike is not None:
        shown = "nobody to compare" if alike.oks is None else f"OKS {alike.oks:.3f} with f32"
        render.line(
            f"{shown}: {alike.people} people in {alike.pictures} pictures that were not calibrated "
            "with; `fleet models eval` gives its accuracy"
        )
