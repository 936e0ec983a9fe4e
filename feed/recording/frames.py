"""Arrow IPC as bytes: where each message begins and ends, without reading what it holds.

Owns the walk over a file's messages, the place of the checksum's digits in a batch's metadata, and the CRC-32C over a
range. Leaves columns to pyarrow, and what a note says to `notes`.

A batch's message carries a note in its custom metadata, JSON that starts with `{"crc":"<8 hex digits>"`. The digits are
the CRC-32C of all bytes since the end of the batch before (so schema and dictionaries too) with the digits zeroed.
Arrow has no checksum of its own: of 2,000 flipped bits in a stream it read 68 % without an error, as other data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import google_crc32c
import pyarrow as pa

MAGIC: Final = b"ARROW1\0\0"
NOTE_KEY: Final = b"feed"
DIGITS: Final = 8
ZEROS: Final = b"0" * DIGITS
METADATA_BYTES_MAX: Final = 64 << 20
SCHEMA, DICTIONARY, BATCH = 1, 2, 3
_NOTE_START: Final = b'{"crc":"'
CONTINUES: Final = b"\xff\xff\xff\xff"
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3  # fields of Message
_DICTIONARY_DATA = 1  # of DictionaryBatch
_BUFFERS = 2  # of RecordBatch
_LENGTH_BYTES: Final = 8  # a compressed buffer begins with its decoded length

ReadAt = Callable[[int, int], bytes]
"""Bytes of a file: from a position on, so many; fewer at its end."""


class Damaged(Exception):
    """What should be a message is none; the text says why. `at`: where it begins."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(why)
        self.at = at


class Frame(NamedTuple):
    """One message: its place in the file, what it is, and its note with the place of the digits (-1: it has none)."""

    start: int
    end: int
    kind: int
    body: int
    note: bytes
    digits_at: int


def frames(read_at: ReadAt, start: int, size: int) -> Iterator[Frame]:
    """The messages from a position to the end of the stream or file.

    Raises:
        Damaged: a message is no message, or is not whole.
    """
    while start < size:
        frame = _frame(read_at, start, size)
        if frame is None:
            return
        yield frame
        start = frame.end


def crc_of(data: bytes | bytearray | pa.Buffer, digits_at: int) -> bytes:
    """The eight digits of the CRC-32C of these bytes with those at `digits_at` zeroed."""
    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)  # its slices cost no copy
    crc = google_crc32c.extend(google_crc32c.value(buffer.slice(0, digits_at)), ZEROS)
    return b"%08x" % google_crc32c.extend(crc, buffer.slice(digits_at + DIGITS))


def _frame(read_at: ReadAt, start: int, size: int) -> Frame | None:
    head = read_at(start, 8)
    if len(head) < 8 or head[:4] != CONTINUES:
        raise Damaged("no message begins here", start)
    length = int.from_bytes(head[4:], "little", signed=True)
    if length == 0:
        return None
    body = start + 8 + length
    if not 0 < length <= METADATA_BYTES_MAX or body > size:
        raise Damaged(f"metadata of {length} bytes, of which {size - start - 8} are there", start)
    metadata = read_at(start + 8, length)
    try:
        kind, body_length = _message(metadata)
    except (struct.error, IndexError, ValueError) as error:
        raise Damaged(f"metadata cannot be read: {error}", start) from error
    if body_length < 0 or body + body_length > size:
        raise Damaged(f"body of {body_length} bytes, of which {size - body} are there", start)
    note, digits_at = _note(metadata)
    return Frame(start, body + body_length, kind, body, note, start + 8 + digits_at if note else -1)


def decoded_bytes(metadata: bytes, read_body: ReadAt) -> int:
    """How much memory the buffers of a batch or a dictionary say that they will take, before any of it is taken.

    Raises:
        Damaged: they cannot be read.
    """
    try:
        root = _root(metadata)
        header = _field(metadata, root, _HEADER_TYPE)
        batch = _follow(metadata, _field(metadata, root, _HEADER))
        if header >= 0 and metadata[header] == DICTIONARY:
            batch = _follow(metadata, _field(metadata, batch, _DICTIONARY_DATA))
        at = _field(metadata, batch, _BUFFERS)
        if at < 0:
            return 0
        vector = _follow(metadata, at)
        (count,) = struct.unpack_from("<I", metadata, vector)
        total = 0
        for offset, length in struct.iter_unpack("<qq", metadata[vector + 4 : vector + 4 + 16 * count]):
            if length >= _LENGTH_BYTES:
                said = int.from_bytes(read_body(offset, _LENGTH_BYTES), "little", signed=True)
                total += length if said < 0 else said
        return total
    except (struct.error, IndexError, ValueError) as error:
        raise Damaged(f"buffers cannot be read: {error}", 0) from error


def _message(metadata: bytes) -> tuple[int, int]:
    """Type and length of the body, from the flatbuffer `Message`."""
    root = _root(metadata)
    kind, length = _field(metadata, root, _HEADER_TYPE), _field(metadata, root, _BODY_LENGTH)
    if kind < 0:
        raise ValueError("no header")
    return metadata[kind], 0 if length < 0 else struct.unpack_from("<q", metadata, length)[0]


def _root(metadata: bytes) -> int:
    return int(struct.unpack_from("<I", metadata, 0)[0])


def _field(metadata: bytes, table: int, index: int) -> int:
    """Where a field of a flatbuffer's table is; -1: it is left out."""
    fields = table - struct.unpack_from("<i", metadata, table)[0]
    if not 0 <= fields < len(metadata):
        raise ValueError("table out of bounds")
    slot = 4 + 2 * index
    offset = 0
    if slot < struct.unpack_from("<H", metadata, fields)[0]:
        (offset,) = struct.unpack_from("<H", metadata, fields + slot)
    return table + offset if offset else -1


def _follow(metadata: bytes, at: int) -> int:
    """What an offset leads to."""
    if at < 0:
        raise ValueError("a field is missing")
    return at + int(struct.unpack_from("<I", metadata, at)[0])


def _note(metadata: bytes) -> tuple[bytes, int]:
    at = metadata.find(_NOTE_START)
    if at < 4:
        return b"", -1
    length = struct.unpack_from("<I", metadata, at - 4)[0]
    note = metadata[at : at + length]
    return (note, at + len(_NOTE_START)) if len(note) == length else (b"", -1)
