"""Stream URLs: their scheme, their options, and how they are shown without credentials."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from agents.errors import StreamRefused

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
# Names under which cameras take passwords in their query, e.g. Hikvision, Foscam, Reolink.
_SECRET_OPTION = re.compile(
    r"([?&][^=&#]*(?:pass|pwd|token|secret|auth|key|sig)[^=&#]*=)[^&#]*", re.IGNORECASE
)
HIDDEN = "***"


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case, ``file`` for a plain path."""
    match = _SCHEME.match(url)
    if match is None or Path(url).exists():
        return "file"
    return match[1].lower()


def redact(url: str) -> str:
    """Return the URL as it may be shown: without user, password and secret query values."""
    head, separator, rest = url.partition("://")
    if separator:
        url = head + separator + _without_user(rest)
    return _SECRET_OPTION.sub(rf"\g<1>{HIDDEN}", url)


def require_host(url: str) -> None:
    """Raise `StreamRefused` unless the URL names a host, and its port is a number."""
    try:
        parts = urlsplit(url)
        is_complete = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_complete = False
    if not is_complete:
        raise StreamRefused(
            f"{redact(url)} names no host",
            hint="write scheme://host:port/path, and / in a password as %2F",
        )


def _without_user(rest: str) -> str:
    """Cut the user info of what follows ``://``, also where a password holds a bare / or @."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    port = re.sub(r"^\[.*\]", "", authority).partition(":")[2]
    end = authority.rfind("@")
    if end < 0 and port and not port.isdigit():
        end = rest.rfind("@")
    return rest if end < 0 else f"{HIDDEN}@{rest[end + 1 :]}"


@dataclass(frozen=True, slots=True)
class LocalUrl:
    """A URL whose query is ours: ``scheme:target?option=value``."""

    url: str
    target: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, url: str, known: tuple[str, ...]) -> "LocalUrl":
        """Split a URL; a plain path that exists is taken as it stands.

        Raises:
            StreamRefused: an option is not among the known ones.
        """
        if scheme_of(url) == "file" and not url.startswith("file:"):
            if Path(url).exists():
                return cls(url, url, {})
            target, _, query = url.partition("?")
        else:
            target, _, query = url.partition(":")[2].partition("?")
            target = re.sub(r"^//(localhost(?=/))?", "", unquote(target))
        options = dict(parse_qsl(query, keep_blank_values=True))
        for name in options:
            if name not in known:
                raise StreamRefused(
                    f"{url}: unknown option {name!r}", hint=f"known here: {', '.join(known)}"
                )
        return cls(url, target, options)

    def flag(self, name: str) -> bool:
        """Return True for ``name=1``, False for ``name=0`` or when it is absent.

        Raises:
            StreamRefused: the value is neither.
        """
        value = self.options.get(name, "0")
        if value not in {"0", "1"}:
            raise self._refuse(name, "0 or 1")
        return value == "1"

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return the value of a numeric option.

        Raises:
            StreamRefused: it is not a number from low to high.
        """
        try:
            value = float(self.options.get(name, default))
        except ValueError:
            raise self._refuse(name, "a number") from None
        if not low <= value <= high:
            raise self._refuse(name, f"from {low:g} to {high:g}")
        return value

    def size(self, name: str, default: tuple[int, int]) -> tuple[int, int]:
        """Return width and height of ``name=640x480``.

        Raises:
            StreamRefused: it is not of that form, or below 16 or above 8192 pixels.
        """
        if name not in self.options:
            return default
        match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", self.options[name])
        if match is None or not all(16 <= int(side) <= 8192 for side in match.groups()):
            raise self._refuse(name, "WIDTHxHEIGHT, 16 to 8192 pixels each")
        return int(match[1]), int(match[2])

    def pace(self) -> bool:
        """Return False for ``pace=max``: as fast as it can be read.

        Raises:
            StreamRefused: another value.
        """
        value = self.options.get("pace", "own")
        if value not in {"own", "max"}:
            raise self._refuse("pace", "own (its frame rate) or max")
        return value == "own"

    def _refuse(self, name: str, expected: str) -> StreamRefused:
        return StreamRefused(f"{self.url}: {name}={self.options[name]} is not {expected}")
