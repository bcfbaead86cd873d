"""`fleet down`: end the fleet that runs on this machine, and see that it is gone."""

from typing import Annotated

import typer

from fleet.cli import render
from fleet.cli.status import JsonOption

TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=1.0, help="Seconds before it is ended by force.")
]


def down(timeout: TimeoutOption = 15.0, json: JsonOption = False) -> None:
    """End the fleet on this machine; the record of its streams is kept.

    Ends with exit code 0 when no fleet was running. --json prints {"ended": PID or null}.
    """
    from fleet.service import end_fleet

    pid = end_fleet(timeout)
    if json:
        render.document({"ended": pid})
    else:
        render.line("no fleet was running" if pid is None else f"the fleet (process {pid}) ended")
