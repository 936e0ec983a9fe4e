"""Where reading of a feed log starts: always at some record's floor.

Owns the look-up on a broker: reading from any other offset could begin with a void record. What a record says of its
floor is `wire.record`'s, what follows is `follower`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from feed.backfill.past import LogCut
from feed.follow.places import place_of
from feed.wire.record import Record, floor_of, known_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.structs import TopicPartition

    from feed.kafka.batches import Raw
    from feed.kafka.cluster import Cluster

EARLIEST: Final = LogCut(time=0)
_LAST_RECORDS: Final = 64
_PAGE_BYTES: Final = 64 * 1024
Wanted = int | LogCut | None
"""Where the state of a log must be known: at an offset, at a cut of the past, or (None) at its end."""


class KafkaLog:
    """A partition of a feed log on a broker."""

    def __init__(self, cluster: Cluster, partition: TopicPartition) -> None:
        self._cluster = cluster
        self._partition = partition

    async def bounds(self) -> tuple[int, int]:
        """Offset of the first record, and after the last."""
        return await self._cluster.offsets(self._partition)

    async def page(self, offset: int) -> tuple[Sequence[Raw], int]:
        """The records from an offset on, a page of them, and the offset after them."""
        return await self._cluster.page(self._partition, offset, _PAGE_BYTES)


class Floors:
    """Floors of the feed logs of one cluster."""

    def __init__(self, cluster: Cluster, resume_window_s: float) -> None:
        """`resume_window_s`: so much of the past is read, too."""
        self._cluster = cluster
        self._resume_window_s = resume_window_s

    async def of(self, partition: TopicPartition, wanted: Wanted, begin: int, end: int) -> int:
        """Where to read from, so that all is known where that is wanted, or as soon after it as the log has it.

        Raises:
            CorruptLog: the log is not as it was written.
            FeedError: it cannot be read.
        """
        if isinstance(wanted, LogCut):
            return (await place_of(KafkaLog(self._cluster, partition), wanted)).start
        if wanted is not None:
            return await self.before(partition, wanted, begin, end)
        return await self.start(partition, begin, end)

    async def start(self, partition: TopicPartition, begin: int, end: int) -> int:
        """The last record's floor, or further back: as far as clients may resume; `begin` where there is no record.

        Raises:
            CorruptLog: the log is not as it was written.
            FeedError: it cannot be read.
        """
        last, written_ms = await self._last_record(partition, begin, end)
        if last is None:
            return begin
        floor = floor_of(last)
        # by the log's own time: this machine's clock may be another one; records may have been written without any
        since = written_ms - int(self._resume_window_s * 1000)
        window = await self._cluster.offset_at(partition, since) if written_ms > 0 else None
        if window is None or window >= floor:
            return floor
        found = await self._floor_at(partition, window, floor)
        return floor if found is None else found

    async def before(self, partition: TopicPartition, offset: int, begin: int, end: int) -> int:
        """A floor from which the state before an offset can be known; as `start` at the log's end.

        Raises:
            CorruptLog: the log is not as it was written.
            FeedError: it cannot be read.
        """
        floor = await self._floor_at(partition, offset, end) if offset < end else None
        return await self.start(partition, begin, end) if floor is None else floor

    async def _last_record(self, partition: TopicPartition, begin: int, end: int) -> tuple[Record | None, int]:
        """The last record of the log, and when it was written."""
        for start in range(end - 1, max(begin, end - _LAST_RECORDS) - 1, -1):
            async for page in self._cluster.read(partition, start, end):
                for record in known_records(reversed(page)):
                    return record, page[-1].timestamp
        return None, 0

    async def _floor_at(self, partition: TopicPartition, offset: int, end: int) -> int | None:
        """The floor of the first record at or after an offset that was written where it lies; None: there is none."""
        async for page in self._cluster.read(partition, offset, end):
            for record in known_records(page):
                if record.floor <= record.offset:
                    return record.floor
        return None
