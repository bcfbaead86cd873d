"""How the coordinator's picture follows the world."""

import pytest
from builders import make_accelerator, make_heartbeat, make_stream

from agents.wire.keys import HEARTBEAT_TTL_S
from fleet.state.advance import (
    RETRY_CAP_S,
    STABLE_S,
    START_TIMEOUT_S,
    STORE_GRACE_S,
    advance,
    mark_failed,
    mark_started,
)
from fleet.state.model import FleetState, Observation, Record

CPU = make_accelerator()
NOW = 1000.0


def look(*, heartbeats=(), ended=None, streams=(), record=True):
    seen = Record(
        streams={stream.id: stream for stream in streams},
        heartbeats={beat.accelerator: beat for beat in heartbeats},
        throughput={},
    )
    return Observation({CPU.id: CPU}, seen if record else None, ended or {})


def started(now=NOW):
    state, _ = advance(FleetState(), look(), now)
    return mark_started(state, CPU.id, now)


def ready(now=NOW):
    state, _ = advance(started(now), look(heartbeats=[make_heartbeat(at=now)]), now)
    return state


def kinds(events):
    return [event.kind for event in events]


def test_a_new_accelerator_waits_to_be_started():
    state, events = advance(FleetState(), look(), NOW)
    assert state.agents[CPU.id].phase == "absent"
    assert events == ()


def test_the_first_heartbeat_of_this_start_makes_an_agent_ready():
    state, events = advance(started(), look(heartbeats=[make_heartbeat(at=NOW + 1)]), NOW + 1)
    assert state.agents[CPU.id].phase == "ready"
    assert kinds(events) == ["agent-ready"]


def test_a_heartbeat_left_over_from_before_the_start_does_not_count():
    state, _ = advance(started(), look(heartbeats=[make_heartbeat(at=NOW - 1)]), NOW + 1)
    assert state.agents[CPU.id].phase == "starting"


def test_an_agent_that_never_gets_ready_is_lost():
    state, events = advance(started(), look(), NOW + START_TIMEOUT_S + 1)
    assert state.agents[CPU.id].phase == "lost"
    assert "not ready within" in events[0].message


def test_silence_makes_a_ready_agent_lost():
    state, _ = advance(ready(), look(), NOW + HEARTBEAT_TTL_S)
    assert state.agents[CPU.id].phase == "ready"
    state, events = advance(state, look(), NOW + HEARTBEAT_TTL_S + 0.1)
    assert state.agents[CPU.id].phase == "lost"
    assert kinds(events) == ["agent-lost"]


def test_while_the_store_is_away_nobody_is_lost_for_silence():
    state, _ = advance(ready(), look(record=False), NOW + 100)
    assert state.agents[CPU.id].phase == "ready"
    state, _ = advance(state, look(), NOW + 100 + STORE_GRACE_S - 0.1)
    assert state.agents[CPU.id].phase == "ready", "agents need a moment to reconnect"
    state, _ = advance(state, look(), NOW + 100 + STORE_GRACE_S + 0.1)
    assert state.agents[CPU.id].phase == "lost"


def test_a_process_that_ended_is_lost_even_while_the_store_is_away():
    state, events = advance(ready(), look(record=False, ended={CPU.id: "killed"}), NOW + 1)
    assert state.agents[CPU.id].phase == "lost"
    assert "killed" in events[0].message


def test_an_agent_that_gives_up_says_why():
    beat = make_heartbeat(at=NOW + 1, state="failed", error="stick unplugged")
    state, _ = advance(ready(), look(heartbeats=[beat]), NOW + 1)
    assert state.agents[CPU.id].error == "stick unplugged"


def test_a_lost_agent_is_started_again_when_its_time_has_come():
    state, _ = advance(ready(), look(ended={CPU.id: "killed"}), NOW + 1)
    retry_at = state.agents[CPU.id].retry_at
    assert advance(state, look(), retry_at - 0.01)[0].agents[CPU.id].phase == "lost"
    after = advance(state, look(), retry_at)[0].agents[CPU.id]
    assert (after.phase, after.ordered) == ("absent", None)


def test_every_further_failure_doubles_the_wait_up_to_a_cap():
    state, waits, now = started(), [], NOW
    for _ in range(10):
        state, _ = advance(state, look(ended={CPU.id: "killed"}), now)
        waits.append(state.agents[CPU.id].retry_at - now)
        now = state.agents[CPU.id].retry_at
        state, _ = advance(state, look(), now)
        state = mark_started(state, CPU.id, now)
    assert waits[:4] == pytest.approx([0.5, 1.0, 2.0, 4.0])
    assert waits[-1] == RETRY_CAP_S


def test_long_service_clears_the_record_of_failures():
    state = mark_failed(mark_failed(started(), CPU.id, "x", NOW), CPU.id, "x", NOW)
    state, _ = advance(state, look(), NOW + RETRY_CAP_S)
    state = mark_started(state, CPU.id, NOW + 40)
    state, _ = advance(state, look(heartbeats=[make_heartbeat(at=NOW + 41)]), NOW + 41)
    state, _ = advance(state, look(ended={CPU.id: "killed"}), NOW + 41 + STABLE_S)
    assert state.agents[CPU.id].failures == 1


def test_streams_follow_the_record_and_survive_its_absence():
    door = make_stream()
    state, events = advance(FleetState(), look(streams=[door]), NOW)
    assert kinds(events) == ["stream-added"]
    state, _ = advance(state, look(record=False), NOW + 1)
    assert state.streams == {"door": door}
    state, events = advance(state, look(), NOW + 2)
    assert kinds(events) == ["stream-removed"]
    assert not state.streams
