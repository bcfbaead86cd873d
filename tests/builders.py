"""Values for tests: defaults for everything, override one thing."""

from agents.wire.messages import (
    AcceleratorInfo,
    Assignment,
    Heartbeat,
    StreamReport,
    StreamSpec,
    ThroughputReport,
)


def make_accelerator(**fields) -> AcceleratorInfo:
    defaults = {
        "id": "pi/cpu:CPU",
        "kind": "cpu",
        "driver": "openvino",
        "device": "CPU",
        "name": "A processor",
        "precisions": ("f32",),
    }
    return AcceleratorInfo(**{**defaults, **fields})


def make_stream(**fields) -> StreamSpec:
    defaults = {"id": "door", "url": "synthetic:", "model": "posenet-mobilenet-075"}
    return StreamSpec(**{**defaults, **fields})


def make_assignment(**fields) -> Assignment:
    defaults = {"stream": make_stream(), "accelerator": "pi/cpu:CPU", "epoch": 1}
    return Assignment(**{**defaults, **fields})


def make_heartbeat(**fields) -> Heartbeat:
    defaults = {
        "accelerator": "pi/cpu:CPU",
        "node": "pi",
        "pid": 4242,
        "at": 1000.0,
        "state": "ready",
    }
    return Heartbeat(**{**defaults, **fields})


def make_stream_report(**fields) -> StreamReport:
    defaults = {
        "stream": "door",
        "model": "posenet-mobilenet-075",
        "state": "streaming",
        "captured": 10,
        "published": 9,
        "dropped": {"replaced": 1},
        "in_flight": 0,
        "fps_in": 10.0,
        "fps_out": 9.0,
        "people": 2.0,
        "latency_ms": (10.0, 20.0, 30.0),
        "durations_ms": {"infer": 7.0},
        "gaps": 0,
        "last_gap_s": 0.0,
    }
    return StreamReport(**{**defaults, **fields})


def make_throughput(**fields) -> ThroughputReport:
    defaults = {
        "accelerator": "pi/cpu:CPU",
        "at": 1000.0,
        "window_s": 1.0,
        "precision": "f32",
        "streams": (make_stream_report(),),
        "unsent": 0,
        "lost": 0,
    }
    return ThroughputReport(**{**defaults, **fields})
