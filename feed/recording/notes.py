"""What a batch says of itself, in its metadata: up to where each source was read, and what of it the batch holds.

Owns the words of the notes. So a recorder takes up its position from the files alone, and a reader finds a time
without reading rows.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from feed.errors import FeedError
from feed.wire.model import NO_SEQ


class CorruptRecording(FeedError):
    """A file of a recording is damaged, or is none; the text names file and batch."""


class Gone(CorruptRecording):
    """A file of a recording was there when it was listed, and is not any more: deleted, or sealed since."""


class Span(Struct, array_like=True, frozen=True):
    """One source in a batch.

    `tick`, `offset`, `clock`: the last tick covered, the offset of the feed log after it, the source's clock. The rest
    is of its rows in this batch: how many, and clock and tick of the first and the last in the source's order.
    """

    tick: int
    offset: int
    clock: int
    rows: int = 0
    first_clock: int = 0
    first_at: int = NO_SEQ
    last_clock: int = 0
    last_at: int = NO_SEQ


class Note(Struct, frozen=True, omit_defaults=True):
    """A batch. `commit`: all tables stand at the same positions after commits of the same number.

    `keyframes`: its rows are the states of channels of these sources at their positions, and nothing else. All batches
    of one commit with keyframes are one round; `left`: how many of them follow, without which it is of no use.
    """

    crc: str
    commit: int
    sources: dict[str, Span]
    keyframes: list[str] = []
    left: int = 0


class Block(Struct, array_like=True, frozen=True):
    """A batch in a file: the bytes that its checksum covers, and its note."""

    start: int
    end: int
    note: Note

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(span.rows for span in self.note.sources.values())


class Index(Struct, frozen=True):
    """The note of the last batch of a sealed file, which has no rows: all batches before it."""

    crc: str
    blocks: list[Block]


_NOTES: Final = msgspec.json.Decoder(Note)
_INDEXES: Final = msgspec.json.Decoder(Index)
encode: Final = msgspec.json.Encoder().encode


def note_of(text: bytes) -> Note:
    """A batch's note.

    Raises:
        CorruptRecording: it is none.
    """
    try:
        return _NOTES.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptRecording(f"note of a batch cannot be read: {error}") from error


def index_of(text: bytes) -> Index:
    """The index of a sealed file.

    Raises:
        CorruptRecording: it is none.
    """
    try:
        return _INDEXES.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptRecording(f"index of a file cannot be read: {error}") from error
