"""A writer taken up from its log: what the log says of the one that wrote it, and the ticks run again since then.

Owns the reading back of a partition's log and the making of a writer that goes on. How the log goes on is decided by
`plan`, who may write by `rivals`. Nothing is written here.
"""

from __future__ import annotations

import secrets
import time
from typing import Final, NamedTuple

import google_crc32c
import msgspec
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from feed.errors import BadTick, CorruptLog, DamagedRecord, FeedError, ForeignRecord, NotLetIn
from feed.feedlog.writer import Opening, Restored, Round, Writer
from feed.kafka.batches import UNKNOWN_EPOCH, Raw
from feed.kafka.cluster import Cluster, OutOfRange
from feed.kafka.partitioner import partition_of
from feed.normalizer.plan import Bounds, TakeUpPlan, plan_for
from feed.normalizer.rivals import Rivals
from feed.normalizer.settings import NormalizerSettings, settings_text, version_of
from feed.normalizer.ticks import tick_of
from feed.venues.source import Source
from feed.venues.venue import Venue
from feed.wire.log_reader import HoleInLog
from feed.wire.record import EMPTY, Record, floor_of, known_records, record_of

_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_CHARS: Final = 6
_LAST_RECORDS: Final = 64
_PROBE_BYTES: Final = 4096


class TopicMissing(FeedError):
    """A topic is not there."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"there is no topic {topic}")
        self.topic = topic


class TakenUp(NamedTuple):
    """A writer that goes on where the log ends, how it goes on, and the ends of both logs as they were seen."""

    writer: Writer
    plan: TakeUpPlan
    opening: Opening
    log_end: int
    ticks_end: int
    last: Record | None
    """The newest valid record, where the incarnation goes on."""
    foreign: int
    """Records that were none of ours, and not counted before."""


class Restorer:
    """Takes the writer of one partition up from its log, as often as it is asked."""

    def __init__(
        self,
        venue: Venue,
        ticks: TopicPartition,
        log: TopicPartition,
        settings: NormalizerSettings,
        cluster: Cluster,
        rivals: Rivals,
    ) -> None:
        self._rivals = rivals
        self.version = version_of(settings.rules)
        self._venue = venue
        self._ticks = ticks
        self._log = log
        self._settings = settings
        self.retention_unknown: list[str] = []
        """Why it is not known how long topics keep what is in them."""
        self._cluster = cluster
        self._round: Round | None = None
        self._counted = -1
        """Up to this offset records that are none of ours were counted."""

    async def take_up(self, *, appoint: bool = False, made_anew: bool = False) -> TakenUp:
        """Reads the log and runs the ticks again that no checkpoint holds.

        `appoint`: begins a new incarnation in any case, one that newer versions leave alone, also where the log cannot
        be read. `made_anew`: the log was, and may hold records that were meant for the one before.

        Raises:
            StandsBy: somebody else writes it.
            TopicMissing: there is no feed log, or there are no ticks.
            CorruptLog: the log cannot be read.
        """
        partitions = await self._partitions()
        if self._round is None:
            self._round = await self._find_round()
        # the log first: a second writer may be at work, and a log that is ahead of its ticks means another topic
        log_begin, log_end = await self._cluster.offsets(self._log)
        begin, end = await self._cluster.offsets(self._ticks, ticks=True)
        bounds = Bounds(begin, end, partitions)
        try:
            if made_anew:
                raise CorruptLog(f"{self._log.topic} was made anew")
            restored, whole = await self._read_log(log_begin, log_end)
            if not appoint:
                # what was just read here must not be newer than what is known of others
                await self._rivals.look(self._log.partition)
                self._rivals.refuse(restored.last)
            plan = await plan_for(restored, bounds, self.version, self, whole=whole)
        except CorruptLog as error:
            if not (appoint or made_anew):
                raise
            newest = await self._last_record(log_begin, log_end)
            if not appoint:
                await self._rivals.look(self._log.partition)
                self._rivals.refuse(newest)
            ends = "" if newest is None else newest.source
            restored = Restored()
            plan = TakeUpPlan(ends=ends, pos=begin - 1, missing=True, reason=str(error))
        last = restored.last
        if appoint:
            ends = plan.ends or plan.source
            plan = replace(plan, source="", ends=ends, reason=plan.reason or "an operator has had it taken over")
        source = plan.source or f"{self._venue.name}/{self._ticks.partition}@{_incarnation()}"
        try:
            machine = await self._machine(self._source(source, partitions), plan, restored, begin, log_end)
        except (CorruptLog, msgspec.DecodeError):
            if plan.source:
                raise
            # written by another version in a form that this one does not know: the new incarnation begins without
            plan = replace(plan, carries=False, missing=True)
            machine = self._source(source, partitions)
        crc, epoch = await self._stands_at(plan, last)
        carried = last if plan.carries else None
        writer = Writer(
            machine,
            source=source,
            pos=plan.pos,
            crc=crc,
            epoch=epoch,
            version=self.version,
            partitions=partitions,
            anchor=carried.offset if plan.source and carried is not None else log_end,
            keyframe_ratio=self._settings.normalize.keyframe_ratio,
            round_=self._round,
            appointed=appoint or (bool(plan.source) and last is not None and last.appointed),
        )
        if carried is not None:
            ages = restored.ages(int(time.time() * 1000))
            now_ms = int(time.monotonic() * 1000)
            writer.take_up(ages, max(carried.floor, log_begin), now_ms, renew=restored.damaged)
        opening = Opening(
            ends=plan.ends,
            carries=plan.carries,
            missing=plan.missing,
            owner=self._settings.owner,
            settings=settings_text(self._settings.rules),
        )
        return TakenUp(writer, plan, opening, log_end, end, last if plan.source else None, restored.foreign)

    # ---- what `plan_for` asks of the tick log

    async def crc(self, seq: int) -> int | None:
        """The CRC-32C of a tick's value; None where there is no such tick."""
        raw = await self._tick_at(seq)
        return None if raw is None else google_crc32c.value(raw.value or b"")

    async def first_of_epoch_after(self, epoch: int, begin: int, end: int) -> int | None:
        """The first offset in [begin, end) that was written in a later leader epoch; None where there is none."""
        low, high = begin - 1, end
        while high - low > 1:
            middle = (low + high) // 2
            if await self._epoch_at(middle) > epoch:
                high = middle
            else:
                low = middle
        return high if high < end else None

    async def _epoch_at(self, offset: int) -> int:
        """The leader epoch of the first batch that reaches to an offset or beyond."""
        pages = await self._cluster.pages(self._ticks, offset, _PROBE_BYTES, ticks=True)
        return pages[0].epoch if pages else UNKNOWN_EPOCH

    async def _tick_at(self, seq: int) -> Raw | None:
        try:
            async for page in self._cluster.read(self._ticks, seq, seq + 1, ticks=True):
                for raw in page:
                    if raw.offset == seq:
                        return raw
        except OutOfRange:
            return None
        return None

    async def _stands_at(self, plan: TakeUpPlan, last: Record | None) -> tuple[int, int]:
        """CRC and leader epoch of the last tick that counts as read, -1 where they are not known."""
        if last is None or plan.pos < 0:
            return -1, -1
        if plan.pos == last.last:
            return last.crc, last.epoch
        crc = await self.crc(plan.pos)
        if crc is None:
            return -1, -1
        return crc, await self._epoch_at(plan.pos)

    # ---- the log

    async def _read_log(self, begin: int, end: int) -> tuple[Restored, bool]:
        """What the log says, and whether all that its last record asks for is still there."""
        start, whole = begin, True
        if end > begin:
            last = await self._last_record(begin, end)
            if last is not None:
                floor = floor_of(last)
                start, whole = max(begin, floor), floor >= begin
        tried: set[int] = set()
        while start not in tried:
            tried.add(start)
            restored = Restored(self._counted)
            try:
                async for page in self._cluster.read(self._log, start, end):
                    for raw in page:
                        try:
                            restored.read(record_of(raw.headers, raw.value, raw.offset), raw.timestamp)
                        except (ForeignRecord, DamagedRecord) as strange:
                            restored.pass_over(strange)
            except HoleInLog as hole:
                # a second writer was ahead when this floor was written: its own floor has what is missing
                start, whole = max(begin, hole.floor), hole.floor >= begin
                continue
            self._counted = end - 1
            return restored, whole
        raise CorruptLog(f"no floor of {self._log.topic} from {min(tried)} on leads to its end")

    async def _last_record(self, begin: int, end: int) -> Record | None:
        for start in range(end - 1, max(begin, end - _LAST_RECORDS) - 1, -1):
            async for page in self._cluster.read(self._log, start, end):
                for record in known_records(reversed(page)):
                    return record
        return None

    # ---- the machine

    def _source(self, source: str, partitions: int) -> Source:
        own = self._ticks.partition
        return Source(
            self._venue,
            source,
            self._settings.rules,
            is_own=lambda symbol: partition_of(symbol.encode(), partitions) == own,
        )

    async def _machine(self, machine: Source, plan: TakeUpPlan, restored: Restored, begin: int, log_end: int) -> Source:
        """Brings a machine to where the log stands."""
        last = restored.last
        if not plan.carries or last is None:
            return machine
        machine.restore(restored.checkpoints())
        if last.since + 1 >= begin:
            await self._rerun(machine, last.since + 1, min(plan.pos, max(restored.reader.pos, restored.stood)))
        machine.wake_all()
        if plan.gone:
            await self._retell(machine, last.floor, log_end)
            machine.cut(plan.pos)
        machine.take()
        return machine

    async def _rerun(self, machine: Source, start: int, pos: int) -> None:
        if start <= pos:
            async for page in self._cluster.read(self._ticks, start, pos + 1, ticks=True):
                for raw in page:
                    try:
                        machine.apply(tick_of(raw, self._venue.key_header))
                    except BadTick:
                        continue  # it went to the dead letters the first time
                machine.take()

    async def _retell(self, machine: Source, start: int, end: int) -> None:
        """What ticks did that are gone, as the log says it."""
        reader = Restored()
        async for page in self._cluster.read(self._log, start, end):
            for raw in page:
                try:
                    record = record_of(raw.headers, raw.value, raw.offset)
                    before = reader.reader.pos
                    reader.read(record, raw.timestamp)
                except (ForeignRecord, DamagedRecord) as strange:
                    reader.pass_over(strange)
                    continue
                if record.kind == "data" and record.source == reader.reader.source and record.value != EMPTY:
                    machine.retell(record.value, before)

    # ---- topics

    async def _partitions(self) -> int:
        """Partitions of the tick topic; the feed topic gets as many."""
        topics = await self._cluster.topics()
        ticks, logs = topics.get(self._ticks.topic, 0), topics.get(self._log.topic, 0)
        if not ticks:
            raise TopicMissing(self._ticks.topic)
        if not logs:
            raise TopicMissing(self._log.topic)
        if logs < ticks:
            await self._cluster.grow(self._log.topic, ticks)
        return ticks

    async def _find_round(self) -> Round:
        """Half of what both topics keep, and not less often than the settings say.

        Raises:
            FeedError: the feed log is compacted.
        """
        normalize = self._settings.normalize
        self.retention_unknown.clear()
        ms, sizes = [normalize.keyframe_round_max_s * 1000], []
        for topic in (self._ticks.topic, self._log.topic):
            try:
                found = await self._cluster.settings(topic)
            except NotLetIn as error:
                self.retention_unknown.append(str(error))
                found = {}
            if topic == self._log.topic and "compact" in found.get("cleanup.policy", ""):
                raise FeedError(
                    f"{topic} is compacted: records that readers need would go, wanted cleanup.policy=delete"
                )
            kept_ms, kept_bytes = int(found.get("retention.ms", -1)), int(found.get("retention.bytes", -1))
            ms += [kept_ms // 2] if kept_ms > 0 else []
            sizes.append(kept_bytes // 2 if kept_bytes > 0 else 0)
        return Round(min(ms), sizes[0], sizes[1], normalize.keyframe_round_min_ms)


def _incarnation() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))
