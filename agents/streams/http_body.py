"""HttpBody: the body of an HTTP response as a file whose reading any thread can end.

A read of FFmpeg's own HTTP reader cannot be ended from outside: a camera that stalls would hold
the thread that waits for it.
"""

import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from base64 import b64encode
from contextlib import suppress
from typing import cast
from urllib.parse import unquote, urlsplit, urlunsplit

from agents.errors import StreamError, StreamRefused
from agents.streams.urls import redact

_REFUSALS = {401, 403, 404, 410}
"""Asking again changes nothing until somebody changes the URL or the camera."""


class HttpBody:
    """What `av.open` reads from; user and password of the URL serve Basic and Digest."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Ask for the URL.

        Raises:
            StreamError: no connection, no answer in time, or a server's error.
            StreamRefused: the answer is that there is no such thing, or not for us.
        """
        self.name = redact(url)
        """How errors call it; PyAV uses it too."""
        self._timeout_s = timeout_s
        try:
            self._response = _ask(url, timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            raise _refused(self.name, error.code, error.reason) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise StreamError(f"{self.name} cannot be reached: {_reason(error)}") from None
        self.content_type = self._response.headers.get_content_type()
        # A second handle of the same connection: shutting it down ends a read in another thread.
        self._socket = socket.socket(fileno=os.dup(self._response.fileno()))
        self._wanted_since = time.monotonic()

    def expect_frame(self) -> None:
        """Start to measure the time to the next frame; bytes that make no frame do not count."""
        self._wanted_since = time.monotonic()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes as soon as there are some, none at the end.

        Raises:
            StreamError: the connection broke or stalled.
        """
        if time.monotonic() - self._wanted_since > self._timeout_s:
            raise StreamError(f"{self.name}: no frame for {self._timeout_s:g} s")
        try:
            return self._response.read1(size)
        except TimeoutError:
            raise StreamError(f"{self.name}: no data for {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise StreamError(f"{self.name} broke: {_reason(error)}") from None

    def interrupt(self) -> None:
        """End a read that another thread waits in."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the connection; idempotent."""
        self._response.close()
        self._socket.close()


def _ask(url: str, timeout_s: float) -> http.client.HTTPResponse:
    """Ask for a URL; again with its user and password when the answer asks for them."""
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    request = urllib.request.Request(bare)
    opener = urllib.request.build_opener()
    try:
        response = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            challenges = error.headers.get_all("WWW-Authenticate", [])
        if error.code != 401 or parts.username is None:
            raise
        user, password = unquote(parts.username), unquote(parts.password or "")
        given = _credentials(request, challenges, user, password)
        request.add_unredirected_header("Authorization", given)
        response = opener.open(request, timeout=timeout_s)
    return cast(http.client.HTTPResponse, response)


def _credentials(
    request: urllib.request.Request, challenges: list[str], user: str, password: str
) -> str:
    """Return what to answer: Digest where it is offered, because it does not send the password."""
    for challenge in challenges:
        scheme, _, fields = challenge.partition(" ")
        if scheme.lower() == "digest":
            passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            passwords.add_password(None, request.full_url, user, password)  # None: any realm
            digest = urllib.request.HTTPDigestAuthHandler(passwords)
            offered = urllib.request.parse_keqv_list(urllib.request.parse_http_list(fields))
            return f"Digest {digest.get_authorization(request, offered)}"
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _refused(name: str, status: int, reason: str) -> StreamError:
    if status in _REFUSALS:
        hint = "is the path right?"
        if status in {401, 403}:
            hint = "put the right user and password into the URL: http://user:password@host/..."
        return StreamRefused(f"{name} refuses us: HTTP {status} {reason}", hint=hint)
    return StreamError(f"{name} answers HTTP {status} {reason}")


def _reason(error: Exception) -> str:
    """Return the cause without the URL, which may hold a password."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
