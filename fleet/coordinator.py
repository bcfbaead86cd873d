"""The coordinator's loop: look, advance, plan, act. No decision of its own.

The data plane does not depend on it: while the coordinator or the store is away, every agent goes
on serving the streams that it was told last.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
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
UNRECORDED_EVENTS = 200
"""Events kept while the store is away; the oldest are forgotten, the log has all of them."""

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
        self._unrecorded: deque[FleetEvent] = deque(maxlen=UNRECORDED_EVENTS)
        self._to_record: RecordAssignments | None = None
        """What the store has not taken yet; a newer decision replaces it."""
        self._is_store_away = False

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
        self.state, actions, planned_events = plan(state, self._ports.policy, now)
        self._note([*seen_events, *planned_events])
        for action in actions:
            self._act(action, now)
        self._record()

    def _observe(self) -> Observation:
        return Observation(self._ports.accelerators, self._read(), self._ports.cluster.ended())

    def _read(self) -> Record | None:
        store = self._ports.store
        try:
            record = Record(
                streams={spec.id: spec for spec in store.streams()},
                heartbeats=store.heartbeats(),
                throughput=store.throughput(),
            )
        except StoreError as error:
            if not self._is_store_away:  # once an outage, not four times a second
                _log.warning("the store is away: %s", error)
            self._is_store_away = True
            return None
        if self._is_store_away:
            _log.warning("the store is back")
            self._is_store_away = False
            # It may have lost its last second, or everything.
            assignments = tuple(self.state.assignments.values())
            self._to_record = self._to_record or RecordAssignments(assignments)
        return record

    def _act(self, action: Action, now: float) -> None:
        cluster = self._ports.cluster
        match action:
            case RecordAssignments():
                self._to_record = action
            case StartAgent(accelerator):
                if self._manages(accelerator.id, cluster.start_agent, accelerator):
                    self.state = mark_started(self.state, accelerator.id, now)
            case Order(accelerator_id, assignments):
                self._manages(accelerator_id, cluster.order, accelerator_id, assignments)

    def _manages(self, accelerator_id: str, call: Callable[..., None], *arguments: object) -> bool:
        """Tell whether a call about one agent succeeded; otherwise that agent is lost for now."""
        try:
            call(*arguments)
            return True
        except FleetError as error:
            cause = str(error)
        # The boundary to one agent: it is tried again later, the others are served meanwhile.
        except Exception as error:  # noqa: BLE001
            _log.exception("%s cannot be dealt with", accelerator_id)
            cause = f"{type(error).__name__}: {error}"
        now = self._ports.clock()
        self.state = mark_failed(self.state, accelerator_id, cause, now)
        again_s = self.state.agents[accelerator_id].retry_at - now
        message = f"{cause}; again in {again_s:.1f} s"
        self._note([FleetEvent(at=now, kind="agent-lost", subject=accelerator_id, message=message)])
        return False

    def _note(self, events: Iterable[FleetEvent]) -> None:
        for event in events:
            _log.info("%s %s: %s", event.kind, event.subject, event.message)
            self._unrecorded.append(event)

    def _record(self) -> None:
        """Write down what was decided and what happened; what the store does not take is kept."""
        try:
            if self._to_record is not None:
                self._ports.store.put_assignments(self._to_record.assignments)
                self._to_record = None
            while self._unrecorded:
                self._ports.store.append_event(self._unrecorded[0])
                self._unrecorded.popleft()
        except StoreError as error:
            _log.debug("not recorded yet: %s", error)
