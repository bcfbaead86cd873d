"""Accelerator, Session and Lane protocols: a driver knows tensors only, no poses, no resizing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["f32", "f16", "bf16", "int8"]


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A network as a driver needs it: the file and what its tensors mean."""

    path: Path
    """The artifact, e.g. the ``.xml`` of an OpenVINO IR."""
    size: tuple[int, int]
    """Input ``(width, height)`` in pixels."""
    mean: float | Sequence[float]
    """The network takes ``(value - mean) / scale`` for channel values of 0..255; one number, or one
    a channel."""
    scale: float | Sequence[float]
    outputs: Mapping[str, str]
    """Role -> part of the output tensor's name; exactly one output must contain it."""


class Lane(Protocol):
    """One request with memory of its own; used by one thread at a time."""

    input: NDArray[np.uint8]
    """``(height, width, 3)`` in the network's own order of colors, the request's own memory: write
    pixels straight into it."""
    outputs: Mapping[str, NDArray[np.float32]]
    """Role -> tensor without its batch axis, maps as ``(height, width, channels)``, of the
    request's own memory; valid after `wait`, until the next `start`."""

    def start(self) -> None:
        """Start inference on what `input` holds; returns at once.

        Raises:
            AcceleratorLost: the accelerator stopped answering.
        """
        ...

    def wait(self) -> None:
        """Block, without holding the interpreter lock, until the started inference is done.

        Raises:
            AcceleratorLost: the accelerator stopped answering.
        """
        ...


class Session(Protocol):
    """A network loaded on an accelerator."""

    lanes: Sequence[Lane]
    """The requests that may be in flight together."""
    precision: Precision
    """The precision that the accelerator really uses, as it reports it."""

    def close(self) -> None:
        """Unload the network; idempotent; no lane may be in use."""
        ...


class Accelerator(Protocol):
    """Something that runs networks on this node."""

    def load(
        self, network: NetworkFile, *, precision: Precision | None = None, lanes: int | None = None
    ) -> Session:
        """Load a network; None lets the driver choose what is best on this accelerator.

        Raises:
            AcceleratorError: the network or the precision does not run on this accelerator.
        """
        ...

    def close(self) -> None:
        """Release the accelerator; idempotent."""
        ...


class Driver(Protocol):
    """What an `ACCELERATORS` entry names: finds and opens accelerators of one kind."""

    def probe(self) -> Sequence[Mapping[str, Any]]:
        """List what is plugged in, each as the fields of an `AcceleratorInfo`; never raises."""
        ...

    def open(self, device: str) -> Accelerator:
        """Open one device by the name that `probe` gave.

        Raises:
            AcceleratorError: no such device, or it cannot be opened.
        """
        ...
