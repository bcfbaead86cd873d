"""The live view of `fleet up`: streams, accelerators and what happened last, redrawn in place."""

import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from fleet.cli import render
from fleet.cli.shapes import status_json
from fleet.cli.status import ACCELERATOR_COLUMNS, STREAM_COLUMNS, accelerator_row, stream_row
from fleet.errors import StoreError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agents.wire.messages import FleetEvent
    from fleet.app import RunningFleet

REFRESH_S = 0.5
PLAIN_PERIOD_S = 10.0
"""Between two lines of plain text, which ends up in a log."""
EVENTS_SHOWN = 6


def show(fleet: "RunningFleet", plain: bool, ending: threading.Event) -> None:
    """Show the fleet until it shall end; also keeps its embedded Redis alive."""
    if plain or not sys.stdout.isatty():
        _show_lines(fleet, ending)
    else:
        _show_screen(fleet, ending)


def _show_lines(fleet: "RunningFleet", ending: threading.Event) -> None:
    last_event, next_line = "", 0.0
    with closing(fleet.client()) as client:
        while not ending.wait(REFRESH_S):
            fleet.watch()
            try:
                for recorded in fleet.store.events(after=last_event):
                    last_event = recorded.id
                    if recorded.event.at >= fleet.started:
                        render.line(_event(recorded.event))
                if time.monotonic() >= next_line:
                    next_line = time.monotonic() + PLAIN_PERIOD_S
                    status = status_json(client.state(), time.time())
                    for stream in status["streams"]:
                        render.line(f"{_clock(time.time())} {_line(stream)}")
            except StoreError as error:
                render.warning(str(error))


def _line(stream: dict[str, Any]) -> str:
    text = f"{stream['id']} {stream['state']}"
    if stream["error"]:
        return f"{text}: {stream['error']}"
    if stream["latency_ms"]:
        text += f": {stream['fps_out']:.1f} fps, {stream['people']:.1f} people, "
        text += f"p95 {stream['latency_ms']['p95']:.1f} ms"
    return text


def _show_screen(fleet: "RunningFleet", ending: threading.Event) -> None:
    from rich.live import Live

    started = time.monotonic()
    picture: RenderableType = "starting ..."
    with closing(fleet.client()) as client, Live(picture, auto_refresh=False, screen=False) as live:
        while not ending.wait(REFRESH_S):
            fleet.watch()
            try:
                status = status_json(client.state(), time.time())
                picture = _picture(fleet, status, time.monotonic() - started)
            except StoreError as error:
                picture = f"the record is away, streams go on: {error}"
            live.update(picture, refresh=True)


def _picture(fleet: "RunningFleet", status: dict[str, Any], up_s: float) -> "RenderableType":
    from rich.console import Group
    from rich.text import Text

    minutes, seconds = divmod(int(up_s), 60)
    title = Text(f"posefleet  up {minutes}:{seconds:02d}", style="bold")
    title.append(
        f"   {status['fps']:.1f} fps, {status['people']:.1f} people   Ctrl-C ends it", style="dim"
    )
    events = [
        Text(_event(recorded.event), style="dim")
        for recorded in fleet.store.events(limit=EVENTS_SHOWN)
        if recorded.event.at >= fleet.started
    ]
    return Group(
        title,
        "",
        render.grid(STREAM_COLUMNS, [stream_row(each) for each in status["streams"]]),
        "",
        render.grid(
            ACCELERATOR_COLUMNS, [accelerator_row(each) for each in status["accelerators"]]
        ),
        *(Text(f"warning: {warning}", style="yellow") for warning in status["warnings"]),
        "",
        *events,
    )


def _event(event: "FleetEvent") -> str:
    text = f"{_clock(event.at)} {event.kind} {event.subject}"
    return f"{text}: {event.message}" if event.message else text


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
