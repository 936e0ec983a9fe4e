"""One file of a recording, sealed or still open: its batches, each verified before anything is made of it.

Owns what is believed of a file: its schema must be the table's (or that of an earlier version, which had fewer
columns), each batch must fit its checksum, and what follows the last whole batch of an open file is left alone. Nothing
is unpickled, and no type but those of the tables is read.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import pyarrow as pa

from feed.channels.state import FoldRules
from feed.recording.folder import FilePlace, Folder
from feed.recording.frames import (
    BATCH,
    CONTINUES,
    DICTIONARY,
    MAGIC,
    NOTE_KEY,
    Damaged,
    Frame,
    ReadAt,
    crc_of,
    decoded_bytes,
    frames,
)
from feed.recording.grown import Grown, Walked
from feed.recording.notes import Block, CorruptRecording, Index, Note, index_of, note_of
from feed.recording.tables import SCHEMAS, as_now, is_of, rules_of

DECODED_BYTES_MAX: Final = 1 << 30
Told = TypeVar("Told", Note, Index)
_RUN_BYTES: Final = 2 << 20
_UNREADABLE: Final = (ValueError, TypeError, KeyError, NotImplementedError, MemoryError, OSError, EOFError)  # of Arrow


class RecordedFile:
    """A file that is read.

    `torn_bytes`: what lies after the last whole batch of an open file. `rules`: what its keyframes hold. `columns`: how
    many it has; rows that are read have all of the table.

    Raises:
        CorruptRecording: it is damaged, or no file of this table.
        FileNotFoundError: it is not there any more.
        OSError: it cannot be opened now: too few file descriptors, no permission.
    """

    def __init__(self, folder: Folder, place: FilePlace, grown: Grown | None = None) -> None:
        """`grown`: what is known of open files that were walked over before."""
        self.place = place
        self._grown = grown
        self.table = place.table
        self.torn_bytes = 0
        self.rules = FoldRules()
        self.columns = len(SCHEMAS[self.table])
        self.blocks: list[Block] = []
        self._name = f"{folder.name.rstrip('/')}/{place.path}"
        self._dictionaries: list[Frame] = []
        self._run: dict[int, pa.RecordBatch] = {}
        self._verified: set[int] = set()
        self._held = -1
        self._file: pa.NativeFile = pa.BufferReader(b"")
        path = f"{folder.root}/{place.path}"
        try:
            if folder.local:
                self._held = hold(path)
            # an open file is cut by its writer after a crash: mapped memory would go away under the reader
            mapped = folder.local and place.sealed
            self._file = pa.memory_map(path) if mapped else folder.fs.open_input_file(path)
            self.size = self._file.size()
            if place.sealed:
                self._open_sealed()
            else:
                self._open_part()
        except Damaged as error:
            self._let_go()
            raise self.corrupt(str(error), len(self.blocks)) from error
        except _UNREADABLE as error:
            self._let_go()
            if says_nothing(error):
                raise
            raise self.corrupt(f"cannot be opened: {error}") from error

    def corrupt(self, why: str, batch: int | None = None) -> CorruptRecording:
        """What is wrong with it, in words."""
        where = "" if batch is None else f" batch {batch}"
        return CorruptRecording(f"{self._name}{where}: {why}")

    def batch(self, number: int, *, verify: bool = True) -> pa.RecordBatch:
        """The rows of a block.

        Raises:
            CorruptRecording: it does not fit its checksum, or cannot be read.
        """
        if verify:
            self.verify(number)
        try:
            if self.place.sealed:
                return as_now(self.table, self._reader.get_batch(number))
            if number not in self._run:
                self._read_run(number, verify=verify)
            return as_now(self.table, self._run[number])
        except _UNREADABLE as error:
            if says_nothing(error):
                raise
            raise self.corrupt(f"cannot be read: {error}", number) from error

    def verify(self, number: int) -> None:
        """Compares a block with its checksum.

        Raises:
            CorruptRecording: they differ.
        """
        if number in self._verified:
            return
        block = self.blocks[number]
        try:
            self._check(block.start, block.end, block.note.crc.encode())
        except Damaged as error:
            raise self.corrupt(str(error), number) from error
        self._verified.add(number)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of all blocks, verified."""
        for number in range(len(self.blocks)):
            yield self.batch(number)

    def columns_from(self, start: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of the blocks from one on, of which nothing else is decoded; checksums are not compared.

        Raises:
            CorruptRecording: a block cannot be read.
        """
        columns = [SCHEMAS[self.table].get_field_index(name) for name in names]
        count = len(self.blocks)
        try:
            if self.place.sealed:
                options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=columns)
                reader = pa.ipc.open_file(self._file, options=options)
                yield from (reader.get_batch(number) for number in range(start, count))
                return
            while start < count:
                first, stop = self.blocks[start], start + 1
                while stop < count and self.blocks[stop].end - first.start < _RUN_BYTES:
                    stop += 1
                yield from self._stream(start, stop, columns)
                start = stop
        except _UNREADABLE as error:
            raise self.corrupt(f"cannot be read: {error}") from error

    def close(self) -> None:
        """Lets go of it."""
        self._run.clear()
        self._file.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def read_at(self, start: int, length: int) -> bytes:
        """Bytes of the file."""
        return bytes(self._file.read_at(length, start))

    # ---- opening

    def _open_sealed(self) -> None:
        self._reader = pa.ipc.open_file(self._file, options=pa.ipc.IpcReadOptions(use_threads=False))
        self._take_schema(self._reader.schema)
        last = self._reader.num_record_batches - 1
        if last < 0:
            raise Damaged("has no index", self.size)
        found = self._reader.get_batch_with_custom_metadata(last).custom_metadata
        index = _readable(index_of, (found or {}).get(NOTE_KEY, b""), self.size)
        end = index.blocks[-1].end if index.blocks else 0
        if len(index.blocks) != last:
            raise Damaged(f"index of {len(index.blocks)} batches, found {last}", self.size)
        for frame in frames(self.read_at, self._first(end), self.size):
            if frame.kind == BATCH:
                self._check(end, frame.end, index.crc.encode())
                break
        self.blocks = index.blocks

    def _open_part(self) -> None:
        start = 0
        if (known := self._walked()) is not None:
            start, self.blocks, self._dictionaries = known.end, known.blocks.copy(), known.dictionaries.copy()
            self._take_schema(known.schema)
        try:
            for frame in frames(self.read_at, start, self.size):
                if frame.kind == BATCH:
                    note = _readable(note_of, frame.note, frame.start)
                    self.blocks.append(Block(start, frame.end, note))
                    start = frame.end
                else:
                    if frame.kind != DICTIONARY:
                        self._take_schema(pa.ipc.read_schema(pa.py_buffer(self.read_at(0, frame.end))))
                    self._dictionaries.append(frame)
        except Damaged as error:
            if self._more_after(error.at):
                raise
        self.torn_bytes = self.size - start
        if self._grown is not None and self.blocks:
            whole = [frame for frame in self._dictionaries if frame.end <= start]
            self._grown.learn(self._name, self._held, Walked(start, self._schema, self.blocks.copy(), whole))

    def _walked(self) -> Walked | None:
        """What is known of an open file; nothing where its last batch lies there no more: then it is another file."""
        known = None if self._grown is None else self._grown.known(self._name, self._held, self.size)
        if known is None:
            return None
        last = known.blocks[-1]
        try:
            self._check(last.start, last.end, last.note.crc.encode())
        except (Damaged, *_UNREADABLE):
            return None
        return known

    def _more_after(self, at: int) -> bool:
        """Whether a whole batch lies further on: then this is no torn tail."""
        tail = self.read_at(at, self.size - at)
        found = tail.find(CONTINUES, 1)
        while found >= 0:
            try:
                frame = next(frames(self.read_at, at + found, self.size), None)
                if frame is not None and frame.kind == BATCH and frame.note:
                    return True
            except Damaged:
                pass
            found = tail.find(CONTINUES, found + 1)
        return False

    def _take_schema(self, schema: pa.Schema) -> None:
        if not is_of(self.table, schema):
            raise Damaged(f"{len(schema)} columns, wanted those of {self.table}", 0)
        self._schema = schema
        self.columns = len(schema)
        self.rules = rules_of(schema)

    # ---- reading

    def _check(self, start: int, end: int, crc: bytes) -> None:
        if not 0 <= start < end <= self.size:
            raise Damaged(f"bytes {start} to {end} of {self.size}", start)
        data = self._buffer(start, end)
        read_at = _reader_of(data, start)
        digits_at = -1
        for frame in frames(read_at, self._first(start), end):
            digits_at = frame.digits_at
            if frame.kind in (BATCH, DICTIONARY):
                self._refuse_bomb(frame, read_at)
        if digits_at < 0 or (found := crc_of(data, digits_at - start)) != crc:
            raise Damaged(f"checksum {'missing' if digits_at < 0 else found.decode()}, wanted {crc.decode()}", start)

    def _refuse_bomb(self, frame: Frame, read_at: ReadAt) -> None:
        metadata = read_at(frame.start + 8, frame.body - frame.start - 8)
        size = decoded_bytes(metadata, lambda offset, length: read_at(frame.body + offset, length))
        if not 0 <= size <= DECODED_BYTES_MAX:
            raise Damaged(f"{size} bytes when it is decoded, wanted at most {DECODED_BYTES_MAX}", frame.start)

    def _first(self, start: int) -> int:
        """Where the first message of a block begins."""
        return len(MAGIC) if self.place.sealed and start == 0 else start

    def _buffer(self, start: int, end: int) -> pa.Buffer:
        self._file.seek(start)
        return self._file.read_buffer(end - start)

    def _read_run(self, number: int, *, verify: bool) -> None:
        """Reads blocks of an open file from this one on, as a stream of their own."""
        first = self.blocks[number]
        last = number
        while last + 1 < len(self.blocks) and self.blocks[last + 1].end - first.start < _RUN_BYTES:
            if verify and not self._good(last + 1):
                break
            last += 1
        self._run = dict(enumerate(self._stream(number, last + 1), number))

    def _stream(self, start: int, stop: int, columns: list[int] | None = None) -> Iterator[pa.RecordBatch]:
        """Blocks of an open file, as a stream of their own."""
        begin, end = self.blocks[start].start, self.blocks[stop - 1].end
        head = b"".join(self.read_at(f.start, f.end - f.start) for f in self._dictionaries if f.end <= begin)
        data = head + self._buffer(begin, end).to_pybytes()
        reader = pa.ipc.open_stream(data, options=pa.ipc.IpcReadOptions(use_threads=False, included_fields=columns))
        return (reader.read_next_batch() for _ in range(start, stop))

    def _good(self, number: int) -> bool:
        try:
            self.verify(number)
        except CorruptRecording:
            return False
        return True


def _reader_of(data: pa.Buffer, start: int) -> ReadAt:
    """Reads from a part of a file that is in memory, by the file's positions."""

    def read_at(at: int, length: int) -> bytes:
        at = min(max(at - start, 0), data.size)
        found: bytes = data.slice(at, min(length, data.size - at)).to_pybytes()
        return found

    return read_at


def _readable(read: Callable[[bytes], Told], text: bytes, at: int) -> Told:
    try:
        return read(text)
    except CorruptRecording as error:
        raise Damaged(str(error), at) from error


def says_nothing(error: BaseException) -> bool:
    """Whether an error is about this process or the way to a file, and not about what is in it."""
    # Arrow's own errors have no number
    return isinstance(error, OSError) and error.errno not in (None, errno.EIO)


def hold(path: str) -> int:
    """Opens a file so that retention sees that it is being read."""
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd
