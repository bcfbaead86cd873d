"""advance(state, observation, now) -> (state, events): how the picture follows the world.

Level-triggered: every look carries the whole truth, so a missed one costs only time. What is *not*
guaranteed: an agent cut off from the store runs on until its own lease logic stops it.
"""

from collections.abc import Iterable
from dataclasses import replace

from agents.wire.keys import HEARTBEAT_TTL_S
from agents.wire.messages import AcceleratorInfo, FleetEvent, Heartbeat
from fleet.state.model import AgentState, FleetState, Observation, Record

START_TIMEOUT_S = 120.0
"""A first start may fetch, convert and compile a network; a slow card needs over a minute."""
RETRY_FIRST_S = 0.5
RETRY_CAP_S = 30.0
STABLE_S = 60.0
"""An agent that was ready this long starts again with a clean slate of failures."""
STORE_GRACE_S = HEARTBEAT_TTL_S + 3.0
"""After the store comes back, agents reconnect with back-off before their heartbeats show."""


def advance(
    state: FleetState, seen: Observation, now: float
) -> tuple[FleetState, tuple[FleetEvent, ...]]:
    """Return the state after one look, and what happened, oldest first."""
    events: list[FleetEvent] = []
    record = seen.record
    silence_from = state.silence_counts_from
    if record is None:
        silence_from = now + STORE_GRACE_S
    agents: dict[str, AgentState] = {}
    for accelerator_id, info in seen.accelerators.items():
        agent = state.agents.get(accelerator_id) or AgentState(info, "absent", now)
        ended = seen.ended.get(accelerator_id)
        heartbeat = record.heartbeats.get(accelerator_id) if record else None
        is_audible = record is not None and now >= silence_from
        after = _advance_agent(agent, ended, heartbeat, is_audible, now)
        agents[accelerator_id] = after
        events.extend(_agent_events(agent, after, now))
    gone = sorted(state.agents.keys() - seen.accelerators.keys())
    events.extend(_event(now, "accelerator-gone", one, "no longer advertised") for one in gone)
    after_state = replace(state, agents=agents, silence_counts_from=silence_from)
    if record is not None:
        events.extend(_stream_events(state, record, now))
        after_state = replace(after_state, streams=record.streams, throughput=record.throughput)
    return after_state, tuple(events)


def _advance_agent(
    agent: AgentState, ended: str | None, heartbeat: Heartbeat | None, is_audible: bool, now: float
) -> AgentState:
    match agent.phase:
        case "absent":
            return agent
        case "lost":
            if now < agent.retry_at:
                return agent
            return replace(agent, phase="absent", since=now, ordered=None)
        case "starting" | "ready":
            if ended is not None:
                return _lost(agent, ended, now)
            if heartbeat is not None:
                return _heard(agent, heartbeat, now)
            return _silent(agent, is_audible, now)


def _heard(agent: AgentState, heartbeat: Heartbeat, now: float) -> AgentState:
    if heartbeat.state == "failed":
        return _lost(agent, heartbeat.error or "the agent gave up", now)
    if agent.phase == "starting" and heartbeat.state == "ready" and heartbeat.at >= agent.since:
        return replace(agent, phase="ready", since=now, error="")
    return agent


def _silent(agent: AgentState, is_audible: bool, now: float) -> AgentState:
    if agent.phase == "ready" and is_audible and now - agent.since > HEARTBEAT_TTL_S:
        return _lost(agent, f"no heartbeat for {HEARTBEAT_TTL_S} s", now)
    if agent.phase == "starting" and now - agent.since > START_TIMEOUT_S:
        return _lost(agent, f"not ready within {START_TIMEOUT_S:.0f} s", now)
    return agent


def _lost(agent: AgentState, cause: str, now: float) -> AgentState:
    was_stable = agent.phase == "ready" and now - agent.since >= STABLE_S
    failures = 1 if was_stable else agent.failures + 1
    wait_s = min(RETRY_CAP_S, RETRY_FIRST_S * 2 ** (failures - 1))
    return replace(
        agent, phase="lost", since=now, failures=failures, retry_at=now + wait_s, error=cause
    )


def mark_started(state: FleetState, accelerator_id: str, now: float) -> FleetState:
    """Return the state after the shell has started an agent."""
    agent = replace(state.agents[accelerator_id], phase="starting", since=now, ordered=None)
    return replace(state, agents={**state.agents, accelerator_id: agent})


def mark_failed(state: FleetState, accelerator_id: str, cause: str, now: float) -> FleetState:
    """Return the state after an action on an agent failed: it is lost until its next try."""
    agent = _lost(state.agents[accelerator_id], cause, now)
    return replace(state, agents={**state.agents, accelerator_id: agent})


def add_accelerators(
    known: dict[str, AcceleratorInfo], found: Iterable[AcceleratorInfo]
) -> dict[str, AcceleratorInfo]:
    """Return the known accelerators with the found ones added or replaced."""
    return {**known, **{info.id: info for info in found}}


def _agent_events(before: AgentState, after: AgentState, now: float) -> Iterable[FleetEvent]:
    accelerator_id = after.accelerator.id
    if before.phase == after.phase:
        return
    if after.phase == "ready":
        took_s = now - before.since
        yield _event(now, "agent-ready", accelerator_id, f"ready after {took_s:.1f} s")
    if after.phase == "lost":
        again_s = after.retry_at - now
        yield _event(now, "agent-lost", accelerator_id, f"{after.error}; again in {again_s:.1f} s")


def _stream_events(before: FleetState, record: Record, now: float) -> Iterable[FleetEvent]:
    for stream_id in record.streams.keys() - before.streams.keys():
        yield _event(now, "stream-added", stream_id, record.streams[stream_id].model)
    for stream_id in before.streams.keys() - record.streams.keys():
        yield _event(now, "stream-removed", stream_id, "")


def _event(now: float, kind: str, subject: str, message: str) -> FleetEvent:
    return FleetEvent(at=now, kind=kind, subject=subject, message=message)
