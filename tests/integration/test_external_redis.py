"""An existing Redis: over TLS with a certificate authority of its own, and one that is too old."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from builders import make_heartbeat, make_stream

from agents.telemetry.redis_sink import RedisSink
from fleet.client import connect
from fleet.errors import StoreError
from fleet.store.embedded import EmbeddedRedis
from fleet.store.redis_store import RedisStore

pytestmark = pytest.mark.integration


class Listener:
    """Answers every connection on a loopback port in a thread of its own, until closed."""

    def __init__(self, answer):
        self._answer = answer
        self._open = set()
        self._threads = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._start(self._accept)

    def _start(self, target, *args):
        self._threads.append(threading.Thread(target=target, args=args, name="fleet-test-listener"))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self._start(self._serve, self._socket.accept()[0])

    def _serve(self, connection):
        self._open.add(connection)
        with contextlib.suppress(OSError), connection:
            self._answer(connection)

    def close(self):
        for each in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)


def copy(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory):
    server = EmbeddedRedis(folder=tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate for 127.0.0.1 and its key, made on the spot."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
            "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "ca.pem",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture
def tls(server, authority):
    """A TLS front before the embedded server, which has no TLS itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "ca.pem", authority / "key.pem")

    def forward(connection):
        with (
            context.wrap_socket(connection, server_side=True) as secure,
            socket.create_connection(("127.0.0.1", server.port)) as plain,
        ):
            back = threading.Thread(target=copy, args=(plain, secure), name="fleet-test-back")
            back.start()
            copy(secure, plain)
            back.join()

    front = Listener(forward)
    yield front
    front.close()


def over_tls(url, port, options):
    head, _, _ = url.replace("redis://", "rediss://").rpartition(":")
    return f"{head}:{port}/0{options}"


def test_everything_works_over_tls_with_a_certificate_authority(server, tls, authority):
    options = f"?ssl_ca_certs={authority / 'ca.pem'}"
    store = RedisStore(over_tls(server.url("coordinator"), tls.port, options))
    store.put_stream(make_stream(id="door"))
    sink = RedisSink(over_tls(server.url("agent"), tls.port, options))
    sink.publish_heartbeat(make_heartbeat())
    sink.close(5)

    with connect(over_tls(server.url("consumer"), tls.port, options)) as fleet:
        assert [stream.spec.id for stream in fleet.state().streams] == ["door"]
    assert list(store.heartbeats()) == ["pi/cpu:CPU"]
    store.close()


def test_a_certificate_that_nobody_vouches_for_is_refused(server, tls):
    with pytest.raises(StoreError, match="no TLS connection") as caught:
        RedisStore(over_tls(server.url("coordinator"), tls.port, ""))
    assert "ssl_ca_certs" in caught.value.hint


def test_a_server_that_is_too_old_is_named_with_its_version():
    def answer(connection):
        words = (b"server", b"redis", b"version", b"6.0.9")
        hello = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        while data := connection.recv(4096):
            for word in data.upper().split():
                if word == b"PING":
                    connection.sendall(b"+PONG\r\n")
                elif word == b"HELLO":
                    connection.sendall(b"*4\r\n" + hello)
                elif word == b"SETINFO":
                    connection.sendall(b"-ERR unknown command\r\n")

    old = Listener(answer)
    try:
        with pytest.raises(StoreError, match=r"version 6\.0") as caught:
            RedisStore(f"redis://127.0.0.1:{old.port}/0")
        assert "Redis 7" in caught.value.hint
    finally:
        old.close()
