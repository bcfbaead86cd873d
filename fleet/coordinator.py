"""The coordinator's loop: look, advance, plan, act. No decision of its own.

The data plane does not depend on it: while the coordinator or the store is away, every agent goes
on serving the streams that it was told last.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agents.wire.messages import AcceleratorInfo, FleetEvent
from fleet.cluster.base import Cluster
from fleet.errors import FleetError, StoreError
from fleet.planning.actions import Action, Order, RecordAssignments, StartAgent
from fleet.planning.planner import plan
from fleet.routing.base import RoutingPolicy
from fleet.state.advance import advance, mark_failed, mark_started
from fleet.state.model import FleetState, Observation, Record
from fleet.store.base import FleetStore

TICK_S = 0.25
"""Time between two looks: within it an added stream starts and a dead agent is seen."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CoordinatorPorts:
    """What the loop works with."""

    store: FleetStore
    cluster: Cluster
    policy: RoutingPolicy
    accelerators: Mapping[str, AcceleratorInfo]
    """Accelerator id -> what may be used."""
    clock: Callable[[], float]
    """Wall clock, seconds since the epoch."""


class Coordinator:
    """Holds the state between two looks."""

    def __init__(self, ports: CoordinatorPorts) -> None:
        self._ports = ports
        self.state = FleetState()
        """The picture after the last tick; replaced, never changed."""
        self._unrecorded: list[FleetEvent] = []

    def run(self, stop: threading.Event) -> None:
        """Tick until told to stop; what an unexpected error cost is logged and the loop goes on."""
        while not stop.wait(TICK_S):
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - the loop outlives any single failure
                _log.exception("coordinator tick failed")

    def tick(self) -> None:
        """Look once, and do what follows from it."""
        now = self._ports.clock()
        state, seen_events = advance(self.state, self._observe(), now)
        state, actions, planned_events = plan(state, self._ports.policy, now)
        self.state = state
        events = [*seen_events, *planned_events]
        for action in actions:
            self._act(action, now)
        self._record_events(events)

    def _observe(self) -> Observation:
        return Observation(self._ports.accelerators, self._read(), self._ports.cluster.ended())

    def _read(self) -> Record | None:
        store = self._ports.store
        try:
            return Record(
                streams={spec.id: spec for spec in store.streams()},
                heartbeats=store.heartbeats(),
                throughput=store.throughput(),
            )
        except StoreError as error:
            _log.warning("the store is away: %s", error)
            return None

    def _act(self, action: Action, now: float) -> None:
        try:
            match action:
                case StartAgent(accelerator):
                    self._ports.cluster.start_agent(accelerator)
                    self.state = mark_started(self.state, accelerator.id, now)
                case Order(accelerator_id, assignments):
                    self._ports.cluster.order(accelerator_id, assignments)
                case RecordAssignments(assignments):
                    self._ports.store.put_assignments(assignments)
        except StoreError as error:
            _log.warning("assignments not recorded yet: %s", error)
        except FleetError as error:
            subject = action.accelerator.id if isinstance(action, StartAgent) else ""
            if isinstance(action, Order):
                subject = action.accelerator
            self.state = mark_failed(self.state, subject, str(error), now)

    def _record_events(self, events: Sequence[FleetEvent]) -> None:
        for event in events:
            _log.info("%s %s: %s", event.kind, event.subject, event.message)
        self._unrecorded = [*self._unrecorded, *events][-200:]
        while self._unrecorded:
            try:
                self._ports.store.append_event(self._unrecorded[0])
            except StoreError:
                return
            del self._unrecorded[0]
