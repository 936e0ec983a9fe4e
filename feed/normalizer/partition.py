"""One partition: its state taken up from the log, then ticks in and records out, one batch in flight.

Owns the loop of a partition and the producer that they share. Every failure ends in the same way: the state is
taken up again from the log. Meanwhile, and while a step waits for its dead letters, records without ticks go on telling
how long the ticks have waited, as long as the log takes them: a feed that stands still says so.

(Over 400 lines: each failure leads from one of its parts to the next, and only together do they write nothing twice.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from feed.errors import DamagedRecord, FeedError, ForeignRecord, NotLetIn, SchemaAway
from feed.feedlog.writer import Ahead, Step, Writer
from feed.kafka.access import Entrance
from feed.kafka.append import Appender, AppendFailed, Compression
from feed.kafka.batches import UNKNOWN_EPOCH
from feed.kafka.cluster import Cluster, OutOfRange
from feed.kafka.fetch import Fetcher, Stream
from feed.normalizer.dead import DeadLetters
from feed.normalizer.numbers import PartitionNumbers
from feed.normalizer.registry import RegistrySchemas
from feed.normalizer.restore import Restorer, TakenUp
from feed.normalizer.rivals import Rivals, StandsBy
from feed.normalizer.settings import NormalizerSettings, settings_text
from feed.normalizer.ticks import tick_of
from feed.venues.venue import Venue
from feed.wire.record import EMPTY, Record, headers_of, record_of

_RETRY_S: Final = 0.5
_RESTORE_AGAIN_S: Final = 1.0
_NAMED_EVERY_S: Final = 60.0
_APPEND_BYTES: Final = 4 << 20
_TAKE_OVER_TRIES: Final = 5
"""Who wrote before may go on until it sees that it was taken over."""
_LATE_MS: Final = 2000
"""Ticks that have waited longer are told to be late by the record that brings them, also where nothing waits then."""
log: Final = logging.getLogger("feed.normalizer")


class Appenders:
    """The producer that partitions share, and those before it that some still use: a partition whose send failed needs
    another one, the others keep theirs."""

    def __init__(self, broker: Entrance | str, compression: Compression) -> None:
        self._broker = broker
        self._compression = compression
        self._current: Appender | None = None
        self._users: dict[Appender, int] = {}
        self._lock = asyncio.Lock()

    async def get(self) -> Appender:
        """The producer in use, to be given back by `leave`; connects where there is none."""
        async with self._lock:
            if self._current is None:
                appender = Appender(self._broker, compression=self._compression)
                await appender.start()
                self._current = appender
            self._users[self._current] = self._users.get(self._current, 0) + 1
            return self._current

    def drop(self, failed: Appender) -> None:
        """A send through this producer failed: nobody gets it any more."""
        if self._current is failed:
            self._current = None

    async def leave(self, appender: Appender) -> None:
        """One less uses it; after the last one it is closed, if it is not the one in use."""
        if appender not in self._users:
            return  # all of them were closed
        self._users[appender] -= 1
        if not self._users[appender] and appender is not self._current:
            del self._users[appender]
            await appender.stop()

    async def stop(self) -> None:
        """Closes all of them."""
        users, self._users, self._current = self._users, {}, None
        for appender in users:
            await appender.stop()


class _Taken(FeedError):
    """Somebody else has written to our log since our last batch."""


class _MadeAnew(_Taken):
    """Our record lies at an offset that was written before: the log was made anew under us."""


class _TicksChanged(FeedError):
    """The last tick that was read is not there any more."""


class PartitionNormalizer:
    """Writes the log of one partition, until it is cancelled."""

    def __init__(
        self,
        venue: Venue,
        partition: int,
        settings: NormalizerSettings,
        *,
        cluster: Cluster,
        fetcher: Fetcher,
        appenders: Appenders,
        dead: DeadLetters,
        rivals: Rivals,
        numbers: PartitionNumbers,
        make_topics: Callable[[], Awaitable[object]],
    ) -> None:
        self._key_header = venue.key_header
        self._schemas = RegistrySchemas(venue.schemas, settings.schema_registry)
        self._settings = settings
        self._cluster = cluster
        self._fetcher = fetcher
        self._appenders = appenders
        self._dead = dead
        self._numbers = numbers
        self._make_topics = make_topics
        self._ticks = TopicPartition(settings.ticks_topic, partition)
        self._log = TopicPartition(settings.feed_topic, partition)
        self._restorer = Restorer(venue, self._ticks, self._log, settings, cluster, rivals)
        self._next_offset = -1
        self._last: Record | None = None
        """The newest data record that lies in the log; none where our incarnation has not begun: its states must be the
        first that is read of it."""
        self._troubled_since: float | None = None
        self._made_anew = False
        """The log was made anew, and nothing was opened there yet."""
        self._named_at = float("-inf")

    async def run(self) -> None:
        """Restores and writes, again and again, whatever happens.

        Raises:
            StandsBy: somebody else writes this venue's logs.
        """
        while True:
            started = time.monotonic()
            try:
                await self._live()
            except StandsBy:
                raise
            except SchemaAway as error:
                self._tell(error)
                self._troubled_since = self._troubled_since or time.monotonic()
                while not await self._schemas.fetched(error.number, self._tell):
                    await self._pause()
                continue
            except _MadeAnew as error:
                self._made_anew = True
                self._tell(error)
            except (FeedError, KafkaError, OSError) as error:
                self._tell(error)
            except Exception as error:
                self._tell(error, unexpected=True)
            if self._troubled_since is None:
                self._troubled_since = time.monotonic()
            if time.monotonic() - started < _RESTORE_AGAIN_S:
                await self._pause()

    async def _live(self) -> None:
        """Takes up and writes, until something goes wrong."""
        stream: Stream | None = None
        appender = await self._appenders.get()
        try:
            taken = await self._take_up(appender)
            writer = taken.writer
            stream = self._fetcher.follow(self._ticks, writer.pos + 1)
            stream.waits.saw(taken.ticks_end, time.monotonic())
            await self._write(writer, stream, appender, lay_there=taken.ticks_end > writer.pos + 1)
        except AppendFailed:
            self._appenders.drop(appender)
            raise
        finally:
            if stream is not None:
                self._fetcher.leave(stream)
            await self._appenders.leave(appender)

    def _tell(self, error: Exception, *, unexpected: bool = False) -> None:
        reason = type(error).__name__.strip("_").lower()
        reason = {"appendfailed": "appending", "notletin": "no_right"}.get(reason, reason)
        where = f"partition {self._ticks.partition} of {self._ticks.topic}"
        self._numbers.retried(reason, f"{where}: {error}; taking up again", error if unexpected else None)

    async def _pause(self) -> None:
        """A moment's rest after a failure; the log is told that ticks wait."""
        await asyncio.sleep(_RETRY_S)
        with contextlib.suppress(FeedError, KafkaError, OSError):
            await self._make_topics()
        with contextlib.suppress(FeedError, KafkaError, OSError):
            await self._say_stuck()

    async def _say_stuck(self) -> None:
        """A record that tells how long the trouble has lasted, where nobody else has written meanwhile."""
        last, since = self._last, self._troubled_since
        if last is None or since is None:
            return
        _, end = await self._cluster.offsets(self._log)
        if end != self._next_offset:
            return
        appender = await self._appenders.get()
        waits_ms = int((time.monotonic() - since) * 1000)
        pos = last.last
        record = replace(
            last, after=pos, first=pos, first_crc=last.crc, position=pos + 1, waits_ms=waits_ms, value=EMPTY
        )
        try:
            await self._append(appender, [record])
        except AppendFailed:
            self._appenders.drop(appender)
        finally:
            await self._appenders.leave(appender)

    # ---- taking up

    async def take_over(self) -> str:
        """Opens an incarnation of our version, whoever writes the log now; gives its source. Nothing else is written
        by it: that is for the normalizer of this version, here or elsewhere.

        Raises:
            FeedError: it cannot be opened.
        """
        appender = await self._appenders.get()
        try:
            for tries_left in reversed(range(_TAKE_OVER_TRIES)):
                taken = await self._schemas.having(partial(self._restorer.take_up, appoint=True))
                self._next_offset = taken.log_end
                try:
                    await self._open(taken, appender)
                    break
                except _Taken:
                    if not tries_left:
                        raise
        finally:
            await self._appenders.leave(appender)
        return taken.writer.source

    async def _take_up(self, appender: Appender) -> TakenUp:
        taken = await self._restorer.take_up(made_anew=self._made_anew)
        self._numbers.foreign += taken.foreign
        self._numbers.retention(self._restorer.retention_unknown)
        self._next_offset = taken.log_end
        if not taken.plan.source:
            await self._open(taken, appender)
        else:
            self._last = _newest_data([] if taken.last is None else [taken.last], None)
        self._made_anew = False
        return taken

    async def _open(self, taken: TakenUp, appender: Appender) -> None:
        writer, plan = taken.writer, taken.plan
        log.info("%s begins: %s", writer.source, plan.reason)
        offsets = await self._append(appender, [writer.open(taken.opening, taken.ticks_end)])
        writer.acked(offsets)
        async for page in self._cluster.read(self._log, taken.log_end, offsets[0]):
            for raw in page:
                try:
                    record = record_of(raw.headers, raw.value, raw.offset)
                except (ForeignRecord, DamagedRecord):
                    continue
                if record.kind == "source" and record.ends == plan.ends:
                    raise _Taken(f"{record.source} was opened before {writer.source}")
                if record.source == plan.ends and record.covers and record.last > plan.pos and not plan.gone:
                    raise _Taken(f"{record.source} went on to tick {record.last} before {writer.source}")
        self._numbers.incarnations += 1
        if plan.carries:
            await self._append_step(appender, writer, Step([], writer.everything(_now_ms())), None)
            # the first record of ticks says that its state is whole
            ahead = Ahead(taken.ticks_end, writer.pos + 1)
            await self._append_step(appender, writer, writer.alive(ahead, _now_ms()), None)

    # ---- writing

    async def _write(self, writer: Writer, stream: Stream, appender: Appender, *, lay_there: bool) -> None:
        """`lay_there`: some ticks were there before."""
        numbers, ticks_max = self._numbers, self._settings.normalize.poll_ticks_max
        alive_s = self._settings.normalize.alive_ms / 1000
        alive_at = time.monotonic()
        while True:
            await stream.wait(max(0.0, alive_at - time.monotonic()))
            if stream.vanished:
                raise OutOfRange(f"{self._ticks.topic} was away")
            if stream.denied:
                raise NotLetIn(stream.denied)
            if stream.doubted:
                stream.doubted = False
                await self._must_be_there(writer)
            raws = stream.take()
            if raws:
                if UNKNOWN_EPOCH != writer.epoch != stream.epoch:
                    await self._must_be_there(writer)
                if lay_there and raws[0].timestamp > 0:
                    # it has waited longer than we have looked: this once two machines' clocks have to say for how long
                    stream.waits.waited_before(time.time() - raws[0].timestamp / 1000)
                lay_there = False
            for start in range(0, len(raws), ticks_max):
                some = raws[start : start + ticks_max]
                whole = start + len(some) == len(raws)
                ticks = [tick_of(raw, self._key_header) for raw in some]
                waited_ms = self._waited_ms(stream, writer.pos + 1)
                ahead = self._ahead(stream, stream.taken if whole else ticks[-1].seq + 1)
                if waited_ms > _LATE_MS:
                    ahead = ahead._replace(waits_ms=max(ahead.waits_ms, waited_ms))
                ticks, away = self._schemas.readable(ticks)
                if away is not None:
                    if not ticks:
                        raise away
                    ahead = self._ahead(stream, ticks[-1].seq + 1)
                step = writer.step(ticks, ahead, _now_ms(), epoch=stream.epoch)
                await self._append_step(appender, writer, step, stream)
                numbers.took(ticks, step.messages, writer.take_counts())
                if away is not None:
                    raise away
                alive_at = time.monotonic() + alive_s
                self._troubled_since = None
            if time.monotonic() >= alive_at:
                await self._append_step(appender, writer, self._alive(writer, stream), stream)
                alive_at = time.monotonic() + alive_s
                self._troubled_since = None
                if self._partitions_changed(writer):
                    raise OutOfRange(f"{self._ticks.topic} has another number of partitions")

    def _alive(self, writer: Writer, stream: Stream) -> Step:
        ahead = self._ahead(stream, max(stream.taken, writer.pos + 1))
        if time.monotonic() - self._named_at < _NAMED_EVERY_S:
            return writer.alive(ahead, _now_ms())
        self._named_at = time.monotonic()
        settings = self._settings
        return writer.alive(ahead, _now_ms(), owner=settings.owner, settings=settings_text(settings.rules))

    def _ahead(self, stream: Stream, position: int) -> Ahead:
        """How the tick log stands beyond a position."""
        now = time.monotonic()
        waits_ms = self._waited_ms(stream, position)
        held_since = stream.held_since
        if held_since is not None:
            held_ms = int((now - held_since) * 1000)
            waits_ms = max(waits_ms, held_ms if held_ms > self._settings.normalize.open_transaction_max_ms else 0)
        self._numbers.stands(stream.end, position, waits_ms)
        return Ahead(stream.end, position, waits_ms)

    def _waited_ms(self, stream: Stream, position: int) -> int:
        return int(stream.waits.waited(position, time.monotonic()) * 1000)

    async def _must_be_there(self, writer: Writer) -> None:
        """The last tick that was read must be the one that lies there: a log that lost its end may have another."""
        if writer.pos < 0 or writer.crc == -1:
            return
        begin, _ = await self._cluster.offsets(self._ticks, ticks=True)
        if writer.pos >= begin and await self._restorer.crc(writer.pos) != writer.crc:
            raise _TicksChanged(f"tick {writer.pos} is another one than was read")

    def _partitions_changed(self, writer: Writer) -> bool:
        ticks = self._cluster.client.cluster.partitions_for_topic(self._ticks.topic)
        return bool(ticks) and len(ticks) != writer.partitions

    async def _append_step(self, appender: Appender, writer: Writer, step: Step, stream: Stream | None) -> None:
        if step.dead:
            self._numbers.buries(step.dead)
            await self._bury(appender, writer, step, stream)
        expected = self._next_offset
        offsets = await self._append(appender, step.records)
        writer.acked(offsets)
        if offsets and offsets != list(range(expected, expected + len(offsets))):
            # what we take for our floor may be passed over by readers: never write on after this
            raise self._elsewhere(offsets[0], expected)

    async def _bury(self, appender: Appender, writer: Writer, step: Step, stream: Stream | None) -> None:
        """Waits until the dead letters are written; while that lasts, the log tells how long ticks have waited."""
        retried = partial(self._numbers.retried, "dead_letters")
        task = asyncio.ensure_future(self._dead.bury(writer.source, step.dead, retried))
        began = time.monotonic()
        try:
            while not (await asyncio.wait([task], timeout=self._settings.normalize.alive_ms / 1000))[0]:
                waits_ms = int((time.monotonic() - began) * 1000)
                end = self._ticks_end(stream, await self._cluster.offsets(self._ticks, ticks=True))
                self._numbers.stands(end, step.dead[0].tick.seq, waits_ms)
                expected = self._next_offset
                record = writer.stuck(Ahead(end, step.records[0].after + 1, waits_ms))
                offset = (await self._append(appender, [record]))[0]
                writer.told(offset)
                if offset != expected:
                    raise self._elsewhere(offset, expected)
            task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _elsewhere(self, offset: int, expected: int) -> _Taken:
        if offset < expected:
            return _MadeAnew(f"offset {offset} in {self._log.topic}, wanted {expected}: it was made anew")
        return _Taken(f"offset {offset} in {self._log.topic}, wanted {expected}: there is a second writer")

    def _ticks_end(self, stream: Stream | None, bounds: tuple[int, int]) -> int:
        return max(bounds[1], 0 if stream is None else stream.end)

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
            self._last = _newest_data(records, self._last)
        self._numbers.wrote(records)
        return offsets


def _newest_data(records: list[Record], before: Record | None) -> Record | None:
    for record in reversed(records):
        if record.kind == "data":
            return record
        if record.kind == "source":
            return None
    return before


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
