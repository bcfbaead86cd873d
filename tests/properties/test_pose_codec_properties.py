"""decode(encode(x)) is x within the quantum and the precision of a float16; damage never passes."""

import contextlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pose_reports import make_frame, make_payload

from agents.errors import WireError
from agents.wire.poses import (
    PoseEncoder,
    decode,
    quantum_exponent,
    stamp_index,
    stamp_latency,
    stamp_tracks,
)
from models.geometry import ImageTransform
from models.poses import PoseBuffer
from models.skeletons import COCO17

CAPACITY = 12
ENCODER = PoseEncoder("node/cpu:CPU", "a-model", COCO17, CAPACITY)

sides = st.integers(1, 20_000)
transforms = st.builds(
    lambda frame, size, keep: ImageTransform.fit(frame, size, keep_aspect=keep),
    st.tuples(sides, sides),
    st.tuples(st.integers(33, 513), st.integers(33, 513)),
    st.booleans(),
)
seconds = st.floats(0, 1000, width=32)


@st.composite
def buffers(draw):
    """Persons somewhere in the frame or up to half a frame outside, given in frame shares."""
    buffer = PoseBuffer(CAPACITY, 17)
    buffer.count = draw(st.integers(0, CAPACITY))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    buffer.keypoints[..., :2] = random.uniform(-0.49, 1.49, (CAPACITY, 17, 2))
    buffer.keypoints[..., 2] = random.random((CAPACITY, 17)) ** 4
    buffer.scores[:] = random.random(CAPACITY)
    return buffer


@settings(max_examples=200, deadline=None)
@given(
    buffers(), transforms, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1), st.lists(seconds, min_size=5, max_size=5), st.booleans(),
)  # fmt: skip
def test_decoding_undoes_encoding(buffer, transform, epoch, index, latency, durations, tracked):
    frame = (transform.frame_width, transform.frame_height)
    wanted = buffer.keypoints[: buffer.count].copy()
    wanted[..., :2] *= frame
    buffer.keypoints[: buffer.count] = transform.to_input(wanted)
    tracks = np.arange(buffer.count, dtype=np.int32)

    payload = ENCODER.encode(make_frame(index, 1e9), epoch, durations, buffer, transform, tracked)
    if tracked:
        stamp_tracks(payload, tracks, 0.5)
    stamp_index(payload, index)
    stamp_latency(payload, latency)
    report = decode(payload)

    assert (report.epoch, report.index, report.sequence) == (epoch, index, index)
    assert report.latency_ms == latency / 1000
    assert np.allclose([*report.durations.values()][:5], np.multiply(durations, 1000), rtol=1e-6)
    assert report.poses.track_ids.tolist() == (tracks.tolist() if tracked else [])
    assert report.durations["track"] == (500.0 if tracked else 0.0)
    # Half a quantum from rounding; the rest is float32 on the way through input pixels.
    quantum = 2.0 ** quantum_exponent(*frame)
    error = np.abs(report.poses.keypoints[..., :2] - wanted[..., :2])
    assert error.max(initial=0) <= quantum / 2 + 1e-5 * max(frame)
    found = report.poses.keypoints[..., 2]
    assert np.allclose(found, wanted[..., 2], rtol=2**-11, atol=2**-25)
    assert np.allclose(report.poses.scores, buffer.scores[: buffer.count], rtol=2**-11, atol=2**-25)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_report_or_a_wire_error(data):
    with contextlib.suppress(WireError):
        decode(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 5), st.data())
def test_any_damage_is_a_report_or_a_wire_error(people, data):
    payload = make_payload(people=people)
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        report = decode(payload)
    except WireError:
        return
    assert np.isfinite(report.poses.keypoints).all()
