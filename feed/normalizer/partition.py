"""One partition: its state taken up from the log, then ticks in and records out, one batch in flight.

Owns the loop and the producer that all partitions share. Every failure ends in the same way: a new producer, and the
state is taken up again from the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.channels.record import EMPTY, Record, headers_of, record_of
from feed.errors import ConfigError, FeedError
from feed.feedlog import Dead, Step, Writer
from feed.kafka.append import Appender, AppendFailed, Compression
from feed.kafka.cluster import Cluster, OutOfRange
from feed.kafka.fetch import Fetcher, Stream
from feed.normalizer.restore import Restorer, TakenUp
from feed.normalizer.settings import NormalizerSettings
from feed.normalizer.ticks import tick_of
from feed.venues.venue import Venue

_RETRY_S: Final = 0.5
_RESTORE_AGAIN_S: Final = 1.0
_DEAD_VALUE_BYTES: Final = 64 * 1024
_APPEND_BYTES: Final = 4 << 20
log: Final = logging.getLogger("feed.normalizer")


class Counters:
    """What a normalizer has done, over all its partitions."""

    def __init__(self) -> None:
        self.ticks = 0
        self.dead = 0
        self.records = 0
        self.log_bytes = 0


class Appenders:
    """The producer that all partitions share, and its replacement after a failure."""

    def __init__(self, bootstrap: str, compression: Compression) -> None:
        self._bootstrap = bootstrap
        self._compression = compression
        self._current: Appender | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Appender:
        """The producer in use; connects where there is none."""
        async with self._lock:
            if self._current is None:
                appender = Appender(self._bootstrap, compression=self._compression)
                await appender.start()
                self._current = appender
            return self._current

    async def drop(self, failed: Appender) -> None:
        """A send through this producer failed: nobody uses it any more."""
        if self._current is failed:
            self._current = None
            await failed.stop()

    async def stop(self) -> None:
        """Closes the producer."""
        if self._current is not None:
            await self._current.stop()
            self._current = None


class _Foreign(FeedError):
    """Somebody else has written to our log since our last batch."""


class PartitionNormalizer:
    """Writes the log of one partition, until it is cancelled."""

    def __init__(
        self,
        venue: Venue,
        partition: int,
        settings: NormalizerSettings,
        cluster: Cluster,
        fetcher: Fetcher,
        appenders: Appenders,
        counters: Counters,
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._fetcher = fetcher
        self._appenders = appenders
        self._counters = counters
        self._ticks = TopicPartition(settings.ticks_topic, partition)
        self._log = TopicPartition(settings.feed_topic, partition)
        self._restorer = Restorer(venue, self._ticks, self._log, settings, cluster)
        self._next_offset = 0

    async def run(self) -> None:
        """Restores and writes, again and again, whatever happens.

        Raises:
            ConfigError: the log was written by a newer version than this.
        """
        while True:
            started = time.monotonic()
            stream: Stream | None = None
            try:
                appender = await self._appenders.get()
                writer = await self._take_up(appender)
                stream = self._fetcher.follow(self._ticks, writer.pos + 1)
                await self._write(writer, stream, appender)
            except ConfigError:
                raise
            except AppendFailed as error:
                log.warning("partition %d of %s: %s; taking up again", self._ticks.partition, self._ticks.topic, error)
                await self._appenders.drop(appender)
            except (FeedError, KafkaError, OSError) as error:
                log.warning("partition %d of %s: %s; taking up again", self._ticks.partition, self._ticks.topic, error)
            finally:
                if stream is not None:
                    self._fetcher.leave(stream)
            if time.monotonic() - started < _RESTORE_AGAIN_S:
                await asyncio.sleep(_RETRY_S)

    async def _take_up(self, appender: Appender) -> Writer:
        taken = await self._restorer.take_up()
        self._next_offset = taken.log_end
        if not taken.plan.source:
            await self._open(taken, appender)
        return taken.writer

    async def _open(self, taken: TakenUp, appender: Appender) -> None:
        writer, plan = taken.writer, taken.plan
        log.info("%s begins: %s", writer.source, plan.reason)
        opening = writer.open(plan.ends, carries=plan.carries, end=taken.ticks_end)
        offsets = await self._append(appender, [opening])
        writer.acked(offsets)
        async for page in self._cluster.read(self._log, taken.log_end, offsets[0]):
            for raw in page:
                record = record_of(raw.headers, raw.value or EMPTY, raw.offset)
                if record.kind == "source" and record.ends == plan.ends:
                    raise _Foreign(f"{record.source} was opened before {writer.source}")
        if plan.carries:
            await self._append_step(appender, writer, Step([], writer.everything(_now_ms())))

    async def _write(self, writer: Writer, stream: Stream, appender: Appender) -> None:
        settings = self._settings
        alive_at = time.monotonic()
        while True:
            await stream.wait(max(0.0, alive_at - time.monotonic()))
            if stream.vanished:
                raise OutOfRange(f"{self._ticks.topic} was away")
            raws = stream.take()
            for start in range(0, len(raws), settings.ticks_a_step_max):
                ticks = [tick_of(raw) for raw in raws[start : start + settings.ticks_a_step_max]]
                await self._append_step(appender, writer, writer.step(ticks, stream.end, _now_ms()))
                self._counters.ticks += len(ticks)
                alive_at = time.monotonic() + settings.alive_ms / 1000
            if time.monotonic() >= alive_at:
                await self._append_step(appender, writer, writer.alive(stream.end, _now_ms()))
                alive_at = time.monotonic() + settings.alive_ms / 1000
                if await self._partitions_changed():
                    raise OutOfRange(f"{self._ticks.topic} has another number of partitions")

    async def _partitions_changed(self) -> bool:
        known = self._cluster.client.cluster
        ticks, logs = known.partitions_for_topic(self._ticks.topic), known.partitions_for_topic(self._log.topic)
        return bool(ticks and logs and len(ticks) != len(logs))

    async def _append_step(self, appender: Appender, writer: Writer, step: Step) -> None:
        if step.dead:
            await self._bury(appender, writer.source, step.dead)
        expected = self._next_offset
        offsets = await self._append(appender, step.records)
        writer.acked(offsets)
        if offsets and offsets != list(range(expected, expected + len(offsets))):
            # what we take for our floor may be passed over by readers: never write on after this
            raise _Foreign(f"offset {offsets[0]} in {self._log.topic}, wanted {expected}: there is a second writer")

    async def _append(self, appender: Appender, records: list[Record]) -> list[int]:
        offsets: list[int] = []
        batch: list[tuple[bytes | None, bytes, list[tuple[str, bytes]]]] = []
        size = 0
        for record in records:
            batch.append((None, record.value, headers_of(record)))
            size += len(record.value)
            if size >= _APPEND_BYTES:
                offsets += await appender.append(self._log, batch)
                batch, size = [], 0
        if batch:
            offsets += await appender.append(self._log, batch)
        if offsets:
            self._next_offset = offsets[-1] + 1
        self._counters.records += len(records)
        self._counters.log_bytes += sum(len(record.value) for record in records)
        return offsets

    async def _bury(self, appender: Appender, source: str, dead: list[Dead]) -> None:
        self._counters.dead += len(dead)
        letters = [
            (
                letter.tick.key.encode(),
                letter.tick.value[:_DEAD_VALUE_BYTES],
                [
                    ("reason", letter.reason.encode()),
                    ("source", source.encode()),
                    ("offset", b"%d" % letter.tick.seq),
                    ("length", b"%d" % len(letter.tick.value)),
                    ("ts_recv", b"%d" % letter.tick.ts_recv),
                ],
            )
            for letter in dead
        ]
        await appender.append(TopicPartition(self._settings.dead_topic, 0), letters)


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
