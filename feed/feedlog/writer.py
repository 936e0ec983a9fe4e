"""The feed log, written and taken up again: ticks in, records out; records in, the state of a writer out.

Owns which ticks a record covers, where it is cut, when keyframes and checkpoints are written and what `floor` and
`since` say. Leaves what a tick does to `feed.venues.source`, which records are valid to `feed.wire.log_reader`, and
Kafka to `feed.normalizer`.

Keyframes go round: for `keyframe_ratio` bytes of updates one byte of keyframes, always of the symbol whose keyframe
is the oldest, but none that is younger than `Round` allows; and a symbol whose keyframe is older than `Round` allows is
due whatever was written. So what a reader who starts now must read stays bounded, by bytes where much happens and by
time where nothing does.

No IO, no clock: `now_ms` is an argument, and it decides only when keyframes are written, never a byte of an update.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import google_crc32c
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from feed.errors import BadEntry, BadTick, DamagedRecord, ForeignRecord, Unforeseen
from feed.venues.source import Checkpoint, Source
from feed.wire.log_reader import LogReader
from feed.wire.model import NO_SEQ, Snapshot, State
from feed.wire.record import PART_BYTES_MAX, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feed.venues.now import Message, SourceCounts
    from feed.venues.symbol import Tick

_VALUE: Final = attrgetter("value")
_RECORD_WEIGHT: Final = 192 * 1024
# Measured at 68 levels an update: encoding 24 KiB at a time 64 us a tick, 192 KiB at a time 100.
_CHUNK_WEIGHT: Final = 24 * 1024
_KEYFRAME_BYTES_A_STEP: Final = 4 << 20
_TRACES_MAX: Final = 4096
_REASONS_MAX: Final = 20
_encode: Final = msgspec.json.Encoder().encode


class Round(Struct, frozen=True):
    """When a keyframe is too old, whatever was written: half of what the logs keep. Zero means no such limit."""

    ms: int = 0
    tick_bytes: int = 0
    log_bytes: int = 0
    least_ms: int = 0
    """A keyframe younger than this is never made anew: small states would go round many times a second."""


class Dead(NamedTuple):
    """A tick that cannot be used, or of which entries cannot, and why; `kind` is one of few words for it."""

    tick: Tick
    reason: str
    kind: str = "tick"
    fault: Exception | None = None
    """One of ours that came of it."""


class Ahead(NamedTuple):
    """How its tick log stands ahead of a writer. `end`: the last stable offset; `position`: all below it was taken,
    what counts for nothing included; `waits_ms`: how long the oldest above it has waited."""

    end: int
    position: int
    waits_ms: int = 0


class Step(NamedTuple):
    """What a writer wants written, in this order: first the dead letters, then the records, in one batch.

    `messages`: how many messages ticks made: updates, and the gaps and states told with them.
    """

    dead: list[Dead]
    records: list[Record]
    messages: int = 0


class _Age(Struct):
    """How far back a symbol's newest keyframe lies: the tick and the log offset, and when and where it was written."""

    since: int
    floor: int
    made_ms: int
    tick_bytes: int
    log_bytes: int


class Opening(Struct, frozen=True, kw_only=True):
    """What the record says that opens an incarnation: which source it ends (empty: none), whether that one's state goes
    on, whether anything may be missing between the two, and whose it is."""

    ends: str = ""
    carries: bool = False
    missing: bool = False
    owner: str = ""
    settings: str = ""


class _Acked(NamedTuple):
    """Up to which tick everything is known to lie in the log."""

    pos: int
    crc: int
    epoch: int


class Writer:
    """Writes the log of one source. Call `step` or `alive`, write what it gives, call `acked`; never two at once, but
    `stuck` while the records of a step wait.

    `anchor` is the offset of the last record known to be valid, or where a new log begins. Floors never point beyond
    it: the next offset may be taken by a second writer's record, and reading must not begin with that.
    """

    def __init__(
        self,
        machine: Source,
        *,
        source: str,
        pos: int,
        crc: int,
        epoch: int = -1,
        version: str,
        partitions: int,
        anchor: int,
        keyframe_ratio: float,
        round_: Round,
        appointed: bool = False,
    ) -> None:
        self.pos = pos
        self.crc = crc
        self.epoch = epoch
        self.source = source
        self.partitions = partitions
        self._machine = machine
        self._version = version
        self._appointed = appointed
        self._anchor = anchor
        self._ratio = keyframe_ratio
        self._round = round_
        self._ages: OrderedDict[str, _Age] = OrderedDict()
        self._budget = 0.0
        self._tick_bytes = 0
        self._log_bytes = 0
        self._ahead = Ahead(pos + 1, pos + 1)
        self._acked = _Acked(pos, crc, epoch)
        self._now_ms = 0
        self._floor, self._since = anchor, pos
        self._in_flight: list[tuple[int, str]] = []
        self._renewing = 0
        """So many of the oldest keyframes are due whatever their age."""

    def take_up(self, ages: dict[str, tuple[int, int, int]], floor: int, now_ms: int, *, renew: bool = False) -> None:
        """Takes up the ages of restored symbols, name to (since, floor, age in ms); symbols without one are
        new-born. `renew`: all keyframes are due at once, since readers may lack what they rest on."""
        self._now_ms = now_ms
        self._bear(floor)
        for name, (since, offset, age_ms) in ages.items():
            venue_symbol = name.partition(":")[2]
            self._ages[venue_symbol] = _Age(
                min(since, self.pos), offset, now_ms - min(age_ms, self._round.ms), 0, 0
            )  # it lies behind where ticks were taken back to a place before it
        # the oldest must come first: its `since` and `floor` are those of the log
        self._ages = OrderedDict(sorted(self._ages.items(), key=lambda item: (item[1].since, item[1].floor)))
        self._settle()
        if renew:
            self._renewing = len(self._ages)

    def open(self, opening: Opening, end: int) -> Record:
        """The record that opens this incarnation; it must lie in the log, and be the first of its kind, before any
        other. `end`: of the tick log."""
        self._ahead = Ahead(end, self.pos + 1)
        return replace(
            self._record("source", b"[]"),
            ends=opening.ends,
            carries=opening.carries,
            missing=opening.missing,
            owner=opening.owner,
            settings=opening.settings,
        )

    def step(self, ticks: Sequence[Tick], ahead: Ahead, now_ms: int, *, epoch: int = -1) -> Step:
        """What these ticks did, then keyframes as far as they are due. `epoch`: the leader epoch in which they were
        written, one for all."""
        self._ahead = Ahead(ahead.end, self.pos + 1, ahead.waits_ms)
        self._now_ms = now_ms
        self.epoch = epoch
        dead: list[Dead] = []
        records: list[Record] = []
        machine = self._machine
        now, apply = machine.now, machine.apply
        covered = 0  # so many of the ticks are covered by records
        chunks: list[bytes] = []  # what the others did, encoded while it is still in the processor's cache
        made = count = weight = 0
        for index, (tick, read) in enumerate(zip(ticks, machine.ahead(ticks), strict=True)):
            bad: Sequence[BadTick]
            try:
                bad = apply(tick, read)
            except BadTick as error:
                bad = [error]
            if bad:
                dead.append(Dead(tick, _reason(bad), *_kind(bad)))
            if now.weight < _CHUNK_WEIGHT:
                count, weight = len(now.out), now.weight
                continue
            own = now.weight - weight
            messages = machine.take()
            made += len(messages)
            if own < _RECORD_WEIGHT:
                chunks.append(_encode(messages))
                if sum(map(len, chunks)) >= _RECORD_WEIGHT:
                    records.append(self._data(_joined(chunks), ticks[covered : index + 1]))
                    chunks, covered = [], index + 1
            else:
                if covered < index:
                    chunks.append(_encode(messages[:count]))
                    records.append(self._data(_joined(chunks), ticks[covered:index]))
                records += self._giant(messages[count:], tick)
                chunks, covered = [], index + 1
            count = weight = 0
        if covered < len(ticks):
            messages = machine.take()
            made += len(messages)
            records.append(self._data(_joined([*chunks, _encode(messages)]), ticks[covered:]))
        if records and ahead.position > self.pos:
            records[-1] = replace(records[-1], position=ahead.position)
        self._tick_bytes += sum(map(len, map(_VALUE, ticks)))
        self._budget += self._ratio * sum(len(record.value) for record in records)
        records += self._keyframes(len(records), now_ms)
        return Step(dead, records, made)

    def take_counts(self) -> SourceCounts:
        """What the state machine has counted since the last call."""
        return self._machine.take_counts()

    def alive(self, ahead: Ahead, now_ms: int, *, owner: str = "", settings: str = "") -> Step:
        """A record without ticks that tells where the writer and its tick log stand, and keyframes that are due.

        `owner`, `settings`: told with it, where they are given.
        """
        self._ahead = ahead
        record = replace(self._record("data", b"[]"), position=ahead.position, owner=owner, settings=settings)
        return Step([], [record, *self._keyframes(1, now_ms)])

    def stuck(self, ahead: Ahead) -> Record:
        """A record without ticks for while what `step` gave is not written: it speaks of what lies in the log."""
        pos, crc, epoch = self._acked
        record = replace(
            self._record("data", b"[]"), after=pos, first=pos, last=pos, first_crc=crc, crc=crc, epoch=epoch
        )
        return replace(record, end=ahead.end, position=ahead.position, waits_ms=ahead.waits_ms)

    def told(self, offset: int) -> None:
        """A record of `stuck` lies at this offset."""
        self._anchor = offset

    def acked(self, offsets: Sequence[int]) -> None:
        """The records of the last step lie at these offsets. If others lie between, restore: this writer is not
        alone."""
        for index, name in self._in_flight:
            self._ages[name].floor = offsets[index]
        self._in_flight = []
        if offsets:
            self._anchor = offsets[-1]
        self._acked = _Acked(self.pos, self.crc, self.epoch)
        self._settle()

    def everything(self, now_ms: int) -> list[Record]:
        """Keyframe and checkpoint of every symbol: what follows a new incarnation."""
        records: list[Record] = []
        for name in list(self._ages):
            records += self._keyframe(name, len(records), now_ms)
        return records

    def _settle(self) -> None:
        """Sets the floor that the next records tell.

        Not before an acknowledgement: keyframes that land behind a second writer's newer records are passed over by
        readers, so a floor may rest only on those that are known to have landed alone.
        """
        # the oldest keyframe is the first in the order, and every floor behind it is a later one
        age = next(iter(self._ages.values()), None)
        self._floor = age.floor if age else self._anchor
        self._since = age.since if age else self.pos

    def _bear(self, floor: int) -> None:
        """Gives new symbols an age, before any record is made that covers their first tick."""
        for name, since in self._machine.born:
            self._ages[name] = _Age(since, floor, self._now_ms, self._tick_bytes, self._log_bytes)
        self._machine.born.clear()

    def _record(
        self,
        kind: str,
        value: bytes,
        *,
        after: int | None = None,
        first: int | None = None,
        first_crc: int | None = None,
    ) -> Record:
        """A record at the present position, which begins with the tick `first` after the position `after`."""
        self._log_bytes += len(value)
        return Record(
            source=self.source,
            kind=kind,  # type: ignore[arg-type]  # one of our own four words
            after=self.pos if after is None else after,
            first=self.pos if first is None else first,
            last=self.pos,
            first_crc=self.crc if first_crc is None else first_crc,
            crc=self.crc,
            epoch=self.epoch,
            partitions=self.partitions,
            version=self._version,
            floor=self._floor,
            since=self._since,
            end=self._ahead.end,
            position=self.pos + 1,
            waits_ms=self._ahead.waits_ms,
            appointed=self._appointed,
            value=value,
        )

    def _data(self, value: bytes, ticks: Sequence[Tick]) -> Record:
        after, self.pos = self.pos, ticks[-1].seq
        first_crc = google_crc32c.value(ticks[0].value)
        self.crc = first_crc if len(ticks) == 1 else google_crc32c.value(ticks[-1].value)
        self._bear(self._anchor)
        return self._record("data", value, after=after, first=ticks[0].seq, first_crc=first_crc)

    def _giant(self, messages: list[Message], tick: Tick) -> list[Record]:
        """A tick that fills records by itself: only the last of them covers it."""
        *heads, tail = values_of(messages)
        return [*(self._record("data", value) for value in heads), self._data(tail, [tick])]

    def _keyframes(self, index: int, now_ms: int) -> list[Record]:
        records: list[Record] = []
        size = 0
        turns = len(self._ages)
        while turns and size < _KEYFRAME_BYTES_A_STEP:
            name, age = next(iter(self._ages.items()))
            if not (self._renewing or self._too_old(age, now_ms)) and (
                self._budget <= 0 or now_ms - age.made_ms < self._round.least_ms
            ):
                break
            self._renewing = max(0, self._renewing - 1)
            made = self._keyframe(name, index + len(records), now_ms)
            cost = sum(len(record.value) for record in made)
            if self._budget > 0:
                self._budget -= cost
            size += cost
            records += made
            turns -= 1
        if size < _KEYFRAME_BYTES_A_STEP:
            self._budget = min(self._budget, 0.0)  # all are fresh: nothing is saved up for later
        return records

    def _too_old(self, age: _Age, now_ms: int) -> bool:
        limit = self._round
        return bool(
            (limit.ms and now_ms - age.made_ms >= limit.ms)
            or (limit.tick_bytes and self._tick_bytes - age.tick_bytes >= limit.tick_bytes)
            or (limit.log_bytes and self._log_bytes - age.log_bytes >= limit.log_bytes)
        )

    def _keyframe(self, name: str, index: int, now_ms: int) -> list[Record]:
        symbol = self._machine.name_of(name)
        messages = self._machine.keyframe(name)
        records = [
            replace(self._record("keyframe", value), symbol=symbol, at=self.pos) for value in values_of(messages)
        ]
        private = self._machine.checkpoint(name)
        records.append(replace(self._record("checkpoint", private), symbol=symbol, at=self.pos))
        # until the records are acknowledged the old floor stays in force
        age = self._ages[name]
        self._ages[name] = _Age(self.pos, age.floor, now_ms, self._tick_bytes, self._log_bytes)
        self._ages.move_to_end(name)
        self._in_flight.append((index, name))
        return records


def _reason(bad: Sequence[BadTick]) -> str:
    more = len(bad) - _REASONS_MAX
    return "; ".join([*map(str, bad[:_REASONS_MAX]), *([f"and {more} more"] if more > 0 else ())])


def _kind(bad: Sequence[BadTick]) -> tuple[str, Exception | None]:
    for error in bad:
        if isinstance(error, Unforeseen):
            return "unforeseen", error
    return ("entry" if isinstance(bad[0], BadEntry) else "tick"), None


def _joined(chunks: list[bytes]) -> bytes:
    """Several JSON arrays as one."""
    return chunks[0] if len(chunks) == 1 else b"[" + b",".join(chunk[1:-1] for chunk in chunks if len(chunk) > 2) + b"]"


def values_of(messages: Sequence[Message]) -> list[bytes]:
    """The messages as values of records, each about `PART_BYTES_MAX` long at most; at least one value.

    A state is never cut from the snapshot that it follows: alone it would be all that is known of its channel.
    """
    values: list[bytes] = []
    group: list[bytes] = []
    size = 1
    before: Message | None = None
    for message in messages:
        text = _encode(message)
        follows = isinstance(message, State) and isinstance(before, Snapshot)
        before = message
        if group and size + len(text) + 1 > PART_BYTES_MAX and not follows:
            values.append(b"[" + b",".join(group) + b"]")
            group, size = [], 1
        group.append(text)
        size += len(text) + 1
    values.append(b"[" + b",".join(group) + b"]")
    return values


class _Kept(Struct):
    """A symbol's newest keyframe as it is read."""

    at: int
    offset: int
    written_ms: int
    values: list[bytes]
    private: bytes | None = None


class Trace(NamedTuple):
    """A tick that a record of the log has covered, and its CRC."""

    seq: int
    crc: int


class Restored:
    """What a log says of the writer that wrote it: read from the last record's floor to the end, then look.

    `last`: the newest record of the valid source. `traces`: ticks that the newest records cover, oldest first.
    `foreign`: how many records beyond offset `counted` were none of ours. `damaged`: whether any of the valid source
    was. `owner`, `settings`: whose the valid source is, as far as its records say.
    """

    def __init__(self, counted: int = -1) -> None:
        self.reader = LogReader()
        self.last: Record | None = None
        self.stood = NO_SEQ
        """The last tick that was covered before the valid source was opened."""
        self.traces: deque[Trace] = deque(maxlen=_TRACES_MAX)
        self.foreign = 0
        self.damaged = False
        self.owner = ""
        self.settings = ""
        self.opening: Record | None = None
        """The record that opened the valid source, until one of its data records is read."""
        self._whole: dict[str, _Kept] = {}
        self._open: dict[str, _Kept] = {}
        self._newest_ms = 0
        self._counted = counted

    def read(self, record: Record, written_ms: int) -> None:
        """Takes the next record; `written_ms` is its Kafka timestamp, below 0 where it has none."""
        self._newest_ms = max(self._newest_ms, written_ms)
        stood = self.reader.pos
        before = self.reader.take(record)
        if before is None:
            return
        if record.kind == "source":
            self.stood = stood
            self._read_source(record)
        if record.owner:
            self.owner, self.settings = record.owner, record.settings
        if record.kind == "keyframe":
            self._read_keyframe(record, written_ms)
        elif record.kind == "checkpoint":
            self._read_checkpoint(record)
        elif record.kind == "data":
            self.opening = None
        if record.covers:
            self.traces += (Trace(record.first, record.first_crc), Trace(record.last, record.crc))
        if self.last is None or record.last >= self.last.last or record.kind == "source":
            self.last = record

    def pass_over(self, strange: ForeignRecord | DamagedRecord) -> None:
        """Takes note of a record that cannot be read."""
        if isinstance(strange, DamagedRecord) and self.reader.pass_over(strange):
            self.damaged = True
        else:
            self.foreign += strange.offset > self._counted

    def checkpoints(self) -> list[Checkpoint]:
        """The newest whole state of each symbol that has one."""
        return [Checkpoint(kept.at, kept.values, kept.private or b"") for kept in self._whole.values()]

    def ages(self, now_wall_ms: int) -> dict[str, tuple[int, int, int]]:
        """Name of each of these symbols to (tick, log offset, age in ms) of its keyframe.

        Where this machine's clock is behind, the log's own times count; a keyframe without a time is as old as can be.
        """
        now_ms = max(now_wall_ms, self._newest_ms)
        return {name: (kept.at, kept.offset, max(0, now_ms - kept.written_ms)) for name, kept in self._whole.items()}

    def _read_source(self, record: Record) -> None:
        self.owner = self.settings = ""
        self.opening = record
        self._open.clear()  # what the one before has begun is not this one's
        if not record.carries:
            self._whole.clear()
            self.traces.clear()
        while self.traces and self.traces[-1].seq > record.last:
            self.traces.pop()  # of ticks that are gone

    def _read_keyframe(self, record: Record, written_ms: int) -> None:
        kept = self._open.get(record.symbol)
        if kept is None or kept.at != record.at:
            self._open[record.symbol] = _Kept(record.at, record.offset, written_ms, [record.value])
        elif record.value not in kept.values:  # else a second writer's copy
            kept.values.append(record.value)

    def _read_checkpoint(self, record: Record) -> None:
        kept = self._open.pop(record.symbol, None)
        if kept is not None and kept.at == record.at:
            kept.private = record.value
            known = self._whole.get(record.symbol)
            if known is None or known.at <= kept.at:
                self._whole[record.symbol] = kept
