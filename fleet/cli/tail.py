"""`fleet tail STREAM`: pose reports, as they were and as they arrive."""

from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from fleet.cli import complete, render
from fleet.errors import InputError

if TYPE_CHECKING:
    from fleet.client import Delivery, FleetClient

LAST = 10
"""Reports shown without --count, as `tail` shows lines."""


def tail(
    stream: Annotated[
        str, typer.Argument(help="The stream's id.", autocompletion=complete.streams)
    ],
    count: Annotated[
        int | None, typer.Option(min=1, help="Wait for this many new reports, then end.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new reports until Ctrl-C.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, a line a report.")
    ] = False,
) -> None:
    """Show the pose reports of a stream.

    The last 10 that are there; with --follow also what comes after them; with --count as many new
    ones. What was lost before it could be shown is counted in a warning on standard error.

    --json prints a line a report: {"stream", "sequence", "captured_at", "latency_ms",
    "accelerator", "model", "poses": [{"score", "track_id", "keypoints": [{"name", "x", "y",
    "score"}]}]}; x and y are pixels of the frame, captured_at is seconds since 1970.
    """
    from fleet import app
    from fleet.cli.shapes import delivery_json

    shown = 0
    with app.open_client() as client:
        for delivery in _deliveries(client, stream, count, follow):
            if delivery.missed:
                render.warning(f"missed {delivery.missed} reports of {stream}")
            if json:
                render.record(delivery_json(delivery))
            else:
                render.line(_line(delivery))
            shown += 1
    if not shown:
        render.note(f"no pose reports of {stream} yet; --follow waits for them")


def unknown_stream(stream: str, known: Sequence[str]) -> InputError:
    """Make the error that names the closest stream."""
    close = get_close_matches(stream, known, n=1)
    if close:
        hint = f"did you mean `{close[0]}`?"
    else:
        hint = f"known: {', '.join(known)}" if known else "`fleet stream add URL` adds one"
    return InputError(f"there is no stream `{stream}`", hint=hint)


def _deliveries(
    client: "FleetClient", stream: str, count: int | None, follow: bool
) -> "Iterator[Delivery]":
    if count is not None:
        _check_known(client, stream)
        yield from client.poses(stream, count=count)
        return
    last = deque(client.poses(stream, since="first", follow=False), maxlen=LAST)
    if not last:  # the reports of a stream that was removed can still be read
        _check_known(client, stream)
    yield from last
    if follow:
        yield from client.poses(stream, since=last[-1].id if last else "first")


def _check_known(client: "FleetClient", stream: str) -> None:
    known = [view.spec.id for view in client.state().streams]
    if stream not in known:
        raise unknown_stream(stream, known)


def _line(delivery: "Delivery") -> str:
    """``12:00:01.250Z  #31  2 people (0.91 0.83)  41.2 ms  node/cpu:CPU``."""
    report = delivery.report
    at = datetime.fromtimestamp(report.captured_at, UTC).strftime("%H:%M:%S.%f")[:-3]
    count = len(report.poses)
    scores = " ".join(f"{score:.2f}" for score in report.poses.scores)
    people = f"{count} {'person' if count == 1 else 'people'}{f' ({scores})' if count else ''}"
    return f"{at}Z  #{report.sequence}  {people}  {report.latency_ms:.1f} ms  {report.accelerator}"
