"""Holes of a recording, told in its files: a `gap` of reason `recording` wherever updates are missing without one.

Owns which channels have a hole: those whose chain is broken and says nothing, and those that end where a batch was
lost, since nobody knows what that held. Trades and bars go on behind it; of the others a snapshot makes up for it: of a
book the keyframe that comes next, of the rest also the next update, which tells all. Leaves states that were lost to
`unsure`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.channels.channel import LOST_KINDS
from feed.model import KINDS, NO_SEQ
from feed.recording.merge import order_of
from feed.recording.notes import Note, Span
from feed.recording.recording import Recording
from feed.recording.seal import Noted
from feed.recording.shelf import NEVER, Shelf, Spot
from feed.recording.tables import GAPS, SCHEMAS, STATES, TIME
from feed.recording.words import Words

NO_CRC: Final = "0" * 8
_KEY: Final = ("symbol", "source", "seq")
_UNKNOWN: Final = NO_SEQ - 1


class Added(NamedTuple):
    """A row that is added to the table of gaps or of states: as a dict, and the first commit at or after it."""

    row: dict[str, Any]
    commit: int


class Lost(NamedTuple):
    """Batches of a table that are not there: those of the commits after one and up to another."""

    after: int
    last: int


class Keyframe(NamedTuple):
    """A channel's state in the files: its place, and the commit that it is as of."""

    clock: int
    at: int
    commit: int


class Hole(NamedTuple):
    """A gap that is to be told: a channel, where it stood and where it goes on, and its place in the source's order.

    `commit`: the first one at or after it. `made_up`: the keyframe that makes up for it, where one does.
    """

    kind: str
    symbol: str
    source: str
    prev: int
    seq: int
    clock: int
    at: int
    commit: int
    made_up: Keyframe | None = None

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
            "reason": "recording",
            "lost": self.kind in LOST_KINDS,
            "at": self.at,
            "clock": self.clock,
        }
        return Added(row, self.commit)


class _Row(NamedTuple):
    """A message's place, and that of its block."""

    symbol: str
    source: str
    seq: int
    prev: int
    clock: int
    at: int


class _Last(NamedTuple):
    seq: int
    clock: int
    at: int
    commit: int


_NOTHING: Final = _Last(NO_SEQ, -1, NO_SEQ, NO_SEQ)


class Gaps:
    """The gaps of a recording, and which breaks of a chain they explain."""

    def __init__(self, shelf: Shelf) -> None:
        self._ends: set[tuple[str, str, int]] = set()
        self._spans: dict[tuple[str, str, int], int] = {}
        for spot in shelf.spots():
            batch = shelf.rows(spot)
            columns = (batch.column(name).to_pylist() for name in ("channel", "symbol", "prev", "seq"))
            for kind, symbol, prev, seq in zip(*columns, strict=True):
                self._ends.add((kind, symbol, seq))
                self._spans[kind, symbol, prev] = max(seq, self._spans.get((kind, symbol, prev), NO_SEQ))

    def explain(self, kind: str, symbol: str, stood: int, prev: int) -> bool:
        """Whether one ends where an update goes on, or begins where the channel stood and reaches beyond that."""
        return (kind, symbol, prev) in self._ends or self._spans.get((kind, symbol, stood), _UNKNOWN) >= prev


def holes_of(recording: Recording, lost: Mapping[str, Sequence[Lost]]) -> list[Hole]:
    """All holes of which no gap tells. `lost`: what the tables have lost.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    gaps, spans = Gaps(recording.shelves[GAPS]), Spans(recording)
    found: list[Hole] = []
    for kind in KINDS if GAPS in lost else [kind for kind in KINDS if kind in lost]:
        last = max((one.last for one in lost.get(kind, ())), default=NO_SEQ)
        found += _Walk(recording.shelves[kind], gaps, spans, last).holes()
    return found


class Spans:
    """Where each source stood at a commit, by any table's notes."""

    def __init__(self, recording: Recording) -> None:
        self._spans: dict[str, dict[int, Span]] = {}
        for shelf in recording.shelves.values():
            for spot in shelf.spots():
                note = shelf.block(spot).note
                for source, span in note.sources.items():
                    self._spans.setdefault(source, {}).setdefault(note.commit, span)
        self._commits = {source: sorted(found) for source, found in self._spans.items()}

    def at(self, source: str, commit: int) -> Span | None:
        """The last that is said up to a commit."""
        commits = self._commits.get(source, [])
        number = bisect_right(commits, commit)
        return self._spans[source][commits[number - 1]] if number else None

    def commit(self, source: str, clock: int, at: int) -> int:
        """The first commit after which a source stands at this place, or behind it."""
        spans = self._spans.get(source, {})
        commits = self._commits.get(source, [])
        number = bisect_left(commits, (clock, at), key=lambda commit: (spans[commit].clock, spans[commit].tick))
        return commits[number] if number < len(commits) else NEVER


def rounds(shelf: Shelf) -> Iterator[tuple[Note, list[pa.RecordBatch]]]:
    """The rounds of keyframes of a table that are whole, each as its last note, and its batches."""
    batches: list[pa.RecordBatch] = []
    left = 0
    for spot in shelf.spots():
        note = shelf.block(spot).note
        if not note.keyframes:
            batches, left = [], 0
            continue
        batches = [*batches, shelf.rows(spot)] if batches and note.left == left - 1 else [shelf.rows(spot)]
        left = note.left
        if not left:
            yield note, batches
            batches = []


class _Walk:
    """One kind's rows from the first to the last, and how each channel stands there."""

    def __init__(self, shelf: Shelf, gaps: Gaps, spans: Spans, lost: int) -> None:
        """`lost`: the commit up to which batches of this kind are not there."""
        self._shelf = shelf
        self._kind = shelf.table
        self._gaps = gaps
        self._spans = spans
        self._lost = lost
        self._lasts: dict[tuple[str, str], _Last] = {}
        self._found: list[Hole] = []
        self._open: dict[tuple[str, str], int] = {}
        """Books that wait for a keyframe: which hole it was."""

    def holes(self) -> list[Hole]:
        lost, shelf = self._lost, self._shelf
        for spot in shelf.spots():
            note = shelf.block(spot).note
            for row in _messages(shelf, spot):
                (self._keyframe if note.keyframes else self._row)(row, note.commit)
        for (symbol, source), last in self._lasts.items():
            span = self._spans.at(source, lost) if last.commit <= lost else None
            if span is not None and span.tick > last.at:
                self._add(_Row(symbol, source, span.tick, last.seq, span.clock, span.tick), last, span.tick, lost + 1)
        for (symbol, source), number in self._open.items():
            found = self._found[number]
            self._found[number] = found._replace(seq=max(found.seq, self._lasts[symbol, source].seq))
        return self._found

    def _keyframe(self, row: _Row, commit: int) -> None:
        key = row.symbol, row.source
        # what was there before the first file that is left is no hole
        last = self._lasts.get(key, _NOTHING if commit <= self._lost + 1 else None)
        number = self._open.get(key)
        if number is not None and commit >= self._found[number].commit:
            made_up = Keyframe(row.clock, row.at, commit)
            self._found[number] = self._found[self._open.pop(key)]._replace(seq=row.seq, made_up=made_up)
        elif (
            last is not None
            and row.seq > last.seq
            and not self._gaps.explain(self._kind, row.symbol, last.seq, row.seq)
        ):
            self._add(row, last, row.seq, commit, Keyframe(row.clock, row.at, commit))
        if last is None or row.seq >= last.seq:
            self._lasts[key] = _Last(row.seq, row.clock, row.at, commit)

    def _row(self, row: _Row, commit: int) -> None:
        key = row.symbol, row.source
        last = self._lasts.get(key, _NOTHING)
        broken = row.prev not in (_UNKNOWN, last.seq) and row.seq > last.seq
        if broken and not self._gaps.explain(self._kind, row.symbol, last.seq, row.prev):
            if self._kind == "book":
                self._open[key] = len(self._found)
            self._add(row, last, row.prev if self._kind in (*LOST_KINDS, "book") else row.seq, commit)
        self._lasts[key] = _Last(row.seq, row.clock, row.at, commit)

    def _add(self, row: _Row, last: _Last, seq: int, commit: int, made_up: Keyframe | None = None) -> None:
        # behind all that the channel said before, and before what it says next whatever the clocks
        clock, at = (last.clock + 1, last.at) if last.clock + 1 < row.clock else (row.clock, row.at)
        found = Hole(self._kind, row.symbol, row.source, last.seq, seq, clock, at, commit, made_up)
        self._found.append(found)


def _messages(shelf: Shelf, spot: Spot) -> Iterator[_Row]:
    batch = shelf.rows(spot)
    if "item" in batch.schema.names:
        batch = batch.filter(pa.array(batch.column("item").fill_null(0).to_numpy() == 0))
    clock, at = order_of(batch)
    columns = [batch.column(name) for name in ("symbol", "source", "seq")]
    columns.append(batch.column("prev").fill_null(_UNKNOWN))
    for row in zip(*(column.to_pylist() for column in columns), clock.tolist(), at.tolist(), strict=True):
        yield _Row(*row)


# ---- what is written


def states_of(recording: Recording, holes: list[Hole]) -> list[Added]:
    """The states that follow the snapshots of these holes, which would say without them that all is well."""
    wanted = {(one.kind, one.symbol, one.source): one.made_up for one in holes if one.made_up is not None}
    if not wanted:
        return []
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    shelf = recording.shelves[STATES]
    told: list[tuple[int, bool, list[str], list[dict[str, Any]]]] = []
    for spot in shelf.spots():
        note = shelf.block(spot).note
        if not note.keyframes:
            told.append((note.commit, False, [], plain(shelf.rows(spot), SCHEMAS[STATES]).to_pylist()))
    for note, batches in rounds(shelf):
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


def with_rows(blocks: list[Noted], added: list[Added]) -> list[Noted]:
    """The batches of a file of gaps or states with these rows, in order: each in the first batch not before it, or in
    one more."""
    schema, last = blocks[0][0].schema.remove_metadata(), blocks[-1][1]
    rows: dict[int, list[dict[str, Any]]] = {}
    # a file may begin with an empty batch of the same commit as the next one
    numbers = {note.commit: number for number, (_, note) in enumerate(blocks) if not note.keyframes}
    for one in added:
        at = next((number for commit, number in numbers.items() if commit >= one.commit), len(blocks))
        rows.setdefault(at, []).append(one.row)
    if len(blocks) in rows:
        commit = max(last.commit, *(one.commit for one in added if one.commit < NEVER))
        blocks = [*blocks, (blocks[0][0].slice(0, 0), Note(NO_CRC, commit, last.sources))]
    joined = [_joined(plain(batch, schema), rows.get(number, [])) for number, (batch, _) in enumerate(blocks)]
    words = {field.name: Words() for field in schema if pa.types.is_dictionary(field.type)}
    for batch in joined:
        for name, known in words.items():
            known.encoded(batch.column(name))
    return [
        (encoded := _encoded(batch, schema, words), _counted(note, encoded) if number in rows else note)
        for number, (batch, (_, note)) in enumerate(zip(joined, blocks, strict=True))
    ]


def with_snapshots(blocks: list[Noted], holes: list[Hole]) -> list[Noted]:
    """The batches of a file with a snapshot wherever one of these holes ends: of the keyframe there, or of the update
    that tells the whole state (of all kinds but books)."""
    wanted = {(hole.symbol, hole.source, hole.seq): hole.commit for hole in holes}
    found: list[Noted] = []
    made: list[Noted] = []
    for batch, note in blocks:
        keys = zip(*(batch.column(name).to_pylist() for name in ("symbol", "source", "seq")), strict=True)
        mine = np.array([wanted.get(key, NEVER) <= note.commit for key in keys], bool)
        if not note.keyframes:
            if "bids" not in batch.schema.names and mine.any():
                for key in zip(*(batch.filter(pa.array(mine)).column(n).to_pylist() for n in _KEY), strict=True):
                    wanted.pop(key, None)
                batch = _doubled(batch, mine)
                note = _counted(note, batch)
            found.append((batch, note))
            continue
        found.append((batch, note))
        if mine.any():
            rows = batch.filter(pa.array(mine))
            for key in zip(*(rows.column(name).to_pylist() for name in _KEY), strict=True):
                wanted.pop(key, None)
            rows = _flagged(rows, "is_keyframe", np.zeros(rows.num_rows, bool))
            made.append((rows, _counted(Note(NO_CRC, note.commit, note.sources), rows)))
        if not note.left:
            found, made = [*found, *made], []
    return [*found, *made]


def _doubled(batch: pa.RecordBatch, mine: np.ndarray) -> pa.RecordBatch:
    """The rows with a snapshot of the same before each of those that are `mine`."""
    places = np.repeat(np.arange(batch.num_rows), 1 + mine)
    first = np.append(True, np.diff(places) != 0) & mine[places]
    batch = batch.take(pa.array(places))
    prev = pc.if_else(pa.array(first), pa.scalar(None, pa.int64()), batch.column("prev"))
    batch = batch.set_column(batch.schema.names.index("prev"), batch.schema.field("prev"), prev)
    return _flagged(batch, "is_snapshot", first | batch.column("is_snapshot").to_numpy(zero_copy_only=False))


def _flagged(batch: pa.RecordBatch, name: str, flags: np.ndarray) -> pa.RecordBatch:
    return batch.set_column(batch.schema.names.index(name), batch.schema.field(name), pa.array(flags))


def plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows with words for indices and integers for times."""
    names = [
        (
            field.name,
            pa.string() if pa.types.is_dictionary(field.type) else pa.int64() if field.type == TIME else field.type,
        )
        for field in schema
    ]
    columns = [column.cast(type_) for column, (_, type_) in zip(batch.columns, names, strict=True)]
    return pa.record_batch(columns, schema=pa.schema(names))


def _joined(batch: pa.RecordBatch, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    if not rows:
        return batch
    together = pa.concat_batches([batch, pa.RecordBatch.from_pylist(rows, schema=batch.schema)])
    places = list(zip(*(together.column(name).to_pylist() for name in ("clock", "source", "at")), strict=True))
    return together.take(pa.array(sorted(range(len(places)), key=places.__getitem__)))


def _encoded(batch: pa.RecordBatch, schema: pa.Schema, words: Mapping[str, Words]) -> pa.RecordBatch:
    columns = [
        words[field.name].encoded(column) if field.name in words else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.record_batch(columns, schema=schema)


def _counted(note: Note, batch: pa.RecordBatch) -> Note:
    """A note with what its rows are now."""
    clock, at = order_of(batch)
    sources = np.array(batch.column("source").to_pylist())
    spans = {name: Span(span.tick, span.offset, span.clock) for name, span in note.sources.items()}
    for name in np.unique(sources).tolist():
        mine = np.flatnonzero(sources == name)
        stands = spans.get(name, Span(int(at[mine[-1]]), -1, int(clock[mine[-1]])))
        place = int(clock[mine[0]]), int(at[mine[0]]), int(clock[mine[-1]]), int(at[mine[-1]])
        spans[name] = Span(stands.tick, stands.offset, stands.clock, len(mine), *place)
    return Note(note.crc, note.commit, spans, note.keyframes, note.left)
