"""The embedded Redis on a real server: who may do what, where it listens, its start and its end."""

import hashlib
import os
import socket
import stat
import threading

import psutil
import pytest
import redis
from builders import make_stream

from agents.wire.keys import KEY_TABLE
from fleet.errors import ConflictError, StoreError
from fleet.store.access import ROLES
from fleet.store.embedded import EmbeddedRedis, find_server
from fleet.store.redis_store import RedisStore

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory):
    server = EmbeddedRedis(folder=tmp_path_factory.mktemp("redis") / "a folder")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    """Make a raw client for a role, or for a URL of one's own."""
    clients = []

    def make(role=None, url=None):
        clients.append(redis.Redis.from_url(url or server.url(role), protocol=2))
        return clients[-1]

    yield make
    for each in clients:
        each.close()


@pytest.fixture
def own_server(tmp_path):
    """A server that the test may end; it is stopped whatever happens."""
    server = EmbeddedRedis(folder=tmp_path / "redis")
    yield server
    server.stop()


def forbidden(client, *command):
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)
    return True


def test_without_a_password_nothing_works(server, client):
    stranger = client(url=f"redis://127.0.0.1:{server.port}/0")
    for command in (("PING",), ("GET", "fleet:meta"), ("INFO",)):
        with pytest.raises(redis.exceptions.AuthenticationError):
            stranger.execute_command(*command)


@pytest.mark.parametrize("user", [*ROLES, "default", "nobody"])
def test_a_wrong_password_is_refused(server, client, user):
    with pytest.raises(redis.exceptions.AuthenticationError):
        client(url=f"redis://{user}:wrong@127.0.0.1:{server.port}/0").ping()


def test_the_store_says_that_the_password_is_wrong_without_telling_it(server):
    with pytest.raises(StoreError, match="refuses user or password") as caught:
        RedisStore(f"redis://coordinator:hunter2@127.0.0.1:{server.port}/0")
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint


def test_a_consumer_reads_and_writes_nothing(client):
    consumer = client("consumer")
    assert consumer.hgetall("fleet:streams") == {}
    assert consumer.xread({"fleet:poses:door": "0-0"}) == []
    for command in (
        ("SET", "fleet:x", "1"),
        ("HSET", "fleet:streams", "door", "{}"),
        ("XADD", "fleet:poses:door", "*", "p", "x"),
        ("DEL", "fleet:streams"),
        ("EXPIRE", "fleet:meta", "1"),
        ("GET", "other:x"),
        ("EVAL", "return 1", "0"),
    ):
        assert forbidden(consumer, *command)


def test_an_agent_writes_its_reports_and_reads_nothing(client):
    agent = client("agent")
    for row in KEY_TABLE:
        key = row.pattern.replace("{ns}", "fleet")
        command = {
            "string": ("SET", key, "x", "EX", "5"),
            "hash": ("HSET", key, "a", "b"),
            "stream": ("XADD", key, "MAXLEN", "~", "10", "*", "p", "x"),
        }[row.type]
        if row.writer == "agent":
            agent.execute_command(*command)
            agent.expire(key, 5)
        else:
            assert forbidden(agent, *command)
    assert forbidden(agent, "GET", "fleet:advert:NODE")
    assert forbidden(agent, "XREAD", "STREAMS", "fleet:poses:STREAM", "0")
    assert forbidden(agent, "DEL", "fleet:poses:STREAM")
    assert forbidden(agent, "SET", "other:x", "1")
    assert forbidden(agent, "SET", "fleet:streams", "gone")


def test_the_coordinator_may_not_leave_its_namespace(client):
    coordinator = client("coordinator")
    coordinator.hset("fleet:streams", "door", "{}")
    coordinator.delete("fleet:streams")
    assert forbidden(coordinator, "SET", "other:x", "1")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"), ("CONFIG", "SET", "maxmemory", "0"),
        ("ACL", "LIST"), ("SHUTDOWN", "NOSAVE"), ("KEYS", "*"), ("CLIENT", "PAUSE", "1"),
        ("MODULE", "LIST"), ("REPLICAOF", "127.0.0.1", "1"), ("SAVE",),
    ],
    ids=lambda command: " ".join(command),
)  # fmt: skip
def test_nobody_may_run_what_endangers_the_server(client, role, command):
    assert forbidden(client(role), *command)


def test_it_listens_on_the_loopback_interface_only(server):
    listening = {
        connection.laddr[0]
        for connection in psutil.Process(server.pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_passwords_are_in_no_command_line_no_environment_and_no_file(server):
    secrets = [server.url(role).split(":")[2].split("@")[0] for role in ROLES]
    seen = ""
    for process in psutil.process_iter():
        try:
            seen += " ".join(process.cmdline())
            if process.pid == server.pid:
                seen += " ".join(process.environ().values())
        except psutil.Error:
            continue
    for file in server.folder.rglob("*"):
        if file.is_file():
            seen += file.read_text(errors="replace")
    assert not any(secret in seen for secret in secrets)
    assert hashlib.sha256(secrets[0].encode()).hexdigest() in seen
    assert not any(secret in repr(server) for secret in secrets)


def test_the_access_list_is_for_its_owner_only(server):
    assert stat.S_IMODE((server.folder / "users.acl").stat().st_mode) == 0o600
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700


def test_stopping_leaves_the_record_and_nothing_else(own_server):
    own_server.start()
    process = psutil.Process(own_server.pid)
    store = RedisStore(own_server.url("coordinator"))
    store.put_stream(make_stream(id="door", origin="added"))
    store.close()
    own_server.stop()
    own_server.stop()

    assert not process.is_running()
    assert not own_server.is_alive()
    assert {path.name for path in own_server.folder.iterdir()} == {"appendonlydir", "server.log"}

    own_server.start()
    store = RedisStore(own_server.url("coordinator"))
    assert [spec.id for spec in store.streams()] == ["door"]
    store.close()


def test_a_half_written_last_command_is_dropped_and_the_rest_kept(own_server):
    own_server.start()
    store = RedisStore(own_server.url("coordinator"))
    store.put_stream(make_stream(id="door"))
    store.put_stream(make_stream(id="yard"))
    store.close()
    own_server.stop()
    (log,) = own_server.folder.glob("appendonlydir/*.incr.aof")
    os.truncate(log, log.stat().st_size - 10)

    own_server.start()
    store = RedisStore(own_server.url("coordinator"))
    assert [spec.id for spec in store.streams()] == ["door"]
    store.close()


def test_a_damaged_record_is_named_and_nothing_stays_behind(own_server):
    own_server.start()
    store = RedisStore(own_server.url("coordinator"))
    for number in range(20):
        store.put_stream(make_stream(id=f"s{number}"))
    store.close()
    own_server.stop()
    (log,) = own_server.folder.glob("appendonlydir/*.incr.aof")
    damaged = bytearray(log.read_bytes())
    damaged[200:260] = b"\xff" * 60
    log.write_bytes(damaged)

    with pytest.raises(StoreError, match="ended at once") as caught:
        own_server.start()
    assert str(own_server.folder) in caught.value.hint
    assert own_server.pid is None


def test_a_taken_port_is_named_with_its_owner(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = EmbeddedRedis(port=port, folder=tmp_path / "redis")
        with pytest.raises(ConflictError, match=f"port {port} is taken") as caught:
            server.start()
    assert str(os.getpid()) in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "redis" / "users.acl").exists()


def test_two_servers_may_not_share_a_folder(server):
    with pytest.raises(ConflictError, match="another fleet keeps its record"):
        EmbeddedRedis(folder=server.folder).start()
    assert server.is_alive()


def test_restart_keeps_port_passwords_and_record(own_server):
    own_server.start()
    url, pid = own_server.url("coordinator"), own_server.pid
    store = RedisStore(url)
    store.put_stream(make_stream(id="door"))
    psutil.Process(pid).kill()
    own_server._process.wait(5)
    assert not own_server.is_alive()
    with pytest.raises(StoreError, match="cannot be reached"):
        store.streams()

    own_server.restart()

    assert own_server.is_alive()
    assert own_server.url("coordinator") == url
    assert own_server.pid != pid
    assert [spec.id for spec in store.streams()] == ["door"]
    store.close()


def test_it_outlives_the_thread_that_started_it(own_server):
    """Linux would end it together with a thread that had forked it."""
    starter = threading.Thread(target=own_server.start)
    starter.start()
    starter.join()
    # The signal, if there were one, is sent before the thread counts as ended.
    assert own_server.is_alive()
    own_server.restart()
    assert own_server.is_alive()


def test_memory_is_capped_and_decisions_are_never_evicted(tmp_path):
    server = EmbeddedRedis(max_memory_mb=16, folder=tmp_path / "redis")
    server.start()
    try:
        store = RedisStore(server.url("coordinator"))
        store.put_stream(make_stream(id="door"))
        agent = redis.Redis.from_url(server.url("agent"))
        for number in range(40):
            agent.xadd(f"fleet:poses:s{number}", {"p": os.urandom(1 << 20)})
            agent.expire(f"fleet:poses:s{number}", 3600)
        info = redis.Redis.from_url(server.url("coordinator"))
        memory = info.info("memory")
        assert memory["used_memory"] <= memory["maxmemory"] + (2 << 20)
        assert info.info("stats")["evicted_keys"] > 0
        assert [spec.id for spec in store.streams()] == ["door"]
        for each in (agent, info, store):
            each.close()
    finally:
        server.stop()


def test_a_machine_without_a_server_program_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(StoreError, match="riscv64") as caught:
        find_server()
    assert "--redis URL" in caught.value.hint
