"""Packed pose reports and what else nodes send, for tests: defaults for everything."""

from types import SimpleNamespace

import numpy as np
from builders import make_accelerator

from agents.wire.messages import FleetEvent, NodeAdvert
from agents.wire.poses import PoseEncoder, stamp_index
from models.geometry import ImageTransform
from models.poses import PoseBuffer
from models.skeletons import COCO17

FRAME = (640, 480)
INPUT = (257, 257)
DURATIONS_S = (0.001, 0.002, 0.003, 0.004, 0.005)


def make_buffer(people=2, *, capacity=20, seed=7) -> PoseBuffer:
    random = np.random.default_rng(seed)
    buffer = PoseBuffer(capacity, len(COCO17.keypoints))
    buffer.keypoints[:] = random.random(buffer.keypoints.shape)
    buffer.keypoints[..., :2] *= INPUT
    buffer.scores[:] = np.sort(random.random(capacity))[::-1]
    buffer.count = people
    return buffer


def make_encoder(*, accelerator="pi/cpu:CPU", model="posenet-mobilenet-075", capacity=20):
    return PoseEncoder(accelerator, model, COCO17, capacity)


def make_frame(sequence=0, captured_at=1_700_000_000.25):
    return SimpleNamespace(sequence=sequence, captured_at=captured_at)


def make_payload(index=0, *, epoch=1, people=1) -> bytearray:
    payload = make_encoder().encode(
        make_frame(sequence=index * 2), epoch, DURATIONS_S, make_buffer(people),
        ImageTransform.fit(FRAME, INPUT),
    )  # fmt: skip
    stamp_index(payload, index)
    return payload


def make_advert(**fields) -> NodeAdvert:
    defaults = {
        "node": "pi", "posefleet": "0.1.0", "python": "3.11", "ray": "2", "system": "Linux",
        "machine": "aarch64", "cores": 4, "memory_bytes": 1 << 30,
        "accelerators": (make_accelerator(),),
    }  # fmt: skip
    return NodeAdvert(**{**defaults, **fields})


def make_event(message="it happened", **fields) -> FleetEvent:
    defaults = {"at": 1000.0, "kind": "stream-placed", "subject": "door", "message": message}
    return FleetEvent(**{**defaults, **fields})
