"""What a pose report costs: packed against JSON, and publish -> read against a bare redis-py loop.

Run from a checkout: ``python tests/perf/bench_wire.py``. Both sides of a comparison run
alternately in the same process, so that a noisy machine slows them alike; medians are given.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from pose_reports import DURATIONS_S, INPUT, make_buffer, make_frame

from agents.telemetry.redis_sink import RedisSink
from agents.wire.poses import PoseEncoder, PoseReport, decode, stamp_index
from fleet.client import connect
from fleet.store.embedded import EmbeddedRedis
from models.geometry import ImageTransform
from models.skeletons import COCO17

TRANSFORM = ImageTransform.fit((1920, 1080), INPUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--reports", type=int, default=400, help="reports a round of publish -> read"
    )
    options = parser.parse_args()
    for people in (1, 5, 20, 50):
        codec(people, options.rounds)
    publish_to_read(options.rounds, options.reports)


def codec(people: int, rounds: int) -> None:
    encoder = PoseEncoder("pi4-kitchen/cpu:CPU", "posenet-mobilenet-075", COCO17, 50)
    encoder.warm()
    buffer, frame = make_buffer(people, capacity=50), make_frame(12_345)
    payload = encoder.encode(frame, 1_700_000_000, DURATIONS_S, buffer, TRANSFORM)
    report = decode(payload)
    named, compact = as_dicts(report), as_lists(report)
    sides: dict[str, tuple[Callable[[], object], int]] = {
        "encode": (
            lambda: encoder.encode(frame, 1_700_000_000, DURATIONS_S, buffer, TRANSFORM), 500,
        ),
        "decode": (lambda: decode(payload), 200),
        "json dicts": (lambda: json.dumps(named), 20),
        "json lists": (lambda: json.dumps(compact), 20),
        "json read": (lambda: json.loads(json.dumps(named)), 10),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (call, repeats) in sides.items():
            times[name].append(cpu_us(call, repeats))
    us = {name: statistics.median(values) for name, values in times.items()}
    bytes_dicts, bytes_lists = len(json.dumps(named)), len(json.dumps(compact))
    print(
        f"{people:3} people: encode {us['encode']:6.2f} us, decode {us['decode']:6.1f} us, "
        f"{len(payload)} B | json of dicts {us['json dicts']:7.1f} us, {bytes_dicts} B: "
        f"{us['json dicts'] / us['encode']:.0f}x cheaper, {bytes_dicts / len(payload):.1f}x smaller"
        f" | json of bare lists {us['json lists']:7.1f} us, {bytes_lists} B: "
        f"{us['json lists'] / us['encode']:.0f}x, {bytes_lists / len(payload):.2f}x"
    )


def as_dicts(report: PoseReport) -> dict[str, object]:
    """The line that ``fleet tail --json`` prints, already built: only the encoding is timed."""
    poses = [
        {
            "score": round(pose.score, 4),
            "track_id": pose.track_id,
            "keypoints": [
                {"name": k.name, "x": round(k.x, 3), "y": round(k.y, 3), "score": round(k.score, 4)}
                for k in pose.keypoints
            ],
        }
        for pose in report.poses
    ]
    return header(report) | {"poses": poses}


def as_lists(report: PoseReport) -> dict[str, object]:
    """The shortest JSON that still says the same: no names, rounded as far as the packed form."""
    poses = [
        [
            round(pose.score, 3),
            [[round(k.x, 2), round(k.y, 2), round(k.score, 3)] for k in pose.keypoints],
        ]
        for pose in report.poses
    ]
    return header(report) | {"poses": poses}


def header(report: PoseReport) -> dict[str, object]:
    return {
        "stream": "door", "epoch": report.epoch, "index": report.index, "sequence": report.sequence,
        "captured_at": report.captured_at, "latency_ms": report.latency_ms,
        "durations": report.durations, "accelerator": report.accelerator, "model": report.model,
        "frame_size": report.frame_size, "skeleton": report.poses.skeleton.name,
    }  # fmt: skip


def cpu_us(call: Callable[[], object], repeats: int) -> float:
    begun = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - begun) / repeats * 1e6


def publish_to_read(rounds: int, reports: int) -> None:
    """Publish at 200 reports a second; both ways have a publishing and a reading thread."""
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedRedis(folder=Path(folder) / "redis")
        server.start()
        try:
            bare: list[list[float]] = []
            ours: list[list[float]] = []
            for number in range(max(3, rounds // 3)):
                bare.append(bare_loop(server, f"bare{number}", reports))
                ours.append(our_loop(server, f"ours{number}", reports))
        finally:
            server.stop()
    for name, percent in (("p50", 50), ("p99", 99)):
        bare_us, ours_us = (
            statistics.median(percentile(each, percent) for each in side) * 1e6
            for side in (bare, ours)
        )
        print(
            f"publish -> read {name}: bare XADD/XREAD {bare_us:.0f} us, sink and client "
            f"{ours_us:.0f} us: {ours_us / bare_us:.2f}x"
        )


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def bare_loop(server: EmbeddedRedis, stream: str, reports: int) -> list[float]:
    writer = redis.Redis.from_url(server.url("agent"), protocol=2)
    reader = redis.Redis.from_url(server.url("consumer"), protocol=2)
    key, seen = f"fleet:poses:{stream}", []
    payloads = make_payloads(reports)
    sent_at = [0.0] * reports

    def read() -> None:
        last: bytes | str = "0-0"
        while len(seen) < reports:
            for _, entries in reader.xread({key: last}, block=500):
                seen.extend(time.monotonic() for _ in entries)
                last = entries[-1][0]

    thread = threading.Thread(target=read)
    thread.start()
    for index, payload in enumerate(payloads):
        time.sleep(0.005)
        sent_at[index] = time.monotonic()
        writer.xadd(key, {"p": bytes(payload)}, maxlen=3000)
    thread.join()
    writer.close()
    reader.close()
    return [read_at - sent for read_at, sent in zip(seen, sent_at, strict=True)]


def our_loop(server: EmbeddedRedis, stream: str, reports: int) -> list[float]:
    seen: list[float] = []
    payloads = make_payloads(reports)
    sent_at = [0.0] * reports
    sink = RedisSink(server.url("agent"))
    with connect(server.url("consumer")) as fleet:
        deliveries = fleet.poses(stream, since="first", count=reports, timeout_s=10)
        thread = threading.Thread(target=lambda: seen.extend(time.monotonic() for _ in deliveries))
        thread.start()
        for index, payload in enumerate(payloads):
            time.sleep(0.005)
            sent_at[index] = time.monotonic()
            sink.publish_poses(stream, payload, sent_at[index])
        thread.join()
    sink.close(5)
    return [read_at - sent for read_at, sent in zip(seen, sent_at, strict=True)]


def make_payloads(count: int) -> list[bytearray]:
    encoder = PoseEncoder("pi4-kitchen/cpu:CPU", "posenet-mobilenet-075", COCO17, 20)
    payloads = []
    for index in range(count):
        payloads.append(encoder.encode(make_frame(), 1, DURATIONS_S, make_buffer(20), TRANSFORM))
        stamp_index(payloads[-1], index)
    return payloads


if __name__ == "__main__":
    main()
