"""Every Redis key of the fleet: its name, type, writer, lifetime and retention, in one table."""

from dataclasses import dataclass
from typing import Literal

ADVERT_TTL_S = 15
"""Five times the advert's renewal period."""
HEARTBEAT_TTL_S = 3
"""Three heartbeats of 1 s: a node whose link or process is gone is noticed within this time."""
POSES_MAXLEN = 3000
"""100 s of a 30 fps stream; about 8 MB a stream with 20 people in every frame."""
THROUGHPUT_MAXLEN = 900
"""15 minutes of one report a second."""
EVENTS_MAXLEN = 2000
"""Days of a quiet fleet, hours of a broken one."""
REPORT_TTL_S = 3600
"""Poses and throughput of a stream or accelerator that is gone are forgotten after an hour."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Key names under one namespace; two fleets on one Redis use two namespaces."""

    namespace: str = "fleet"

    @property
    def meta(self) -> str:
        """Hash: schema version, fleet version, when the fleet came up."""
        return f"{self.namespace}:meta"

    @property
    def streams(self) -> str:
        """Hash of stream id -> `StreamSpec`: the streams that should run."""
        return f"{self.namespace}:streams"

    @property
    def assignments(self) -> str:
        """Hash of stream id -> `Assignment`: who serves it now."""
        return f"{self.namespace}:assignments"

    @property
    def events(self) -> str:
        """Stream of `FleetEvent`: what happened, in order."""
        return f"{self.namespace}:events"

    def advert(self, node: str) -> str:
        """String: the `NodeAdvert` of one node."""
        return f"{self.namespace}:advert:{node}"

    def heartbeat(self, accelerator: str) -> str:
        """String: the `Heartbeat` of one accelerator's agent."""
        return f"{self.namespace}:heartbeat:{accelerator}"

    def poses(self, stream: str) -> str:
        """Stream of packed `PoseReport`, field ``p``."""
        return f"{self.namespace}:poses:{stream}"

    def throughput(self, accelerator: str) -> str:
        """Stream of `ThroughputReport`, field ``r``."""
        return f"{self.namespace}:throughput:{accelerator}"


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One line of the key table."""

    pattern: str
    type: Literal["string", "hash", "stream"]
    writer: Literal["coordinator", "agent"]
    ttl_s: int | None
    """None: kept until it is removed."""
    maxlen: int | None
    """Approximate cap of a Redis stream."""
    holds: str


KEY_TABLE: tuple[KeyRow, ...] = (
    KeyRow("{ns}:meta", "hash", "coordinator", None, None, "schema and version of the fleet"),
    KeyRow("{ns}:streams", "hash", "coordinator", None, None, "the streams that should run"),
    KeyRow("{ns}:assignments", "hash", "coordinator", None, None, "which accelerator serves what"),
    KeyRow("{ns}:events", "stream", "coordinator", None, EVENTS_MAXLEN, "what happened, in order"),
    KeyRow("{ns}:advert:NODE", "string", "agent", ADVERT_TTL_S, None, "what a node is and offers"),
    KeyRow("{ns}:heartbeat:ACCELERATOR", "string", "agent", HEARTBEAT_TTL_S, None, "sign of life"),
    KeyRow("{ns}:poses:STREAM", "stream", "agent", REPORT_TTL_S, POSES_MAXLEN, "packed poses"),
    KeyRow(
        "{ns}:throughput:ACCELERATOR", "stream", "agent", REPORT_TTL_S, THROUGHPUT_MAXLEN,
        "fps, latency and drops, one report a second",
    ),
)  # fmt: skip
