"""The past of a channel as a stream of bytes: Arrow, NDJSON or CSV, a block at a time, whatever its length.

Owns the three forms. Arrow blocks that are wanted whole go out as they lie in their file, compressed, after their
checksum was compared; of others the rows are chosen, and compressed likewise. NDJSON is the messages of the live
stream, byte for byte. Leaves what a file holds to `feed.recording`, and HTTP to `routes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from feed.recording.blocks import LEVEL
from feed.recording.files import RecordedFile
from feed.recording.filter import Filter
from feed.recording.frames import BATCH, DICTIONARY, MAGIC, frames
from feed.recording.merge import order_of
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import BlockRef, RecordingCut
from feed.recording.tables import SCHEMAS
from replay.exporting import csv_schema, csv_text
from replay.opened import columns_of

PIECE_BYTES: Final = 256 * 1024
"""What is written at a time: the deadline of a response is for each piece."""
_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", LEVEL), use_threads=False)
Piece = bytes | memoryview


class HistoryQuery(NamedTuple):
    """Channels of one kind, and the clocks: `start` is in the range, `end` is not."""

    chosen: Filter
    start: int
    end: int

    @property
    def kind(self) -> str:
        """The kind."""
        return self.chosen.kinds[0]


def arrow(recording: RecordingFiles, wanted: HistoryQuery) -> Iterator[Piece]:
    """An Arrow IPC stream of the rows of the table, in the order of their files; keyframes are left out.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    schema = SCHEMAS[wanted.kind]
    yield _messages_of(schema)
    table_files = recording.files_by_table[wanted.kind]
    said: RecordedFile | None = None
    for ref in _refs(recording, wanted):
        file = table_files.file(ref.file)
        if file.place.sealed and file.columns == len(schema) and _whole(recording, ref, wanted):
            file.verify(ref.block)
            if said is not file:
                yield from _cut(b"".join(_lying(file, 0, DICTIONARY)))
                said = file
            yield from _cut(b"".join(_lying(file, ref.block, BATCH)))
            continue
        batch = _rows(recording, ref, wanted)
        if batch.num_rows:
            yield from _cut(_messages_of(schema, batch))
            said = None  # its dictionaries are the last ones that were sent
    yield _END


def ndjson(recording: RecordingFiles, wanted: HistoryQuery) -> Iterator[Piece]:
    """The messages of the channels, gaps and states among them, a line each.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    for page in recording.pages(wanted.chosen, RecordingCut(wanted.start - 1), RecordingCut(wanted.end - 1)):
        yield from _cut(page.text())


def csv(recording: RecordingFiles, wanted: HistoryQuery) -> Iterator[Piece]:
    """The updates as lines with a header, the columns of `replay export`; numbers and times are exact text.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    schema = SCHEMAS[wanted.kind]
    names = columns_of(wanted.kind, snapshots=False)
    yield (",".join(f'"{name}"' for name in names) + "\n").encode()
    flat = csv_schema(pa.schema([schema.field(name) for name in names]))
    options = pyarrow.csv.WriteOptions(include_header=False)
    for ref in _refs(recording, wanted):
        batch = _rows(recording, ref, wanted)
        batch = batch.filter(pc.invert(batch.column("is_snapshot"))).select(names)
        if batch.num_rows:
            out = pa.BufferOutputStream()
            columns = [csv_text(column) for column in batch.columns]
            pyarrow.csv.write_csv(pa.RecordBatch.from_arrays(columns, schema=flat), out, options)
            yield from _cut(out.getvalue())


FORMS: Final[dict[str, Callable[[RecordingFiles, HistoryQuery], Iterator[Piece]]]] = {
    "application/vnd.apache.arrow.stream": arrow,
    "application/x-ndjson": ndjson,
    "text/csv": csv,
}
"""By media type; the first is what is sent where nothing is asked for."""


def _refs(recording: RecordingFiles, wanted: HistoryQuery) -> Iterator[BlockRef]:
    """The blocks that have rows in the range."""
    table_files = recording.files_by_table[wanted.kind]
    for ref in table_files.refs(table_files.start(RecordingCut(wanted.start - 1))):
        note = table_files.block(ref).note
        spans = [span for span in note.sources.values() if span.rows]
        if not note.keyframes and any(s.first_clock < wanted.end and s.last_clock >= wanted.start for s in spans):
            yield ref


def _whole(recording: RecordingFiles, ref: BlockRef, wanted: HistoryQuery) -> bool:
    """Whether every row of a block is wanted."""
    spans = recording.files_by_table[wanted.kind].block(ref).note.sources.values()
    return wanted.chosen.every_symbol and all(
        wanted.start <= span.first_clock and span.last_clock < wanted.end for span in spans if span.rows
    )


def _rows(recording: RecordingFiles, ref: BlockRef, wanted: HistoryQuery) -> pa.RecordBatch:
    batch = recording.files_by_table[wanted.kind].rows(ref)
    clock = order_of(batch)[0]
    keep = (clock >= wanted.start) & (clock < wanted.end)
    mask = wanted.chosen.rows(wanted.kind, batch)
    keep = keep if mask is None else keep & mask
    return batch if keep.all() else batch.take(pa.array(np.flatnonzero(keep)))


def _lying(file: RecordedFile, number: int, kind: int) -> Iterator[bytes]:
    """The IPC messages of one kind in a block of a sealed file, as they lie there."""
    block = file.blocks[number]
    for frame in frames(file.read_at, block.start or len(MAGIC), block.end):
        if frame.kind == kind:
            yield file.read_at(frame.start, frame.end - frame.start)


def _messages_of(schema: pa.Schema, batch: pa.RecordBatch | None = None) -> bytes:
    """The IPC messages of a schema, or of a batch with its dictionaries."""
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, schema, options=_OPTIONS) as writer:
        if batch is not None:
            writer.write_batch(batch)
    data: bytes = out.getvalue().to_pybytes()
    if batch is None:
        return data[: -len(_END)]
    head = len(schema.serialize())
    return data[head : -len(_END)]


def _cut(data: bytes | pa.Buffer) -> Iterator[Piece]:
    view = memoryview(data)
    for start in range(0, len(view), PIECE_BYTES):
        yield view[start : start + PIECE_BYTES]
