"""The Typer application: registers the commands and turns errors into exit codes."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agents.errors import AcceleratorError, AgentError, StreamError
from fleet import __version__
from fleet.cli import (
    config,
    doctor,
    down,
    infer,
    models,
    render,
    status,
    stream,
    tail,
    up,
)
from fleet.errors import ExitCode, FleetError
from models.errors import ModelError

EXPECTED_ERRORS = (FleetError, ModelError, AgentError, OSError)
"""Errors that the operator can act on; anything else is our bug and shows its traceback."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code with which a command ends that raised this error."""
    match error:
        case FleetError():
            return error.exit_code
        case ModelError():
            return ExitCode.MODEL
        case AcceleratorError():
            return ExitCode.ACCELERATOR
        case StreamError():
            return ExitCode.INPUT
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.FAILED


class _Commands(TyperGroup):
    """The root group: what any command raises ends here."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # The reader (`| head`) has what it wanted; the rest goes nowhere, without a complaint.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.OK) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(ExitCode.INTERRUPTED) from error
        except EXPECTED_ERRORS as error:
            if ctx.params.get("debug"):
                render.note(traceback.format_exc())
            render.error(error)
            raise typer.Exit(exit_code_of(error)) from error


_EPILOG = """\b
Exit codes:
  0  done                        5  accelerator missing or refuses the network
  1  failed                      6  no fleet is running
  2  wrong command line          7  already there: a fleet, a port, a stream id
  3  unusable input or config    8  fleet doctor found an error
  4  network unknown or damaged  130  ended by Ctrl-C
"""

app = typer.Typer(
    name="fleet",
    cls=_Commands,
    no_args_is_help=True,
    # Plain help: the rich one costs a third of the time in which help must be there.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        render.line(f"posefleet {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="FLEET_DEBUG", help="Show tracebacks of errors.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Turn a room full of unlike edge machines into one real-time pose-estimation service."""


# In this order in the help: the life of a fleet first.
app.command()(up.up)
app.command()(down.down)
app.command()(status.status)
app.command()(status.nodes)
app.add_typer(stream.app, name="stream")
app.command()(tail.tail)
app.command()(infer.infer)
app.command()(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")


def main() -> None:
    """Run the command line; never returns."""
    if (text := _requested_help(sys.argv[1:])) is not None:
        render.line(text)
        sys.exit(ExitCode.OK)
    app(prog_name="fleet")


def _requested_help(words: Sequence[str]) -> str | None:
    """Return the help of a command that is followed by a help option; None: parse the words.

    Typer loads pydantic to parse, which doubles the time until a command's help is there
    (measured: .21 s of processor time against .11 s).
    """
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="fleet", **command.context_settings)
    for word in words:
        if word in context.help_option_names:
            return context.get_help()
        if not isinstance(command, TyperGroup):
            if word == "--":
                return None
        elif word in command.commands:
            command = command.commands[word]
            context = typer.Context(command, info_name=word, parent=context)
        else:
            return None
    return None
