"""Holes of a recording, told in its files: a `gap` of reason `recording` wherever updates are missing without one.

Owns which channels have a hole: those whose chain is broken and says nothing, those that may have had their end or
their begin in what is lost, and those of which a gap is lost: one with a snapshot behind it, a turn to another source,
or a hole of the venue's own, which nobody can know of. Trades and bars go on behind a hole; of the others a snapshot
makes up for it: of a book the keyframe that comes next, of the rest also the next update, which tells all.

A hole lies where the loss begins: behind what was told before, and before what the channel says next. Leaves states
that were lost to `unsure`, and where rows go in the files to `added`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa

from feed.channels.channel import LOST_KINDS
from feed.recording.merge import order_of
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import BlockRef, TableFiles
from feed.recording.tables import GAPS, SCHEMAS, STATES
from feed.wire.model import KINDS, NO_SEQ
from replay.added import Added, plain, rounds
from replay.losses import BEFORE_ALL, Losses, LostBatch, Place, Spans, Stretch

_UNKNOWN: Final = NO_SEQ - 1
Key = tuple[str, str]
"""Symbol and source."""


class Keyframe(NamedTuple):
    """A channel's state in the files: its place, and the commit that it is as of."""

    clock: int
    at: int
    commit: int


class Hole(NamedTuple):
    """A gap that is to be told: a channel, where it stood and where it goes on, and its place in the source's order.

    `commit`: that of what the channel says next. `made_up`: the keyframe that makes up for it, where one does; `whole`:
    a snapshot that is there already does.
    """

    kind: str
    symbol: str
    source: str
    prev: int
    seq: int
    clock: int
    at: int
    commit: int
    lost: bool
    reason: str = "recording"
    made_up: Keyframe | None = None
    whole: bool = False

    @property
    def wants_snapshot(self) -> bool:
        """Whether a snapshot is to be written: of the keyframe that makes up for it, or of the update that does."""
        return self.made_up is not None or not (self.lost or self.whole or self.kind == "book")

    @property
    def row(self) -> Added:
        """It as a row of the gaps."""
        row = {
            "channel": self.kind,
            "symbol": self.symbol,
            "source": self.source,
            "prev": self.prev,
            "seq": self.seq,
            "count": None,
            "reason": self.reason,
            "lost": self.lost,
            "at": self.at,
            "clock": self.clock,
        }
        return Added(row)


class _Row(NamedTuple):
    """A message's place, and that of its block."""

    symbol: str
    source: str
    seq: int
    prev: int
    clock: int
    at: int

    @property
    def place(self) -> Place:
        return self.clock, self.at


class _Last(NamedTuple):
    seq: int
    place: Place


_NOTHING: Final = _Last(NO_SEQ, BEFORE_ALL)


class _Told(NamedTuple):
    source: str
    prev: int
    seq: int
    reason: str
    clock: int


class Gaps:
    """The gaps of a recording, and which breaks of a chain they explain."""

    def __init__(self, table_files: TableFiles) -> None:
        self._told: dict[Key, list[_Told]] = {}
        names = ("channel", "symbol", "source", "prev", "seq", "reason")
        for ref in table_files.refs():
            batch = table_files.rows(ref)
            columns = (batch.column(name).to_pylist() for name in names)
            clocks = order_of(batch)[0].tolist()
            for kind, symbol, source, prev, seq, reason, clock in zip(*columns, clocks, strict=True):
                told = _Told(source, prev, seq, reason, clock)
                self._told.setdefault((kind, symbol), []).append(told)
        for one in self._told.values():
            one.sort(key=lambda told: told.clock)

    def explain(self, kind: str, symbol: str, stood: int, prev: int, source: str | None = None) -> bool:
        """Whether gaps reach from where a channel stood to where an update goes on, one behind the other.

        A turn to another source begins nowhere in that one. `source`: only its gaps; None: those of any.
        """
        steps: list[tuple[int, int]] = []
        for one in self._told.get((kind, symbol), ()):
            if source is None or one.source == source:
                if one.reason != "source":
                    steps.append((one.prev, one.seq))
                elif one.seq <= prev:
                    stood = max(stood, one.seq)
        for begin, end in sorted(steps):
            if begin > stood:
                break
            stood = max(stood, end)
        return stood >= prev

    def end_at(self, kind: str, symbol: str, source: str, seq: int) -> bool:
        """Whether one ends at this position."""
        return any(one.source == source and one.seq == seq for one in self._told.get((kind, symbol), ()))

    def turns(self, kind: str, symbol: str, source: str, begin: int, end: int) -> bool:
        """Whether one tells between two clocks that a channel is in a source."""
        told = self._told.get((kind, symbol), ())
        return any(one.source == source and begin <= one.clock <= end and one.reason != "venue" for one in told)

    def turn_at(self, kind: str, symbol: str, prev: int) -> bool:
        """Whether a channel goes on in another source behind this position."""
        return any(one.reason == "source" and one.prev == prev for one in self._told.get((kind, symbol), ()))

    def last_clock(self, kind: str, symbol: str, clock: int) -> int:
        """The clock of the last one before a clock, -1 where there is none."""
        told = self._told.get((kind, symbol), [])
        number = bisect_left(told, clock, key=lambda one: one.clock)
        return told[number - 1].clock if number else -1


def holes_of(recording: RecordingFiles, lost: Mapping[str, Sequence[LostBatch]], spans: Spans) -> list[Hole]:
    """All holes of which no gap tells. `lost`: what the tables have lost.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    gaps = Gaps(recording.files_by_table[GAPS])
    untold = Losses(spans, lost.get(GAPS, ()))
    found: list[Hole] = []
    for kind in KINDS:
        table_files = recording.files_by_table[kind]
        if lost.get(kind) or lost.get(GAPS):
            found += _Walk(table_files, gaps, Losses(spans, lost.get(kind, ())), untold).holes()
    return found


class _Walk:
    """One kind's rows from the first to the last, and how each channel stands there."""

    def __init__(self, table_files: TableFiles, gaps: Gaps, losses: Losses, untold: Losses) -> None:
        """`losses`: of this kind; `untold`: of gaps."""
        self._table_files = table_files
        self._kind = table_files.table
        self._loses = table_files.table in LOST_KINDS
        self._gaps = gaps
        self._losses = losses
        self._untold = untold
        self._lasts: dict[Key, _Last] = {}
        self._sources: dict[str, str] = {}
        self._left: dict[Key, int] = {}
        """At which clock a symbol went on in another source."""
        self._rounds: dict[str, Place] = {}
        """Since where all channels of a source are known: its last round."""
        self._noted: set[tuple[Key, Stretch]] = set()
        self._found: list[Hole] = []
        self._open: dict[Key, int] = {}
        """Books that wait for a keyframe: which hole it was."""

    def holes(self) -> list[Hole]:
        table_files = self._table_files
        for ref in table_files.refs():
            note = table_files.block(ref).note
            for row in _messages(table_files, ref):
                (self._keyframe if note.keyframes else self._row)(row, note.commit)
            for source in note.keyframes if not note.left else ():
                if (span := note.sources.get(source)) is not None:
                    self._rounds[source] = span.clock, span.tick
        for (symbol, source), last in self._lasts.items():
            if stretches := self._losses.behind(source, last.place):
                self._end(symbol, source, last, stretches)
        for key, number in self._open.items():
            found = self._found[number]
            self._found[number] = found._replace(seq=max(found.seq, self._lasts[key].seq))
        return self._found

    def _keyframe(self, row: _Row, commit: int) -> None:
        key = row.symbol, row.source
        last = self._begun(row)
        self._sources.setdefault(row.symbol, row.source)
        number = self._open.get(key)
        made_up = Keyframe(row.clock, row.at, commit)
        if number is not None and commit >= self._found[number].commit:
            self._found[number] = self._found[self._open.pop(key)]._replace(seq=row.seq, made_up=made_up)
        elif last is not None and row.seq > last.seq and not self._explained(row, last.seq, row.seq):
            self._add(row, last, row.seq, commit, made_up=made_up)
        if last is None or row.seq >= last.seq:
            self._take(row)

    def _row(self, row: _Row, commit: int) -> None:
        key = row.symbol, row.source
        last = self._lasts.get(key, _NOTHING)
        before = self._sources.setdefault(row.symbol, row.source)
        if row.prev == _UNKNOWN:
            if (number := self._open.pop(key, None)) is not None:
                self._found[number] = self._found[number]._replace(seq=row.seq)
            self._behind_snapshot(row, before, commit)
        elif before != row.source and not self._turns(row, before):
            self._turn(row, before, self._goes_on(row), commit)
        elif row.prev != last.seq and row.seq > last.seq and not self._explained(row, last.seq, row.prev):
            self._add(row, last, self._goes_on(row), commit)
        elif self._kind == "trades" and row.prev > NO_SEQ:
            self._note(row, commit)
        self._take(row)
        self._sources[row.symbol] = row.source

    def _begun(self, row: _Row) -> _Last | None:
        """How a channel stood before a keyframe; None where it was there before all that is told of its source."""
        last = self._lasts.get((row.symbol, row.source))
        if last is None and self._losses.between(row.source, self._rounds.get(row.source, BEFORE_ALL), row.place):
            return _NOTHING
        return last

    def _turns(self, row: _Row, before: str) -> bool:
        """Whether a gap says that a channel goes on in another source; where none is lost it does."""
        last = self._lasts.get((row.symbol, before), _NOTHING)
        return not self._untold or self._gaps.turns(self._kind, row.symbol, row.source, last.place[0], row.clock)

    def _explained(self, row: _Row, stood: int, prev: int) -> bool:
        return self._gaps.explain(self._kind, row.symbol, stood, prev, row.source)

    def _goes_on(self, row: _Row) -> int:
        """Where a channel goes on at an update behind a hole: books wait there, of the others it tells all."""
        if self._kind == "book":
            self._open[row.symbol, row.source] = len(self._found)
        return row.prev if self._loses or self._kind == "book" else row.seq

    def _take(self, row: _Row) -> None:
        before = self._sources[row.symbol]
        if before != row.source:
            self._left[row.symbol, before] = row.clock
        self._left.pop((row.symbol, row.source), None)
        self._lasts[row.symbol, row.source] = _Last(row.seq, row.place)

    def _behind_snapshot(self, row: _Row, before: str, commit: int) -> None:
        """A snapshot makes up for a gap; where that is lost, another one stands in its place."""
        if (row.symbol, before) not in self._lasts or self._untold.at(row.source, row.place) is None:
            return  # with it the channel begins
        if not self._gaps.end_at(self._kind, row.symbol, row.source, row.seq):
            self._turn(row, before, row.seq, commit, whole=True)

    def _turn(self, row: _Row, before: str, seq: int, commit: int, *, whole: bool = False) -> None:
        """A gap that is lost, right before what stood behind it."""
        prev = self._lasts.get((row.symbol, before), _NOTHING).seq
        reason = "recording" if before == row.source else "source"
        lost = self._loses and not whole
        hole = Hole(self._kind, row.symbol, row.source, prev, seq, row.clock, row.at, commit, lost, reason)
        self._found.append(hole._replace(whole=whole))

    def _note(self, row: _Row, commit: int) -> None:
        """A hole of the venue's own may have stood before any update in a stretch of gaps that is lost: one gap says
        so, which moves nobody."""
        key = row.symbol, row.source
        stretch = self._untold.at(row.source, row.place)
        if stretch is not None and (key, stretch) not in self._noted:
            self._noted.add((key, stretch))
            hole = Hole(self._kind, *key, row.prev, row.prev, row.clock, row.at, commit, True)
            self._found.append(hole)

    def _end(self, symbol: str, source: str, last: _Last, stretches: list[Stretch]) -> None:
        """A channel of which nothing follows a loss that may have held some of it."""
        left = self._left.get((symbol, source))
        if left is not None and (left <= stretches[0].begin[0] or self._gaps.turn_at(self._kind, symbol, last.seq)):
            return  # it had gone on in another source
        clock, at = stretches[-1].end
        if at > last.seq:
            self._add(_Row(symbol, source, at, last.seq, clock, at), last, at, 0)

    def _add(self, row: _Row, last: _Last, seq: int, commit: int, made_up: Keyframe | None = None) -> None:
        clock, at = self._place(row, last)
        self._found.append(
            Hole(self._kind, row.symbol, row.source, last.seq, seq, clock, at, commit, self._loses, made_up=made_up)
        )

    def _place(self, row: _Row, last: _Last) -> Place:
        """Where a loss begins: behind what the channel said before, in any source, and before what it says next."""
        stretches = self._losses.between(row.source, last.place, row.place)
        stretches = stretches or self._untold.between(row.source, last.place, row.place)
        if not stretches:
            return row.place
        place = stretches[0].begin
        if place <= last.place:
            place = last.place[0] + 1, last.place[1]
        floor = self._gaps.last_clock(self._kind, row.symbol, row.clock)
        if (before := self._sources[row.symbol]) != row.source and (row.symbol, row.source) not in self._left:
            floor = max(floor, self._lasts.get((row.symbol, before), _NOTHING).place[0])
        return place if floor < place[0] and place < row.place else row.place


def _messages(table_files: TableFiles, ref: BlockRef) -> Iterator[_Row]:
    batch = table_files.rows(ref)
    if "item" in batch.schema.names:
        batch = batch.filter(pa.array(batch.column("item").fill_null(0).to_numpy() == 0))
    clock, at = order_of(batch)
    columns = [batch.column(name) for name in ("symbol", "source", "seq")]
    columns.append(batch.column("prev").fill_null(_UNKNOWN))
    for row in zip(*(column.to_pylist() for column in columns), clock.tolist(), at.tolist(), strict=True):
        yield _Row(*row)


def states_of(recording: RecordingFiles, holes: list[Hole]) -> list[Added]:
    """The states that follow the snapshots of these holes, which would say without them that all is well."""
    wanted = {(one.kind, one.symbol, one.source): one.made_up for one in holes if one.made_up is not None}
    if not wanted:
        return []
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    table_files = recording.files_by_table[STATES]
    told: list[tuple[int, bool, list[str], list[dict[str, Any]]]] = []
    for ref in table_files.refs():
        note = table_files.block(ref).note
        if not note.keyframes:
            told.append((note.commit, False, [], plain(table_files.rows(ref), SCHEMAS[STATES]).to_pylist()))
    for note, batches in rounds(table_files):
        rows = [row for batch in batches for row in plain(batch, SCHEMAS[STATES]).to_pylist()]
        told.append((note.commit, True, note.keyframes, rows))
    for commit, whole, sources, rows in sorted(told, key=lambda one: one[:2]):
        if whole:  # who is not in it is well
            for key in [key for key in found if key[2] in sources and commit <= wanted[key].commit]:
                del found[key]
        for row in rows:
            key = row["channel"], row["symbol"], row["source"]
            place = wanted.get(key)
            if place is None:
                continue
            if commit <= place.commit if whole else (row["clock"], row["at"]) <= (place.clock, place.at):
                found[key] = row
    added: list[Added] = []
    for key, row in found.items():
        place = wanted[key]
        if row["state"] != "ok":
            added.append(Added(row | {"clock": place.clock, "at": place.at}, place.commit))
    return added
