"""The coordinator's loop with a store and agents in this process: what it keeps when they fail."""

import threading

import pytest
from builders import make_accelerator, make_heartbeat, make_stream

from agents.telemetry.memory_sink import MemorySink
from agents.wire.messages import Assignment
from fleet.cluster.local_cluster import LocalCluster
from fleet.coordinator import UNRECORDED_EVENTS, Coordinator, CoordinatorPorts
from fleet.errors import StoreError
from fleet.routing import DEFAULT_POLICY, load_policy
from fleet.store.memory_store import MemoryStore

CPU = make_accelerator()
GPU = make_accelerator(id="pi/gpu:GPU.0", kind="gpu", device="GPU.0")


class AwayStore(MemoryStore):
    """A store that can be taken away, wholly or for writing only."""

    def __init__(self, sink):
        super().__init__(sink)
        self.is_away = self.is_full = False

    def streams(self):
        self._check(self.is_away)
        return super().streams()

    def put_assignments(self, assignments):
        self._check(self.is_away or self.is_full)
        super().put_assignments(assignments)

    def append_event(self, event):
        self._check(self.is_away or self.is_full)
        super().append_event(event)

    def _check(self, is_missing):
        if is_missing:
            raise StoreError("Redis cannot be reached")


class Agents:
    """Makes agents that remember their orders; one can be told to fail."""

    def __init__(self):
        self.orders = {}
        self.fail_order = self.fail_start = None

    def __call__(self, accelerator):
        if self.fail_start:
            raise self.fail_start
        return _Agent(self, accelerator.id)


class _Agent:
    def __init__(self, agents, accelerator):
        self._agents, self._id = agents, accelerator

    def order(self, assignments):
        if self._agents.fail_order:
            raise self._agents.fail_order
        told = [Assignment.from_json(one) for one in assignments]
        self._agents.orders.setdefault(self._id, []).append(told)

    def stop(self, timeout_s):
        pass


class World:
    """A coordinator, its ports, and a clock that the test moves."""

    def __init__(self, *accelerators):
        self.now = 1000.0
        self.sink = MemorySink(clock=lambda: self.now)
        self.store = AwayStore(self.sink)
        self.agents = Agents()
        self.cluster = LocalCluster(self.agents)
        self.accelerators = {one.id: one for one in accelerators or [CPU]}
        self.coordinator = Coordinator(
            CoordinatorPorts(
                self.store, self.cluster, load_policy(DEFAULT_POLICY), self.accelerators,
                lambda: self.now,
            )
        )  # fmt: skip

    def tick(self, times=1):
        for _ in range(times):
            self.now += 0.25
            self.coordinator.tick()

    def beat(self):
        for accelerator in self.accelerators:
            self.sink.publish_heartbeat(make_heartbeat(accelerator=accelerator, at=self.now))

    def get_ready(self):
        self.tick()
        self.beat()
        self.tick()

    def kinds(self):
        return [each.event.kind for each in self.store.events()]

    def ordered(self, accelerator=CPU):
        """Stream ids of the last order."""
        return [one.stream.id for one in self.agents.orders[accelerator.id][-1]]


@pytest.fixture
def world():
    return World()


def test_a_stream_is_ordered_recorded_and_told(world):
    world.store.put_stream(make_stream())
    world.get_ready()
    assert world.ordered() == ["door"]
    assert list(world.store.assignments()) == ["door"]
    assert world.kinds() == ["stream-added", "agent-ready", "stream-placed"]


def test_assignments_are_recorded_once_the_store_takes_them(world):
    world.store.put_stream(make_stream())
    world.store.is_full = True
    world.get_ready()
    assert world.ordered() == ["door"]
    assert world.store.assignments() == {}
    world.tick(3)
    world.store.is_full = False
    world.tick()
    assert list(world.store.assignments()) == ["door"]
    assert world.kinds() == ["stream-added", "agent-ready", "stream-placed"]


def test_of_decisions_that_wait_for_the_store_the_newest_is_recorded(world):
    world.store.put_stream(make_stream())
    world.store.is_full = True
    world.get_ready()
    world.store.put_stream(make_stream(id="yard"))
    world.tick()
    world.store.remove_stream("door")
    world.tick()
    world.store.is_full = False
    world.tick()
    assert list(world.store.assignments()) == ["yard"]


def test_a_store_that_forgot_is_told_again(world):
    world.store.put_stream(make_stream())
    world.get_ready()
    world.store.is_away = True
    world.beat()
    world.tick()
    MemoryStore.put_assignments(world.store, [])
    world.store.is_away = False
    world.tick()
    assert list(world.store.assignments()) == ["door"]
    assert len(world.agents.orders[CPU.id]) == 1


def test_while_the_store_is_away_agents_are_left_alone(world):
    world.store.put_stream(make_stream())
    world.get_ready()
    world.store.is_away = True
    world.tick(100)
    assert world.coordinator.state.agents[CPU.id].phase == "ready"
    assert len(world.agents.orders[CPU.id]) == 1


def test_an_agent_that_crashes_while_the_store_is_away_is_replaced_and_it_is_told_later(world):
    world.store.put_stream(make_stream())
    world.get_ready()
    world.store.is_away = True
    world.tick()
    world.cluster.kill(CPU.id, "out of memory")
    world.tick(5)
    world.store.is_away = False
    world.beat()
    world.tick()
    assert world.kinds() == [
        "stream-added", "agent-ready", "stream-placed",
        "agent-lost", "stream-waiting", "agent-ready", "stream-placed",
    ]  # fmt: skip
    times = [each.event.at for each in world.store.events()]
    assert times == sorted(times)
    first, second = (orders[0].epoch for orders in world.agents.orders[CPU.id])
    assert second > first


def test_events_that_wait_are_bounded_and_the_oldest_go(world):
    world.get_ready()
    world.store.is_full = True
    for number in range(UNRECORDED_EVENTS + 50):
        world.store.put_stream(make_stream(id="door", fps=number + 1.0))
        world.store.remove_stream("door")
        world.store.put_stream(make_stream(id=f"s{number}"))
        world.beat()
        world.tick()
        world.store.remove_stream(f"s{number}")
    world.store.is_full = False
    world.beat()
    world.tick()
    recorded = [each.event for each in world.store.events(limit=1000)][1:]
    assert len(recorded) == UNRECORDED_EVENTS
    assert recorded[-1].kind == "stream-removed"
    assert [each.at for each in recorded] == sorted(each.at for each in recorded)


@pytest.mark.parametrize("error", [StoreError("no more actors"), ZeroDivisionError("a bug")])
def test_an_agent_that_cannot_be_started_is_tried_again(error):
    class Refusing(LocalCluster):
        def start_agent(self, accelerator):
            if accelerator == CPU and failing:
                raise error
            super().start_agent(accelerator)

    failing = True
    world = World(CPU, GPU)
    cluster = Refusing(world.agents)
    ports = CoordinatorPorts(
        world.store, cluster, load_policy(DEFAULT_POLICY), world.accelerators, lambda: world.now
    )
    world.coordinator = Coordinator(ports)
    world.store.put_stream(make_stream())
    world.get_ready()
    assert world.coordinator.state.agents[CPU.id].phase == "lost"
    assert world.ordered(GPU) == ["door"]
    [event] = [each.event for each in world.store.events() if each.event.kind == "agent-lost"]
    assert event.subject == CPU.id
    assert str(error) in event.message
    assert "again in 0.5 s" in event.message
    failing = False
    world.tick(3)
    world.beat()
    world.tick()
    assert world.coordinator.state.agents[CPU.id].phase == "ready"


def test_an_agent_that_takes_no_order_is_replaced_and_its_stream_placed_again(world):
    world.store.put_stream(make_stream())
    world.agents.fail_order = RuntimeError("the device is gone")
    world.get_ready()
    world.tick()
    assert world.coordinator.state.agents[CPU.id].phase == "lost"
    assert "the device is gone" in world.store.events()[-2].event.message
    world.agents.fail_order = None
    world.tick(3)
    world.beat()
    world.tick()
    assert world.ordered() == ["door"]


def test_the_loop_outlives_an_exception_in_a_tick(world):
    class Broken(LocalCluster):
        looks = 0
        again = threading.Event()

        def ended(self):
            self.looks += 1
            if self.looks == 1:
                raise ZeroDivisionError("a bug")
            self.again.set()
            return super().ended()

    cluster = Broken(world.agents)
    ports = CoordinatorPorts(
        world.store, cluster, load_policy(DEFAULT_POLICY), world.accelerators, lambda: world.now
    )
    coordinator = Coordinator(ports)
    stop = threading.Event()
    thread = threading.Thread(target=coordinator.run, args=(stop,), name="fleet-test-loop")
    thread.start()
    assert cluster.again.wait(20)
    stop.set()
    thread.join(20)
    assert coordinator.state.agents[CPU.id].phase == "starting"
