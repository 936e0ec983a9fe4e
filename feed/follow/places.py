"""Where reading of the past begins in a feed log: found by bisection, then among the records near it.

Owns the search. A place is a record's floor, from which everything is known at a later offset; reading from any other
offset could begin with a void record, or without the states of some symbols.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from feed.kafka.cluster import OutOfRange
from feed.wire.record import Record, floor_of, records_of

if TYPE_CHECKING:
    from feed.backfill.past import LogCut
    from feed.errors import DamagedRecord
    from feed.kafka.batches import Raw

_AROUND: Final = 256
"""So many records before the place found are looked at: ticks do not come quite in the order of their times."""
_OTHERS_MAX: Final = 256
"""So many records of other sources, and those behind them are taken to be of another source too."""
_GONE: Final = -1
_RECEIVED: Final = re.compile(rb'"ts_recv":"(\d+)"')


class ReadableLog(Protocol):
    """One partition of a feed log."""

    async def bounds(self) -> tuple[int, int]:
        """Offset of the first record, and after the last."""
        ...

    async def page(self, offset: int) -> tuple[Sequence[Raw], int]:
        """The records from an offset on, a page of them, and the offset after them; none at the end.

        Raises:
            OutOfRange: the offset is not in the log.
        """
        ...


class LogPlace(NamedTuple):
    """Read from `start`; the cut lies behind offset `known`, at which everything is known.

    `broken`: what was asked for is not in the log any more; this is the first place from which it can be read.
    """

    start: int
    known: int
    broken: bool = False


class _Found(NamedTuple):
    offset: int
    floor: int


Verdict = bool | None
"""Whether a record is before the cut; None: it does not say."""


async def place_of(log: ReadableLog, cut: LogCut, *, spare: float = 0.0) -> LogPlace:
    """Where to read from for a cut.

    `spare`: the part of the log's beginning that is left alone, where it is deleted while it is read.
    """
    begin, end = await _bounds(log, spare)
    if begin >= end:
        return LogPlace(end, end)
    if cut.at_end:
        found = await _last_of(log, begin, end)
    else:
        before = _before_time(cut.time) if cut.time is not None else _before_mark(cut.source, cut.mark)
        found = await _bisect(log, begin, end, before, patient=cut.time is not None)
        if found is not None:
            found = await _around(log, begin, found, before)
    try:
        first = await _first(log, begin, end)
    except OutOfRange:
        first = None
    if found is None and first is not None and first.kind == "source" and not first.ends:
        return LogPlace(first.offset, first.offset - 1)  # there never was anything before
    if found is not None and found.floor >= begin:
        return LogPlace(found.floor, found.offset)
    return await _earliest(log, begin, end)


async def earliest_of(log: ReadableLog, *, spare: float = 0.0) -> LogPlace:
    """The first place that can be read from; `spare` as of `place_of`."""
    return await _earliest(log, *await _bounds(log, spare))


async def _bounds(log: ReadableLog, spare: float) -> tuple[int, int]:
    begin, end = await log.bounds()
    return begin + int((end - begin) * spare), end


async def every_record(log: ReadableLog, start: int, end: int) -> AsyncIterator[Record | DamagedRecord]:
    """The records in [start, end), the damaged ones too; foreign ones are passed over.

    Raises:
        OutOfRange: `start` is not in the log.
    """
    offset = start
    while offset < end:
        raws, after = await log.page(offset)
        for record in records_of(raws):
            if record.offset >= end:
                return
            yield record
        if after == offset:
            return
        offset = after


async def records(log: ReadableLog, start: int, end: int) -> AsyncIterator[Record]:
    """The records in [start, end) that can be read.

    Raises:
        OutOfRange: `start` is not in the log.
    """
    async for record in every_record(log, start, end):
        if isinstance(record, Record):
            yield record


def _before_time(time: int) -> Callable[[Record], Verdict]:
    def before(record: Record) -> Verdict:
        if record.kind != "data":
            return None
        times = _RECEIVED.findall(record.value)
        return max(map(int, times)) <= time if times else None

    return before


def _before_mark(source: str, mark: int) -> Callable[[Record], Verdict]:
    def before(record: Record) -> Verdict:
        if record.source != source:
            return None
        return record.last <= mark

    return before


async def _bisect(
    log: ReadableLog, begin: int, end: int, before: Callable[[Record], Verdict], *, patient: bool
) -> _Found | None:
    """The last record that is before the cut; `patient`: those that do not say lie anywhere, however many."""
    low, high = begin - 1, end
    found: _Found | None = None
    while high - low > 1:
        middle = (low + high) // 2
        looked = 0
        verdict: Verdict = None
        try:
            async for record in records(log, middle, high):
                verdict = before(record)
                if verdict is not None:
                    break
                looked += 1
                if looked >= _OTHERS_MAX and not patient:
                    break
        except OutOfRange:
            low = middle  # deleted meanwhile: what is looked for can only lie behind it
            continue
        if verdict:
            low, found = record.offset, _found(record)
        elif verdict is None and looked >= _OTHERS_MAX and not patient:
            low = middle
        else:
            high = middle
    return found


async def _around(log: ReadableLog, begin: int, found: _Found, before: Callable[[Record], Verdict]) -> _Found | None:
    """The last record before the first one near it that is not before the cut."""
    last: _Found | None = None
    try:
        async for record in records(log, max(begin, found.offset - _AROUND), found.offset + 1):
            if before(record) is False:
                return last
            last = _found(record)
    except OutOfRange:
        return found
    return last or found


async def _earliest(log: ReadableLog, begin: int, end: int) -> LogPlace:
    """Bisects for the first record whose floor is still there: floors only rise."""
    low, high = begin - 1, end
    found: _Found | None = None
    while high - low > 1:
        middle = (low + high) // 2
        try:
            record = await _first(log, middle, high)
        except OutOfRange:
            low = middle
            continue
        if record is not None and _found(record).floor >= begin:
            high, found = middle, _found(record)
        elif record is None:
            high = middle
        else:
            low = record.offset
    if found is None:
        await _last_of(log, begin, end)
        return LogPlace(end, end, broken=True)
    return LogPlace(found.floor, found.offset, broken=True)


def _found(record: Record) -> _Found:
    """A record as a place; one that was written at another offset is like one whose floor is gone."""
    return _Found(record.offset, record.floor if record.floor <= record.offset else _GONE)


async def _last_of(log: ReadableLog, begin: int, end: int) -> _Found | None:
    """The last record; where that was written at another offset, so was all of the log.

    Raises:
        CorruptLog: so it is.
    """
    for offset in range(end - 1, max(begin, end - _AROUND) - 1, -1):
        try:
            record = await _first(log, offset, end)
        except OutOfRange:
            return None
        if record is not None:
            return _Found(record.offset, floor_of(record))
    return None


async def _first(log: ReadableLog, start: int, end: int) -> Record | None:
    async for record in records(log, start, end):
        return record
    return None


__all__ = ["LogPlace", "OutOfRange", "ReadableLog", "earliest_of", "every_record", "place_of", "records"]
