"""Ticks as they lie in Kafka, recorded: so that any incident can be put through the normalizers again.

Owns the table `ticks` with commits of its own. Its positions are offsets of the tick topics; each partition is a source
named `ticks.kraken/0`. What is gone from Kafka before it was read is logged and left out: the offsets show it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.channels.state import FoldRules
from feed.errors import Unreachable
from feed.follow.floors import EARLIEST
from feed.kafka.access import Entrance
from feed.kafka.batches import Raw
from feed.kafka.cluster import Cluster, OutOfRange
from feed.kafka.fetch import Fetcher, Stream
from feed.kafka.rights import Right
from feed.recorder.commits import Commits
from feed.recorder.recovery import seal_ended, take_up
from feed.recorder.retention import keep
from feed.recorder.role import NOT_OUR_DISK, Pauses, refuse_full
from feed.recorder.rows import Taken
from feed.recording.disk import Disk
from feed.recording.notes import Span
from feed.recording.tables import SCHEMAS, TICKS
from feed.recording.words import Words
from feed.runtime.tasks import end, unbroken
from feed.runtime.throttle import ThrottledLog

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from feed.backfill.past import LogCut
    from feed.recorder.health import RecorderHealth
    from feed.runtime.settings import RecordSettings

_NS_PER_MS: Final = 1_000_000
_LOOK_S: Final = 1.0
_WAIT_S: Final = 0.25
log: Final = logging.getLogger("feed.recorder")
Source = str


class RawRecorder:
    """Records tick topics into a folder, until it is cancelled; somebody else holds the folder's lock."""

    def __init__(
        self,
        broker: Entrance | str,
        topics: Sequence[str],
        root: Path,
        *,
        settings: RecordSettings,
        health: RecorderHealth,
        fetch_wait_ms: int,
        disk: Disk | None = None,
        named: bool = False,
        begins: LogCut | None = EARLIEST,
    ) -> None:
        """`named`: somebody asked for these topics; else what is there counts. `begins`: where a new recording does;
        None: where the topics end."""
        self._named = named
        self._begins = begins
        self._topics = topics
        self._root = root
        self._settings = settings
        self._health = health
        self._disk = disk or Disk(root)
        self._cluster = Cluster(broker, client_id="feed-record-raw")
        self._fetcher = Fetcher(self._cluster, wait_ms=fetch_wait_ms)
        self._told = ThrottledLog(log)
        self._pauses = Pauses("recording of ticks")

    async def run(self, locked: asyncio.Event) -> None:
        """Records, pauses and goes on, once the folder is locked.

        Raises:
            Unreachable: no broker answered at the start; NotLetIn where we are not let in, or may not read what was
                named.
            CorruptRecording: an open file is damaged before its end.
        """
        await locked.wait()
        await self._cluster.start()
        try:
            if self._named:
                await self._cluster.must_have(Right("READ", "topic", topic) for topic in self._topics)
            while True:
                try:
                    await self._record()
                except OSError as error:
                    if error.errno in NOT_OUR_DISK:
                        raise
                    self._health.paused(error.strerror or str(error), TICKS)
                    self._pauses.pause(error)
                await asyncio.sleep(self._settings.retry_ms / 1000)
        finally:
            await self._fetcher.stop()
            await self._cluster.stop()

    async def _record(self) -> None:
        refuse_full(self._disk, self._settings.free_bytes_min, self._health)
        taken_up = await unbroken(asyncio.to_thread(take_up, self._root, self._disk, (), (TICKS,)))
        commits = Commits(self._disk, (TICKS,), taken_up.commit, FoldRules(), self._settings)
        life = RawTicks(commits, taken_up.positions)
        streams: dict[TopicPartition, Stream] = {}
        self._health.goes_on(TICKS)
        looking = asyncio.create_task(self._look(life, streams), name="tick partitions")
        try:
            while True:
                await self._arrived()
                for partition, stream in list(streams.items()):
                    self._take(life, partition, stream, streams)
                self._health.ticks_denied = next((one.denied for one in streams.values() if one.denied), "")
                if looking.done():
                    looking.result()
                if not life.due(self._settings.flush_bytes, self._settings.flush_interval_ms):
                    continue
                await unbroken(self._write(life))
        except asyncio.CancelledError:
            self._finish(life)
            raise
        finally:
            for stream in streams.values():
                self._fetcher.leave(stream)
            await end([looking])
            commits.close()

    async def _write(self, life: RawTicks) -> None:
        """Writes what came, and what is due with it."""
        try:
            refuse_full(self._disk, self._settings.free_bytes_min, self._health)
            await asyncio.to_thread(life.write)
            self._pauses.go_on()
            if time.monotonic() - life.synced_at >= self._settings.sync_interval_ms / 1000:
                life.synced_at = time.monotonic()
                await asyncio.to_thread(life.commits.sync)
            await self._rotate(life)
        except BaseException:
            life.broken = True
            raise

    async def _arrived(self) -> None:
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._fetcher.arrived.wait()
        except TimeoutError:
            pass
        self._fetcher.arrived.clear()

    async def _look(self, life: RawTicks, streams: dict[TopicPartition, Stream]) -> None:
        """Follows partitions that are new, or that were lost."""
        while True:
            try:
                known = await self._cluster.topics()
                for topic in self._topics:
                    for number in range(known.get(topic, 0)):
                        partition = TopicPartition(topic, number)
                        if partition not in streams:
                            begin, stop = await self._cluster.offsets(partition)
                            start = life.start(source_of(partition), begin, stop)
                            if start is None:
                                start = await self._new(partition, begin, stop)
                            streams[partition] = self._fetcher.follow(partition, start)
            except (KafkaError, OSError, Unreachable) as error:
                self._told.say("topics", f"tick topics: {error}")
            await asyncio.sleep(_LOOK_S)

    async def _new(self, partition: TopicPartition, begin: int, stop: int) -> int:
        """Where a partition begins of a recording that is new."""
        if self._begins is None:
            return stop
        if not self._begins.time:
            return begin
        found = await self._cluster.offset_at(partition, self._begins.time // _NS_PER_MS)
        return stop if found is None else found

    def _take(
        self, life: RawTicks, partition: TopicPartition, stream: Stream, streams: dict[TopicPartition, Stream]
    ) -> None:
        try:
            life.take(partition, stream.take())
        except OutOfRange as error:
            self._told.say(("range", stream.partition), f"{error}; going on where the log begins now")
            self._fetcher.leave(stream)
            del streams[partition]

    async def _rotate(self, life: RawTicks) -> None:
        if not life.commits.full():
            return
        await asyncio.to_thread(life.commits.sync)
        path = life.commits.end(TICKS)
        if path is not None:
            await asyncio.to_thread(seal_ended, self._root, self._disk, path)
            gone = await asyncio.to_thread(keep, self._root, self._disk, self._settings, life.newest, (TICKS,))
            self._health.deleted_files += len(gone)

    def _finish(self, life: RawTicks) -> None:
        if life.broken:
            log.error("the last write of ticks failed; the next recorder goes on from what was written")
            return
        try:
            life.write()
            for path in life.commits.end_all():
                seal_ended(self._root, self._disk, path)
        except OSError as error:
            log.error("not all ticks could be written at the end: %s; the next recorder goes on from what was", error)


class RawTicks:
    """Ticks on their way into the table. `broken`: a write failed, and what is in memory is given up."""

    def __init__(self, commits: Commits, positions: dict[str, Span]) -> None:
        self.commits = commits
        self.broken = False
        self.synced_at = time.monotonic()
        self._spans = dict(positions)
        self._goes_on = bool(positions)
        self._words = Words(sorted({source.rpartition("/")[0] for source in positions}))
        self._waiting: list[tuple[TopicPartition, list[Raw]]] = []
        self._bytes = 0
        self._written_at = time.monotonic()

    @property
    def newest(self) -> int:
        """The newest time of a tick, nanoseconds."""
        return max((span.clock for span in self._spans.values()), default=0)

    def start(self, source: Source, begin: int, stop: int) -> int | None:
        """Where a partition is read on from; new ones from their begin. None: all is new."""
        span = self._spans.get(source)
        if span is None:
            return begin if self._goes_on else None
        if not begin <= span.offset <= stop:
            log.warning(
                "%s: offset %d is not in the log any more, which holds %d to %d", source, span.offset, begin, stop
            )
            return begin
        return span.offset

    def take(self, partition: TopicPartition, raws: list[Raw]) -> None:
        """Notes what has come."""
        if raws:
            self._waiting.append((partition, raws))
            self._bytes += sum(len(raw.value or b"") for raw in raws)

    def due(self, flush_bytes: int, flush_interval_ms: int) -> bool:
        """Whether it is time to write."""
        late = time.monotonic() - self._written_at >= flush_interval_ms / 1000
        return bool(self._waiting) and (late or self._bytes >= flush_bytes)

    def write(self) -> None:
        """Writes what has come as one batch."""
        if not self._waiting:
            return
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        self._written_at = time.monotonic()
        rows = {source_of(partition): 0 for partition, _ in waiting}
        firsts: dict[Source, tuple[int, int]] = {}
        for partition, raws in waiting:
            source = source_of(partition)
            known = self._spans[source].clock if source in self._spans else 0
            # ticks may have been written without a time
            clock = max(known, raws[-1].timestamp * _NS_PER_MS) or time.time_ns()
            firsts.setdefault(source, (clock, raws[0].offset))
            rows[source] += len(raws)
            self._spans[source] = Span(raws[-1].offset, raws[-1].offset + 1, clock)
        spans = {
            source: (count, *firsts[source], self._spans[source].clock, self._spans[source].tick)
            for source, count in rows.items()
        }
        self.commits.write({TICKS: Taken(self._batch(waiting), spans)}, self._spans)

    def _batch(self, waiting: list[tuple[TopicPartition, list[Raw]]]) -> pa.RecordBatch:
        raws = [raw for _, page in waiting for raw in page]
        counts = [len(page) for _, page in waiting]
        topics = np.repeat([self._words.index(partition.topic) for partition, _ in waiting], counts)
        schema = SCHEMAS[TICKS]
        headers = [[{"name": name, "value": value} for name, value in raw.headers] for raw in raws]
        return pa.record_batch(
            [
                self._words.column(topics.astype(np.int32)),
                pa.array(np.repeat([partition.partition for partition, _ in waiting], counts), pa.int32()),
                pa.array([raw.offset for raw in raws], pa.int64()),
                pa.array([raw.timestamp for raw in raws], pa.int64()).cast(schema.field("timestamp").type),
                pa.array([raw.key for raw in raws], pa.binary()),
                pa.array([raw.value for raw in raws], pa.binary()),
                pa.array(headers, schema.field("headers").type),
            ],
            schema=schema,
        )


def source_of(partition: TopicPartition) -> Source:
    """The name of a partition among the positions."""
    return f"{partition.topic}/{partition.partition}"
