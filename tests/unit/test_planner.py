"""What the planner decides, on snapshots."""

from dataclasses import replace

from builders import make_accelerator, make_stream, make_stream_report, make_throughput

from fleet.planning.actions import Order, RecordAssignments, StartAgent
from fleet.planning.planner import plan
from fleet.routing.least_loaded import LeastLoaded
from fleet.state.model import AgentState, FleetState

CPU = make_accelerator()
GPU = make_accelerator(id="pi/gpu:GPU", kind="gpu", device="GPU")
NOW = 1000.0


def fleet(*agents, streams=(), **fields):
    return FleetState(
        agents={agent.accelerator.id: agent for agent in agents},
        streams={stream.id: stream for stream in streams},
        **fields,
    )


def agent(accelerator=CPU, phase="ready", **fields):
    return AgentState(accelerator, phase, NOW - 100, **fields)


def decide(state, now=NOW):
    return plan(state, LeastLoaded(), now)


def where(state):
    return {stream: assignment.accelerator for stream, assignment in state.assignments.items()}


def test_an_absent_agent_is_started():
    _, actions, _ = decide(fleet(agent(phase="absent")))
    assert actions == (StartAgent(CPU),)


def test_a_stream_waits_until_an_agent_is_ready():
    state, actions, _ = decide(fleet(agent(phase="starting"), streams=[make_stream()]))
    assert (dict(state.assignments), actions) == ({}, ())


def test_a_new_stream_is_placed_ordered_and_recorded():
    state, actions, events = decide(fleet(agent(ordered=()), streams=[make_stream()]))
    assignment = state.assignments["door"]
    assert assignment.accelerator == CPU.id
    assert set(actions) == {RecordAssignments((assignment,)), Order(CPU.id, (assignment,))}
    assert [event.kind for event in events] == ["stream-placed"]


def test_a_settled_fleet_needs_nothing():
    state, _, _ = decide(fleet(agent(ordered=()), streams=[make_stream()]))
    after, actions, events = decide(state, NOW + 1)
    assert (actions, events) == ((), ())
    assert after == state


def test_a_fresh_agent_is_told_even_that_it_has_nothing_to_do():
    _, actions, _ = decide(fleet(agent()))
    assert actions == (Order(CPU.id, ()),)


def test_streams_spread_over_ready_accelerators():
    streams = [make_stream(id=name) for name in ("a", "b", "c", "d")]
    state, _, _ = decide(fleet(agent(ordered=()), agent(GPU, ordered=()), streams=streams))
    assert sorted(where(state).values()) == [CPU.id, CPU.id, GPU.id, GPU.id]


def test_measured_load_outweighs_the_count_of_streams():
    busy = make_throughput(
        streams=(make_stream_report(fps_out=100.0, durations_ms={"infer": 9.0}),)
    )
    state = fleet(agent(ordered=()), agent(GPU, ordered=()), streams=[make_stream()])
    state, _, _ = decide(replace(state, throughput={CPU.id: busy}))
    assert where(state) == {"door": GPU.id}


def test_a_lost_agents_streams_move_at_once_with_a_higher_epoch():
    state, _, _ = decide(fleet(agent(ordered=()), agent(GPU, ordered=()), streams=[make_stream()]))
    first = state.assignments["door"]
    lost = replace(state.agents[first.accelerator], phase="lost", error="killed")
    state, actions, events = decide(
        replace(state, agents={**state.agents, lost.accelerator.id: lost}), NOW
    )
    second = state.assignments["door"]
    assert second.accelerator != first.accelerator
    assert second.epoch > first.epoch
    assert [event.kind for event in events] == ["stream-moved"]
    assert Order(second.accelerator, (second,)) in actions


def test_streams_of_living_agents_stay_when_another_is_lost():
    streams = [make_stream(id=name) for name in ("a", "b", "c", "d")]
    state, _, _ = decide(fleet(agent(ordered=()), agent(GPU, ordered=()), streams=streams))
    before = dict(state.assignments)
    lost = replace(state.agents[GPU.id], phase="lost")
    state, _, _ = decide(replace(state, agents={**state.agents, GPU.id: lost}))
    for stream, assignment in before.items():
        if assignment.accelerator == CPU.id:
            assert state.assignments[stream] == assignment


def test_with_nobody_left_a_stream_waits_and_comes_back_with_a_higher_epoch():
    state, _, _ = decide(fleet(agent(ordered=()), streams=[make_stream()]))
    first = state.assignments["door"]
    lost = replace(state.agents[CPU.id], phase="lost")
    state, _, events = decide(replace(state, agents={CPU.id: lost}))
    assert [event.kind for event in events] == ["stream-waiting"]
    back = replace(lost, phase="ready", ordered=None)
    state, _, _ = decide(replace(state, agents={CPU.id: back}))
    assert state.assignments["door"].epoch > first.epoch


def test_a_removed_stream_is_released():
    state, _, _ = decide(fleet(agent(ordered=()), streams=[make_stream()]))
    state, actions, _ = decide(replace(state, streams={}))
    assert set(actions) == {RecordAssignments(()), Order(CPU.id, ())}


def test_a_changed_stream_keeps_its_place_and_is_ordered_anew():
    state, _, _ = decide(fleet(agent(ordered=()), streams=[make_stream()]))
    slower = make_stream(fps=5.0)
    after, actions, _ = decide(replace(state, streams={"door": slower}))
    assert after.assignments["door"].epoch == state.assignments["door"].epoch
    assert after.assignments["door"].stream == slower
    assert Order(CPU.id, (after.assignments["door"],)) in actions


def test_the_order_of_agents_and_streams_does_not_matter():
    streams = [make_stream(id=name) for name in ("a", "b", "c")]
    one, _, _ = decide(fleet(agent(ordered=()), agent(GPU, ordered=()), streams=streams))
    two, _, _ = decide(fleet(agent(GPU, ordered=()), agent(ordered=()), streams=streams[::-1]))
    assert where(one) == where(two)
