"""Following partitions: one fetch after the other for all partitions that a broker leads, as batches of raw records.

Owns the fetch loops and what lies fetched but not taken: at most `buffer_bytes` a partition, then that partition is
left out until it is taken. A broker that is away is retried for ever; the log line about it comes once a while, not
each time. What cannot be read of one partition ends that one's stream, and no other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaError, for_code

from feed.errors import FeedError, NotLetIn, Unreachable
from feed.kafka.batches import UNKNOWN_EPOCH, FetchPage, Raw
from feed.kafka.cluster import FETCH_BYTES, Answer, OutOfRange, fetch_request
from feed.kafka.rights import is_denied, no_topic_right
from feed.kafka.waits import Waits
from feed.runtime.tasks import end
from feed.runtime.throttle import ThrottledLog

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

    `taken`: all below it was taken, records that do not count included. `confirmed`: how often everything was taken
    that an answer said was there. `epoch`: the leader epoch of what was taken last, and `foreign` how many records of
    others' transactions were passed over.

    `denied` says which right is missing to read on, until there is an answer again.

    `vanished` says that the broker did not know the topic for a while: what lies there now may be another topic of
    that name. `doubted` says that an answer failed since it was last set to False: meanwhile the log may have lost its
    end and got another one.
    """

    def __init__(self, partition: TopicPartition, position: int, wake: asyncio.Event) -> None:
        self.partition = partition
        self.position = position
        self.taken = position
        self.begin = 0
        self.end = position
        self.failed: Exception | None = None
        self.vanished = False
        self.denied = ""
        self.doubted = False
        self.confirmed = 0
        self.epoch = UNKNOWN_EPOCH
        self.foreign = 0
        self.seen_at = 0.0
        self.waits = Waits()
        self.held_since: float | None = None
        """Since when records lie behind the last stable offset without it having moved: of an open transaction."""
        self._wake = wake
        self._fetched: deque[tuple[FetchPage, int]] = deque()
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

    def take(self, bytes_max: int | None = None) -> list[Raw]:
        """What has arrived since the last call, in order; of one leader epoch only: what is of the next one waits.

        `bytes_max`: no more records are taken once their values have so many; what is left waits, too.

        Raises:
            OutOfRange: the position is not in the log any more (or not yet).
            Exception: what ended the fetching.
        """
        if not self._fetched:
            if self.failed is not None:
                raise self.failed
            return []
        was_full = self.full
        page, size = self._fetched.popleft()
        records, self.epoch, self.taken = page.records, page.epoch, page.after
        self._held -= size
        self.foreign += page.foreign
        while self._fetched and self._fetched[0][0].epoch == self.epoch and bytes_max is None:
            page, size = self._fetched.popleft()
            records = [*records, *page.records]
            self.taken = page.after
            self._held -= size
            self.foreign += page.foreign
        if bytes_max is not None:
            records = self._cut(page, bytes_max)
        if not self._fetched:
            self._held = 0
            self._arrived.clear()
            if self.taken >= self.end:
                self.confirmed += 1
        if was_full:
            self._wake.set()
        return records

    def _cut(self, page: FetchPage, bytes_max: int) -> list[Raw]:
        """The first records of a page; the others wait as one of their own."""
        records, found = page.records, 0
        for number, raw in enumerate(records):
            if found >= bytes_max:
                self._fetched.appendleft((page._replace(records=records[number:], foreign=0), 0))
                self.taken = raw.offset
                return records[:number]
            found += len(raw.value or b"")
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

    def answered(self, answer: Answer, pages: list[FetchPage], now: float) -> bool:
        """Called by the fetch loop; whether there is more to take."""
        stable_before = self.end
        self.seen_at, self.end = now, answer.end
        self.denied = ""
        self.begin = answer.begin
        self.waits.saw(answer.end, now)
        if answer.written_end <= answer.end or answer.end != stable_before:
            self.held_since = None
        elif self.held_since is None:
            self.held_since = now
        for number, page in enumerate(pages):
            self.position = page.after
            if page.records or page.foreign or self._fetched:
                self._fetched.append((page, answer.size if number == 0 else 0))
                self._held += answer.size if number == 0 else 0
                self._arrived.set()
            else:
                self.taken = page.after
        if not self._fetched and self.taken >= self.end:
            self.confirmed += 1
        return bool(self._fetched)

    def fail(self, error: Exception) -> None:
        """Called by the fetch loop: nothing more comes."""
        self.failed = error
        self._arrived.set()


class Fetcher:
    """Follows partitions of one cluster; `arrived` is set when any stream has something to take."""

    def __init__(self, cluster: Cluster, *, wait_ms: int = 100, ticks: bool = False) -> None:
        """`ticks`: they are tick topics, of which only what is committed is read."""
        self._ticks = ticks
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
        self._told = ThrottledLog(log)

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
                except (Unreachable, KafkaError, OSError) as error:
                    if isinstance(error, NotLetIn):
                        self._deny(partition)
                    self._unled.set()
                    await asyncio.sleep(_RETRY_S)
                    continue
                loop = self._loops.get(node)
                if loop is None or loop.done():
                    self._loops[node] = self._begin(self._run(node), f"kafka fetch {node}")
            self._wake.set()

    async def _run(self, node: int) -> None:
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
                for stream in wanted:
                    stream.doubted = True
                self._told.say((node, type(error)), f"fetch from node {node} failed: {error!r}")
                self._cluster.client.force_metadata_update()
                self._unled.set()
                await asyncio.sleep(_RETRY_S)
            else:
                self._failing.discard(node)
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
        request = fetch_request(wait_ms, _RESPONSE_BYTES, list(topics.items()), ticks=self._ticks)
        self._asked_at[node] = asyncio.get_running_loop().time()
        try:
            found = await self._cluster.client.send(node, request)
        finally:
            del self._asked_at[node]
        now = time.monotonic()
        arrived = stale = False
        for topic, partitions in found.topics:
            for one in partitions:
                answer = Answer(one, ticks=self._ticks)
                stream, position = asked[topic, answer.number]
                if stream.position != position or self._streams.get(stream.partition) is not stream:
                    continue
                if answer.code:
                    stale = self._failed(stream, answer.code) or stale
                    arrived = arrived or stream.failed is not None
                    continue
                try:
                    pages = answer.pages(position, ticks=self._ticks) if answer.size else []
                except FeedError as error:
                    stream.fail(error)
                    arrived = True
                    continue
                arrived = stream.answered(answer, pages, now) or arrived
        if arrived:
            self.arrived.set()
        if stale:
            self._cluster.client.force_metadata_update()
            self._unled.set()
            await asyncio.sleep(_RETRY_S)

    def _failed(self, stream: Stream, code: int) -> bool:
        """Takes note of a partition's error; whether the metadata may be stale."""
        error = for_code(code)
        stream.doubted = True
        if error.__name__ == "OffsetOutOfRangeError":
            topic, partition = stream.partition
            stream.fail(OutOfRange(f"offset {stream.position} of partition {partition} of {topic}"))
            return False
        if error.__name__ == "UnknownTopicOrPartitionError":
            stream.vanished = True
        if is_denied(error):
            self._deny(stream.partition)
        return True

    def _deny(self, partition: TopicPartition) -> None:
        """We may not read a partition; it is asked for again and again."""
        stream = self._streams.get(partition)
        if stream is not None:
            stream.denied = str(no_topic_right("READ", partition.topic))
            self._told.say(("denied", partition.topic), f"{partition.topic} cannot be read: {stream.denied}")
