"""Following partitions: one fetch after the other for all partitions that a broker leads, as batches of raw records.

Owns the fetch loops and what lies fetched but not taken: at most `buffer_bytes` a partition, then that partition is
left out until it is taken. A broker that is away is retried for ever; the log line about it comes once a while, not
each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest

from feed.errors import FeedError, Unreachable
from feed.kafka.cluster import FETCH_BYTES, OutOfRange, Raw, records_of
from feed.tasks import end

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from aiokafka.structs import TopicPartition

    from feed.kafka.cluster import Cluster

_RETRY_S: Final = 0.1
_BUFFER_BYTES: Final = 4 << 20
_RESPONSE_BYTES: Final = 16 << 20
_HURRY_MS: Final = 5
# Between two fetches: a millisecond's records come together. A tick's way to the client at 5,000 ticks/s, all on two
# cores, without and with it: p50 12 and 6 ms, p99 110 and 29 ms. A fetch costs both sides more than a record does.
_PAUSE_S: Final = 0.001
_OVERDUE_S: Final = 1.0
"""Beyond what a fetch may wait for records."""
_LOOK_S: Final = 1.0
"""How often a loop without a partition looks whether its node leads one: metadata that is renewed by itself says so to
nobody."""
log: Final = logging.getLogger("feed.kafka")


class Stream:
    """One partition being followed, from `position` on. `begin` and `end` are the log's, as last seen.

    `vanished` says that the broker did not know the topic for a while: what lies there now may be another topic of
    that name.
    """

    def __init__(self, partition: TopicPartition, position: int, wake: asyncio.Event) -> None:
        self.partition = partition
        self.position = position
        self.begin = 0
        self.end = position
        self.failed: Exception | None = None
        self.vanished = False
        self.seen_at = 0.0
        self._wake = wake
        self._fetched: deque[tuple[list[Raw], int]] = deque()
        self._held = 0
        self._arrived = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether nothing more is fetched until something is taken."""
        return self._held >= _BUFFER_BYTES

    @property
    def waiting(self) -> bool:
        """Whether something is there to take."""
        return bool(self._fetched)

    def take(self) -> list[Raw]:
        """What has arrived since the last call, in order.

        Raises:
            OutOfRange: the position is not in the log any more (or not yet).
            Exception: what ended the fetching.
        """
        if not self._fetched:
            if self.failed is not None:
                raise self.failed
            return []
        self._arrived.clear()
        was_full = self.full
        if len(self._fetched) == 1:
            records = self._fetched.popleft()[0]
        else:
            records = [record for page, _ in self._fetched for record in page]
            self._fetched.clear()
        self._held = 0
        if was_full:
            self._wake.set()
        return records

    async def wait(self, timeout_s: float) -> bool:
        """Whether something is there to take; waits for it up to `timeout_s`."""
        if self._fetched or self.failed is not None:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    def put(self, records: list[Raw], size: int) -> None:
        """Called by the fetch loop."""
        self._fetched.append((records, size))
        self._held += size
        self._arrived.set()

    def fail(self, error: Exception) -> None:
        """Called by the fetch loop: nothing more comes."""
        self.failed = error
        self._arrived.set()


class Fetcher:
    """Follows partitions of one cluster; `arrived` is set when any stream has something to take."""

    def __init__(self, cluster: Cluster, *, wait_ms: int = 100) -> None:
        self.arrived = asyncio.Event()
        self._cluster = cluster
        self._wait_ms = wait_ms
        self._streams: dict[TopicPartition, Stream] = {}
        self._asked_at: dict[int, float] = {}
        self._failing: set[int] = set()
        self._wake = asyncio.Event()
        self._loops: dict[int, asyncio.Task[None]] = {}
        self._leaders: asyncio.Task[None] | None = None
        self._unled = asyncio.Event()
        self._failure: Exception | None = None

    @property
    def reachable(self) -> bool:
        """Whether every node that leads a partition that is fetched has answered last."""
        return not self._failing

    @property
    def overdue(self) -> bool:
        """Whether a broker keeps a fetch waiting: one that stands still is told from one that has nothing new."""
        due = asyncio.get_running_loop().time() - self._wait_ms / 1000 - _OVERDUE_S
        return any(asked_at < due for asked_at in self._asked_at.values())

    def follow(self, partition: TopicPartition, position: int) -> Stream:
        """Follows a partition from a position on; a stream that was there before is replaced."""
        stream = Stream(partition, position, self._wake)
        self._streams[partition] = stream
        if self._leaders is None:
            self._leaders = self._begin(self._lead(), "kafka leaders")
        if self._failure is not None:
            stream.fail(self._failure)
        self._unled.set()
        self._wake.set()
        return stream

    def leave(self, stream: Stream) -> None:
        """Follows a partition no more."""
        if self._streams.get(stream.partition) is stream:
            del self._streams[stream.partition]

    async def stop(self) -> None:
        """Ends all loops."""
        await end([*self._loops.values(), *([self._leaders] if self._leaders else [])])

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A loop that dies of an error is nobody's to wait for: who follows a log hears it from its stream."""
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._failure = error
            for stream in self._streams.values():
                stream.fail(error)
            self.arrived.set()

    async def _lead(self) -> None:
        """Keeps one fetch loop for each node that leads a partition we follow."""
        while True:
            await self._unled.wait()
            self._unled.clear()
            for partition in list(self._streams):
                try:
                    node = await self._cluster.leader(partition, tries=1)
                except (Unreachable, KafkaError, OSError):
                    self._unled.set()
                    await asyncio.sleep(_RETRY_S)
                    continue
                loop = self._loops.get(node)
                if loop is None or loop.done():
                    self._loops[node] = self._begin(self._run(node), f"kafka fetch {node}")
            self._wake.set()

    async def _run(self, node: int) -> None:
        failures = 0
        while True:
            led = [s for s in self._streams.values() if self._led_by(s, node) and s.failed is None]
            wanted = [stream for stream in led if not stream.full]
            if not wanted:
                self._failing.discard(node)  # others lead what it led
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self._wake.wait()
                continue
            try:
                await self._fetch(node, wanted, hurry=len(wanted) < len(led))
            except (KafkaError, FeedError, OSError) as error:
                self._failing.add(node)
                if failures % 100 == 0:
                    log.warning("fetch from node %d failed: %r", node, error)
                failures += 1
                self._cluster.client.force_metadata_update()
                self._unled.set()
                await asyncio.sleep(_RETRY_S)
            else:
                self._failing.discard(node)
                failures = 0
                await asyncio.sleep(_PAUSE_S)

    def _led_by(self, stream: Stream, node: int) -> bool:
        leader = self._cluster.client.cluster.leader_for_partition(stream.partition)
        if leader not in self._loops:  # none is known, or a node that was none of them so far
            self._unled.set()
        return bool(leader == node)

    async def _fetch(self, node: int, streams: list[Stream], *, hurry: bool) -> None:
        topics: dict[str, list[tuple[int, int, int]]] = {}
        asked: dict[tuple[str, int], tuple[Stream, int]] = {}
        for stream in streams:
            topic, partition = stream.partition
            topics.setdefault(topic, []).append((partition, stream.position, FETCH_BYTES))
            asked[topic, partition] = stream, stream.position
        # where a full partition is left out, a long wait for the others would keep it waiting once it is taken
        wait_ms = _HURRY_MS if hurry else self._wait_ms
        request = FetchRequest(wait_ms, 1, _RESPONSE_BYTES, 0, list(topics.items()))
        self._asked_at[node] = asyncio.get_running_loop().time()
        try:
            answer = await self._cluster.client.send(node, request)
        finally:
            del self._asked_at[node]
        now = asyncio.get_running_loop().time()
        arrived = stale = False
        for topic, partitions in answer.topics:
            for found in partitions:
                stream, position = asked[topic, found[0]]
                if stream.position != position or self._streams.get(stream.partition) is not stream:
                    continue
                if found[1]:
                    stale = self._failed(stream, found[1]) or stale
                    arrived = arrived or stream.failed is not None
                    continue
                stream.seen_at = now
                stream.end = found[2]
                stream.begin = found[4] if answer.API_VERSION >= 5 else stream.begin
                if found[-1]:
                    records, stream.position = records_of(found[-1], position)
                    if records:
                        stream.put(records, len(found[-1]))
                        arrived = True
        if arrived:
            self.arrived.set()
        if stale:
            self._cluster.client.force_metadata_update()
            self._unled.set()
            await asyncio.sleep(_RETRY_S)

    def _failed(self, stream: Stream, code: int) -> bool:
        """Takes note of a partition's error; whether the metadata may be stale."""
        error = for_code(code)
        if error.__name__ == "OffsetOutOfRangeError":
            topic, partition = stream.partition
            stream.fail(OutOfRange(f"offset {stream.position} of partition {partition} of {topic}"))
            return False
        if error.__name__ == "UnknownTopicOrPartitionError":
            stream.vanished = True
        return True
