"""One behaviour suite for every Cluster: the one in this process and the one over Ray."""

import os
from functools import partial
from pathlib import Path

import psutil
import pytest
from builders import make_accelerator, make_assignment, make_stream
from cluster_agents import Diary, WritingAgent
from fleet_process import eventually, is_alive

from agents.wire.messages import Assignment
from fleet.cluster.local_cluster import LocalCluster
from fleet.cluster.ray_environment import ray_environment
from fleet.errors import FleetError

CPU = make_accelerator()
GPU = make_accelerator(id="pi/gpu:GPU.0", kind="gpu", device="GPU.0")


class LocalHost:
    """The local cluster, and how one of its agents crashes."""

    def __init__(self, diary):
        self.cluster = LocalCluster(partial(WritingAgent, diary))

    def crash(self, accelerator, diary):
        self.cluster.kill(accelerator.id, "killed")


class RayHost:
    """A Ray of two accelerators; an agent crashes as its process is killed."""

    def __init__(self, diary, folder):
        # Ray reads its environment when it is imported.
        from fleet.cluster.ray_cluster import RayCluster, RaySettings  # noqa: PLC0415

        settings = RaySettings(folder, cpus=1, object_store_mb=75, log_folder=diary.folder / "logs")
        self.cluster = RayCluster(settings, partial(WritingAgent, diary))
        self.cluster.start([CPU, GPU])

    def crash(self, accelerator, diary):
        psutil.Process(int(diary.lines(accelerator.id, "started")[-1])).kill()


@pytest.fixture(scope="module", autouse=True)
def ray_folder():
    """One environment for all: Ray reads its token once a process."""
    with pytest.MonkeyPatch.context() as patch, ray_environment() as folder:
        # Ray's workers must find the agent of this test.
        patch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
        yield folder


@pytest.fixture
def diary(tmp_path):
    return Diary(tmp_path)


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.integration)])
def host(request, diary, ray_folder):
    host = LocalHost(diary) if request.param == "local" else RayHost(diary, ray_folder)
    yield host
    host.cluster.close(5.0)


@pytest.fixture
def cluster(host):
    return host.cluster


def runs(pid):
    return psutil.pid_exists(pid) and is_alive(psutil.Process(pid))


def ended(cluster):
    """Wait for agents to be reported as ended."""
    return dict(eventually(cluster.ended))


def started(diary, accelerator, times=1):
    eventually(lambda: len(diary.lines(accelerator.id, "started")) == times)


def orders(diary, accelerator, count):
    """Wait for orders; return the stream ids of each."""
    eventually(lambda: len(diary.lines(accelerator.id, "orders")) >= count)
    return [
        [Assignment.from_json(one).stream.id for one in line.split()]
        for line in diary.lines(accelerator.id, "orders")
    ]


def test_orders_reach_their_agent_one_after_the_other(cluster, diary):
    for accelerator in (CPU, GPU):
        cluster.start_agent(accelerator)
    for count in range(1, 21):
        streams = [make_assignment(stream=make_stream(id=f"s{n}")) for n in range(count)]
        cluster.order(CPU.id, streams)
    cluster.order(GPU.id, [])
    assert orders(diary, CPU, 20) == [[f"s{n}" for n in range(count)] for count in range(1, 21)]
    assert orders(diary, GPU, 1) == [[]]
    assert cluster.ended() == {}


def test_an_agent_that_cannot_start_is_reported_once_with_its_cause(cluster, diary):
    diary.write(CPU.id, "fail-start", "")
    cluster.start_agent(CPU)
    cluster.start_agent(GPU)
    assert ended(cluster) == {CPU.id: "RuntimeError: the device is gone at start"}
    started(diary, GPU)
    assert cluster.ended() == {}
    diary.file(CPU.id, "fail-start").unlink()
    cluster.start_agent(CPU)
    started(diary, CPU)
    assert cluster.ended() == {}


def test_an_agent_that_fails_at_an_order_has_ended(cluster, diary):
    cluster.start_agent(CPU)
    diary.write(CPU.id, "fail-order", "")
    cluster.order(CPU.id, [])
    assert ended(cluster) == {CPU.id: "RuntimeError: the device is gone at order"}
    with pytest.raises(FleetError, match="no agent runs on pi/cpu:CPU"):
        cluster.order(CPU.id, [])


def test_an_agent_that_crashes_is_reported_without_being_asked_anything(host, diary):
    host.cluster.start_agent(CPU)
    started(diary, CPU)
    host.crash(CPU, diary)
    [(accelerator, cause)] = ended(host.cluster).items()
    assert accelerator == CPU.id
    assert cause
    host.cluster.start_agent(CPU)
    started(diary, CPU, times=2)


def test_an_agent_that_is_started_again_takes_the_place_of_the_first(cluster, diary):
    for times in (1, 2):
        cluster.start_agent(CPU)
        started(diary, CPU, times)
    cluster.order(CPU.id, [make_assignment()])
    assert orders(diary, CPU, 1) == [["door"]]
    assert cluster.ended() == {}
    pids = {int(pid) for pid in diary.lines(CPU.id, "started")}
    eventually(lambda: len([pid for pid in pids if runs(pid)]) == 1)


def test_nobody_to_order_is_an_error(cluster):
    with pytest.raises(FleetError, match="no agent runs on pi/cpu:CPU"):
        cluster.order(CPU.id, [])


def test_closing_stops_every_agent_and_may_be_done_twice(cluster, diary):
    for accelerator in (CPU, GPU):
        cluster.start_agent(accelerator)
        started(diary, accelerator)
    cluster.close(5.0)
    for accelerator in (CPU, GPU):
        assert diary.lines(accelerator.id, "stopped") == ["5.0"]
        [pid] = diary.lines(accelerator.id, "started")
        assert int(pid) == os.getpid() or not runs(int(pid))
    cluster.close(5.0)
