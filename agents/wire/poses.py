"""Pose reports as packed bytes: what one frame's persons cost on the wire is about 104 bytes each.

Layout, little-endian: the header; a float16 score a person; x, y as int16 and a float16 score a
keypoint; with the tracked flag an int32 track id a person and the float32 seconds that tracking
took; three strings (accelerator, model, skeleton), each after a byte with its length. Coordinates
count quanta from the frame's center.

Not guaranteed: coordinates further than half a frame outside the frame; they are clamped.
"""

import math
import pkgutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.errors import WireError
from agents.wire import SCHEMA_VERSION
from models.geometry import ImageTransform
from models.poses import PoseBuffer, PoseSet
from models.skeletons import SKELETONS, Skeleton

STAGES = ("wait", "convert", "resize", "infer", "group", "encode", "track")
"""The stages whose durations a report carries, in the order of a frame; without a tracker,
``track`` is 0."""
MAX_FRAME_SIDE = 65_535
"""Pixels; the header keeps width and height in 16 bits."""

_HEADER = struct.Struct("<BBbBHHHHIIQQd6f")
_SCHEMA, _FLAGS, _EXPONENT, _KEYPOINTS, _PERSONS, _WIDTH, _HEIGHT, _TEXT, _LATENCY = range(9)
_EPOCH, _INDEX, _SEQUENCE, _CAPTURED_AT, _DURATIONS = range(9, 14)
_LATENCY_FIELD = struct.Struct("<I")
_LATENCY_OFFSET = struct.calcsize("<BBbBHHHH")
_INDEX_FIELD = struct.Struct("<Q")
_INDEX_OFFSET = struct.calcsize("<BBbBHHHHII")
_ENCODE_FIELD = struct.Struct("<f")
_ENCODE_OFFSET = _HEADER.size - _ENCODE_FIELD.size
_TRACKED = 1
_TRACK_FIELD = struct.Struct("<f")
_LIMIT = 32_767


class CapturedFrame(Protocol):
    """What a report says about its frame; `agents.streams.base.Frame` is one."""

    @property
    def sequence(self) -> int:
        """The frame's number in its stream; frames that were dropped leave holes."""
        ...

    @property
    def captured_at(self) -> float:
        """Wall clock at capture, seconds since the epoch of Unix."""
        ...


@dataclass(frozen=True, slots=True)
class PoseReport:
    """The poses of one frame of a stream; the stream is named by the key it was read from."""

    epoch: int
    """Of two reports of a stream the higher epoch is from the later assignment."""
    index: int
    """Counts the published reports of this epoch from 0; a hole is a report that was lost."""
    sequence: int
    captured_at: float
    latency_ms: float
    """Capture to handed to Redis, on the node's monotonic clock; 0 when it was never sent."""
    durations: dict[str, float]
    """Stage of `STAGES` -> wall milliseconds."""
    accelerator: str
    model: str
    frame_size: tuple[int, int]
    """``(width, height)`` in pixels."""
    poses: PoseSet


def quantum_exponent(width: int, height: int) -> int:
    """Return e so that int16 counts of ``2**e`` pixels reach half a frame beyond every side.

    1920 wide: -4, that is 1/16 px; 20,000 wide: 0, that is 1 px.
    """
    return math.ceil(math.log2(max(width, height) / _LIMIT))


class PoseEncoder:
    """Packs the poses of frames straight from a decoder's buffer; one thread at a time."""

    def __init__(self, accelerator: str, model: str, skeleton: Skeleton, capacity: int) -> None:
        """Compile the kernel or load it from its cache (a second, the first time on a machine).

        Raises:
            WireError: a name is longer than 255 bytes.
        """
        self._pack = pkgutil.resolve_name("agents.wire.pose_kernel:compiled_pack_body")
        self._text = b"".join(_pack_text(text) for text in (accelerator, model, skeleton.name))
        self._keypoint_count = len(skeleton.keypoints)
        self._capacity = capacity
        words = capacity * (1 + 3 * self._keypoint_count)
        self._buffer = bytearray(_HEADER.size + 2 * words)
        self._body = np.frombuffer(self._buffer, "<i2", words, _HEADER.size)
        self._bytes = memoryview(self._buffer)
        self._affine = np.zeros(4, np.float64)
        self._transform: ImageTransform | None = None
        self._exponent = 0

    def warm(self) -> None:
        """Run the kernel on nothing, so that the first frame pays for nothing extra."""
        empty = PoseBuffer(0, self._keypoint_count)
        self._pack(empty.keypoints, empty.scores, 0, self._affine, self._body)

    def encode(
        self,
        frame: CapturedFrame,
        epoch: int,
        durations_s: Sequence[float],
        poses: PoseBuffer,
        transform: ImageTransform,
        is_tracked: bool = False,
    ) -> bytearray:
        """Pack the poses of one frame; index, latency, ``encode`` and tracks are stamped in later.

        Args:
            frame: Where the poses were found.
            epoch: The assignment's epoch.
            durations_s: Seconds of every stage of `STAGES` up to ``group``.
            poses: Persons in pixels of the network's input.
            transform: How the frame was placed in the input.
            is_tracked: Leave room for `stamp_tracks`, which must follow.

        Raises:
            ValueError: more persons, or other keypoints, than this encoder was built for.
            WireError: the frame is larger than `MAX_FRAME_SIDE`.
        """
        count = poses.count
        if count > self._capacity or poses.keypoints.shape[1] != self._keypoint_count:
            raise ValueError(
                f"{count} persons of {poses.keypoints.shape[1]} keypoints do not fit an encoder "
                f"for {self._capacity} of {self._keypoint_count}"
            )
        if transform is not self._transform:
            self._use(transform)
        self._pack(poses.keypoints, poses.scores, count, self._affine, self._body)
        _HEADER.pack_into(
            self._buffer, 0, SCHEMA_VERSION, _TRACKED if is_tracked else 0, self._exponent,
            self._keypoint_count, count, transform.frame_width, transform.frame_height,
            len(self._text), 0, epoch, 0, frame.sequence, frame.captured_at,
            *durations_s, 0.0,
        )  # fmt: skip
        payload = bytearray(
            self._bytes[: _HEADER.size + 2 * count * (1 + 3 * self._keypoint_count)]
        )
        if is_tracked:
            payload += bytes(4 * count + _TRACK_FIELD.size)
        payload += self._text
        return payload

    def _use(self, transform: ImageTransform) -> None:
        width, height = transform.frame_width, transform.frame_height
        if max(width, height) > MAX_FRAME_SIDE:
            raise WireError(
                f"a frame of {width}x{height} pixels does not fit a pose report",
                hint=f"frames may be {MAX_FRAME_SIDE} pixels wide or high",
            )
        self._exponent = quantum_exponent(width, height)
        per_pixel = 2.0**-self._exponent
        ax, bx, ay, by = transform.affine_to_frame()
        self._affine[:] = (ax, bx - width // 2, ay, by - height // 2)
        self._affine *= per_pixel
        self._transform = transform


def stamp_index(payload: bytearray, index: int) -> None:
    """Write the place among the published reports of its epoch into a packed report."""
    _INDEX_FIELD.pack_into(payload, _INDEX_OFFSET, index)


def stamp_latency(payload: bytearray, latency_us: int) -> None:
    """Write the latency, in microseconds, into a packed report."""
    _LATENCY_FIELD.pack_into(payload, _LATENCY_OFFSET, min(max(latency_us, 0), 0xFFFFFFFF))


def stamp_encode(payload: bytearray, duration_s: float) -> None:
    """Write how long packing took into a packed report."""
    _ENCODE_FIELD.pack_into(payload, _ENCODE_OFFSET, duration_s)


def stamp_tracks(payload: bytearray, track_ids: NDArray[np.int32], duration_s: float) -> None:
    """Write ``(person,)`` track ids, and how long finding them took, into a packed report.

    Raises:
        ValueError: the report was packed without room for them, or holds another number of persons.
    """
    header = _HEADER.unpack_from(payload)
    if header[_FLAGS] != _TRACKED or header[_PERSONS] != len(track_ids):
        raise ValueError(f"a report of {header[_PERSONS]} persons has no room for these tracks")
    at = _tracks_offset(header)
    end = at + 4 * len(track_ids)
    payload[at:end] = track_ids.astype("<i4").tobytes()
    _TRACK_FIELD.pack_into(payload, end, duration_s)


def report_position(payload: bytes | bytearray) -> tuple[int, int]:
    """Return ``(epoch, index)`` of a packed report without unpacking its poses.

    Raises:
        WireError: another schema version, or too short to be a report.
    """
    header = _unpack_header(payload)
    return header[_EPOCH], header[_INDEX]


def decode(payload: bytes | bytearray) -> PoseReport:
    """Unpack a report; coordinates come back in pixels of the original frame.

    Raises:
        WireError: another schema version, truncated, trailing bytes, or values no encoder writes.
    """
    header = _unpack_header(payload)
    persons, keypoint_count = header[_PERSONS], header[_KEYPOINTS]
    tracked = header[_FLAGS] == _TRACKED
    tracks_at = _tracks_offset(header)
    text_at = tracks_at + (4 * persons + _TRACK_FIELD.size if tracked else 0)
    _check_length(len(payload), text_at + header[_TEXT])
    accelerator, model, skeleton_name = _unpack_texts(payload, text_at)
    skeleton = SKELETONS.get(skeleton_name)
    if skeleton is None or len(skeleton.keypoints) != keypoint_count:
        raise WireError(
            f"pose report has {keypoint_count} keypoints of skeleton {skeleton_name!r}, "
            "which this version does not know",
            hint="update posefleet on the machine that reads",
        )
    scores = np.frombuffer(payload, "<f2", persons, _HEADER.size).astype(np.float32)
    keypoints = _unpack_keypoints(payload, header)
    if not (np.isfinite(scores).all() and np.isfinite(keypoints).all()):
        raise WireError("pose report has a score that is not a number")
    tracks = np.frombuffer(payload, "<i4", persons if tracked else 0, tracks_at)
    track_s = _unpack_track_duration(payload, text_at) if tracked else 0.0
    return PoseReport(
        epoch=header[_EPOCH],
        index=header[_INDEX],
        sequence=header[_SEQUENCE],
        captured_at=header[_CAPTURED_AT],
        latency_ms=header[_LATENCY] / 1000,
        durations={
            stage: seconds * 1000
            for stage, seconds in zip(STAGES, (*header[_DURATIONS:], track_s), strict=True)
        },
        accelerator=accelerator,
        model=model,
        frame_size=(header[_WIDTH], header[_HEIGHT]),
        poses=PoseSet(skeleton, scores, keypoints, tracks.astype(np.int32)),
    )


def _unpack_header(payload: bytes | bytearray) -> tuple[Any, ...]:
    if not payload:
        raise WireError("pose report is empty")
    if payload[0] != SCHEMA_VERSION:
        raise WireError(
            f"pose report has schema version {payload[0]}, this version reads {SCHEMA_VERSION}",
            hint="run the same posefleet version on every machine",
        )
    if len(payload) < _HEADER.size:
        raise WireError(f"pose report is truncated: {len(payload)} bytes, no whole header")
    header = _HEADER.unpack_from(payload)
    width, height = header[_WIDTH], header[_HEIGHT]
    if header[_FLAGS] not in (0, _TRACKED) or not header[_KEYPOINTS] or not width or not height:
        raise WireError("pose report has a header that no encoder writes")
    if header[_EXPONENT] != quantum_exponent(width, height):
        raise WireError(f"pose report has quantum 2**{header[_EXPONENT]} for {width}x{height}")
    if not all(math.isfinite(value) for value in header[_CAPTURED_AT:]):
        raise WireError("pose report has a time that is not a number")
    return header


def _tracks_offset(header: tuple[Any, ...]) -> int:
    return _HEADER.size + 2 * int(header[_PERSONS]) * (1 + 3 * int(header[_KEYPOINTS]))


def _unpack_track_duration(payload: bytes | bytearray, end: int) -> float:
    (seconds,) = _TRACK_FIELD.unpack_from(payload, end - _TRACK_FIELD.size)
    if not math.isfinite(seconds):
        raise WireError("pose report has a time that is not a number")
    return float(seconds)


def _check_length(found: int, expected: int) -> None:
    if found < expected:
        raise WireError(f"pose report is truncated: {found} of {expected} bytes")
    if found > expected:
        raise WireError(f"pose report has {found - expected} trailing bytes")


def _unpack_keypoints(payload: bytes | bytearray, header: tuple[Any, ...]) -> NDArray[np.float32]:
    persons, keypoint_count = header[_PERSONS], header[_KEYPOINTS]
    words = np.frombuffer(
        payload, "<i2", 3 * persons * keypoint_count, _HEADER.size + 2 * persons
    ).reshape(persons, keypoint_count, 3)
    keypoints = words.astype(np.float32)
    keypoints *= np.float32(2.0 ** header[_EXPONENT])
    keypoints += np.array([header[_WIDTH] // 2, header[_HEIGHT] // 2, 0], np.float32)
    keypoints[..., 2] = words.view("<f2")[..., 2]
    return keypoints


def _pack_text(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise WireError(f"name {text[:40]!r}... is longer than 255 bytes", hint="shorten it")
    return bytes([len(data)]) + data


def _unpack_texts(payload: bytes | bytearray, at: int) -> list[str]:
    texts = []
    for _ in range(3):
        if at >= len(payload) or at + 1 + payload[at] > len(payload):
            raise WireError("pose report has a name that reaches beyond its end")
        end = at + 1 + payload[at]
        try:
            texts.append(bytes(payload[at + 1 : end]).decode())
        except UnicodeDecodeError as error:
            raise WireError("pose report has a name that is not UTF-8") from error
        at = end
    _check_length(len(payload), at)
    return texts
