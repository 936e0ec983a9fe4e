"""Messages too large for one frame, cut into parts.

Owns where a message is cut: by the size of its items' text, so that the same message is always cut the same way.
Putting parts together again is the reader's business: take them in order, apply at the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from feed.wire.model import Bar, Book, Data, Level, Snapshot, Trade, Update

PART_TEXT_MAX: Final = 224 * 1024
_LEVEL_OVERHEAD: Final = 8
_ITEM_BYTES: Final = 320
"""Of a usual trade or bar: its numbers have at most 40 characters, its id at most 64."""
# Fewer levels fit whatever their numbers: those have at most 39 characters, and a price a sign.
_LEVELS_FIT: Final = PART_TEXT_MAX // (2 * 39 + 1 + _LEVEL_OVERHEAD)
# So many trades fit whatever their texts: at most 16 conditions, an exchange and an id, of 6 bytes a character.
_ITEMS_FIT: Final = PART_TEXT_MAX // 4_800
_encode: Final = msgspec.json.Encoder().encode

Parted = TypeVar("Parted", Update, Snapshot)


def parted(message: Parted) -> list[Parted]:
    """The message itself where it fits a frame, else its parts, `(1, n)` to `(n, n)`, each under 256 KiB."""
    pieces = list(pieces_of(message.data))
    if len(pieces) <= 1:
        return [message]
    return [part_of(message, pieces, number) for number in range(len(pieces))]


def part_of(message: Parted, pieces: list[Data], number: int) -> Parted:
    """One part of a message, with one of its pieces."""
    return replace(message, data=pieces[number], part=(number + 1, len(pieces)))


def pieces_of(data: Data) -> Iterator[Data]:
    """What goes into each part, cut piece by piece."""
    if isinstance(data, Book):
        yield from _book_pieces(data)
    elif isinstance(data, list):
        yield from _list_pieces(data)
    else:
        yield data


def _book_pieces(book: Book) -> Iterator[Data]:
    count = len(book.bids) + len(book.asks)
    if count <= _LEVELS_FIT or _text_size(book.bids) + _text_size(book.asks) <= PART_TEXT_MAX:
        yield book
        return
    piece, size = Book([], []), 0
    for side in ("bids", "asks"):
        for level in getattr(book, side):
            weight = len(level[0]) + len(level[1]) + _LEVEL_OVERHEAD
            if size + weight > PART_TEXT_MAX:
                yield piece
                piece, size = Book([], []), 0
            getattr(piece, side).append(level)
            size += weight
    yield piece


def _text_size(levels: list[Level]) -> int:
    """The text of levels with their overhead: written out, they have brackets for the last comma. Measured for 10,000
    levels: 0.06 us a level; adding up the lengths of numbers 0.2."""
    return len(_encode(levels)) - 1 if levels else 0


def _list_pieces(items: list[Trade] | list[Bar]) -> list[Data]:
    count = PART_TEXT_MAX // _ITEM_BYTES
    pieces: list[Data] = []
    for start in range(0, len(items), count):
        pieces += _of_size(items[start : start + count])
    return pieces or [items]


def _of_size(items: list[Any]) -> list[Data]:
    """Items in pieces: ids with odd characters and conditions make some longer than usual."""
    if len(items) <= _ITEMS_FIT or len(_encode(items)) <= PART_TEXT_MAX:
        return [items]
    pieces: list[Data] = []
    piece: list[Any] = []
    size = 0
    for item in items:
        weight = len(_encode(item)) + 1
        if size + weight > PART_TEXT_MAX:
            pieces.append(piece)
            piece, size = [], 0
        piece.append(item)
        size += weight
    pieces.append(piece)
    return pieces
