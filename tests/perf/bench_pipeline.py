"""Whole-node throughput against OpenVINO's own benchmark_app, side by side in one run.

Frames go through the real path: slot, lanes, resize, inference, grouping, packing, Redis. The
limit says what is possible on this machine in this run: the share of a frame's CPU time that is
inference. Rounds are interleaved; every figure is a median over rounds, only ratios are quoted.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import av

from agents.accelerators.openvino_runtime import OpenVinoDriver
from agents.pipeline import LoadedModel, load_model
from agents.serving import ModelServer, StreamRun
from agents.streams import open_stream
from agents.streams.base import Frame
from agents.streams.media import open_video
from agents.telemetry.redis_sink import RedisSink
from agents.wire.messages import Assignment, StreamSpec
from agents.wire.poses import PoseEncoder
from fleet.store.embedded import EmbeddedRedis
from models.catalog import load_manifest
from models.convert.openvino_ir import ensure_ir

MODEL = "posenet-mobilenet-075"
SIZES = ((481, 353), (257, 257))
"""Input ``(width, height)``: Coral's own size, and the smallest that is in common use."""
SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@dataclass(frozen=True)
class Row:
    size: str
    precision: str
    source: str
    people: float
    reference_fps: float
    pipeline_fps: float
    ratio: float
    limit: float
    of_limit: float
    cpu_ms: dict[str, float]


def make_video(path: Path) -> str:
    """Encode 640x480 H.264 and return what it shows."""
    walking = SHARED / "data" / "videos" / "people_walking_720p.mp4"
    with ExitStack() as stack:
        if walking.exists():
            source = open_video(walking, is_paced=False)
        else:
            source = open_stream("synthetic:?people=5&size=640x480", first_sequence=0, timeout_s=5)
        stack.callback(source.close)
        container = stack.enter_context(av.open(str(path), "w"))
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for _ in range(200):
            frame = source.read()
            if frame is None:
                break
            picture = av.VideoFrame.from_ndarray(frame.pixels("rgb"), format="rgb24")
            container.mux(stream.encode(picture.reformat(640, 480, "yuv420p")))
        container.mux(stream.encode(None))
    return "people walking" if walking.exists() else "synthetic people"


def reference_fps(size: tuple[int, int], precision: str, seconds: float) -> float:
    """Run benchmark_app on the same network, precision and hint; frames a second."""
    width, height = size
    answer = subprocess.run(
        [
            str(Path(sys.executable).parent / "benchmark_app"),
            "-m", str(ensure_ir(load_manifest(MODEL)).path), "-d", "CPU", "-hint", "throughput",
            "-shape", f"[1,{height},{width},3]", "-infer_precision", precision,
            "-t", str(max(1, round(seconds))),
        ],
        capture_output=True, text=True, check=True, timeout=seconds + 60,
    )  # fmt: skip
    found = re.search(r"Throughput:\s+([\d.]+) FPS", answer.stdout)
    if found is None:
        raise SystemExit(f"benchmark_app printed no throughput:\n{answer.stdout[-2000:]}")
    return float(found[1])


class Driver:
    """Keeps a server supplied: the next frame of a stream is offered when one is taken."""

    def __init__(self, server: ModelServer, next_frame: Callable[[], Frame]) -> None:
        self._server = server
        self._next = next_frame
        self._is_running = True
        spec = StreamSpec(id="bench", url="memory:", model=MODEL)
        self.run = StreamRun(Assignment(stream=spec, accelerator="bench/cpu:CPU", epoch=1))

    def offer(self) -> None:
        inner = self._next()
        frame = Frame(
            inner.sequence, time.time(), time.monotonic(), (inner.width, inner.height),
            partial(self._taken, inner),
        )  # fmt: skip
        self._server.offer(self.run, frame)

    def _taken(self, inner: Frame, color: str) -> object:
        if self._is_running:
            self.offer()
        return inner.pixels(color)

    def stop(self) -> None:
        self._is_running = False


@contextmanager
def decoding_ahead(video: Path) -> Iterator[Callable[[], Frame]]:
    """Decode in a thread of its own, one frame ahead, as a feed does."""
    source = open_video(video, loop=True, is_paced=False)
    ready, wanted = threading.Semaphore(0), threading.Semaphore(2)
    frames: list[Frame] = []
    stop = threading.Event()

    def decode() -> None:
        while not stop.is_set():
            wanted.acquire()
            frame = source.read()
            if frame is None:
                return
            frames.append(frame)
            ready.release()

    def take() -> Frame:
        ready.acquire()
        wanted.release()
        return frames.pop(0)

    thread = threading.Thread(target=decode)
    thread.start()
    try:
        yield take
    finally:
        stop.set()
        wanted.release()
        source.close()
        thread.join()


def pipeline_fps(
    model: LoadedModel, sink: RedisSink, next_frame: Callable[[], Frame], seconds: float
) -> tuple[float, float]:
    """Return processed frames a second and people a frame."""
    model_again = LoadedModel(model.manifest, model.size, _Unclosable(model), model.lanes)
    server = ModelServer(model_again, sink, "bench/cpu:CPU", print)
    driver = Driver(server, next_frame)
    driver.offer()
    time.sleep(min(1.0, seconds / 4))
    with server.locked():
        driver.run.start_window()
    started = time.perf_counter()
    time.sleep(seconds)
    with server.locked():
        window = driver.run.start_window()
    took = time.perf_counter() - started
    driver.stop()
    server.close(5.0)
    return window.processed / took, window.mean_people()


class _Unclosable:
    """A session that survives its server, since several runs share it."""

    def __init__(self, model: LoadedModel) -> None:
        self.lanes, self.precision = model.session.lanes, model.session.precision

    def close(self) -> None:
        pass


def stage_cpu_ms(model: LoadedModel, sink: RedisSink, video: Path, count: int) -> dict[str, float]:
    """Measure each stage alone: CPU milliseconds of the process a frame."""
    source = open_video(video, loop=True, is_paced=False)
    lane = model.lanes[0]
    encoder = PoseEncoder("bench/cpu:CPU", MODEL, lane.skeleton, len(lane.buffer.scores))
    encoder.warm()
    spent = dict.fromkeys(("decode", "convert", "resize", "infer", "group", "publish"), 0.0)

    def timed(stage: str, work: Callable[[], object]) -> object:
        started = time.process_time()
        result = work()
        spent[stage] += time.process_time() - started
        return result

    for _ in range(count):
        frame = timed("decode", source.read)
        pixels = timed("convert", partial(frame.pixels, "rgb"))
        transform = timed("resize", partial(lane.prepare, pixels))
        timed("infer", lane.infer)
        timed("group", lane.group)
        payload = timed(
            "publish", partial(encoder.encode, frame, 1, lane.durations_s, lane.buffer, transform)
        )
        timed("publish", partial(_publish, sink, payload, frame))
    source.close()
    return {stage: total * 1000 / count for stage, total in spent.items()}


def _publish(sink: RedisSink, payload: bytearray, frame: Frame) -> None:
    sink.publish_poses("bench", payload, frame.captured_monotonic)
    while sink.backlog[0]:
        time.sleep(0)


def bench(seconds: float, rounds: int) -> list[Row]:
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        video = folder / "vga.mp4"
        shown = make_video(video)
        redis = EmbeddedRedis(folder=folder / "redis")
        stack.callback(redis.stop)
        redis.start()
        sink = RedisSink(redis.url("agent"))
        stack.callback(sink.close, 2.0)
        device = OpenVinoDriver().open("CPU")
        frames = []
        reader = open_video(video, is_paced=False)
        while len(frames) < 64 and (frame := reader.read()) is not None:
            pixels = frame.pixels("rgb")
            size = (frame.width, frame.height)
            frames.append(Frame(frame.sequence, 0.0, 0.0, size, lambda _, p=pixels: p))
        reader.close()
        for size in SIZES:
            model = load_model(device, load_manifest(MODEL), size=size)
            rows += _bench_size(model, sink, video, frames, (seconds, rounds, shown))
            model.close()
    return rows


def _bench_size(
    model: LoadedModel,
    sink: RedisSink,
    video: Path,
    frames: list[Frame],
    how: tuple[float, int, str],
) -> list[Row]:
    seconds, rounds, shown = how
    reference, memory, file = [], [], []
    people, position = 0.0, iter(range(10**9))
    cpu = []
    for _ in range(rounds):
        reference.append(reference_fps(model.size, model.precision, seconds))
        fps, people = pipeline_fps(
            model, sink, lambda: frames[next(position) % len(frames)], seconds
        )
        memory.append(fps)
        with decoding_ahead(video) as take:
            file.append(pipeline_fps(model, sink, take, seconds)[0])
        cpu.append(stage_cpu_ms(model, sink, video, 60))
    stages = {stage: statistics.median(one[stage] for one in cpu) for stage in cpu[0]}
    rows = []
    for source, measured, free in (
        ("memory", memory, ("decode", "convert")),
        ("h264 640x480", file, ()),
    ):
        ratio = statistics.median(m / r for m, r in zip(measured, reference, strict=True))
        counted = {stage: ms for stage, ms in stages.items() if stage not in free}
        limit = counted["infer"] / sum(counted.values())
        rows.append(
            Row(
                f"{model.size[0]}x{model.size[1]}", model.precision, f"{source}, {shown}", people,
                statistics.median(reference), statistics.median(measured), ratio, limit,
                ratio / limit, counted,
            )
        )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = bench(2.0, 1) if options.quick else bench(4.0, 5)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"\nPipeline / benchmark_app, {MODEL}, same precision and streams; medians of rounds")
    print(
        f"{'input':<9}{'prec.':<7}{'frames from':<32}{'people':>7}{'app fps':>9}{'ours':>8}"
        f"{'ratio':>7}{'limit':>7}{'of limit':>9}"
    )
    for row in rows:
        print(
            f"{row.size:<9}{row.precision:<7}{row.source:<32}{row.people:>7.1f}"
            f"{row.reference_fps:>9.1f}{row.pipeline_fps:>8.1f}{row.ratio:>7.2f}"
            f"{row.limit:>7.2f}{row.of_limit:>9.2f}"
        )
        stages = "  ".join(f"{stage} {ms:.2f}" for stage, ms in row.cpu_ms.items())
        print(f"{'':<16}CPU ms a frame: {stages}")


if __name__ == "__main__":
    main()
