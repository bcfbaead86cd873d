"""The agent of one accelerator: builds the runner and hands it the coordinator's orders.

A plain class: the Ray cluster wraps it into an actor, the local cluster uses it as it is.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from agents.accelerators import load_driver
from agents.accelerators.base import Precision
from agents.pipeline import LoadedModel, load_model
from agents.runner import Runner, RunnerPorts
from agents.telemetry.redis_sink import RedisSink
from agents.wire.messages import AcceleratorInfo, Assignment, NodeAdvert
from models.catalog import load_manifest


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What every agent of a node is told at its start."""

    redis_url: str
    """With the password of the agents' own user; never logged."""
    namespace: str
    advert: NodeAdvert
    size: tuple[int, int] | None
    """Input ``(width, height)`` of the networks; None: each network's own."""
    precision: Precision | None
    """None: the fastest of the accelerator."""
    lanes: int | None
    log_file: str
    """Where the agent logs; empty: wherever its process logs."""


class Agent:
    """Runs on the node of its accelerator, in a process of its own when Ray starts it."""

    def __init__(self, settings: AgentSettings, accelerator: AcceleratorInfo) -> None:
        if settings.log_file:
            logging.basicConfig(
                filename=settings.log_file,
                level=logging.INFO,
                format=f"%(asctime)s %(levelname)s {accelerator.id} %(name)s: %(message)s",
            )
        self._settings = settings
        self._device = load_driver(accelerator.driver).open(accelerator.device)
        self._sink = RedisSink(
            settings.redis_url,
            settings.namespace,
            on_published=self._on_published,
            on_dropped=self._on_dropped,
        )
        self._runner = Runner(
            RunnerPorts(accelerator, settings.advert, self._load, self._sink, os.getpid())
        )

    def describe(self) -> int:
        """Return the process id; answers once the agent is up."""
        return os.getpid()

    def order(self, assignments: Sequence[str]) -> None:
        """Serve these assignments, each as JSON, and nothing else."""
        self._runner.order([Assignment.from_json(one) for one in assignments])

    def stop(self, timeout_s: float) -> None:
        """End every stream, send what is queued, release the accelerator."""
        self._runner.stop(timeout_s / 2)
        self._sink.close(timeout_s / 2)
        self._device.close()

    def _load(self, model: str) -> LoadedModel:
        return load_model(
            self._device,
            load_manifest(model),
            size=self._settings.size,
            precision=self._settings.precision,
            lanes=self._settings.lanes,
        )

    def _on_published(self, stream: str, latency_s: float) -> None:
        self._runner.published(stream, latency_s)

    def _on_dropped(self, stream: str) -> None:
        self._runner.unpublishable(stream)
