"""Sealing: an open file rewritten as one that every reader of Arrow files opens.

Owns the IPC file with its footer, its dictionaries up front (some readers know no deltas), larger batches, and the
checksum of the whole. The new file is synced before it gets its name, and only then the open one goes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import google_crc32c
import numpy as np
import pyarrow as pa

from feed.recording.blocks import BlockWriter
from feed.recording.disk import Disk, NewFile
from feed.recording.files import RecordedFile
from feed.recording.folder import PART, SEALED
from feed.recording.frames import DIGITS, ZEROS
from feed.recording.merge import order_of
from feed.recording.notes import Block, Index, Note, Span
from feed.recording.tables import schema_of

ROWS_MAX: Final = 32_768
BATCH_BYTES_MAX: Final = 2 << 20
FOOTER_MARK: Final = b"crc32c:"
_NO_CRC: Final = ZEROS.decode()

Noted = tuple[pa.RecordBatch, Note]


def seal(disk: Disk, part: RecordedFile, *, last_commit: int | None = None) -> str | None:
    """Seals an open file, up to a commit; its path, or None where it has nothing and is only removed.

    Raises:
        CorruptRecording: the open file is damaged; it stays.
        OSError: the disk is full or fails; the open file stays.
    """
    path = part.place.path
    numbers = [
        number for number, block in enumerate(part.blocks) if last_commit is None or block.note.commit <= last_commit
    ]
    final = path.removesuffix(PART) + SEALED
    if not any(part.blocks[number].rows or part.blocks[number].note.sources for number in numbers):
        disk.remove(path)
        return None
    write_sealed(disk, schema_of(part.table, part.rules), _noted(part, numbers), final)
    part.close()
    disk.remove(path)
    return final


def write_sealed(disk: Disk, schema: pa.Schema, batches: Iterator[Noted], final: str) -> None:
    """Writes a sealed file of these batches; their dictionaries must be one and the same."""
    growing = f"{final}.sealing"
    disk.remove(growing)
    file = disk.create(growing)
    try:
        _Sealing(file, schema).write(batches)
        file.sync()
        file.close()
        disk.publish(growing, final)
    except BaseException:
        file.close()
        disk.remove(growing)
        raise


class _Sealing:
    """One sealed file as it is written."""

    def __init__(self, file: NewFile, schema: pa.Schema) -> None:
        self._file = file
        self._writer = BlockWriter(schema, "file", footer=FOOTER_MARK + ZEROS)
        self._schema = schema
        self._crc = 0

    def write(self, batches: Iterator[Noted]) -> None:
        blocks: list[Block] = []
        for batch, note in _led(grouped(batches)):
            start = self._file.size
            data, crc = self._writer.block(batch, note)
            self._append(data)
            blocks.append(Block(start, self._file.size, _with_crc(note, crc)))
        empty = pa.RecordBatch.from_pylist([], schema=self._schema) if not blocks else batch.slice(0, 0)
        self._append(self._writer.block(empty, Index(_NO_CRC, blocks))[0])
        footer = self._writer.end()
        at = footer.rindex(FOOTER_MARK) + len(FOOTER_MARK)
        # the footer's own digits count as zeros
        whole = google_crc32c.extend(self._crc, bytes(footer))
        footer[at : at + DIGITS] = b"%08x" % whole
        self._file.write(footer)

    def _append(self, data: bytearray) -> None:
        self._crc = google_crc32c.extend(self._crc, bytes(data))
        self._file.write(data)


def grouped(batches: Iterator[Noted]) -> Iterator[Noted]:
    """Batches put together until they are worth it; keyframes stay by themselves."""
    group: list[Noted] = []
    rows = size = 0
    for batch, note in batches:
        if group and (note.keyframes or rows + batch.num_rows > ROWS_MAX or size + batch.nbytes > BATCH_BYTES_MAX):
            yield _one(group)
            group, rows, size = [], 0, 0
        group.append((batch, note))
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if note.keyframes:
            yield _one(group)
            group, rows, size = [], 0, 0
    if group:
        yield _one(group)


def _led(batches: Iterator[Noted]) -> Iterator[Noted]:
    """The same after an empty batch: so damage to rows does not make the dictionaries doubtful, which come first."""
    first = next(batches, None)
    if first is None:
        return
    batch, note = first
    spans = {source: Span(span.tick, span.offset, span.clock) for source, span in note.sources.items()}
    yield batch.slice(0, 0), Note(_NO_CRC, note.commit, spans)
    yield first
    yield from batches


def _one(group: list[Noted]) -> Noted:
    if len(group) == 1:
        return group[0]
    batches = [batch for batch, _ in group if batch.num_rows] or [group[0][0]]
    return pa.concat_batches(batches), Note(_NO_CRC, group[-1][1].commit, _spans([note for _, note in group]))


def _spans(notes: list[Note]) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    for note in notes:
        for source, new in note.sources.items():
            old = spans.get(source)
            if old is None or not old.rows:
                spans[source] = new
            elif not new.rows:
                spans[source] = Span(new.tick, new.offset, new.clock, *_rows_of(old))
            else:
                spans[source] = Span(
                    new.tick, new.offset, new.clock, old.rows + new.rows, *_rows_of(old)[1:3], *_rows_of(new)[3:]
                )
    return spans


def _rows_of(span: Span) -> tuple[int, int, int, int, int]:
    return span.rows, span.first_clock, span.first_at, span.last_clock, span.last_at


def _with_crc(note: Note, crc: str) -> Note:
    return Note(crc, note.commit, note.sources, note.keyframes, note.left)


def _noted(part: RecordedFile, numbers: list[int]) -> Iterator[Noted]:
    last = part.batch(numbers[-1])
    schema = last.schema
    dictionaries = {
        field.name: last.column(field.name).dictionary for field in schema if pa.types.is_dictionary(field.type)
    }
    for number in numbers:
        batch = part.batch(number)
        columns = [
            _with_dictionary(part, column, dictionaries[name]) if name in dictionaries else column
            for name, column in zip(schema.names, batch.columns, strict=True)
        ]
        yield from _split(pa.record_batch(columns, schema=schema), part.blocks[number].note)


def _split(batch: pa.RecordBatch, note: Note) -> Iterator[Noted]:
    """A batch in pieces that a reader decodes quickly; a message stays whole. All have the positions after it."""
    pieces = -(-batch.nbytes // BATCH_BYTES_MAX)
    if pieces <= 1 or note.keyframes or batch.num_rows < 2 * pieces or "source" not in batch.schema.names:
        yield batch, note
        return
    clock, at = order_of(batch)
    source = batch.column("source")
    begins = np.arange(batch.num_rows)
    if "item" in batch.schema.names:
        begins = np.flatnonzero(batch.column("item").fill_null(0).to_numpy() == 0)
    bounds = sorted({0, *begins[:: max(1, len(begins) // pieces)].tolist(), batch.num_rows})
    for start, stop in itertools.pairwise(bounds):
        codes = source.indices.to_numpy()[start:stop]
        spans = {name: Span(span.tick, span.offset, span.clock) for name, span in note.sources.items()}
        for code in np.unique(codes).tolist():
            mine = start + np.flatnonzero(codes == code)
            first, last = mine[0], mine[-1]
            name = source.dictionary[code].as_py()
            place = int(clock[first]), int(at[first]), int(clock[last]), int(at[last])
            spans[name] = Span(spans[name].tick, spans[name].offset, spans[name].clock, len(mine), *place)
        yield batch.slice(start, stop - start), Note(_NO_CRC, note.commit, spans)


def _with_dictionary(part: RecordedFile, column: pa.DictionaryArray, dictionary: pa.Array) -> pa.DictionaryArray:
    """A column with the newest dictionary of its file, of which its own is the begin."""
    if not dictionary.slice(0, len(column.dictionary)).equals(column.dictionary):
        raise part.corrupt("a dictionary does not go on from the one before")
    return pa.DictionaryArray.from_arrays(column.indices, dictionary)
