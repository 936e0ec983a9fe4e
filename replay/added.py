"""Rows that are added to the files of a recording: where they go, and the batches with them.

Owns that a source's rows stay in order in each table: a row goes into the batch in whose stretch of its source it lies.
What is to be told say `holes` and `unsure`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.recording.merge import order_of
from feed.recording.notes import Note, Span
from feed.recording.seal import Noted
from feed.recording.table_files import NEVER, TableFiles
from feed.recording.tables import TIME
from feed.recording.words import Words
from replay.losses import BEFORE_ALL, Place

if TYPE_CHECKING:
    from replay.holes import Hole

NO_CRC: Final = "0" * 8
_KEY: Final = ("symbol", "source", "seq")


class Added(NamedTuple):
    """A row that is added to the table of gaps or of states: as a dict, and the first commit that may have it."""

    row: dict[str, Any]
    commit: int = 0


def rounds(table_files: TableFiles) -> Iterator[tuple[Note, list[pa.RecordBatch]]]:
    """The rounds of keyframes of a table that are whole, each as its last note, and its batches."""
    batches: list[pa.RecordBatch] = []
    left = 0
    for ref in table_files.refs():
        note = table_files.block(ref).note
        if not note.keyframes:
            batches, left = [], 0
            continue
        batches = [*batches, table_files.rows(ref)] if batches and note.left == left - 1 else [table_files.rows(ref)]
        left = note.left
        if not left:
            yield note, batches
            batches = []


def rows_of_files(table_files: TableFiles, added: Sequence[Added]) -> dict[int, dict[int, list[dict[str, Any]]]]:
    """For each file the rows that go into it, by the number of their batch; one more than there are: into a new one."""
    # where a file begins with an empty batch, that has the commit of the next one
    notes = [
        (file, number, block.note)
        for file in range(len(table_files))
        for number, block in enumerate(table_files.file(file).blocks)
        if not block.note.keyframes
    ]
    commits = [note.commit for _, _, note in notes]
    reached: dict[str, list[Place]] = {}
    found: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for one in added:
        source, place = one.row["source"], (one.row["clock"], one.row["at"])
        if source not in reached:
            reached[source] = _reached(source, [note for _, _, note in notes])
        at = max(bisect_left(reached[source], place), bisect_left(commits, one.commit))
        if at < len(notes):
            file, number, _ = notes[at]
        else:
            file = len(table_files) - 1
            number = len(table_files.file(file).blocks) if file >= 0 else 0
        if file >= 0:
            found.setdefault(file, {}).setdefault(number, []).append(one.row)
    return found


def _reached(source: str, notes: list[Note]) -> list[Place]:
    """Up to which place batches have the rows of a source; those after a commit in which nothing of it follows, too."""
    places: list[Place] = []
    for number, note in enumerate(notes):
        span = note.sources.get(source)
        place = BEFORE_ALL
        if span is not None and span.rows:
            place = span.last_clock, span.last_at
        if span is not None and (number + 1 == len(notes) or notes[number + 1].commit != note.commit):
            place = max(place, (span.clock, span.tick))
        places.append(place)
    return list(accumulate(places, max))


def with_rows(blocks: list[Noted], rows: Mapping[int, list[dict[str, Any]]]) -> list[Noted]:
    """The batches of a file of gaps or states with these rows, in order: by the number of their batch."""
    schema, last = blocks[0][0].schema.remove_metadata(), blocks[-1][1]
    if len(blocks) in rows:
        blocks = [*blocks, (blocks[0][0].slice(0, 0), Note(NO_CRC, last.commit, last.sources))]
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
    wanted = {(hole.symbol, hole.source, hole.seq): hole.commit for hole in holes if hole.wants_snapshot}
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
    # within a tick a gap goes before those that are there: a hole of the venue's own stands right before its update
    parts = [batch, pa.RecordBatch.from_pylist(rows, schema=batch.schema)]
    together = pa.concat_batches(reversed(parts) if "lost" in batch.schema.names else parts)
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
