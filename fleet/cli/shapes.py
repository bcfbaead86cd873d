"""What the commands print, as plain values: the JSON contract, made from the client's views."""

from typing import TYPE_CHECKING, Any

from agents.streams.urls import redact
from agents.wire.messages import NodeAdvert, StreamSpec
from models.poses import Pose

if TYPE_CHECKING:
    from fleet.client import AcceleratorView, Delivery, FleetView, StreamView

Json = dict[str, Any]


def status_json(fleet: "FleetView", at: float) -> Json:
    """Everything `fleet status` says; ``at`` is the wall clock, seconds since the epoch."""
    streams = [stream_json(stream) for stream in fleet.streams]
    accelerators = [accelerator_json(each) for each in fleet.accelerators]
    dropped: dict[str, int] = {}
    for stream in streams:
        for cause, count in stream["dropped"].items():
            dropped[cause] = dropped.get(cause, 0) + count
    return {
        "at": at,
        "streams": streams,
        "accelerators": accelerators,
        "fps": round(sum(stream["fps_out"] for stream in streams), 2),
        "people": round(sum(stream["people"] for stream in streams), 2),
        "dropped": dropped,
        "warnings": [*_accelerator_warnings(accelerators), *_stream_warnings(streams)],
    }


def stream_json(view: "StreamView") -> Json:
    """A stream and how it does; rates and people are 0 while nothing is known."""
    report = view.report
    latency = report.latency_ms if report else None
    return {
        **spec_json(view.spec),
        "state": view.state,
        "error": report.error if report else "",
        "accelerator": view.accelerator,
        "fps_in": round(report.fps_in, 2) if report else 0.0,
        "fps_out": round(report.fps_out, 2) if report else 0.0,
        "people": round(report.people, 2) if report else 0.0,
        "latency_ms": dict(zip(("p50", "p95", "p99"), latency, strict=True)) if latency else None,
        "durations_ms": report.durations_ms if report else {},
        "captured": report.captured if report else 0,
        "published": report.published if report else 0,
        "in_flight": report.in_flight if report else 0,
        "dropped": report.dropped if report else {},
        "gaps": report.gaps if report else 0,
        "last_gap_s": report.last_gap_s if report else 0.0,
    }


def accelerator_json(view: "AcceleratorView") -> Json:
    """An accelerator and what it does."""
    heartbeat, report = view.heartbeat, view.report
    streams = report.streams if report else ()
    return {
        "id": view.info.id,
        "node": view.node,
        "kind": view.info.kind,
        "name": view.info.name,
        "is_emulated": view.info.is_emulated,
        "state": heartbeat.state if heartbeat else "silent",
        "error": heartbeat.error if heartbeat else "",
        "precision": report.precision if report else None,
        "streams": [stream.stream for stream in streams],
        "fps": round(sum(stream.fps_out for stream in streams), 2),
        "unsent": report.unsent if report else 0,
        "lost": report.lost if report else 0,
    }


def spec_json(spec: StreamSpec) -> Json:
    """A stream as it was asked for; passwords in the URL are hidden."""
    return {
        "id": spec.id,
        "url": redact(spec.url),
        "model": spec.model,
        "fps": spec.fps,
        "track": spec.track,
        "origin": spec.origin,
    }


def node_json(node: NodeAdvert) -> Json:
    """One machine and what it offers."""
    return {
        "node": node.node,
        "system": node.system,
        "machine": node.machine,
        "cores": node.cores,
        "memory_bytes": node.memory_bytes,
        "posefleet": node.posefleet,
        "python": node.python,
        "ray": node.ray,
        "accelerators": [info.model_dump(mode="json") for info in node.accelerators],
    }


def pose_json(pose: Pose) -> Json:
    """One person; x and y in pixels of the frame."""
    return {
        "score": round(pose.score, 4),
        "track_id": pose.track_id,
        "keypoints": [
            {
                "name": keypoint.name,
                "x": round(keypoint.x, 3),
                "y": round(keypoint.y, 3),
                "score": round(keypoint.score, 4),
            }
            for keypoint in pose.keypoints
        ],
    }


def delivery_json(delivery: "Delivery") -> Json:
    """One pose report."""
    report = delivery.report
    return {
        "stream": delivery.stream,
        "sequence": report.sequence,
        "captured_at": report.captured_at,
        "latency_ms": report.latency_ms,
        "accelerator": report.accelerator,
        "model": report.model,
        "poses": [pose_json(pose) for pose in report.poses],
    }


def _accelerator_warnings(accelerators: list[Json]) -> list[str]:
    found = [] if accelerators else ["no node advertises an accelerator"]
    for each in accelerators:
        name = f"accelerator {each['id']}"
        if each["state"] in ("silent", "failed"):
            found.append(f"{name} is {each['state']}{_cause(each)}")
        # A moment's reports are always on their way; more than a second's are held up.
        if each["unsent"] > max(1.0, each["fps"]):
            found.append(f"{name}: {each['unsent']} reports wait for Redis")
        if each["lost"]:
            found.append(f"{name}: {each['lost']} reports lost while Redis was away")
    return found


def _stream_warnings(streams: list[Json]) -> list[str]:
    return [
        f"stream {each['id']} is {each['state']}{_cause(each)}"
        for each in streams
        if each["error"] or each["state"] in ("waiting", "reconnecting", "failed")
    ]


def _cause(each: Json) -> str:
    return f": {each['error']}" if each["error"] else ""
