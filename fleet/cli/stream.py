"""`fleet stream add|rm|list`: change the streams of a running fleet, without a restart."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli import complete, render
from fleet.cli.status import JsonOption, read_fleet, show_streams

if TYPE_CHECKING:
    from agents.wire.messages import StreamSpec

app = typer.Typer(help="Add, remove and list streams of the running fleet.", no_args_is_help=True)


@app.command()
def add(
    url: Annotated[str, typer.Argument(help="rtsp://..., http://..., v4l2:..., file or folder.")],
    stream_id: Annotated[
        str | None, typer.Option("--id", help="Its name; made from the URL if left out.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(min=0.01, help="Most frames a second; without it, all of them.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Its network; the fleet's own if left out.", autocompletion=complete.models
        ),
    ] = None,
    track: Annotated[
        bool,
        typer.Option("--track/--no-track", help="Ids of persons that last from frame to frame."),
    ] = True,
    json: JsonOption = False,
) -> None:
    """Add a stream; it starts at once and outlives a restart of the fleet.

    --json prints {"stream": {"id", "url", "model", "fps", "track", "origin"}}.
    """
    from fleet import app as fleet_app
    from fleet.cli.shapes import spec_json

    with closing(fleet_app.open_store()) as store:
        taken = {spec.id for spec in store.streams()}
        spec = _new_spec(url, stream_id, fps, model, track, taken)
        store.put_stream(spec)
    if json:
        render.document({"stream": spec_json(spec)})
    else:
        render.line(f"added {spec.id}; `fleet tail {spec.id} --follow` shows its poses")


@app.command("rm")
def remove(
    stream_id: Annotated[
        str, typer.Argument(metavar="ID", help="Its name.", autocompletion=complete.streams)
    ],
    json: JsonOption = False,
) -> None:
    """Remove a stream; its reports stay in Redis for an hour.

    --json prints {"removed": ID}.
    """
    from fleet import app as fleet_app
    from fleet.cli.tail import unknown_stream

    with closing(fleet_app.open_store()) as store:
        if not store.remove_stream(stream_id):
            raise unknown_stream(stream_id, [spec.id for spec in store.streams()])
    if json:
        render.document({"removed": stream_id})
    else:
        render.line(f"removed {stream_id}")


@app.command("list")
def list_streams(json: JsonOption = False) -> None:
    """List the streams that should run and how they do.

    --json prints {"streams": [{"id", "url", "model", "fps", "track", "origin", "state", "error",
    "accelerator", "fps_in", "fps_out", "people", "latency_ms", "dropped", ...}]}.
    """
    from fleet.cli.shapes import stream_json

    found = [stream_json(stream) for stream in read_fleet().streams]
    if json:
        render.document({"streams": found})
    else:
        show_streams(found)


def _new_spec(
    url: str,
    stream_id: str | None,
    fps: float | None,
    model: str | None,
    track: bool,
    taken: set[str],
) -> "StreamSpec":
    from pydantic import ValidationError

    from agents.wire.messages import StreamSpec
    from fleet import app as fleet_app
    from fleet.config.schema import NAME_RULE
    from fleet.config.urls import absolute_url, check_scheme, network_name
    from fleet.config.urls import stream_id as id_from
    from fleet.errors import ConflictError, InputError

    check_scheme(url)
    if stream_id in taken:
        raise ConflictError(
            f"there is already a stream `{stream_id}`",
            hint=f"choose another --id, or `fleet stream rm {stream_id}` first",
        )
    try:
        return StreamSpec(
            id=stream_id or id_from(url, taken),
            url=absolute_url(url),
            fps=fps,
            model=network_name(model or fleet_app.default_model()),
            track=track,
            origin="added",
        )
    except ValidationError as error:
        raise InputError(f"`{stream_id}` is no stream id: it {NAME_RULE}") from error
