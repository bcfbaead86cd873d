"""`fleet up`: bring up a fleet on this machine and show how it does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli import complete, render

if TYPE_CHECKING:
    from fleet.config.overrides import Overrides
    from fleet.config.schema import FleetConfig


def up(
    config: Annotated[
        Path | None,
        typer.Argument(help="Configuration file; without it, this machine and the sample stream."),
    ] = None,
    stream: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A stream to run; may be given several times."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network of streams that name none themselves.", autocompletion=complete.models
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="FLEET_REDIS_URL",
            help="An existing Redis, redis://... or rediss://... (TLS), instead of our own.",
        ),
    ] = None,
    track: Annotated[
        bool | None,
        typer.Option(
            "--track/--no-track",
            help="Ids of persons that last from frame to frame, in every stream; as configured if "
            "left out, else on.",
            show_default=False,
        ),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when the fleet is up; it goes on.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Lines of text instead of the live view.")
    ] = False,
) -> None:
    """Bring up a fleet on this machine; Ctrl-C ends all of it.

    Without CONFIG, --stream replaces the sample stream; with it, --stream adds to the file's.
    """
    from fleet.config.load import load_config
    from fleet.config.overrides import Overrides, override

    given = Overrides(stream or (), model or "", redis or "", track)
    settings = override(load_config(config), given, replace_streams=config is None)
    if detach:
        _detach(config, given)
    else:
        _run(settings, plain)


def _detach(config: Path | None, given: "Overrides") -> None:
    from fleet.service import start_detached

    arguments = [str(config)] if config else []
    for url in given.streams:
        arguments += ["--stream", url]
    arguments += ["--model", given.model] if given.model else []
    if given.track is not None:
        arguments.append("--track" if given.track else "--no-track")
    # Not on the command line, which every user of the machine can read: the URL holds a password.
    run = start_detached(arguments, {"FLEET_REDIS_URL": given.redis} if given.redis else {})
    render.line(f"the fleet is up (process {run.pid})")
    render.line("`fleet status` shows it, `fleet tail STREAM -f` its poses, `fleet down` ends it")


def _run(settings: "FleetConfig", plain: bool) -> None:
    from fleet import app
    from fleet.cli.live import show
    from fleet.run_file import fleet_lock
    from fleet.service import Ending, log_to_file

    with Ending() as ending, fleet_lock():
        log_to_file()
        with render.progress("fetching") as progress:
            app.fetch(settings, progress)
        with app.bring_up(settings, say=render.note) as running:
            try:
                show(running, plain, ending.asked)
            except KeyboardInterrupt:
                render.note("ending the fleet ...")
