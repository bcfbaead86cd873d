"""`fleet status` and `fleet nodes`: what runs, how well, and on which machines."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet.cli import render

if TYPE_CHECKING:
    from fleet.client import FleetView

STREAM_COLUMNS = (
    "STREAM", "STATE", "ACCELERATOR", "IN/S", "OUT/S", "PEOPLE", "P50 MS", "P95 MS", "P99 MS",
    "DROPPED",
)  # fmt: skip
ACCELERATOR_COLUMNS = ("ACCELERATOR", "NAME", "STATE", "PRECISION", "STREAMS", "OUT/S")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def status(json: JsonOption = False) -> None:
    """Show what runs and how well.

    Streams, accelerators, frames a second, people a frame, latency from capture to published, drops
    by cause, and on standard error warnings. --json prints {"at", "streams", "accelerators", "fps",
    "people", "dropped", "warnings"}.
    """
    from fleet.cli.shapes import status_json

    found = status_json(read_fleet(), time.time())
    if json:
        render.document(found)
        return
    show_streams(found["streams"])
    render.line("")
    rows = [accelerator_row(each) for each in found["accelerators"]]
    render.table(ACCELERATOR_COLUMNS, rows, empty="no accelerators")
    for warning in found["warnings"]:
        render.warning(warning)


def nodes(json: JsonOption = False) -> None:
    """Show the machines and what they offer.

    --json prints {"nodes": [{"node", "system", "machine", "cores", "memory_bytes", "posefleet",
    "python", "ray", "accelerators"}]}.
    """
    from fleet.cli.shapes import node_json

    found = [node_json(node) for node in read_fleet().nodes]
    if json:
        render.document({"nodes": found})
        return
    columns = ("NODE", "SYSTEM", "CORES", "MEMORY", "POSEFLEET", "PYTHON", "RAY", "ACCELERATORS")
    render.table(columns, [_node_row(node) for node in found], empty="no nodes")


def read_fleet() -> "FleetView":
    """Ask the running fleet for its state.

    Raises:
        NoFleetError: no fleet is running here.
        StoreError: its Redis does not answer.
    """
    from fleet import app

    with app.open_client() as client:
        return client.state()


def show_streams(streams: list[dict[str, Any]]) -> None:
    """Print a table of what `shapes.stream_json` gives."""
    rows = [stream_row(stream) for stream in streams]
    render.table(STREAM_COLUMNS, rows, empty="no streams; `fleet stream add URL` adds one")


def stream_row(stream: dict[str, Any]) -> tuple[object, ...]:
    """Make the row of `STREAM_COLUMNS` from what `shapes.stream_json` gives."""
    latency = stream["latency_ms"] or {}
    dropped = ", ".join(f"{cause} {count}" for cause, count in sorted(stream["dropped"].items()))
    return (
        stream["id"], stream["state"], stream["accelerator"], stream["fps_in"], stream["fps_out"],
        stream["people"], *(latency.get(name) for name in ("p50", "p95", "p99")), dropped or None,
    )  # fmt: skip


def accelerator_row(each: dict[str, Any]) -> tuple[object, ...]:
    """Make the row of `ACCELERATOR_COLUMNS` from what `shapes.accelerator_json` gives."""
    name = f"{each['name']} (emulated)" if each["is_emulated"] else each["name"]
    streams = ", ".join(each["streams"]) or None
    return (each["id"], name, each["state"], each["precision"], streams, each["fps"])


def _node_row(node: dict[str, Any]) -> tuple[object, ...]:
    accelerators = ", ".join(each["id"] for each in node["accelerators"]) or None
    return (
        node["node"], f"{node['system']} {node['machine']}", node["cores"],
        render.bytes_text(node["memory_bytes"]), node["posefleet"], node["python"], node["ray"],
        accelerators,
    )  # fmt: skip
