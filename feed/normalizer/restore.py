"""How a log goes on: what it says of the writer that wrote it, and whether its incarnation can go on.

Owns the reading back of a partition's log, the re-run of the ticks since the oldest checkpoint, and the decision of
`_plan`: the reasons for a new incarnation stand there, in order. Nothing is written here.
"""

from __future__ import annotations

import secrets
import time
from typing import Final, NamedTuple

import google_crc32c
import msgspec
from aiokafka.structs import TopicPartition
from msgspec import Struct
from msgspec.structs import replace

from feed.channels.reader import HoleInLog
from feed.channels.record import EMPTY, Record, record_of
from feed.errors import BadTick, CorruptLog
from feed.feedlog import Restored, Round, Writer
from feed.kafka.cluster import Cluster
from feed.kafka.partitioner import partition_of
from feed.normalizer.settings import NormalizerSettings, refuse_older, version_of
from feed.normalizer.ticks import tick_of
from feed.venues.source import Source
from feed.venues.venue import Venue

_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
_ID_CHARS: Final = 6
_LAST_RECORDS: Final = 64


class Plan(Struct, frozen=True):
    """How the log goes on: as `source` where that is not empty, else in a new incarnation that replaces `ends`."""

    source: str
    ends: str
    pos: int
    carries: bool
    reason: str


class TakenUp(NamedTuple):
    """A writer that goes on where the log ends, how it goes on, and the ends of both logs as they were seen."""

    writer: Writer
    plan: Plan
    log_end: int
    ticks_end: int


class Restorer:
    """Takes the writer of one partition up from its log, as often as it is asked."""

    def __init__(
        self, venue: Venue, ticks: TopicPartition, log: TopicPartition, settings: NormalizerSettings, cluster: Cluster
    ) -> None:
        self._venue = venue
        self._ticks = ticks
        self._log = log
        self._settings = settings
        self._cluster = cluster
        self._version = version_of(settings.rules)
        self._round: Round | None = None

    async def take_up(self) -> TakenUp:
        """Reads the log and runs the ticks again that no checkpoint holds.

        Raises:
            ConfigError: the log was written by a newer version.
            CorruptLog: the log cannot be read.
        """
        if self._round is None:
            self._round = await self._find_round()
        # the log first: a second writer may be at work, and a log that is ahead of its ticks means another topic
        log_begin, log_end = await self._cluster.offsets(self._log)
        begin, end = await self._cluster.offsets(self._ticks)
        partitions = await self._grown()
        restored, whole = await self._read_log(log_begin, log_end)
        plan = await self._plan(restored, begin, end, partitions, whole=whole)
        source = plan.source or f"{self._venue.name}/{self._ticks.partition}@{_incarnation()}"
        try:
            machine = await self._machine(source, plan, restored, partitions)
        except (CorruptLog, msgspec.DecodeError):
            if plan.source:
                raise
            # written by another version in a form that this one does not know: the new incarnation begins without
            plan = replace(plan, carries=False)
            machine = self._source(source, partitions)
        last = restored.last if plan.carries else None
        writer = Writer(
            machine,
            source=source,
            pos=plan.pos,
            crc=last.crc if last is not None else -1,
            version=self._version,
            partitions=partitions,
            anchor=last.offset if plan.source and last is not None else log_end,
            keyframe_ratio=self._settings.keyframe_ratio,
            round_=self._round,
        )
        if last is not None:
            ages = restored.ages(int(time.time() * 1000))
            writer.take_up(ages, max(last.floor, log_begin), int(time.monotonic() * 1000))
        return TakenUp(writer, plan, log_end, end)

    def _source(self, source: str, partitions: int) -> Source:
        own = self._ticks.partition
        return Source(
            self._venue,
            source,
            self._settings.rules,
            is_own=lambda symbol: partition_of(symbol.encode(), partitions) == own,
        )

    async def _machine(self, source: str, plan: Plan, restored: Restored, partitions: int) -> Source:
        machine = self._source(source, partitions)
        if plan.carries and restored.last is not None:
            machine.restore(restored.checkpoints())
            await self._rerun(machine, restored.last.since + 1, plan.pos)
        return machine

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
                        restored.read(record_of(raw.headers, raw.value or EMPTY, raw.offset), raw.timestamp)
            except HoleInLog as hole:
                # a second writer was ahead when this floor was written: its own floor has what is missing
                start, whole = max(begin, hole.floor), hole.floor >= begin
                continue
            return restored, whole
        raise CorruptLog(f"no floor of {self._log.topic} from {min(tried)} on leads to its end")

    async def _last_record(self, begin: int, end: int) -> Record | None:
        for start in range(end - 1, max(begin, end - _LAST_RECORDS) - 1, -1):
            async for page in self._cluster.read(self._log, start, end):
                if page:
                    raw = page[-1]
                    return record_of(raw.headers, raw.value or EMPTY, raw.offset)
        return None

    async def _plan(self, restored: Restored, begin: int, end: int, partitions: int, *, whole: bool) -> Plan:
        last = restored.last
        if last is None:
            return Plan("", "", begin - 1, False, "the log is empty")
        refuse_older(last.version, self._version)
        ends, pos = restored.reader.source, restored.reader.pos
        if pos >= end or await self._is_another_tick(last, pos, begin):
            return Plan("", ends, begin - 1, False, "the tick topic was made anew")
        if pos + 1 < begin:
            return Plan("", ends, begin - 1, False, f"ticks {pos + 1} to {begin - 1} are gone")
        if last.since < pos and last.since + 1 < begin:
            return Plan("", ends, pos, False, f"ticks from {last.since + 1} on are gone")
        if not whole:
            return Plan("", ends, pos, False, f"the log from {last.floor} on is gone")
        if last.partitions != partitions:
            return Plan("", ends, pos, True, f"{last.partitions} partitions became {partitions}")
        if last.version != self._version:
            return Plan("", ends, pos, True, f"version {last.version} became {self._version}")
        return Plan(ends, "", pos, True, "")

    async def _is_another_tick(self, last: Record, pos: int, begin: int) -> bool:
        if last.crc == -1 or last.last != pos or pos < begin:
            return False
        async for page in self._cluster.read(self._ticks, pos, pos + 1):
            return any(raw.offset == pos and google_crc32c.value(raw.value or b"") != last.crc for raw in page)
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
        return Round(min(ms), sizes[0], sizes[1], self._settings.round_least_ms)


def _incarnation() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))
