"""One partition of a feed log as it is followed: its records into the sink, and what is to be thought of its source.

Owns the reading of records once they are fetched: which are none of ours, which are damaged, which are new; and the
verdict on the source. Leaves where reading starts and starts again to `follower`.

A record that cannot be read, or that the sink cannot take, ends nothing: it is passed over, and the source is `stalled`
until the log says that nothing is missing (`LogReader`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from feed.errors import CorruptLog, DamagedRecord, ForeignRecord
from feed.runtime.throttle import ThrottledLog
from feed.wire.log_reader import LogReader
from feed.wire.record import EMPTY, Record, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from feed.kafka.batches import Raw
    from feed.kafka.fetch import Stream
    from feed.wire.model import StateReason

log: Final = logging.getLogger("feed.follower")
_LASTS: Final = {
    "stalled": "what came waits for {:.1f} s",
    "disconnected": "its normalizer has said nothing for {:.1f} s",
    "silent": "no tick came for {:.1f} s",
}


class Sink(Protocol):
    """What takes the log in: the hub."""

    def opened(self, source: str, ends: str, carries: bool, missing: bool) -> None:
        """A source begins, in place of `ends`; `missing`: it is not known that nothing is missing in between."""

    def found(self, source: str, before: str) -> None:
        """Reading goes on in the middle of a source, where it stood in `before` so far (empty: in none)."""

    def keyframe(self, source: str, symbol: str, value: bytes) -> None:
        """A symbol's snapshots."""

    def data(self, source: str, pos: int, last: int, value: bytes, end: int) -> None:
        """Messages, of which those after `pos` are new; the source stands at `last`."""

    def stands(self, source: str, end: int, position: int, waits_ms: int) -> None:
        """How the source's tick log stands: its end, up to where it was taken, how long the oldest tick has waited."""

    def confirmed(self, source: str) -> None:
        """All that lay in the log when it was last looked at was read."""

    def source_state(self, source: str, state: str, reason: StateReason | None, since_ns: int) -> None:
        """What is to be thought of a source as a whole."""


class Patience(NamedTuple):
    """How long what may last, in seconds: no record, no tick, a tick or a record that waits."""

    disconnected_s: float
    silent_s: float
    stalled_s: float


class Verdict(NamedTuple):
    """What is to be thought of a source, and since when; no reason: it is well."""

    reason: StateReason | None
    since: float


class LogStanding(NamedTuple):
    """How one partition of a feed log stands: its source (empty where none is known yet), what is to be thought of it
    (None: it is well), since when, by the monotonic clock, and in words; and for how long the oldest has waited."""

    venue: str
    partition: int
    source: str
    reason: StateReason | Literal["unreadable"] | None
    since: float
    found: str
    waits_s: float

    @property
    def is_served(self) -> bool:
        """Whether clients can be served from it; a quiet market is no fault."""
        return bool(self.source) and self.reason in (None, "silent")


class Unreadable(NamedTuple):
    """Why a log cannot be read on, since when, and at which offset (-1: anywhere)."""

    why: str
    since: float
    offset: int


class FollowedLog:
    """One partition of a feed log as it is followed.

    `lost`: it has to be followed anew, from `floor` where that is set, by the same reader where that is to `go_on`.
    `doubted`: only void records have come for a while; `settled`: it was looked at why. `unreadable`: why that does not
    lead on. `taken`: whoever has everything up to the reader's position goes on from this offset. `foreign`: records
    that were none of ours.
    """

    def __init__(self, name: str, stream: Stream, start: int, goal: int, patience: Patience, now: float) -> None:
        self.name = name
        self.stream = stream
        self.reader = LogReader()
        self.start = start
        self.goal = goal
        self.source = ""
        self.taken = start
        self.record_at = now
        self.tick_at = now
        self.told: StateReason | None = None
        self.lost = False
        self.floor: int | None = None
        self.go_on = False
        self.doubted = self.settled = False
        self.unreadable: Unreadable | None = None
        self.holes: set[tuple[int, int]] = set()
        """Floors that were tried, and the offsets at which they led to a hole."""
        self.foreign = 0
        self._counted = -1
        """Up to this offset records that are none of ours were counted."""
        self._patience = patience
        self._open = False
        self._damage = Unreadable("", now, -1)
        self._waits_ms = 0
        self._ticks_end = 0
        """Where its tick log ends, as its records say: at 0 there never was a tick, and none is missed."""

    @property
    def caught_up(self) -> bool:
        """Whether it was read to where it ended when it began to be followed."""
        return not self.lost and self.stream.taken >= self.goal and not self.stream.waiting

    def lose(self, floor: int | None, *, go_on: bool = False) -> None:
        """It has to be followed anew."""
        self.lost, self.floor, self.go_on = True, floor, go_on

    def go_on_from(self, before: FollowedLog) -> None:
        """Takes over what was known of the partition."""
        self.source, self.told = before.source, before.told
        self.doubted, self.settled = before.doubted, before.settled
        self.record_at, self.tick_at, self._ticks_end = before.record_at, before.tick_at, before._ticks_end
        self.unreadable, self.holes = before.unreadable, before.holes
        self.foreign, self._counted = before.foreign + before.stream.foreign, before._counted
        if before.go_on and self.start < before.start:
            # what is missing lies before where we began: from the same position on, copies are passed over
            self.reader = before.reader

    def read(
        self,
        raws: Iterable[Raw],
        sink: Sink,
        now: float,
        tell: Callable[[FollowedLog, float], object],
        passed: Callable[[str, int], None] | None,
        told: ThrottledLog,
    ) -> bool:
        """Takes records in; whether the sink has heard anything. `tell`: called before what is late goes in.

        Raises:
            HoleInLog: records before one of them were not read.
        """
        heard = False
        for raw in raws:
            try:
                record = record_of(raw.headers, raw.value, raw.offset)
            except ForeignRecord as foreign:
                self.foreign += raw.offset > self._counted
                self._counted = max(self._counted, raw.offset)
                told.say(("foreign", self.name), f"{self.name}: {foreign}")
                continue
            except DamagedRecord as damaged:
                if self.reader.pass_over(damaged):
                    self._damaged(damaged, now, tell, told)
                continue
            before = self.reader.take(record)
            if before is None:
                continue
            if passed is not None:
                passed(record.source, raw.offset)
            heard = self._take(record, before, sink, now, tell, told) or heard
        return heard

    def _take(
        self,
        record: Record,
        before: int,
        sink: Sink,
        now: float,
        tell: Callable[[FollowedLog, float], object],
        told: ThrottledLog,
    ) -> bool:
        """One valid record; whether the sink has heard anything."""
        reader = self.reader
        if record.kind == "data":
            # part of a tick that fills records: until the last of them is read, it is not covered
            self._open = not record.covers and len(record.value) > len(EMPTY)
        if not self._open:
            self.taken = record.offset + 1
        self.record_at, self.doubted, self.settled = now, False, False
        heard = False
        try:
            if record.kind == "source":
                # whatever was followed is over, also where nothing was read of how: the log was made anew, or others
                # have begun and ended meanwhile
                ends = (record.source != self.source and self.source) or record.ends
                sink.opened(
                    record.source, ends, record.carries, record.missing or not record.ends or ends != record.ends
                )
                self.source, heard = record.source, True
            elif reader.source != self.source:
                sink.found(reader.source, self.source)
                self.source = reader.source
            if record.kind == "data":
                self._waits_ms, self._ticks_end = record.waits_ms, record.end
                if record.covers:
                    self.tick_at = now
                if record.waits_ms > self._patience.stalled_s * 1000 and self.told is None:
                    tell(self, now)  # before what has waited goes in as if it were live
                sink.data(record.source, before, reader.pos, record.value, record.end)
                sink.stands(record.source, record.end, record.position, record.waits_ms)
                heard = True
            elif record.kind == "keyframe":
                sink.keyframe(record.source, record.symbol, record.value)
                heard = True
        except CorruptLog as error:
            reader.spoil(record)
            self._damaged(error, now, tell, told)
        except Exception as error:
            # a fault of ours, for this record: the others are still to be served
            words = f"{self.name}: record at offset {record.offset}"
            told.say(("failed", self.name), words, level=logging.ERROR, error=error)
            reader.spoil(record)
            self._damaged(error, now, tell, told)
        return heard

    def _damaged(
        self, error: Exception, now: float, tell: Callable[[FollowedLog, float], object], told: ThrottledLog
    ) -> None:
        self._damage = Unreadable(str(error), now, -1)
        told.say(("damaged", self.name), f"{self.name}: {error}", level=logging.ERROR)
        tell(self, now)

    def verdict(self, now: float) -> Verdict:
        """What is to be thought of the source."""
        patience = self._patience
        if self.unreadable is not None and (self.stream.denied or now - self.unreadable.since > patience.stalled_s):
            return Verdict("stalled", self.unreadable.since)
        if self.reader.damaged_at is not None:
            return Verdict("stalled", self._damage.since)
        if now - self.record_at > patience.disconnected_s:
            return Verdict("disconnected", self.record_at)
        waits_s = self._waited_s(now)
        if waits_s > patience.stalled_s:
            return Verdict("stalled", now - waits_s)
        if self._ticks_end and now - self.tick_at > patience.silent_s:
            return Verdict("silent", self.tick_at)
        return Verdict(None, now)

    def standing(self, venue: str, partition: int, now: float) -> LogStanding:
        """How it stands, for those who look after it."""
        reason, since = self.verdict(now)
        if reason is None:
            found = "well"
        elif reason == "stalled" and self.unreadable is not None:
            found = f"cannot be read on: {self.unreadable.why}"
        elif reason == "stalled" and self.reader.damaged_at is not None:
            found = f"cannot be trusted: {self._damage.why}"
        elif reason == "disconnected" and not self.source:
            found = "nothing was written yet"
        else:
            found = _LASTS[reason].format(now - since)
        told = "unreadable" if self.unreadable is not None and reason == "stalled" and not self.source else reason
        return LogStanding(venue, partition, self.source, told, since, found, self._waited_s(now))

    def _waited_s(self, now: float) -> float:
        """For how long the oldest tick or record has waited, at the normalizer or here."""
        return max(self._waits_ms / 1000, self.stream.waits.waited(self.stream.taken, now))
