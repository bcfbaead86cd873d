"""JSON messages between node and fleet: adverts, heartbeats, streams, assignments, throughput."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.errors import WireError
from agents.wire import SCHEMA_VERSION


class Message(BaseModel):
    """Base of everything that crosses a process boundary as JSON."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    def to_json(self) -> str:
        """Encode as one JSON object."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, data: str | bytes) -> Self:
        """Decode one JSON object.

        Raises:
            WireError: not JSON, or not this message.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise WireError(f"not a {cls.__name__}: {error.errors()[0]['msg']}") from error


class AcceleratorInfo(Message):
    """One accelerator as its driver sees it."""

    id: str
    """Unique in the fleet: ``node/kind:device``."""
    kind: Literal["cpu", "gpu", "npu", "myriad", "edgetpu", "emulated"]
    driver: str
    """The `ACCELERATORS` entry that opens it."""
    device: str
    """The name by which the driver opens it."""
    name: str
    """What a person calls it, e.g. the CPU's brand string."""
    precisions: tuple[str, ...]
    """What it can compute in, best supported first."""
    is_emulated: bool = False
    """True when its service times are replayed, not measured."""


class NodeAdvert(Message):
    """What a node says about itself."""

    schema_version: int = SCHEMA_VERSION
    node: str
    posefleet: str
    """Version of our distribution on the node."""
    python: str
    ray: str
    system: str
    machine: str
    cores: int
    memory_bytes: int
    accelerators: tuple[AcceleratorInfo, ...]


class Heartbeat(Message):
    """Sign of life of one accelerator's agent."""

    accelerator: str
    node: str
    pid: int
    at: float
    """Wall clock of the node, seconds since the epoch."""
    state: Literal["starting", "ready", "stopping", "failed"]
    error: str = ""


class StreamSpec(Message):
    """A stream that should run."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    url: str
    fps: float | None = Field(default=None, gt=0)
    """Most frames a second to process; None takes what the source delivers."""
    model: str
    track: bool = True
    """Give every person an id that it keeps from frame to frame."""
    origin: Literal["config", "added"] = "config"
    """``added`` ones, by ``fleet stream add``, outlive a restart; ``config`` ones follow it."""


class Assignment(Message):
    """The order to one agent: this stream, this model, until told otherwise."""

    stream: StreamSpec
    accelerator: str
    epoch: int
    """Raised at every move of the stream; pose reports carry it."""


LatencyPercentiles = tuple[float, float, float]
"""p50, p95, p99 in milliseconds, nearest rank."""

StreamState = Literal["connecting", "streaming", "reconnecting", "ended", "failed"]


class StreamReport(Message):
    """One stream in one throughput window."""

    stream: str
    model: str
    state: StreamState
    error: str = ""
    captured: int
    """Frames that the source delivered, since the assignment began."""
    published: int
    dropped: dict[str, int]
    """Cause -> frames, since the assignment began; captured = published + dropped + in flight."""
    in_flight: int
    fps_in: float
    fps_out: float
    """Captured and published frames a second in this window."""
    people: float
    """Mean number of persons a published frame in this window."""
    latency_ms: LatencyPercentiles | None
    """Capture to published; None when nothing was published in this window."""
    durations_ms: dict[str, float]
    """Stage -> mean wall milliseconds a frame in this window."""
    gaps: int
    """Times the source was lost and came back."""
    last_gap_s: float
    """How long the last such gap lasted; 0 when there was none."""


class ThroughputReport(Message):
    """What one accelerator did in the last window."""

    accelerator: str
    at: float
    window_s: float
    precision: str
    streams: tuple[StreamReport, ...]
    unsent: int
    """Reports that wait for Redis to come back."""
    lost: int
    """Reports thrown away because the bounded buffer was full, since the agent started."""


class FleetEvent(Message):
    """Something that happened in the fleet, for people and dashboards."""

    at: float
    kind: str
    subject: str
    """The stream, accelerator or node it is about."""
    message: str
