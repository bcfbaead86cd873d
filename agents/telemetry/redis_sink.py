"""ReportSink over Redis: own thread, bounded, pipelined; never blocks the frame path.

Reports leave in the order in which they came. A connection that breaks in the middle of a batch
leaves open which half arrived, so the whole batch is sent again: a report may be there twice, and
readers drop the second by its epoch and index. What a full buffer throws away is counted.
"""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from agents.telemetry.base import PublishedListener
from agents.wire.keys import (
    ADVERT_TTL_S,
    HEARTBEAT_TTL_S,
    POSES_MAXLEN,
    REPORT_TTL_S,
    THROUGHPUT_MAXLEN,
    Keys,
)
from agents.wire.messages import Heartbeat, Message, NodeAdvert, ThroughputReport
from agents.wire.poses import stamp_latency

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
SOCKET_TIMEOUT_S = 2.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
"""Back-off between tries: doubled from the first to the longest, then 50..100 % of it."""
BATCH_REPORTS = 256
"""Most pose reports in one pipeline, about .6 MB with 20 people each: a heartbeat waits for no
more than that."""
EXPIRE_EVERY_S = 60.0
"""How often the lifetime of a report key is renewed; small against `REPORT_TTL_S`."""


class _Waiting(NamedTuple):
    stream: str
    payload: bytearray
    captured_monotonic: float


class _Batch(NamedTuple):
    latest: dict[str, tuple[Message, int]]
    throughput: list[ThroughputReport]
    poses: list[_Waiting]


class RedisSink:
    """Sends the reports of one agent; its thread starts at once and ends with `close`."""

    def __init__(
        self,
        url: str,
        namespace: str = "fleet",
        *,
        on_published: PublishedListener | None = None,
        on_dropped: Callable[[str], None] | None = None,
        max_reports: int = 20_000,
        max_bytes: int = 64 << 20,
    ) -> None:
        """Never fails on an absent server: it is waited for, and reports are kept meanwhile.

        Args:
            url: ``redis://`` or ``rediss://`` with the agent's user and password.
            namespace: The fleet's prefix of every key.
            on_published: Told about every report that Redis has acknowledged.
            on_dropped: Told the stream of every pose report that was thrown away; like the other
                called from the sink's own thread, at most `LONGEST_PAUSE_S` later.
            max_reports: Pose reports kept while Redis is away (11 minutes at 30 a second).
            max_bytes: Bytes of pose reports kept while Redis is away.
        """
        self._client = redis.Redis.from_url(
            url,
            protocol=2,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._keys = Keys(namespace)
        self._on_published, self._on_dropped = on_published, on_dropped
        self._dropped: list[str] = []
        self._max_reports, self._max_bytes = max_reports, max_bytes
        self._changed = threading.Condition()
        self._poses: deque[_Waiting] = deque()
        self._bytes = 0
        self._in_flight = 0
        self._throughput: deque[ThroughputReport] = deque(maxlen=THROUGHPUT_MAXLEN)
        self._latest: dict[str, tuple[Message, int]] = {}
        self._lost = 0
        self._closing_at: float | None = None
        self._renew_at: dict[str, float] = {}
        self._random = random.Random()
        self._thread = threading.Thread(target=self._run, name="fleet-redis-sink", daemon=True)
        self._thread.start()

    def publish_poses(self, stream: str, payload: bytearray, captured_monotonic: float) -> None:
        """Queue one packed pose report; a full buffer drops its oldest one."""
        with self._changed:
            self._poses.append(_Waiting(stream, payload, captured_monotonic))
            self._bytes += len(payload)
            self._drop_oldest()
            self._changed.notify()

    def publish_throughput(self, report: ThroughputReport) -> None:
        """Queue a throughput report; kept apart from the poses, which it must not wait behind."""
        with self._changed:
            self._lost += len(self._throughput) == self._throughput.maxlen
            self._throughput.append(report)
            self._changed.notify()

    def publish_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Replace the heartbeat that is sent next; it goes before anything queued."""
        self._replace(self._keys.heartbeat(heartbeat.accelerator), heartbeat, HEARTBEAT_TTL_S)

    def publish_advert(self, advert: NodeAdvert) -> None:
        """Replace the advert that is sent next; it goes before anything queued."""
        self._replace(self._keys.advert(advert.node), advert, ADVERT_TTL_S)

    @property
    def backlog(self) -> tuple[int, int]:
        """Reports that Redis has not acknowledged, and reports lost since the start."""
        with self._changed:
            return len(self._poses) + len(self._throughput) + self._in_flight, self._lost

    def close(self, timeout_s: float) -> None:
        """Send what is queued within the time, then release everything; idempotent.

        A server that hangs can hold it up for `SOCKET_TIMEOUT_S` longer than ``timeout_s``.
        """
        with self._changed:
            if self._closing_at is None:
                self._closing_at = time.monotonic() + timeout_s
            self._changed.notify()
        self._thread.join(timeout_s + CONNECT_TIMEOUT_S + SOCKET_TIMEOUT_S)
        self._client.close()
        if unsent := self.backlog[0]:
            logger.warning("closed with unsent reports", extra={"unsent": unsent})

    def _replace(self, key: str, message: Message, ttl_s: int) -> None:
        with self._changed:
            self._latest[key] = (message, ttl_s)
            self._changed.notify()

    def _drop_oldest(self) -> None:
        while len(self._poses) > self._max_reports or self._bytes > self._max_bytes:
            oldest = self._poses.popleft()
            self._bytes -= len(oldest.payload)
            self._lost += 1
            self._dropped.append(oldest.stream)

    def _run(self) -> None:
        failures = 0
        while (batch := self._next_batch()) is not None:
            try:
                self._send(batch)
            except (RedisError, OSError) as error:
                self._put_back(batch)
                failures += 1
                if failures == 1:
                    logger.warning("redis is away, reports wait", extra={"cause": type(error)})
                self._tell_dropped()
                self._pause(failures)
            else:
                if failures:
                    logger.info("redis is back", extra={"tries": failures})
                failures = 0
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        with self._changed:
            dropped, self._dropped = self._dropped, []
        if self._on_dropped is not None:
            for stream in dropped:
                self._on_dropped(stream)

    def _next_batch(self) -> _Batch | None:
        """Wait for something to send; None when it is time to end."""
        with self._changed:
            while not (self._poses or self._throughput or self._latest):
                if self._closing_at is not None:
                    return None
                self._changed.wait()
            if self._closing_at is not None and time.monotonic() >= self._closing_at:
                return None
            count = min(len(self._poses), BATCH_REPORTS)
            batch = _Batch(
                self._latest, list(self._throughput), [self._poses.popleft() for _ in range(count)]
            )
            self._latest = {}
            self._throughput.clear()
            self._bytes -= sum(len(waiting.payload) for waiting in batch.poses)
            self._in_flight = len(batch.throughput) + len(batch.poses)
            return batch

    def _put_back(self, batch: _Batch) -> None:
        with self._changed:
            self._in_flight = 0
            self._latest = batch.latest | self._latest
            self._poses.extendleft(reversed(batch.poses))
            self._bytes += sum(len(waiting.payload) for waiting in batch.poses)
            self._drop_oldest()
            kept = [*batch.throughput, *self._throughput]
            self._lost += max(0, len(kept) - THROUGHPUT_MAXLEN)
            self._throughput = deque(kept, maxlen=THROUGHPUT_MAXLEN)
            # After a restart the server may have forgotten lifetimes together with the keys.
            self._renew_at.clear()

    def _pause(self, failures: int) -> None:
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
        until = time.monotonic() + longest * self._random.uniform(0.5, 1)
        with self._changed:
            while (left := min(until, self._closing_at or until) - time.monotonic()) > 0:
                self._changed.wait(left)

    def _send(self, batch: _Batch) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for key, (message, ttl_s) in batch.latest.items():
            pipeline.set(key, message.to_json(), ex=ttl_s)
        touched: dict[str, None] = {}
        for report in batch.throughput:
            key = self._keys.throughput(report.accelerator)
            touched[key] = None
            pipeline.xadd(key, {"r": report.to_json()}, maxlen=THROUGHPUT_MAXLEN)
        first_pose = len(pipeline)
        sent_at = time.monotonic()
        for waiting in batch.poses:
            stamp_latency(waiting.payload, int((sent_at - waiting.captured_monotonic) * 1e6))
            key = self._keys.poses(waiting.stream)
            touched[key] = None
            pipeline.xadd(key, {"p": bytes(waiting.payload)}, maxlen=POSES_MAXLEN)
        for key in touched:
            if sent_at >= self._renew_at.get(key, 0.0):
                self._renew_at[key] = sent_at + EXPIRE_EVERY_S
                pipeline.expire(key, REPORT_TTL_S)
        self._settle(batch, pipeline.execute(raise_on_error=False), first_pose)

    def _settle(self, batch: _Batch, replies: list[Any], first_pose: int) -> None:
        """Tell who arrived; drop what the server refused, which no retry would cure.

        Sending a refused report again would put it behind its successors.
        """
        acknowledged_at = time.monotonic()
        refused = [reply for reply in replies if isinstance(reply, RedisError)]
        if refused:
            logger.error("redis refused reports", extra={"cause": str(refused[0])})
        outcome = list(zip(batch.poses, replies[first_pose:], strict=False))
        with self._changed:
            self._in_flight = 0
            first = len(batch.latest)
            reports = replies[first : first_pose + len(batch.poses)]
            self._lost += sum(isinstance(reply, RedisError) for reply in reports)
            self._dropped += [
                sent.stream for sent, reply in outcome if isinstance(reply, RedisError)
            ]
        if self._on_published is not None:
            for sent, reply in outcome:
                if not isinstance(reply, RedisError):
                    self._on_published(sent.stream, acknowledged_at - sent.captured_monotonic)
