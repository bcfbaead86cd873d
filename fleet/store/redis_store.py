"""FleetStore over Redis: hashes for decisions, expiring keys and streams for what nodes report."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from redis.exceptions import RedisError

from agents.errors import WireError
from agents.wire import SCHEMA_VERSION
from agents.wire.keys import EVENTS_MAXLEN, Keys
from agents.wire.messages import (
    Assignment,
    FleetEvent,
    Heartbeat,
    Message,
    NodeAdvert,
    StreamSpec,
    ThroughputReport,
)
from fleet import __version__
from fleet.errors import StoreError
from fleet.store.base import RecordedEvent
from fleet.store.connection import check, connect, redact, store_error

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


class RedisStore:
    """The record on a Redis server; may be shared by threads."""

    def __init__(self, url: str, namespace: str = "fleet", *, started: float | None = None) -> None:
        """Connect and check version, rights and schema.

        Args:
            url: ``redis://`` or ``rediss://``.
            namespace: The fleet's prefix of every key.
            started: When the fleet came up; only the coordinator gives it, and with it claims the
                namespace. Without it nothing is written.

        Raises:
            StoreError: unreachable, refused, too old, or the record of another schema.
        """
        self._url = url
        self._keys = Keys(namespace)
        self._unreadable: set[bytes] = set()
        self._client = connect(url)
        try:
            check(self._client, url)
            self._check_schema()
            if started is not None:
                self._claim(started)
        except BaseException:
            self._client.close()
            raise

    def streams(self) -> tuple[StreamSpec, ...]:
        """Return the streams that should run, in order of id."""
        found = self._own_messages(self._keys.streams, StreamSpec)
        return tuple(found[stream_id] for stream_id in sorted(found))

    def put_stream(self, stream: StreamSpec) -> None:
        """Add a stream, or replace the one of the same id."""
        with self._errors():
            self._client.hset(self._keys.streams, stream.id, stream.to_json())

    def remove_stream(self, stream_id: str) -> bool:
        """Forget a stream; False when there was none."""
        with self._errors():
            return bool(self._client.hdel(self._keys.streams, stream_id))

    def assignments(self) -> Mapping[str, Assignment]:
        """Return stream id -> who serves it."""
        return self._own_messages(self._keys.assignments, Assignment)

    def put_assignments(self, assignments: Iterable[Assignment]) -> None:
        """Replace all assignments in one transaction."""
        fields = {assignment.stream.id: assignment.to_json() for assignment in assignments}
        with self._errors():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.delete(self._keys.assignments)
            if fields:
                pipeline.hset(self._keys.assignments, mapping=cast(Any, fields))
            pipeline.execute()

    def append_event(self, event: FleetEvent) -> None:
        """Record that something happened; the oldest events are forgotten."""
        with self._errors():
            self._client.xadd(self._keys.events, {"e": event.to_json()}, maxlen=EVENTS_MAXLEN)

    def events(self, after: str = "", limit: int = 100) -> tuple[RecordedEvent, ...]:
        """Return events in order: those that follow ``after``, or the latest ones without it."""
        key = self._keys.events
        with self._errors():
            if after:
                entries: Any = self._client.xrange(key, min=f"({after}", count=limit)
            else:
                entries = list(reversed(cast(Any, self._client.xrevrange(key, count=limit))))
        return tuple(
            RecordedEvent(entry_id.decode(), self._own_message(key, FleetEvent, fields[b"e"]))
            for entry_id, fields in entries
        )

    def adverts(self) -> tuple[NodeAdvert, ...]:
        """Return the adverts that are renewed, in order of node."""
        found = self._strings(self._keys.advert("*"), NodeAdvert)
        return tuple(sorted(found, key=lambda advert: advert.node))

    def heartbeats(self) -> Mapping[str, Heartbeat]:
        """Return accelerator id -> its latest heartbeat, while it is renewed."""
        found = self._strings(self._keys.heartbeat("*"), Heartbeat)
        return {heartbeat.accelerator: heartbeat for heartbeat in found}

    def throughput(self) -> Mapping[str, ThroughputReport]:
        """Return accelerator id -> its latest report, however old."""
        with self._errors():
            keys = self._find(self._keys.throughput("*"))
            pipeline = self._client.pipeline(transaction=False)
            for key in keys:
                pipeline.xrevrange(key, count=1)
            replies = pipeline.execute()
        values = [entries[0][1].get(b"r") if entries else None for entries in replies]
        found = self._node_messages(keys, values, ThroughputReport)
        return {report.accelerator: report for report in found}

    def close(self) -> None:
        """Release the connections; idempotent."""
        self._client.close()

    def _check_schema(self) -> None:
        with self._errors():
            meta = cast(dict[bytes, bytes], self._client.hgetall(self._keys.meta))
        schema = meta.get(b"schema_version", b"").decode()
        if schema not in ("", str(SCHEMA_VERSION)):
            raise StoreError(
                f"Redis at {redact(self._url)} holds a fleet of schema {schema} under "
                f"{self._keys.namespace!r}; this version reads {SCHEMA_VERSION}",
                hint="use the version that wrote it, or another namespace",
            )

    def _claim(self, started: float) -> None:
        fields = {"schema_version": SCHEMA_VERSION, "posefleet": __version__, "started": started}
        with self._errors():
            self._client.hset(self._keys.meta, mapping=cast(Any, fields))

    def _own_messages(self, key: str, kind: type[M]) -> dict[str, M]:
        with self._errors():
            fields = cast(dict[bytes, bytes], self._client.hgetall(key))
        return {
            name.decode(): self._own_message(key, kind, value) for name, value in fields.items()
        }

    def _own_message(self, key: str, kind: type[M], value: bytes) -> M:
        """Decode what a coordinator wrote; it must be readable, or the fleet would lose it."""
        try:
            return kind.from_json(value)
        except WireError as error:
            raise StoreError(
                f"{key} in Redis at {redact(self._url)} cannot be read: {error}",
                hint="it was written by another version; use that one, or another namespace",
            ) from error

    def _strings(self, pattern: str, kind: type[M]) -> Iterator[M]:
        with self._errors():
            keys = self._find(pattern)
            values = cast(list[bytes | None], self._client.mget(keys)) if keys else []
        return self._node_messages(keys, values, kind)

    def _node_messages(
        self, keys: list[bytes], values: Iterable[bytes | None], kind: type[M]
    ) -> Iterator[M]:
        for key, value in zip(keys, values, strict=True):
            # A key may expire between the look-up of the names and of the values.
            if value is None:
                continue
            try:
                yield kind.from_json(value)
            except WireError as error:
                if key not in self._unreadable:
                    self._unreadable.add(key)
                    logger.warning(
                        "cannot read what a node reports",
                        extra={"key": key.decode(), "cause": str(error)},
                    )

    def _find(self, pattern: str) -> list[bytes]:
        """Return the names that match, each once; ``pattern`` ends with its only wildcard."""
        literal = re.sub(r"([*?\[\]^\\])", r"\\\1", pattern[:-1])
        return sorted(set(self._client.scan_iter(match=f"{literal}*", count=1000)))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            raise store_error(error, self._url) from None
