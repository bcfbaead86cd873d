"""Composition root: configuration in, wired objects out. The only place that names adapters.

Whatever is started is on an exit stack before it starts, so that an error or Ctrl-C at any point
ends all of it, in reverse order.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agents.wire.messages import AcceleratorInfo, NodeAdvert, StreamSpec
from fleet import paths
from fleet.config.schema import AcceleratorConfig, EmbeddedRedis, FleetConfig
from fleet.config.urls import network_name
from fleet.errors import ConfigError, FleetError, NoFleetError
from fleet.run_file import RunFile, read_run_file, remove_run_file, write_run_file
from models.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from agents.accelerators.base import Precision
    from fleet.client import FleetClient
    from fleet.cluster.ray_cluster import RayCluster
    from fleet.coordinator import Coordinator
    from fleet.store.base import FleetStore
    from fleet.store.embedded import EmbeddedRedis as RedisServer
    from models.artifacts import Progress

STOP_AGENTS_S = 2.5
"""Time for agents to end orderly; Ray, Redis and the rest need about one second more of the five
that a person waits after Ctrl-C."""
REDIS_RETRY_S = 1.0

Say = Callable[[str], None]
"""Tells the operator what happens now, one short sentence."""

_log = logging.getLogger(__name__)


def open_store() -> "FleetStore":
    """Connect to the record of the fleet that runs on this machine.

    Raises:
        NoFleetError: none does.
        StoreError: its Redis does not answer.
    """
    from fleet.store.redis_store import RedisStore

    run = running()
    return RedisStore(run.redis["coordinator"], run.namespace)


def open_client() -> "FleetClient":
    """Connect to the fleet that runs on this machine as a consumer, who can only read.

    Raises:
        NoFleetError: none does.
        StoreError: its Redis does not answer.
    """
    from fleet.client import connect

    run = running()
    return connect(run.redis["consumer"], namespace=run.namespace)


def running() -> RunFile:
    """Return how to reach the fleet that runs on this machine.

    Raises:
        NoFleetError: none does.
    """
    run = read_run_file()
    if run is None:
        raise NoFleetError("no fleet runs on this machine", hint="start one with: fleet up")
    return run


def default_model() -> str:
    """Return the network of streams that name none: the running fleet's, else the catalog's."""
    run = read_run_file()
    return run.model if run is not None else DEFAULT_MODEL


class RunningFleet:
    """A fleet that is up; ends when the context of `bring_up` is left."""

    def __init__(
        self,
        run: RunFile,
        store: "FleetStore",
        coordinator: "Coordinator",
        cluster: "RayCluster",
        server: "RedisServer | None",
    ) -> None:
        self.store = store
        self.coordinator = coordinator
        self._run = run
        self._cluster = cluster
        self._server = server

    @property
    def started(self) -> float:
        """When it came up, seconds since the epoch; older events are of earlier fleets."""
        return self._run.started

    def client(self) -> "FleetClient":
        """Connect as a consumer, who can only read."""
        return open_client()

    def watch(self) -> None:
        """Note when the first agent is ready, and bring the embedded Redis back if it has ended.

        To be called about twice a second. Agents keep their reports while Redis is away and send
        them afterwards.

        Raises:
            FleetError: Ray has ended, and with it this fleet.
        """
        self._cluster.check()
        if not self._run.is_ready and self._has_ready_agent():
            self._run = self._run.model_copy(update={"is_ready": True})
            write_run_file(self._run)
        if self._server is None or self._server.is_alive():
            return
        _log.error("the embedded Redis ended; starting it again on the same port")
        try:
            self._server.restart()
        except FleetError as error:
            _log.error("the embedded Redis does not start again: %s", error)
            time.sleep(REDIS_RETRY_S)

    def _has_ready_agent(self) -> bool:
        return any(agent.phase == "ready" for agent in self.coordinator.state.agents.values())


def fetch(config: FleetConfig, progress: "Progress") -> None:
    """Have every network and sample on disk before anything is started that would wait for it.

    Raises:
        ModelError: a network or sample cannot be had.
    """
    from models.catalog import load_manifest
    from models.convert.openvino_ir import ensure_ir
    from models.samples import ensure_sample

    for model in dict.fromkeys([config.model, *(s.model for s in config.streams if s.model)]):
        manifest = load_manifest(model)
        if config.size is not None:
            manifest.input.check_size(*config.size)
        ensure_ir(manifest, progress)
    for stream in config.streams:
        if stream.url.startswith("sample:"):
            ensure_sample(stream.url.removeprefix("sample:").partition("?")[0], progress)


@contextlib.contextmanager
def bring_up(config: FleetConfig, *, say: Say) -> Iterator[RunningFleet]:
    """Bring up a fleet on this machine, and take it down when the context is left.

    The caller holds `fleet_lock` and has called `fetch`.

    Raises:
        ConflictError: a port is taken.
        FleetError: something cannot be started; what had been started is ended again.
    """
    from fleet.coordinator import Coordinator, CoordinatorPorts
    from fleet.doctor import probe_node
    from fleet.routing import DEFAULT_POLICY, load_policy
    from fleet.store.redis_store import RedisStore

    with contextlib.ExitStack() as stack:
        say("looking for accelerators")
        advert, problems = probe_node()
        for problem in problems:
            _log.warning("%s", problem)
        accelerators = _chosen(config, advert)
        # What the configuration leaves out is not offered, so nobody misses its heartbeat.
        advert = advert.model_copy(update={"accelerators": tuple(accelerators.values())})
        say("starting Redis")
        server, urls = _redis(config, stack)
        run = RunFile(
            pid=os.getpid(),
            started=time.time(),
            redis=dict(urls),
            namespace=config.redis.namespace,
            model=network_name(config.model),
        )
        store = RedisStore(urls["coordinator"], run.namespace, started=run.started)
        stack.callback(store.close)
        stack.callback(remove_run_file, run.pid)
        write_run_file(run)
        _put_streams(store, config)
        say(f"starting Ray with {len(accelerators)} accelerator(s)")
        cluster = _ray(config, urls["agent"], advert, accelerators, stack)
        coordinator = Coordinator(
            CoordinatorPorts(store, cluster, load_policy(DEFAULT_POLICY), accelerators, time.time)
        )
        stack.enter_context(_running_in_thread(coordinator))
        yield RunningFleet(run, store, coordinator, cluster, server)


@contextlib.contextmanager
def _running_in_thread(coordinator: "Coordinator") -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=coordinator.run, args=(stop,), name="fleet-coordinator")
    try:
        thread.start()
        yield
    finally:
        stop.set()
        if thread.ident is not None:
            thread.join()


def _redis(
    config: FleetConfig, stack: contextlib.ExitStack
) -> tuple["RedisServer | None", Mapping[str, str]]:
    """Start the embedded Redis, or check the external one; return it and a URL for each role."""
    from fleet.store.access import ROLES
    from fleet.store.embedded import EmbeddedRedis as RedisServer

    if isinstance(config.redis, EmbeddedRedis):
        server = RedisServer(
            port=config.redis.port,
            namespace=config.redis.namespace,
            max_memory_mb=config.redis.max_memory_mb,
        )
        stack.callback(server.stop)
        server.start()
        return server, {role: server.url(role) for role in ROLES}
    url = config.redis.url
    if config.redis.ca_file is not None:
        url += ("&" if "?" in url else "?") + f"ssl_ca_certs={config.redis.ca_file}"
    return None, dict.fromkeys(ROLES, url)


def _chosen(config: FleetConfig, advert: NodeAdvert) -> dict[str, AcceleratorInfo]:
    """Return the accelerators that the configuration wants, of those that are there."""
    found = {info.id: info for info in advert.accelerators}
    if config.accelerators != "auto":
        found = {
            info.id: info
            for info in found.values()
            for wanted in config.accelerators
            if wanted.kind == info.kind and wanted.device in (None, info.device)
        }
    if not found:
        there = ", ".join(info.id for info in advert.accelerators) or "none at all"
        raise ConfigError(
            "this machine has none of the accelerators that the configuration names",
            hint=f"it has: {there}; run `fleet doctor`",
        )
    return found


def _put_streams(store: "FleetStore", config: FleetConfig) -> None:
    """Record the streams of the configuration; those added by hand earlier stay."""
    wanted = {
        stream.id: StreamSpec(
            id=stream.id,
            url=stream.url,
            fps=stream.fps,
            model=network_name(stream.model or config.model),
            track=stream.track,
            origin="config",
        )
        for stream in config.streams
    }
    for spec in store.streams():
        if spec.origin == "config" and spec.id not in wanted:
            store.remove_stream(spec.id)
    for spec in wanted.values():
        store.put_stream(spec)


def _ray(
    config: FleetConfig,
    redis_url: str,
    advert: NodeAdvert,
    accelerators: Mapping[str, AcceleratorInfo],
    stack: contextlib.ExitStack,
) -> "RayCluster":
    from agents.actor import Agent, AgentSettings
    from fleet.cluster.ray_environment import ray_environment

    folder = stack.enter_context(ray_environment())
    # Only now: Ray reads its environment when it is imported.
    from fleet.cluster.ray_cluster import RayCluster, RaySettings

    logs = paths.log_folder()
    settings = {
        info.id: AgentSettings(
            redis_url=redis_url,
            namespace=config.redis.namespace,
            advert=advert,
            size=config.size,
            precision=_precision(config, info),
            lanes=_lanes(config, info),
            log_file=str(logs / f"agent-{info.kind}-{info.device.replace('/', '-')}.log"),
        )
        for info in accelerators.values()
    }
    for each in settings.values():
        Path(each.log_file).unlink(missing_ok=True)
    cluster = RayCluster(
        RaySettings(
            folder=folder,
            cpus=config.ray.cpus or os.cpu_count() or 1,
            object_store_mb=config.ray.object_store_mb,
            log_folder=logs,
        ),
        lambda info: Agent(settings[info.id], info),
    )
    stack.callback(cluster.close, STOP_AGENTS_S)
    cluster.start(list(accelerators.values()))
    return cluster


def _precision(config: FleetConfig, info: AcceleratorInfo) -> "Precision | None":
    entry = _entry(config, info)
    return None if entry is None or entry.precision == "auto" else entry.precision


def _lanes(config: FleetConfig, info: AcceleratorInfo) -> int | None:
    entry = _entry(config, info)
    return None if entry is None else entry.lanes


def _entry(config: FleetConfig, info: AcceleratorInfo) -> AcceleratorConfig | None:
    """Return what the configuration says about an accelerator; the most specific entry counts."""
    if config.accelerators == "auto":
        return None
    fitting = [
        entry
        for entry in config.accelerators
        if entry.kind == info.kind and entry.device in (None, info.device)
    ]
    return max(fitting, key=lambda entry: entry.device is not None, default=None)
