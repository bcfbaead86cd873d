"""`fleet infer`: poses in a picture, video, folder or camera on this machine, without any fleet."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli import complete, render
from fleet.errors import InputError

if TYPE_CHECKING:
    from fleet.infer import Inference, Result


def infer(
    source: Annotated[
        str,
        typer.Argument(metavar="IMAGE|VIDEO|FOLDER|URL", help="A bare number is that V4L2 camera."),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Network.", autocompletion=complete.models),
    ] = "posenet-mobilenet-075",
    device: Annotated[
        str | None,
        typer.Option("--device", "-d", help="CPU, GPU.0, ...; the first found if left out."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", "-p", help="f32 (default), f16, bf16 or int8."),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", "-s", metavar="WxH", help="Input of the network.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Draw into this picture, .mp4, or folder of pictures."),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(
            "--coco",
            help="Write this file in COCO results format; image_id is the number that ends a "
            "picture's name, or a frame's number.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Most frames of a video or camera.")
    ] = None,
    track: Annotated[
        bool,
        typer.Option(
            "--track/--no-track", help="Ids of persons that last over the frames of a video."
        ),
    ] = True,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a picture or frame.")
    ] = False,
) -> None:
    """Find people and their keypoints.

    --json prints a line a picture or frame: {"source", "model", "device", "precision", "poses":
    [{"score", "track_id", "keypoints": [{"name", "x", "y", "score"}]}]}; frames of a video have
    their number in "frame".
    """
    from fleet.cli.choices import parse_precision, parse_size
    from fleet.infer import Request
    from fleet.infer import infer as run

    request = Request(
        source, model, device, parse_precision(precision), parse_size(size), count, track
    )
    with ExitStack() as stack:
        with render.progress("fetching") as progress:
            inference = stack.enter_context(run(request, progress))
        _consume(inference, out, coco, json)


def _consume(inference: "Inference", out: Path | None, coco: Path | None, json: bool) -> None:
    from fleet.output import Outputs, open_outputs

    noun = "frames" if inference.is_video else "pictures"
    seen = people = failed = 0
    outputs = Outputs(None, None)
    try:
        with (
            open_outputs(inference, out, coco) as outputs,
            render.steps(noun, inference.total) as advance,
        ):
            for result in inference.results:
                advance()
                if result.poses is None:
                    failed += 1
                    render.warning(result.error)
                    continue
                seen, people = seen + 1, people + len(result.poses)
                outputs.write(result)
                _show(inference, result, json)
    finally:  # also after Ctrl-C, which ends a camera
        if inference.is_video and seen and not json:
            render.line(f"{seen} frames, {people / seen:.1f} people a frame")
        for name in outputs.names:
            render.note(f"wrote {name}")
    if failed:
        raise InputError(f"{failed} of {seen + failed} {noun} could not be used")


def _show(inference: "Inference", result: "Result", json: bool) -> None:
    if json:
        render.record(_json(inference, result))
    elif not inference.is_video:
        render.line(_line(inference, result))


def _line(inference: "Inference", result: "Result") -> str:
    count = len(result.poses or ())
    noun = "person" if count == 1 else "people"
    where = f"{inference.accelerator.device} {inference.model.precision}"
    return f"{result.source}: {count} {noun}, {result.infer_ms:.1f} ms on {where}"


def _json(inference: "Inference", result: "Result") -> dict[str, Any]:
    from fleet.cli.shapes import pose_json

    frame = {} if result.frame is None else {"frame": result.frame}
    return {
        "source": result.source,
        **frame,
        "model": inference.model.manifest.name,
        "device": inference.accelerator.device,
        "precision": inference.model.precision,
        "poses": [pose_json(pose) for pose in result.poses or ()],
    }
