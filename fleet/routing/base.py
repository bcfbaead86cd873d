"""RoutingPolicy protocol, Candidate and Decision (with its reason)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agents.wire.messages import StreamSpec


@dataclass(frozen=True, slots=True)
class Candidate:
    """An accelerator that could serve a stream now."""

    accelerator: str
    streams: int
    """How many streams it serves already."""
    busy: float | None
    """Measured busy lanes: frames a second times seconds of inference; None when not measured."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a stream goes and why, in words for a person."""

    accelerator: str
    reason: str


class RoutingPolicy(Protocol):
    """Chooses; holds no clock and does no I/O."""

    def choose(self, stream: StreamSpec, candidates: Sequence[Candidate], /) -> Decision | None:
        """Return the accelerator for a stream, or None when no candidate may serve it.

        The order of the candidates must not matter.
        """
        ...
