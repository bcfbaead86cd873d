"""plan(state, policy, now) -> (state, actions, events): from what is to what should be.

A stream stays where it is while its agent lives. One whose agent was lost moves to another ready
accelerator at once; with none ready it waits and is placed when one is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from agents.wire.messages import Assignment, FleetEvent, StreamSpec
from fleet.planning.actions import Action, Order, RecordAssignments, StartAgent
from fleet.routing.base import Candidate, RoutingPolicy
from fleet.state.model import FleetState


def plan(
    state: FleetState, policy: RoutingPolicy, now: float
) -> tuple[FleetState, tuple[Action, ...], tuple[FleetEvent, ...]]:
    """Return the state with its new assignments, the actions that realize it, and what was decided.

    The state that comes back assumes that the actions succeed; the shell marks those that fail.
    """
    actions: list[Action] = [
        StartAgent(agent.accelerator)
        for _, agent in sorted(state.agents.items())
        if agent.phase == "absent"
    ]
    assignments, events = _place(state, policy, now)
    epochs = [state.last_epoch, *(assignment.epoch for assignment in assignments.values())]
    if assignments != dict(state.assignments):
        actions.append(RecordAssignments(tuple(assignments[key] for key in sorted(assignments))))
    agents = dict(state.agents)
    for accelerator_id, agent in sorted(state.agents.items()):
        wanted = tuple(
            assignments[stream_id]
            for stream_id in sorted(assignments)
            if assignments[stream_id].accelerator == accelerator_id
        )
        if agent.phase == "ready" and agent.ordered != wanted:
            actions.append(Order(accelerator_id, wanted))
            agents[accelerator_id] = replace(agent, ordered=wanted)
    after = replace(state, assignments=assignments, agents=agents, last_epoch=max(epochs))
    return after, tuple(actions), tuple(events)


def _place(
    state: FleetState, policy: RoutingPolicy, now: float
) -> tuple[dict[str, Assignment], list[FleetEvent]]:
    placed = {
        stream_id: _with_stream(assignment, state.streams[stream_id])
        for stream_id, assignment in state.assignments.items()
        if stream_id in state.streams and _stands(state, assignment)
    }
    events: list[FleetEvent] = []
    # Seconds since the epoch, so that a coordinator that lost its memory still goes upward.
    epoch = max(state.last_epoch + 1, int(now))
    for stream_id in sorted(state.streams.keys() - placed.keys()):
        decision = policy.choose(state.streams[stream_id], _candidates(state, placed))
        before = state.assignments.get(stream_id)
        if decision is None:
            if before is not None:
                events.append(_event(now, "stream-waiting", stream_id, "no accelerator is ready"))
            continue
        placed[stream_id] = Assignment(
            stream=state.streams[stream_id],
            accelerator=decision.accelerator,
            epoch=epoch,
        )
        epoch += 1
        kind = "stream-placed" if before is None else "stream-moved"
        events.append(_event(now, kind, stream_id, f"on {decision.accelerator}: {decision.reason}"))
    return placed, events


def _with_stream(assignment: Assignment, stream: StreamSpec) -> Assignment:
    """Return the assignment with the stream as it is wanted now."""
    if assignment.stream == stream:
        return assignment
    return assignment.model_copy(update={"stream": stream})


def _stands(state: FleetState, assignment: Assignment) -> bool:
    """Say whether an assignment still stands: its agent lives and was told of it."""
    agent = state.agents.get(assignment.accelerator)
    if agent is None or agent.phase != "ready" or agent.ordered is None:
        return False
    return any(told.epoch == assignment.epoch for told in agent.ordered)


def _candidates(state: FleetState, placed: Mapping[str, Assignment]) -> Sequence[Candidate]:
    return [
        Candidate(
            accelerator_id,
            sum(assignment.accelerator == accelerator_id for assignment in placed.values()),
            _busy(state, accelerator_id),
        )
        for accelerator_id, agent in state.agents.items()
        if agent.phase == "ready"
    ]


def _busy(state: FleetState, accelerator_id: str) -> float | None:
    report = state.throughput.get(accelerator_id)
    if report is None or not report.streams:
        return None
    return sum(s.fps_out * s.durations_ms.get("infer", 0.0) / 1000 for s in report.streams)


def _event(now: float, kind: str, subject: str, message: str) -> FleetEvent:
    return FleetEvent(at=now, kind=kind, subject=subject, message=message)
