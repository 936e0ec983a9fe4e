"""Follows the feed logs into a hub, a gateway's or a recorder's: from each log's floor to its end, and on.

Owns where reading starts and starts again, and what is said of sources that have gone quiet. Which records are valid
is `feed.channels.reader`'s, what they mean the hub's, Kafka `feed.kafka`'s. Reads a little further back than the
floor, as far as clients may resume, so that a restart of this gateway costs them nothing.

A log that cannot be followed on (its records are gone, its topic is another) is started at its floor again: the hub
is told that the source goes on from there, and tells readers what they miss.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.channels.reader import HoleInLog, LogReader
from feed.channels.record import EMPTY, record_of
from feed.errors import Unreachable
from feed.kafka.cluster import Cluster, OutOfRange, Raw
from feed.kafka.fetch import Fetcher, Stream
from feed.tasks import end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from feed.model import StateReason

_LOOK_S: Final = 0.25
_NEW_PARTITIONS_S: Final = 2.0
_RETRY_S: Final = 0.5
_LAST_RECORDS: Final = 64
_DOUBT_S: Final = 5.0
log: Final = logging.getLogger("feed.follower")


class Sink(Protocol):
    """What takes the log in: the hub. `lag_ms` is how old the newest record was when it was taken in."""

    lag_ms: int | None

    def opened(self, source: str, ends: str, carries: bool) -> None:
        """A source begins, in place of `ends`."""

    def keyframe(self, source: str, symbol: str, value: bytes) -> None:
        """A symbol's snapshots."""

    def data(self, source: str, pos: int, last: int, value: bytes, end: int) -> None:
        """Messages, of which those after `pos` are new; the source stands at `last`."""

    def source_state(self, source: str, state: str, reason: StateReason | None, since_ns: int) -> None:
        """What is to be thought of a source as a whole."""


class Watcher(Protocol):
    """What is told how following goes: the gateway's health."""

    def kafka_answered(self) -> None:
        """A fetch was answered."""

    def kafka_failed(self, reason: str) -> None:
        """A fetch failed."""

    def caught_up(self) -> None:
        """All logs were read to the end that they had at the start."""


class _Log:
    """One partition of a feed log as it is followed.

    `lost`: it has to be followed anew, from `floor` where that is set, by the same reader where that is to `go_on`.
    """

    def __init__(self, stream: Stream, start: int, goal: int, silent_after_s: float, now: float) -> None:
        self.stream = stream
        self.reader = LogReader()
        self.start = start
        self.goal = goal
        self.source = ""
        self.taken = start
        self.open = False
        self.silent_after_s = silent_after_s
        self.record_at = now
        self.tick_at = now
        self.told: StateReason | None = None
        self.lost = False
        self.floor: int | None = None
        self.go_on = False
        self.doubted = False

    @property
    def caught_up(self) -> bool:
        return self.stream.position >= self.goal and not self.stream.waiting

    def lose(self, floor: int | None, *, go_on: bool = False) -> None:
        """It has to be followed anew."""
        self.lost, self.floor, self.go_on = True, floor, go_on

    def go_on_from(self, before: _Log) -> None:
        """Takes over what was known of the partition."""
        self.source, self.told, self.doubted = before.source, before.told, before.doubted
        self.record_at, self.tick_at = before.record_at, before.tick_at
        if before.go_on and self.start < before.start:
            # what is missing lies before where we began: from the same position on, copies are passed over
            self.reader = before.reader


class Follower:
    """Follows the feed logs of some topics, until it is cancelled."""

    def __init__(
        self,
        bootstrap: str,
        topics: Mapping[str, float],
        *,
        sink: Sink,
        watcher: Watcher,
        notify: Callable[[], None],
        resume_window_s: float,
        fetch_wait_ms: int = 100,
        disconnected_after_s: float = 2.0,
        client_id: str = "feed-serve",
        starts: Callable[[TopicPartition, int, int], int | None] = lambda partition, begin, end: None,
        passed: Callable[[str, int], None] | None = None,
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`topics`: each feed topic with the seconds without a tick after which its sources are silent.

        `starts`: given a log's begin and end, the offset at which its state must be known; None: at its end.
        `passed`: is told each record's source and offset before the sink hears of it. `between`: awaited before records
        are taken; while it waits, nothing is taken, and little is fetched.
        """
        self._topics = topics
        self._sink = sink
        self._watcher = watcher
        self._notify = notify
        self._resume_window_s = resume_window_s
        self._disconnected_after_s = disconnected_after_s
        self._starts = starts
        self._passed = passed
        self._between = between
        self._cluster = Cluster(bootstrap, client_id=client_id)
        self._fetcher = Fetcher(self._cluster, wait_ms=fetch_wait_ms)
        self._logs: dict[TopicPartition, _Log] = {}
        self._looked = False
        self._caught_up = False

    @property
    def positions(self) -> dict[str, tuple[int, int]]:
        """For each source that is followed: the last tick covered, and the log offset from which the next ones come.

        Whoever has everything up to the tick goes on from the offset.
        """
        return {log_.source: (log_.reader.pos, log_.taken) for log_ in self._logs.values() if log_.source}

    async def run(self) -> None:
        """Follows.

        Raises:
            Unreachable: no broker answered at the start.
        """
        await self._cluster.start()
        looking = asyncio.create_task(self._look_for_partitions(), name="feed partitions")
        try:
            while True:
                await self._wait()
                if self._between is not None:
                    await self._between()
                changed = False
                for partition, followed in list(self._logs.items()):
                    stream = followed.stream
                    if not followed.lost and (stream.waiting or stream.failed is not None or stream.vanished):
                        changed = self._take(partition, followed) or changed
                changed = self._watch() or changed
                if changed:
                    self._notify()
                if looking.done():
                    looking.result()
        finally:
            await end([looking])
            await self._fetcher.stop()
            await self._cluster.stop()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._fetcher.arrived.wait()
        except TimeoutError:
            pass
        self._fetcher.arrived.clear()

    async def _look_for_partitions(self) -> None:
        """Follows partitions that are new, and anew those that were lost."""
        while True:
            missing = False
            try:
                known = await self._cluster.topics()
                for topic in self._topics:
                    for number in range(known.get(topic, 0)):
                        before = self._logs.get(TopicPartition(topic, number))
                        if before is None or before.lost:
                            missing = True
                            await self._follow(TopicPartition(topic, number), before)
                            self._fetcher.arrived.set()
                self._looked = True
            except (KafkaError, OSError, Unreachable, OutOfRange) as error:
                self._watcher.kafka_failed(str(error))
            await asyncio.sleep(_RETRY_S if missing or not self._logs else _NEW_PARTITIONS_S)

    async def _follow(self, partition: TopicPartition, before: _Log | None) -> None:
        begin, end = await self._cluster.offsets(partition)
        floor = before.floor if before is not None else None
        wanted = self._starts(partition, begin, end)
        if floor is not None:
            start = floor
        elif wanted is not None:
            start = await self._floor_before(partition, wanted, begin, end)
        else:
            start = await self._start(partition, begin, end)
        start = min(max(start, begin), end)
        stream = self._fetcher.follow(partition, start)
        followed = _Log(stream, start, end, self._topics[partition.topic], time.monotonic())
        if before is not None:
            followed.go_on_from(before)
        self._logs[partition] = followed

    async def _start(self, partition: TopicPartition, begin: int, end: int) -> int:
        """The last record's floor, or further back: as far as clients may resume.

        Always some record's floor: reading from any other offset could begin with a record that is void.
        """
        floor = end
        for offset in range(end - 1, max(begin, end - _LAST_RECORDS) - 1, -1):
            floor = await self._floor_at(partition, offset, end)
            if floor < end:
                break
        since = int((time.time() - self._resume_window_s) * 1000)
        window = await self._cluster.offset_at(partition, since)
        return floor if window is None or window >= floor else await self._floor_at(partition, window, floor)

    async def _floor_before(self, partition: TopicPartition, offset: int, begin: int, end: int) -> int:
        """A floor from which the state before an offset can be known; the offset itself at the log's end."""
        if offset < end and (floor := await self._floor_at(partition, offset, end)) < end:
            return floor
        return await self._start(partition, begin, end)

    async def _floor_at(self, partition: TopicPartition, offset: int, end: int) -> int:
        """The floor of the first record at or after an offset, `end` where there is none."""
        async for page in self._cluster.read(partition, offset, end):
            for raw in page:
                return record_of(raw.headers, raw.value or EMPTY, raw.offset).floor
        return end

    def _take(self, partition: TopicPartition, followed: _Log) -> bool:
        """Takes what has arrived; whether the hub has heard anything."""
        try:
            if followed.stream.vanished:
                raise OutOfRange(f"{partition.topic} was away")
            return self._read(followed, followed.stream.take())
        except HoleInLog as hole:
            log.warning("%s/%d: %s", partition.topic, partition.partition, hole)
            followed.lose(hole.floor, go_on=True)
        except OutOfRange as error:
            log.warning("%s/%d: %s; starting at its floor again", partition.topic, partition.partition, error)
            followed.lose(None)
        self._fetcher.leave(followed.stream)
        return True

    def _read(self, followed: _Log, raws: list[Raw]) -> bool:
        reader, sink, stream, passed = followed.reader, self._sink, followed.stream, self._passed
        heard = False
        now = time.monotonic()
        for raw in raws:
            record = record_of(raw.headers, raw.value or EMPTY, raw.offset)
            before = reader.take(record)
            if before is None:
                continue
            if passed is not None:
                passed(record.source, raw.offset)
            if record.kind == "data":
                # part of a tick that fills records: until the last of them is read, it is not covered
                followed.open = not record.covers and len(record.value) > len(EMPTY)
            if not followed.open:
                followed.taken = raw.offset + 1
            if record.kind == "source":
                sink.opened(record.source, record.ends, record.carries)
                followed.source, heard = record.source, True
            elif reader.source != followed.source:
                sink.opened(reader.source, followed.source, True)
                followed.source = reader.source
            followed.record_at, followed.doubted = now, False
            if record.kind == "data":
                if record.covers:
                    followed.tick_at = now
                sink.data(record.source, before, reader.pos, record.value, record.end)
                heard = True
            elif record.kind == "keyframe":
                sink.keyframe(record.source, record.symbol, record.value)
                heard = True
        if raws:
            sink.lag_ms = max(0, int(time.time() * 1000) - raws[-1].timestamp)
        if not self._caught_up and stream.position >= followed.goal:
            self._fetcher.arrived.set()
        return heard

    def _watch(self) -> bool:
        """Tells health how we stand, and readers which sources are quiet; whether they were told anything."""
        now = time.monotonic()
        if self._fetcher.reachable:
            if not self._fetcher.overdue and self._logs and all(log_.stream.seen_at for log_ in self._logs.values()):
                self._watcher.kafka_answered()
        else:
            self._watcher.kafka_failed("fetches are not answered")
        # not while the first look goes on: the logs that it has not come to yet are not read at all
        if not self._caught_up and self._looked and self._logs and all(log_.caught_up for log_ in self._logs.values()):
            self._caught_up = True
            self._watcher.caught_up()
        told = False
        if self._caught_up:
            for followed in self._logs.values():
                told = self._tell(followed, now) or told
                self._doubt(followed, now)
        return told

    def _doubt(self, followed: _Log, now: float) -> None:
        """Reads a log from its begin, once, where all that comes is void: reading may have begun with a void record."""
        if followed.reader.void and not (followed.doubted or followed.lost) and now - followed.record_at > _DOUBT_S:
            followed.doubted = True
            self._fetcher.leave(followed.stream)
            followed.lose(0)

    def _tell(self, followed: _Log, now: float) -> bool:
        if not followed.source:
            return False
        reason: StateReason | None = None
        since = now
        if now - followed.record_at > self._disconnected_after_s:
            reason, since = "disconnected", followed.record_at
        elif now - followed.tick_at > followed.silent_after_s:
            reason, since = "silent", followed.tick_at
        if reason == followed.told:
            return False
        followed.told = reason
        since_ns = time.time_ns() - int((now - since) * 1e9)
        self._sink.source_state(followed.source, "stale" if reason else "ok", reason, since_ns)
        return True
