"""Who may write a venue's logs: one version of the state machine at a time.

Owns the rule and what is seen of others. A higher code version takes over from a lower one at once, a lower one never
from a higher. Of equal code with other settings whoever is at work stays: the others write nothing, and take over when
nothing was written for `silence_s`. An incarnation that an operator has had opened (`feed takeover`) is left alone by
higher versions too while its owner is at work.

Others are seen at work by their records, which come at least once a second, in any partition of the venue; how long ago
one came is told by this process' own clock. Only whether a record was old when it was first seen is told by its Kafka
timestamp, and then for no longer than it takes to see that none follows. Void records say nothing: whoever was taken
over from has a last batch in flight, which lands behind the new incarnation's first records.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from aiokafka.structs import TopicPartition
from msgspec import Struct
from msgspec.structs import replace

from feed.errors import FeedError
from feed.normalizer.settings import NormalizerSettings, code_of, differences, version_of
from feed.wire.log_reader import HoleInLog, LogReader
from feed.wire.record import Record, known_records

if TYPE_CHECKING:
    from feed.kafka.cluster import Cluster

_LAST_RECORDS: Final = 64
_LOOKED_AT_S: Final = 0.5
_SETTLED_S: Final = 2.5
"""So long nothing must have come after a record that was old when it was seen first: twice what its writer waits."""


class StandsBy(FeedError):
    """Somebody else writes this venue's logs; `for_good`: only an operator can change it."""

    def __init__(self, reason: str, *, for_good: bool) -> None:
        super().__init__(reason)
        self.for_good = for_good


class _Seen(Struct):
    """The newest valid record of a partition, when it was seen first, and up to which offset was looked."""

    offset: int
    record: Record
    at: float
    age_s: float
    reader: LogReader


class _Newest(NamedTuple):
    """A record, when it was written, the reader that has taken it, and whether others lie beside it."""

    record: Record | None
    written_ms: int
    reader: LogReader
    mixed: bool


class Rivals:
    """The normalizers of one venue that others run."""

    def __init__(self, settings: NormalizerSettings, cluster: Cluster) -> None:
        self.version = version_of(settings.rules)
        self._settings = settings
        self._cluster = cluster
        self._seen: dict[int, _Seen] = {}
        self._looked_at = 0.0

    async def look(self, partition: int | None = None) -> None:
        """Looks at the last record of each partition, if that was not just done; at that of `partition` in any case.

        Raises:
            FeedError: a log cannot be looked at.
        """
        topic = self._settings.feed_topic
        if self._looked_at and time.monotonic() - self._looked_at < _LOOKED_AT_S:
            if partition is not None:
                await self._look_at(TopicPartition(topic, partition))
            return
        for number in range(await self._cluster.partitions(topic)):
            await self._look_at(TopicPartition(topic, number))
        self._looked_at = time.monotonic()

    def last(self, partition: int) -> Record | None:
        """The newest valid record of a partition when it was looked at."""
        seen = self._seen.get(partition)
        return seen.record if seen is not None else None

    def refuse(self, last: Record | None) -> None:
        """Refuses to write a partition whose newest valid record is `last` (None: it has none) while others do.

        Raises:
            StandsBy: they do.
        """
        if last is not None and last.version == self.version:
            return
        others = [seen for seen in self._seen.values() if seen.record.version != self.version]
        if last is None:
            self._begin(others)
            return
        if code_of(last.version) > code_of(self.version):
            raise StandsBy(
                f"the log was written by version {last.version}, this is {self.version}: "
                f"run the newer one, or `feed takeover` with this one",
                for_good=True,
            )
        if code_of(last.version) < code_of(self.version) and not last.appointed:
            return
        self._wait_for_silence([seen for seen in others if seen.record.version == last.version])

    def _begin(self, others: list[_Seen]) -> None:
        """A log that nobody has written yet is for who writes the venue's first partition that is written."""
        if self._seen and self._seen[min(self._seen)].record.version != self.version:
            self._wait_for_silence(others)

    def _wait_for_silence(self, others: list[_Seen]) -> None:
        silence_s = self._settings.normalize.rival_silence_ms / 1000
        now = time.monotonic()
        for seen in others:
            watched = now - seen.at
            left = silence_s - watched
            if seen.age_s > silence_s:
                left = min(_SETTLED_S, silence_s) - watched
            if left > 0:
                raise StandsBy(self._words(seen), for_good=False)

    def _words(self, seen: _Seen) -> str:
        record = seen.record
        told = differences(self._settings.rules, record.settings) if record.settings else ""
        how = "by an operator's word" if record.appointed else f"with other settings ({told or record.version})"
        return f"{record.owner or 'another normalizer'} writes the venue's logs {how}"

    async def _look_at(self, partition: TopicPartition) -> None:
        begin, end = await self._cluster.offsets(partition)
        known = self._seen.get(partition.partition)
        if begin >= end:
            self._seen.pop(partition.partition, None)
            return
        if known is not None and known.offset == end:
            return
        if known is not None and begin <= known.offset < end <= known.offset + _LAST_RECORDS:
            found = await self._newest(partition, known.offset, end, known.reader)
        else:
            found = await self._newest_of_all(partition, begin, end)
        if found.record is None:
            if known is None:
                return
            found = _Newest(known.record, 0, found.reader, mixed=False)  # what came since is void
        last = found.record
        assert last is not None
        if known is not None and not last.owner and known.record.source == last.source:
            last = replace(last, owner=known.record.owner, settings=known.record.settings)
        if known is not None and known.record.offset == last.offset:
            self._seen[partition.partition] = replace(known, offset=end, record=last, reader=found.reader)
            return
        age_s = time.time() - found.written_ms / 1000 if known is None else 0.0
        self._seen[partition.partition] = _Seen(end, last, time.monotonic(), age_s, found.reader)

    async def _newest_of_all(self, partition: TopicPartition, begin: int, end: int) -> _Newest:
        """The newest valid record of a log: where its last ones are of several sources, only its floor tells which."""
        found = await self._newest(partition, max(begin, end - _LAST_RECORDS), end, LogReader())
        if found.record is None or not found.mixed:
            return found
        whole = await self._newest(partition, max(begin, found.record.floor), end, LogReader())
        return found if whole.record is None else whole

    async def _newest(self, partition: TopicPartition, start: int, end: int, reader: LogReader) -> _Newest:
        """The newest valid record from an offset on, with what is told of its owner, and when it was written."""
        newest: Record | None = None
        written_ms = 0
        sources: set[str] = set()
        async for page in self._cluster.read(partition, start, end):
            for raw in page:
                for record in known_records((raw,)):
                    sources.add(record.source)
                    if not _takes(reader, record):
                        continue
                    if newest is not None and newest.source == record.source and not record.owner:
                        record = replace(record, owner=newest.owner, settings=newest.settings)
                    newest, written_ms = record, raw.timestamp
        return _Newest(newest, written_ms, reader, mixed=len(sources) > 1)


def _takes(reader: LogReader, record: Record) -> bool:
    """Whether a record is of the valid source; what lies before it need not have been read."""
    try:
        reader.take(record)
    except HoleInLog:
        reader.pos = record.last
    return record.source == reader.source
