"""The role `feed normalize`: reads ticks, runs the state machines, writes the feed logs.

Owns one task a partition: restore from the log, then read, step, append, one batch in flight. What is written is
decided by `feed.feedlog`; which partitions are ours by the consumer group (`feed.membership`), on which nothing rests:
two owners at once write equal records, and readers drop the copies.

Every failure ends in the same way: a new producer, and the state is taken up again from the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, Final

import google_crc32c
import msgspec
from aiokafka.structs import TopicPartition
from msgspec import Struct

from feed.channels.reader import HoleInLog
from feed.channels.record import Record, headers_of, record_of
from feed.collector import settle
from feed.errors import BadTick, ConfigError, CorruptLog, FeedError, Unreachable
from feed.feedlog import Dead, Restored, Round, Step, Writer
from feed.kafka.append import Appender, AppendFailed, Compression
from feed.kafka.cluster import Cluster, OutOfRange, Raw
from feed.kafka.fetch import Fetcher, Stream
from feed.tasks import end
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.venue import CODE_VERSION, Venue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_RETRY_S: Final = 0.5
_RESTORE_AGAIN_S: Final = 1.0
_DEAD_VALUE_BYTES: Final = 64 * 1024
_TIME_CHARS_MAX: Final = 19
_APPEND_BYTES: Final = 4 << 20
_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
log: Final = logging.getLogger("feed.normalizer")


class NormalizerSettings(Struct, frozen=True, kw_only=True):
    """What a normalizer needs to know. Only `rules` changes bytes."""

    ticks_topic: str
    feed_topic: str
    dead_topic: str
    rules: Rules = Rules()
    ticks_a_step_max: int = 2000
    keyframe_ratio: float = 1.0
    round_ms: int = 3_600_000
    alive_ms: int = 1000
    compression: Compression = "none"


class Counters:
    """What a normalizer has done, over all its partitions."""

    def __init__(self) -> None:
        self.ticks = 0
        self.dead = 0
        self.records = 0
        self.log_bytes = 0
        self.restores = 0
        self.incarnations = 0


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


class _Plan(Struct, frozen=True):
    """How the log goes on: as `source` where that is not empty, else in a new incarnation that replaces `ends`."""

    source: str
    ends: str
    pos: int
    carries: bool
    reason: str


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
        self._venue = venue
        self._settings = settings
        self._cluster = cluster
        self._fetcher = fetcher
        self._appenders = appenders
        self._counters = counters
        self._ticks = TopicPartition(settings.ticks_topic, partition)
        self._log = TopicPartition(settings.feed_topic, partition)
        self._version = version_of(settings.rules)
        self._next_offset = 0
        self._round: Round | None = None

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
                writer = await self._restore(appender)
                stream = self._fetcher.follow(self._ticks, writer.pos + 1)
                await self._write(writer, stream, appender)
            except ConfigError:
                raise
            except AppendFailed as error:
                log.warning("partition %d of %s: %s; taking up again", self._ticks.partition, self._ticks.topic, error)
                await self._appenders.drop(appender)
            except (FeedError, OSError) as error:
                log.warning("partition %d of %s: %s; taking up again", self._ticks.partition, self._ticks.topic, error)
            finally:
                if stream is not None:
                    self._fetcher.leave(stream)
            if time.monotonic() - started < _RESTORE_AGAIN_S:
                await asyncio.sleep(_RETRY_S)

    # Restoring

    async def _restore(self, appender: Appender) -> Writer:
        self._counters.restores += 1
        if self._round is None:
            self._round = await self._find_round()
        begin, end = await self._cluster.offsets(self._ticks)
        log_begin, log_end = await self._cluster.offsets(self._log)
        self._next_offset = log_end
        partitions = await self._grown()
        restored, whole = await self._read_log(log_begin, log_end)
        plan = await self._plan(restored, begin, end, partitions, whole=whole)
        source = plan.source or f"{self._venue.name}/{self._ticks.partition}@{_incarnation()}"
        machine = Source(self._venue, source, self._settings.rules)
        last = restored.last
        keeps = bool(plan.source) or plan.carries
        if keeps and last is not None:
            machine.restore(restored.checkpoints())
            await self._rerun(machine, last.since + 1, plan.pos)
        writer = Writer(
            machine,
            source=source,
            pos=plan.pos,
            crc=last.crc if keeps and last is not None else -1,
            version=self._version,
            partitions=partitions,
            anchor=log_end if not plan.source or last is None else last.offset,
            keyframe_ratio=self._settings.keyframe_ratio,
            round_=self._round,
        )
        now_ms = _now_ms()
        if keeps and last is not None:
            writer.take_up(restored.ages(int(time.time() * 1000)), max(last.floor, log_begin), now_ms)
        if not plan.source:
            await self._open(writer, plan, appender, log_end, end)
        return writer

    async def _read_log(self, begin: int, end: int) -> tuple[Restored, bool]:
        """What the log says, and whether all that its last record asks for is still there."""
        start, whole = begin, True
        if end > begin:
            last = await self._last_record(begin, end)
            if last is not None:
                start, whole = max(begin, last.floor), last.floor >= begin
        tried: set[int] = set()
        while start not in tried:
            tried.add(start)
            restored = Restored()
            try:
                async for page in self._cluster.read(self._log, start, end):
                    for raw in page:
                        restored.read(record_of(raw.headers, raw.value, raw.offset), raw.timestamp)
            except HoleInLog as hole:
                # a second writer was ahead when this floor was written: its own floor has what is missing
                start, whole = max(begin, hole.floor), hole.floor >= begin
                continue
            return restored, whole
        raise CorruptLog(f"no floor of {self._log.topic} from {min(tried)} on leads to its end")

    async def _last_record(self, begin: int, end: int) -> Record | None:
        for start in range(end - 1, max(begin, end - 64) - 1, -1):
            async for page in self._cluster.read(self._log, start, end):
                if page:
                    raw = page[-1]
                    return record_of(raw.headers, raw.value, raw.offset)
        return None

    async def _plan(self, restored: Restored, begin: int, end: int, partitions: int, *, whole: bool) -> _Plan:
        last = restored.last
        if last is None:
            return _Plan("", "", begin - 1, False, "the log is empty")
        _refuse_older(last.version, self._version)
        ends, pos = restored.reader.source, restored.reader.pos
        if pos >= end or await self._is_another_tick(last, pos, begin):
            return _Plan("", ends, begin - 1, False, "the tick topic was made anew")
        if pos + 1 < begin:
            return _Plan("", ends, begin - 1, False, f"ticks {pos + 1} to {begin - 1} are gone")
        if last.since < pos and last.since + 1 < begin:
            return _Plan("", ends, pos, False, f"ticks from {last.since + 1} on are gone")
        if not whole:
            return _Plan("", ends, pos, False, f"the log from {last.floor} on is gone")
        if last.partitions != partitions:
            return _Plan("", ends, pos, True, f"{last.partitions} partitions became {partitions}")
        if last.version != self._version:
            return _Plan("", ends, pos, True, f"version {last.version} became {self._version}")
        return _Plan(ends, "", pos, True, "")

    async def _is_another_tick(self, last: Record, pos: int, begin: int) -> bool:
        if last.crc == -1 or last.last != pos or pos < begin:
            return False
        async for page in self._cluster.read(self._ticks, pos, pos + 1):
            return any(raw.offset == pos and google_crc32c.value(raw.value) != last.crc for raw in page)
        return False

    async def _rerun(self, machine: Source, start: int, pos: int) -> None:
        if start <= pos:
            async for page in self._cluster.read(self._ticks, start, pos + 1):
                for raw in page:
                    try:
                        machine.apply(tick_of(raw))
                    except BadTick:
                        continue  # it went to the dead letters the first time
                machine.take()
        machine.wake_all()

    async def _open(self, writer: Writer, plan: _Plan, appender: Appender, log_end: int, end: int) -> None:
        log.info("%s begins: %s", writer.source, plan.reason)
        self._counters.incarnations += 1
        opening = writer.open(plan.ends, carries=plan.carries, end=end)
        offsets = await self._append(appender, [opening])
        writer.acked(offsets)
        async for page in self._cluster.read(self._log, log_end, offsets[0]):
            for raw in page:
                record = record_of(raw.headers, raw.value, raw.offset)
                if record.kind == "source" and record.ends == plan.ends:
                    raise _Foreign(f"{record.source} was opened before {writer.source}")
        if plan.carries:
            await self._append_step(appender, writer, Step([], writer.everything(_now_ms())))

    async def _grown(self) -> int:
        """Partitions of the tick topic; the feed topic gets as many."""
        topics = await self._cluster.topics()
        ticks, logs = topics.get(self._ticks.topic, 0), topics.get(self._log.topic, 0)
        if 0 < logs < ticks:
            await self._cluster.grow(self._log.topic, ticks)
        return ticks

    async def _find_round(self) -> Round:
        """Half of what both topics keep, and not less often than the settings say."""
        ms, sizes = [self._settings.round_ms], []
        for topic in (self._ticks.topic, self._log.topic):
            found = await self._cluster.settings(topic)
            kept_ms, kept_bytes = int(found.get("retention.ms", -1)), int(found.get("retention.bytes", -1))
            ms += [kept_ms // 2] if kept_ms > 0 else []
            sizes.append(kept_bytes // 2 if kept_bytes > 0 else 0)
        return Round(ms=min(ms), tick_bytes=sizes[0], log_bytes=sizes[1])

    # Writing

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


def tick_of(raw: Raw) -> Tick:
    """The tick that a Kafka record holds. What cannot be read in its key or headers makes it a bad tick later."""
    ts_kafka = raw.timestamp * 1_000_000
    ts_recv, request = ts_kafka, None
    for name, value in raw.headers:
        if name == "ts_recv":
            ts_recv = int(value) if value and value.isdigit() and len(value) <= _TIME_CHARS_MAX else -1
        elif name == "request":
            request = value.decode(errors="replace")
    try:
        key = raw.key.decode() if raw.key else ""
    except UnicodeDecodeError:
        key = "\0"  # not printable: refused as a symbol
    return Tick(raw.offset, key, raw.value, ts_recv, ts_kafka, request)


def version_of(rules: Rules) -> str:
    """The version of the state machine: its code, and a hash of all settings that change bytes."""
    return f"{CODE_VERSION}.{hashlib.sha256(msgspec.json.encode(rules)).hexdigest()[:8]}"


def _refuse_older(found: str, own: str) -> None:
    code, own_code = int(found.partition(".")[0]), int(own.partition(".")[0])
    if code > own_code:
        raise ConfigError(f"the feed log was written by version {code}, this is version {own_code}: run the newer one")


def _incarnation() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(6))


def _now_ms() -> int:
    return int(time.monotonic() * 1000)


class Normalizer:
    """All partitions of some venues that are ours at the moment."""

    def __init__(
        self, bootstrap: str, venues: dict[Venue, NormalizerSettings], *, fetch_wait_ms: int, compression: Compression
    ) -> None:
        self.counters = Counters()
        self._venues = venues
        self._by_topic = {settings.ticks_topic: (venue, settings) for venue, settings in venues.items()}
        self._cluster = Cluster(bootstrap, client_id="feed-normalize")
        self._fetcher = Fetcher(self._cluster, wait_ms=fetch_wait_ms)
        self._appenders = Appenders(bootstrap, compression)
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None

    async def run(self, member: Callable[[Normalizer], Awaitable[None]]) -> None:
        """Connects, then lets `member` tell by `own` which partitions are ours, until it ends or a task fails."""
        await self._cluster.start()
        settle()
        self._failed = asyncio.get_running_loop().create_future()
        membership = asyncio.ensure_future(member(self))
        try:
            await asyncio.wait([membership, self._failed], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end([membership])
            await self.own(set())
            await self._fetcher.stop()
            await self._appenders.stop()
            await self._cluster.stop()
        if self._failed.done():
            self._failed.result()
        if not membership.cancelled():
            membership.result()

    async def own(self, partitions: set[TopicPartition]) -> None:
        """These partitions are ours now, and no others."""
        await end([self._tasks.pop(partition) for partition in set(self._tasks) - partitions])
        for partition in partitions - set(self._tasks):
            venue, settings = self._by_topic[partition.topic]
            worker = PartitionNormalizer(
                venue, partition.partition, settings, self._cluster, self._fetcher, self._appenders, self.counters
            )
            task = asyncio.create_task(worker.run(), name=f"normalize {partition.topic}/{partition.partition}")
            task.add_done_callback(self._ended)
            self._tasks[partition] = task

    @property
    def topics(self) -> list[str]:
        """The tick topics of all venues."""
        return list(self._by_topic)

    async def all_partitions(self) -> set[TopicPartition]:
        """Every partition of every tick topic that is there."""
        topics = await self._cluster.topics()
        return {TopicPartition(topic, p) for topic in self.topics for p in range(topics.get(topic, 0))}

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and self._failed is not None and not self._failed.done():
            error = task.exception()
            self._failed.set_exception(error or Unreachable("a partition's task ended"))
