"""Connections to the fleet's Redis: opened from a URL, checked, with errors an operator can act on.

No error text ever holds a password.
"""

import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from fleet.errors import StoreError

CONNECT_TIMEOUT_S = 2.0
SOCKET_TIMEOUT_S = 3.0
OLDEST_VERSION = (7, 0)
"""Redis 7 and Valkey 7.2, which continues it, are what this is run against."""


def redact(url: str) -> str:
    """Return the URL without its password and its options."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return urlunsplit((parts.scheme, f"{name}{colon and ':***'}{at}{host}", parts.path, "", ""))


def connect(url: str, *, timeout_s: float = SOCKET_TIMEOUT_S) -> redis.Redis:
    """Return a client that has not yet connected; commands raise the errors of redis-py.

    Options follow the ``?`` of a ``rediss://`` URL: ``ssl_ca_certs=FILE`` names the authority that
    signed the server's certificate, ``ssl_certfile`` and ``ssl_keyfile`` our own certificate.

    Raises:
        StoreError: the URL itself is wrong.
    """
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        for file in parse_qs(urlsplit(url).query).get(name, ()):
            if not Path(file).is_file():
                raise StoreError(f"{name} of the Redis URL: no such file {file}")
    try:
        client = redis.Redis.from_url(
            url,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            # One more try: the first command after a restart of the server meets a dead socket.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)),
        )
        # An unknown option is only noticed when a connection object is made.
        client.connection_pool.make_connection()
    except (ValueError, TypeError, RedisError) as error:
        raise StoreError(
            f"not a usable Redis URL: {redact(url)} ({_clean(str(error), url)})",
            hint="write redis://USER:PASSWORD@HOST:PORT/0, or rediss:// with ?ssl_ca_certs=FILE",
        ) from None
    return client


def check(client: redis.Redis, url: str) -> None:
    """Check that the server answers, lets us in and is recent enough.

    Raises:
        StoreError: it does not; the hint says what to do.
    """
    try:
        client.ping()
        version = _server_version(client)
    except (RedisError, OSError) as error:
        raise store_error(error, url) from None
    if version and version < OLDEST_VERSION:
        found = ".".join(map(str, version))
        raise StoreError(
            f"the Redis server at {redact(url)} is version {found}",
            hint="use Redis 7 or later, or Valkey",
        )


def store_error(error: Exception, url: str) -> StoreError:
    """Turn an error of redis-py into one that names the server, the cause and the next step."""
    where = redact(url)
    if isinstance(error, NoPermissionError):
        return StoreError(
            f"Redis at {where} forbids this user a command: {_clean(str(error), url)}",
            hint="give the user rights on the fleet's keys with ACL SETUSER, or use another user",
        )
    if isinstance(error, AuthenticationError) or "NOAUTH" in str(error):
        return StoreError(
            f"Redis at {where} refuses user or password",
            hint="check both in the URL: redis://USER:PASSWORD@HOST:PORT",
        )
    if isinstance(error, BusyLoadingError):
        return StoreError(f"Redis at {where} is still loading its data", hint="try again shortly")
    # A server without TLS never answers the greeting of one with it.
    no_answer = url.startswith("rediss:") and isinstance(error, redis.exceptions.TimeoutError)
    if no_answer or isinstance(error, ssl.SSLError) or "SSL" in str(error):
        return StoreError(
            f"no TLS connection to Redis at {where}: {_clean(str(error), url)}",
            hint="if the port speaks TLS name its CA, rediss://...?ssl_ca_certs=FILE; else redis://",
        )
    if isinstance(error, ResponseError):
        return StoreError(f"Redis at {where} answers: {_clean(str(error), url)}")
    return StoreError(
        f"Redis at {where} cannot be reached: {_clean(str(error), url)}",
        hint="check that it runs and that host and port are right; rediss:// if it wants TLS",
    )


def _server_version(client: redis.Redis) -> tuple[int, ...]:
    """Ask with HELLO, which every user may; INFO is often forbidden."""
    reply: Any = client.execute_command("HELLO")  # type: ignore[no-untyped-call]  # redis-py
    fields = dict(zip(reply[::2], reply[1::2], strict=True))
    numbers = re.match(rb"(\d+)\.(\d+)", fields.get(b"version", b""))
    return tuple(int(number) for number in numbers.groups()) if numbers else ()


def _clean(text: str, url: str) -> str:
    password = urlsplit(url).password
    return text.replace(password, "***") if password else text
