"""What is whole of a damaged file, and what it has lost.

Owns which batches count: those that fit their checksum, where all dictionaries before them were in batches that do. The
index of a sealed file, where that is whole, says what the others had; else the batches before and behind them do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from feed.recording import folder
from feed.recording.frames import BATCH, CONTINUES, DICTIONARY, MAGIC, Damaged, Frame, crc_of, frames
from feed.recording.notes import CorruptRecording, Index, Note, index_of, note_of
from feed.recording.seal import Noted
from feed.recording.tables import SCHEMAS, as_now, is_of, rules_of, schema_of
from replay.losses import LostBatch, Place


class Salvaged(NamedTuple):
    """The whole batches of a damaged file, how many are not, the schema to write them with, and what is lost."""

    kept: list[Noted]
    count_lost: int
    schema: pa.Schema
    lost: list[LostBatch]


def salvaged(place: folder.FilePlace, data: bytes, end: int) -> Salvaged:
    """What there is of a file's bytes; `end`: its last commit."""
    schema = SCHEMAS[place.table]
    head, kept, count = b"", [], 0
    trusted = True
    missing: list[LostBatch] = []
    lost = False
    last = place.commit
    stood: dict[str, Place] = {}
    ends: set[int] = set()
    index: Index | None = None
    for before, batch, whole in _blocks(place, data):
        made = None
        if batch is None or not whole or not trusted:
            # an index in a batch is worth nothing without the dictionary that it points into
            trusted = trusted and (bool(head) and not any(frame.kind == DICTIONARY for frame in before))
        else:
            head += b"".join(data[frame.start : frame.end] for frame in before)
            made = _decoded(place, head + data[batch.start : batch.end])
        if batch is None or made is None:
            index = (_index_of(batch) if batch is not None and whole else None) or index
            count, lost = count + 1, True
            continue
        note = _note_of(batch)
        if note is None:
            index = _index_of(batch)
            continue
        kept.append((made, note))
        ends.add(batch.end)
        if lost:
            # of a commit with keyframes the rows stand before these
            missing.append(LostBatch(last, note.commit if note.keyframes else note.commit - 1, stood, _begins(note)))
        lost = False
        if not (place.sealed and len(kept) == 1 and not made.num_rows):
            # what leads a sealed file has no rows, and says what the batch behind it does
            last, stood = note.commit, {source: (span.clock, span.tick) for source, span in note.sources.items()}
    if lost or (place.sealed and index is None):
        # without its index nobody knows where a file ended
        missing.append(LostBatch(last, end, stood))
    if head:
        schema = schema_of(place.table, rules_of(pa.ipc.open_stream(head).schema))
    return Salvaged(
        _same_dictionaries(kept), count, schema, missing if index is None else _by_index(place, index, ends)
    )


def _by_index(place: folder.FilePlace, index: Index, kept: set[int]) -> list[LostBatch]:
    """What is lost, as the index of a sealed file says."""
    found: list[LostBatch] = []
    before = place.commit
    for block in index.blocks:
        note = block.note
        if block.end not in kept and not note.keyframes and block.rows:
            rows = {source: span for source, span in note.sources.items() if span.rows}
            begins = {source: (span.first_clock, span.first_at - 1) for source, span in rows.items()}
            ends = {source: (span.last_clock, span.last_at) for source, span in rows.items()}
            found.append(LostBatch(min(before, note.commit - 1), note.commit, begins, ends, exact=True))
        if block.rows or note.keyframes:
            before = note.commit
    return found


def _begins(note: Note) -> dict[str, Place]:
    """Up to where sources had come before a batch, at most."""
    return {
        source: (span.first_clock, span.first_at - 1) if span.rows and not note.keyframes else (span.clock, span.tick)
        for source, span in note.sources.items()
    }


def _blocks(place: folder.FilePlace, data: bytes) -> Iterator[tuple[list[Frame], Frame | None, bool]]:
    """Each batch with the messages before it that belong to it, and whether it fits its checksum."""
    at = len(MAGIC) if place.sealed else 0
    start = 0
    before: list[Frame] = []

    def read_at(position: int, length: int) -> bytes:
        return data[position : position + length]

    while at < len(data):
        try:
            for frame in frames(read_at, at, len(data)):
                at = frame.end
                if frame.kind != BATCH:
                    before.append(frame)
                    continue
                digits = data[frame.digits_at : frame.digits_at + 8]
                whole = frame.digits_at >= 0 and crc_of(data[start : frame.end], frame.digits_at - start) == digits
                yield before, frame, whole
                before, start = [], frame.end
            return
        except Damaged as error:
            at = data.find(CONTINUES, max(at, error.at) + 1)
            yield before, None, False
            if at < 0:
                return
            before, start = [], at


def _decoded(place: folder.FilePlace, stream: bytes) -> pa.RecordBatch | None:
    try:
        reader = pa.ipc.open_stream(stream)
        if not is_of(place.table, reader.schema):
            return None
        batch = reader.read_next_batch()
        batch.validate(full=True)
        return as_now(place.table, batch)
    except (ValueError, TypeError, KeyError, NotImplementedError, MemoryError, OSError, StopIteration):
        return None


def _note_of(batch: Frame) -> Note | None:
    try:
        return note_of(batch.note)
    except CorruptRecording:
        return None


def _index_of(batch: Frame) -> Index | None:
    try:
        return index_of(batch.note)
    except CorruptRecording:
        return None


def _same_dictionaries(batches: list[Noted]) -> list[Noted]:
    """The same with one dictionary a column: the longest, of which the others are the begin."""
    if not batches:
        return []
    schema = batches[0][0].schema
    longest = {
        field.name: max((batch.column(field.name).dictionary for batch, _ in batches), key=len)
        for field in schema
        if pa.types.is_dictionary(field.type)
    }
    return [
        (
            pa.record_batch(
                [
                    pa.DictionaryArray.from_arrays(column.indices, longest[name]) if name in longest else column
                    for name, column in zip(schema.names, batch.columns, strict=True)
                ],
                schema=schema,
            ),
            note,
        )
        for batch, note in batches
    ]
