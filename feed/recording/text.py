"""Rows of a table as the messages that they were, byte for byte.

Owns which fields a message of each table has, in which order. Large messages come in the same parts as live ones
(`feed.wire.parts`). Leaves how a column becomes text to `json_text`, and the order of rows to `merge`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.recording.json_text import (
    Piece,
    if_there,
    joined,
    listed,
    number,
    strings,
    text,
    time,
    truth,
    whole_number,
    word,
)
from feed.recording.tables import GAPS, STATES
from feed.wire.model import Bar, Book, Kind, Snapshot, Trade, Update
from feed.wire.parts import PART_TEXT_MAX, parted

_MAYBE_PARTED_ITEMS: Final = 500
_COMMA: Final = ","
Columns = dict[str, Any]
"""A table's columns by name."""


class Texts(NamedTuple):
    """Messages, each followed by the separator, and the row with which each begins."""

    messages: pa.Array
    rows: np.ndarray


def messages_of(table: str, batch: pa.RecordBatch, separator: str = "") -> Texts:
    """The messages of a batch, in its order. Rows of one message must follow each other."""
    columns = {name: batch.column(index) for index, name in enumerate(batch.schema.names)}
    if table == GAPS:
        return Texts(_gaps(columns, separator), np.arange(batch.num_rows))
    if table == STATES:
        return Texts(_states(columns, separator), np.arange(batch.num_rows))
    if "items" in columns:
        return _listed_kind(table, batch, columns, separator)
    data = _DATA[table](columns)
    return _with_heads(table, columns, data, np.arange(batch.num_rows), separator)


def starts_of(columns: Columns) -> np.ndarray:
    """The rows with which messages begin, in a table with a row an item."""
    item = columns["item"]
    first = pc.fill_null(item, 0) if item.null_count else item
    return np.flatnonzero(first.to_numpy() == 0)


def _listed_kind(table: str, batch: pa.RecordBatch, columns: Columns, separator: str) -> Texts:
    items = columns["items"].to_numpy()
    if len(items) and items.min() == items.max() == 1:
        data: list[Piece] = ["[", *_ITEM[table](columns), "]"]
        return _with_heads(table, columns, data, np.arange(len(items)), separator)
    starts = starts_of(columns)
    elements = joined(_ITEM[table](columns))
    if not items.all():
        elements = pc.if_else(pa.array(items == 0), "", elements)
    lists = listed(elements, np.append(starts, len(items)))
    heads = batch.take(pa.array(starts))
    named = {name: heads.column(index) for index, name in enumerate(batch.schema.names)}
    return _with_heads(table, named, ["[", lists, "]"], starts, separator)


def _with_heads(table: str, columns: Columns, data: list[Piece], rows: np.ndarray, separator: str) -> Texts:
    flags = columns["is_snapshot"]
    if not pc.any(flags).as_py():
        messages = _updates(table, columns, data, separator)
    elif pc.all(flags).as_py():
        messages = _snapshots(table, columns, data, separator)
    else:
        messages = pc.if_else(
            flags, _snapshots(table, columns, data, separator), _updates(table, columns, data, separator)
        )
    return _parted(table, columns, Texts(messages, rows), separator)


def _updates(table: str, columns: Columns, data: list[Piece], separator: str) -> pa.Array:
    prev = columns["prev"]
    return joined(
        [
            *word(columns["symbol"], lambda symbol: f'{{"type":"update","channel":"{table}","symbol":{symbol},"prev":'),
            *whole_number(pc.fill_null(prev, -1) if prev.null_count else prev),
            ',"seq":',
            *whole_number(columns["seq"]),
            ',"ts_event":',
            *time(columns["ts_event"]),
            ',"ts_recv":',
            *time(columns["ts_recv"]),
            ',"data":',
            *data,
            "}" + separator,
        ]
    )


def _snapshots(table: str, columns: Columns, data: list[Piece], separator: str) -> pa.Array:
    return joined(
        [
            *word(
                columns["symbol"], lambda symbol: f'{{"type":"snapshot","channel":"{table}","symbol":{symbol},"source":'
            ),
            *word(columns["source"]),
            ',"seq":',
            *whole_number(columns["seq"]),
            ',"ts_event":',
            *time(columns["ts_event"]),
            ',"ts_recv":',
            *time(columns["ts_recv"]),
            ',"data":',
            *data,
            "}" + separator,
        ]
    )


def _gaps(columns: Columns, separator: str) -> pa.Array:
    return joined(
        [
            *word(columns["channel"], lambda channel: f'{{"type":"gap","channel":{channel},"symbol":'),
            *word(columns["symbol"]),
            ',"source":',
            *word(columns["source"]),
            ',"prev":',
            *whole_number(columns["prev"]),
            ',"seq":',
            *whole_number(columns["seq"]),
            ',"count":',
            *whole_number(columns["count"]),
            ',"reason":',
            *word(columns["reason"]),
            ',"lost":',
            *truth(columns["lost"]),
            "}" + separator,
        ]
    )


def _states(columns: Columns, separator: str) -> pa.Array:
    return joined(
        [
            *word(columns["source"], lambda source: f'{{"type":"state","source":{source},"channel":'),
            *word(columns["channel"]),
            ',"symbol":',
            *word(columns["symbol"]),
            ',"seq":',
            *whole_number(columns["seq"]),
            ',"state":',
            *word(columns["state"]),
            ',"reason":',
            *word(columns["reason"]),
            ',"since":',
            *time(columns["since"]),
            "}" + separator,
        ]
    )


def _trade(columns: Columns) -> list[Piece]:
    return [
        '{"price":',
        *number(columns["price"]),
        ',"size":',
        *number(columns["size"]),
        ',"side":',
        *word(columns["side"]),
        ',"trade_id":',
        *text(columns["trade_id"]),
        ',"ts_event":',
        *time(columns["trade_ts_event"]),
        *if_there(',"conditions":', columns["conditions"], strings),
        *if_there(',"exchange":', columns["exchange"], text),
        "}",
    ]


def _bar(columns: Columns) -> list[Piece]:
    pieces: list[Piece] = ['{"interval":', *word(columns["interval"]), ',"open_time":', *time(columns["open_time"])]
    for name in ("open", "high", "low", "close", "volume"):
        pieces += [f',"{name}":', *number(columns[name])]
    pieces += [',"trades":', *whole_number(columns["trades"]), ',"closed":']
    # null where the list has no items, and then thrown away
    return [*pieces, *truth(pc.fill_null(columns["closed"], False)), "}"]


def _quote(columns: Columns) -> list[Piece]:
    pieces: list[Piece] = []
    for name in ("bid_price", "bid_size", "ask_price", "ask_size"):
        pieces += [f'{"," if pieces else "{"}"{name}":', *number(columns[name])]
    return [*pieces, "}"]


def _book(columns: Columns) -> list[Piece]:
    return ['{"bids":[', _side(columns["bids"]), '],"asks":[', _side(columns["asks"]), "]}"]


def _side(column: pa.ListArray) -> pa.Array:
    levels = column.flatten()
    offsets = column.offsets.to_numpy()
    prices, sizes = levels.flatten()
    return listed(joined(['["', *_bare(prices), '","', *_bare(sizes), '"]']), offsets - offsets[0])


def _bare(column: pa.Array) -> list[Piece]:
    return [piece for piece in number(column) if piece != '"']


def _status(columns: Columns) -> list[Piece]:
    return ['{"action":', *word(columns["action"]), ',"reason":', *text(columns["reason"]), "}"]


def _instrument(columns: Columns) -> list[Piece]:
    return [
        '{"venue":',
        *word(columns["venue"]),
        ',"venue_symbol":',
        *text(columns["venue_symbol"]),
        ',"kind":',
        *word(columns["kind"]),
        ',"base":',
        *text(columns["base"]),
        ',"quote":',
        *text(columns["quote"]),
        ',"tick_size":',
        *number(columns["tick_size"]),
        ',"lot_size":',
        *number(columns["lot_size"]),
        ',"aliases":',
        *strings(columns["aliases"]),
        "}",
    ]


_ITEM: Final[dict[str, Callable[[Columns], list[Piece]]]] = {"trades": _trade, "bars": _bar}
_DATA: Final[dict[str, Callable[[Columns], list[Piece]]]] = {
    "quotes": _quote,
    "book": _book,
    "status": _status,
    "instruments": _instrument,
}


# ---- messages too large for one frame


class _Read(msgspec.Struct):
    """A message of a kind whose data may be large."""

    type: str
    symbol: str
    seq: int
    ts_event: str | None
    ts_recv: str | None
    data: msgspec.Raw
    prev: int = -1
    source: str = ""


_READ: Final = msgspec.json.Decoder(_Read)
_LARGE: Final[dict[str, Any]] = {"trades": list[Trade], "bars": list[Bar], "book": Book}


def _parted(table: str, columns: Columns, texts: Texts, separator: str) -> Texts:
    """The same with messages that are too large for a frame in parts."""
    if table not in _LARGE:
        return texts
    large = pc.binary_length(texts.messages).to_numpy() > PART_TEXT_MAX
    if "items" in columns:
        large = large | (columns["items"].to_numpy() > _MAYBE_PARTED_ITEMS)
    if not large.any():
        return texts
    messages: list[pa.Array] = []
    rows: list[np.ndarray] = []
    done = 0
    for index in np.flatnonzero(large).tolist():
        parts = _parts_of(table, texts.messages[index].as_py().removesuffix(separator))
        messages += [
            texts.messages.slice(done, index - done),
            pa.array([part + separator for part in parts], pa.string()),
        ]
        rows += [texts.rows[done:index], np.repeat(texts.rows[index], len(parts))]
        done = index + 1
    messages.append(texts.messages.slice(done))
    rows.append(texts.rows[done:])
    return Texts(pa.concat_arrays(messages), np.concatenate(rows))


def _parts_of(table: str, message: str) -> list[str]:
    read = _READ.decode(message)
    kind: Kind = table  # type: ignore[assignment]  # a table of a kind is called as it
    data = msgspec.json.decode(read.data, type=_LARGE[table])
    if read.type == "update":
        assert read.ts_recv is not None
        update = Update(kind, read.symbol, read.prev, read.seq, read.ts_event, read.ts_recv, data)
        return [msgspec.json.encode(part).decode() for part in parted(update)]
    snapshot = Snapshot(kind, read.symbol, read.source, read.seq, read.ts_event, read.ts_recv, data)
    return [msgspec.json.encode(part).decode() for part in parted(snapshot)]
