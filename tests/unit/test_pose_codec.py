"""The packed pose report: what is in it, what is refused, what is clamped."""

import subprocess
import sys

import numpy as np
import pytest
from pose_reports import (
    DURATIONS_S,
    FRAME,
    INPUT,
    make_buffer,
    make_encoder,
    make_frame,
    make_payload,
)

from agents.errors import WireError
from agents.wire import SCHEMA_VERSION
from agents.wire.pose_kernel import compiled_pack_body, half_bits, pack_body, quantize
from agents.wire.poses import (
    STAGES,
    PoseEncoder,
    decode,
    quantum_exponent,
    report_position,
    stamp_encode,
    stamp_index,
    stamp_latency,
    stamp_tracks,
)
from models.geometry import ImageTransform
from models.poses import PoseBuffer
from models.skeletons import COCO17, Skeleton


def encode(buffer, transform=None, is_tracked=False, capacity=20):
    transform = transform or ImageTransform.fit(FRAME, INPUT)
    encoder = make_encoder(capacity=capacity)
    return encoder.encode(make_frame(41), 3, DURATIONS_S, buffer, transform, is_tracked)


def test_a_report_says_which_frame_it_is_about():
    payload = encode(make_buffer(2))
    stamp_index(payload, 17)
    stamp_latency(payload, 12_345)
    stamp_encode(payload, 0.0005)

    report = decode(payload)

    assert (report.epoch, report.index, report.sequence) == (3, 17, 41)
    assert report.captured_at == 1_700_000_000.25
    assert report.latency_ms == 12.345
    assert tuple(report.durations) == STAGES
    assert list(report.durations.values()) == pytest.approx([1, 2, 3, 4, 5, 0.5, 0])
    assert (report.accelerator, report.model) == ("pi/cpu:CPU", "posenet-mobilenet-075")
    assert report.frame_size == FRAME
    assert report.poses.skeleton is COCO17
    assert report_position(payload) == (3, 17)


def test_keypoints_come_back_in_frame_pixels_within_half_a_quantum():
    buffer = make_buffer(20)
    transform = ImageTransform.fit((1920, 1080), INPUT)

    poses = decode(encode(buffer, transform)).poses

    expected = transform.to_frame(buffer.keypoints)
    assert np.abs(poses.keypoints[..., :2] - expected[..., :2]).max() <= 1 / 32 + 1e-3
    assert np.array_equal(poses.keypoints[..., 2], buffer.keypoints[..., 2].astype(np.float16))
    assert np.array_equal(poses.scores, buffer.scores.astype(np.float16))


@pytest.mark.parametrize(
    ("width", "quantum"),
    [(640, 1 / 32), (1920, 1 / 16), (3840, 1 / 8), (20_000, 1), (65_535, 4)],
)
def test_quantum_reaches_half_a_frame_beyond_every_side(width, quantum):
    assert 2.0 ** quantum_exponent(width, width // 2) == quantum
    assert 32_767 * quantum >= width - 1


def test_track_ids_travel_only_when_there_are_any():
    tracks = np.array([7, -1, 2_000_000_000], np.int32)
    untracked, tracked = encode(make_buffer(3)), encode(make_buffer(3), is_tracked=True)
    stamp_tracks(tracked, tracks, 0.25)

    assert len(tracked) == len(untracked) + 12 + 4
    assert np.array_equal(decode(tracked).poses.track_ids, tracks)
    assert [pose.track_id for pose in decode(tracked).poses] == [7, None, 2_000_000_000]
    assert decode(tracked).durations["track"] == 250.0
    assert len(decode(untracked).poses.track_ids) == 0
    assert decode(untracked).durations["track"] == 0.0


def test_tracks_go_only_where_there_is_room_for_them():
    for payload in (encode(make_buffer(3)), encode(make_buffer(2), is_tracked=True)):
        before = bytes(payload)
        with pytest.raises(ValueError, match="no room"):
            stamp_tracks(payload, np.arange(3, dtype=np.int32), 0.0)
        assert payload == before


def test_a_tracking_time_that_is_no_number_is_refused():
    payload = encode(make_buffer(1), is_tracked=True)
    stamp_tracks(payload, np.array([1], np.int32), float("nan"))
    with pytest.raises(WireError, match="not a number"):
        decode(payload)


def test_a_frame_without_people_is_a_report_too():
    assert len(decode(encode(make_buffer(0))).poses) == 0


def test_an_encoder_can_be_used_again_and_its_payloads_stay_apart():
    encoder, buffer = make_encoder(), make_buffer(2)
    small, large = ImageTransform.fit(FRAME, INPUT), ImageTransform.fit((1920, 1080), INPUT)
    first = encoder.encode(make_frame(1), 1, DURATIONS_S, buffer, small)
    kept = bytes(first)
    second = encoder.encode(make_frame(2), 1, DURATIONS_S, buffer, large)

    assert bytes(first) == kept
    assert decode(first).frame_size == FRAME
    assert decode(second).frame_size == (1920, 1080)


def test_what_is_not_a_number_or_too_far_away_is_clamped():
    buffer = make_buffer(1)
    buffer.keypoints[0, 0] = (np.inf, -np.inf, np.inf)
    buffer.keypoints[0, 1] = (np.nan, 1e30, np.nan)
    buffer.keypoints[0, 2] = (-1e30, 0, -1)
    buffer.scores[0] = np.nan

    report = decode(encode(buffer))

    reach = 32_767 / 32
    low = (FRAME[0] // 2 - reach, FRAME[1] // 2 - reach)
    high = (FRAME[0] // 2 + reach, FRAME[1] // 2 + reach)
    points = report.poses.keypoints[0]
    assert tuple(points[0]) == (high[0], low[1], 65_504)
    assert tuple(points[1]) == (low[0], high[1], 0)
    assert (points[2, 0], points[2, 2]) == (low[0], 0)
    assert report.poses.scores[0] == 0


def test_kernel_agrees_with_its_plain_twin():
    buffer = make_buffer(5)
    buffer.keypoints[0, 0] = (np.nan, np.inf, 1e-7)
    affine = np.array([31.7, -4000.25, 30.1, -3000.5])
    words = 5 * (1 + 3 * 17)
    compiled, plain = np.zeros(words, np.int16), np.zeros(words, np.int16)

    compiled_pack_body(buffer.keypoints, buffer.scores, 5, affine, compiled)
    pack_body(buffer.keypoints, buffer.scores, 5, affine, plain)

    assert np.array_equal(compiled, plain)


def test_half_floats_are_those_of_numpy_for_every_finite_one():
    halves = np.arange(0, 0x7C00, dtype=np.uint16).view(np.float16)
    exact = halves.astype(np.float32)
    between = (exact[:-1] + exact[1:]) / 2  # ties, which go to even

    for values in (exact, between, np.nextafter(between, np.float32(0))):
        ours = [int(half_bits(value)) for value in values]
        assert np.array_equal(ours, values.astype(np.float16).view(np.uint16))


def test_quanta_are_rounded_to_nearest():
    assert [int(quantize(value)) for value in (0.4, -0.6, 32_766.6, 40_000.0)] == [
        0, -1, 32_767, 32_767,
    ]  # fmt: skip


def test_more_people_than_the_encoder_was_built_for_is_our_bug():
    with pytest.raises(ValueError, match="3 persons of 17 keypoints do not fit"):
        encode(make_buffer(3), capacity=2)
    other = PoseBuffer(2, 18)
    with pytest.raises(ValueError, match="18 keypoints"):
        encode(other)


def test_a_frame_too_large_for_the_header_is_named():
    with pytest.raises(WireError, match="70000x10"):
        encode(make_buffer(1), ImageTransform.fit((70_000, 10), INPUT))


def test_a_name_too_long_for_its_length_byte_is_refused():
    with pytest.raises(WireError, match="longer than 255"):
        make_encoder(accelerator="n" * 256)


def test_every_truncation_is_refused():
    payload = make_payload()
    for length in range(len(payload)):
        with pytest.raises(WireError, match=r"truncated|empty"):
            decode(payload[:length])


def test_trailing_bytes_are_refused():
    with pytest.raises(WireError, match="1 trailing bytes"):
        decode(make_payload() + b"\0")


def test_another_schema_version_is_refused_by_name():
    payload = make_payload()
    payload[0] = SCHEMA_VERSION + 1
    with pytest.raises(WireError, match=f"schema version {SCHEMA_VERSION + 1}") as caught:
        decode(payload)
    assert "same posefleet version" in caught.value.hint
    with pytest.raises(WireError):
        report_position(payload)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (1, 0x80, "header that no encoder writes"),  # flags
        (2, 0x7F, "quantum"),
        (3, 0, "header that no encoder writes"),  # keypoints a person
        (3, 255, "truncated"),
        (5, 0xFF, "truncated"),  # 65,281 persons
        (7, 0xFF, "quantum"),  # width
        (43, 0x7F, "time"),  # captured_at becomes huge or not a number
    ],
)
def test_absurd_headers_are_refused(offset, value, message):
    payload = make_payload()
    payload[offset] = value
    if message == "time":
        payload[42] = 0xF8
    with pytest.raises(WireError, match=message):
        decode(payload)


def test_names_inside_must_add_up_and_be_text():
    payload = make_payload()
    at = payload.index(b"pi/cpu:CPU") - 1
    for value in (0, 200):
        damaged = bytearray(payload)
        damaged[at] = value
        with pytest.raises(WireError):
            decode(damaged)
    damaged = bytearray(payload)
    damaged[at + 1] = 0xFF
    with pytest.raises(WireError, match="not UTF-8"):
        decode(damaged)


def test_a_skeleton_that_this_version_does_not_know_is_refused():
    skeleton = Skeleton("alien5", ("a", "b", "c", "d", "e"), ())
    encoder = PoseEncoder("a", "m", skeleton, 1)
    payload = encoder.encode(
        make_frame(), 1, DURATIONS_S, PoseBuffer(1, 5), ImageTransform.fit(FRAME, INPUT)
    )
    with pytest.raises(WireError, match="alien5") as caught:
        decode(payload)
    assert caught.value.hint


def test_a_score_that_is_not_a_number_is_refused():
    payload = make_payload()
    payload[68:70] = np.array([np.nan], np.float16).tobytes()
    with pytest.raises(WireError, match="not a number"):
        decode(payload)


def test_latency_stays_in_its_field():
    payload = make_payload()
    stamp_latency(payload, -5)
    assert decode(payload).latency_ms == 0
    stamp_latency(payload, 1 << 40)
    assert decode(payload).latency_ms == pytest.approx(4_294_967.295)


def test_reading_reports_does_not_load_the_compiler():
    code = "import sys, agents.wire.poses; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
