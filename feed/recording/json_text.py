"""JSON text of whole columns, put together by Arrow instead of row by row.

Owns the pieces: literals and arrays that become one text a row. Leaves which fields a message has to `text`. All of it
gives, byte for byte, what msgspec writes for the Struct; `tests/feed/recording/test_text.py` compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.recording.decimals import text_of

Piece: TypeAlias = "str | pa.Array"
"""A literal, or the texts of a column; none of them null."""

_PLAIN_TEXT: Final = r"^[ !#-\[\]-~]*$"
_encode: Final = msgspec.json.encode


def joined(pieces: Sequence[Piece]) -> pa.Array:
    """One text a row: the pieces in order. At least one of them is an array."""
    merged: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        else:
            merged.append(piece)
    return pc.binary_join_element_wise(*merged, "")


def listed(texts: pa.Array, offsets: np.ndarray) -> pa.Array:
    """The texts from each offset to the next, with commas between them."""
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts), ",")


def whole_number(column: pa.Array) -> list[Piece]:
    """An integer, or null."""
    return _or_null("", column.cast(pa.string()), "")


def number(column: pa.Array) -> list[Piece]:
    """A decimal as a string, or null."""
    return _or_null('"', text_of(column), '"')


def time(column: pa.Array) -> list[Piece]:
    """Nanoseconds as a string, or null."""
    return _or_null('"', column.cast(pa.int64()).cast(pa.string()), '"')


def truth(column: pa.Array) -> list[Piece]:
    """`true` or `false`."""
    return [pc.if_else(column, "true", "false")]


def text(column: pa.Array) -> list[Piece]:
    """A string, or null."""
    if pc.all(pc.match_substring_regex(column, _PLAIN_TEXT), skip_nulls=True).as_py() in (True, None):
        return _or_null('"', column, '"')
    return [pa.array([_encode(value).decode() for value in column.to_pylist()], pa.string())]


def strings(column: pa.ListArray) -> list[Piece]:
    """A list of strings, or null."""
    # a list that is null may have items in the file
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy())
    inside = listed(joined(["", *text(column.flatten())]), np.append(0, ends))
    return _or_null("[", pc.if_else(column.is_valid(), inside, None), "]")


def if_there(before: str, column: pa.Array, form: Callable[[pa.Array], list[Piece]]) -> list[Piece]:
    """A field that is left out where it is null."""
    if column.null_count == len(column):
        return []
    told = joined([before, *form(column)])
    return [pc.if_else(column.is_valid(), told, "") if column.null_count else told]


def word(column: pa.DictionaryArray, wrap: Callable[[str], str] = lambda encoded: encoded) -> list[Piece]:
    """A string of a dictionary, or null; `wrap` adds what belongs to it."""
    texts = [wrap(_encode(value).decode()) for value in column.dictionary.to_pylist()]
    indices = column.indices
    if column.null_count:
        texts.append(wrap("null"))
        indices = pc.fill_null(indices, len(texts) - 1)
    return [pa.array(texts, pa.string()).take(indices)]


def _or_null(before: str, texts: pa.Array, after: str) -> list[Piece]:
    if not texts.null_count:
        return [before, texts, after]
    return [pc.fill_null(pc.binary_join_element_wise(before, texts, after, ""), "null")]
