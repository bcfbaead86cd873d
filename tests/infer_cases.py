"""Pictures and videos for `fleet infer`, and how its output is read."""

import json

import av
import cv2
import numpy as np


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def noise(height=48, width=64, channels=3, dtype=np.uint8, seed=1):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype)


def write_picture(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), noise() if pixels is None else pixels)
    return path


def write_video(path, frames=5, size=(64, 48), rate=10, seeds=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "bgr0"
        for seed in seeds or range(frames):
            pixels = noise(size[1], size[0], seed=seed)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def read_video(path):
    """Return size, frame rate and the frames' times in seconds."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.time for frame in container.decode(stream)]
        return (stream.width, stream.height), float(stream.average_rate), times


def names(folder):
    return sorted(path.name for path in folder.iterdir())
