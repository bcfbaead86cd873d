"""`fleet config schema|check`: the form of configuration files, and whether one is right."""

from pathlib import Path
from typing import Annotated

import typer

from fleet.cli import render

app = typer.Typer(help="Show the form of configuration files, and check one.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print the JSON schema of configuration files, for an editor."""
    from fleet.config.schema import config_schema

    render.document(config_schema())


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The configuration file.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a configuration file.

    Every error names file, line, column and what to do.

    --json prints {"file", "valid", "problems": [{"line", "column", "key", "message",
    "suggestion"}]}.
    """
    from fleet.config.load import InvalidConfigError, load_config

    try:
        config = load_config(file)
    except InvalidConfigError as error:
        if json:
            problems = [problem.to_json() for problem in error.problems]
            render.document({"file": str(file), "valid": False, "problems": problems})
        raise
    if json:
        render.document({"file": str(file), "valid": True, "problems": []})
    else:
        count = len(config.streams)
        render.line(f"{file} is valid: {count} stream{'' if count == 1 else 's'}")
