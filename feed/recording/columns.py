"""Messages of the feed log as typed columns: what a table holds of them.

Owns the parsing, a kind and many messages at a time, by Arrow's own JSON reader: no message becomes a Python object.
Leaves which messages are recorded, whose they are and where they stand to the recorder. `text` is the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from feed.errors import CorruptLog
from feed.recording.tables import DECIMAL, GAPS, SCHEMAS, STATES, TIME
from feed.recording.words import Words
from feed.wire.message import END, START
from feed.wire.model import KINDS

_TEXT: Final = pa.string()
_UPDATE: Final = START + b'update"'
_LINE_END: Final = END + b"\n" + START
_LEVELS: Final = pa.list_(pa.list_(DECIMAL))
_ITEM_TYPES: Final[dict[str, dict[str, pa.DataType]]] = {
    "trades": {
        "price": DECIMAL,
        "size": DECIMAL,
        "side": _TEXT,
        "trade_id": _TEXT,
        "ts_event": _TEXT,
        "conditions": pa.list_(_TEXT),
        "exchange": _TEXT,
    },
    "bars": {
        "interval": _TEXT,
        "open_time": _TEXT,
        "open": DECIMAL,
        "high": DECIMAL,
        "low": DECIMAL,
        "close": DECIMAL,
        "volume": DECIMAL,
        "trades": pa.int64(),
        "closed": pa.bool_(),
    },
}
_DATA_TYPES: Final[dict[str, pa.DataType]] = {
    **{kind: pa.list_(pa.struct(list(fields.items()))) for kind, fields in _ITEM_TYPES.items()},
    "quotes": pa.struct([(name, DECIMAL) for name in ("bid_price", "bid_size", "ask_price", "ask_size")]),
    "book": pa.struct([("bids", _LEVELS), ("asks", _LEVELS)]),
    "status": pa.struct([("action", _TEXT), ("reason", _TEXT)]),
    "instruments": pa.struct(
        [
            *((name, _TEXT) for name in ("venue", "venue_symbol", "kind", "base", "quote")),
            ("tick_size", DECIMAL),
            ("lot_size", DECIMAL),
            ("aliases", pa.list_(_TEXT)),
        ]
    ),
}
_SELDOM: Final = ("conditions", "exchange")
_USUAL_TRADES: Final = pa.list_(
    pa.struct([(name, type_) for name, type_ in _ITEM_TYPES["trades"].items() if name not in _SELDOM])
)
_LOOKED_AT_BYTES: Final = 1 << 16
_UPDATE_FIELDS: Final = [("prev", pa.int64()), ("seq", pa.int64()), ("ts_event", _TEXT), ("ts_recv", _TEXT)]
_OTHER_FIELDS: Final = [
    ("type", _TEXT),
    ("source", _TEXT),
    ("count", pa.int64()),
    ("reason", _TEXT),
    ("lost", pa.bool_()),
    ("state", _TEXT),
    ("since", _TEXT),
]
_LAST: Final = END + b"\n"
_TRADE_NAMES: Final = {"ts_event": "trade_ts_event"}


class Parsed(NamedTuple):
    """Messages of one kind, parsed, a row each. `types` is None where all of them are updates."""

    kind: str
    fields: dict[str, pa.Array]
    types: pa.Array | None

    @property
    def seq(self) -> np.ndarray:
        """The `seq` of each."""
        seq: np.ndarray = self.fields["seq"].to_numpy()
        return seq

    @property
    def ts_recv(self) -> np.ndarray:
        """The `ts_recv` of each in nanoseconds, 0 where it has none."""
        received = self.fields["ts_recv"]
        if received.null_count:
            received = pc.fill_null(received, "0")
        times: np.ndarray = received.cast(pa.int64()).to_numpy()
        return times

    def of_type(self, *types: str) -> np.ndarray:
        """The rows of these types."""
        if self.types is None:
            return np.arange(len(self.fields["seq"]) if "update" in types else 0)
        return np.flatnonzero(pc.is_in(self.types, pa.array(types)).to_numpy(zero_copy_only=False))

    def take(self, rows: np.ndarray) -> Parsed:
        """Only these rows, in this order."""
        if len(rows) == len(self.fields["seq"]) and np.array_equal(rows, np.arange(len(rows))):
            return self
        indices = pa.array(rows)
        taken = {name: column.take(indices) for name, column in self.fields.items()}
        return Parsed(self.kind, taken, None if self.types is None else self.types.take(indices))


class Places(NamedTuple):
    """Whose each message is and where it stands: indices of symbol and source, its tick, the source's clock there."""

    symbol: np.ndarray
    source: np.ndarray
    at: np.ndarray
    clock: np.ndarray

    def take(self, rows: np.ndarray) -> Places:
        """Only those of these rows."""
        return Places(*(values[rows] for values in self))


class Dictionaries:
    """The dictionaries of all columns of all tables; symbols and sources are the same in each."""

    def __init__(self) -> None:
        self.symbols = Words()
        self.sources = Words()
        self._others: dict[tuple[str, str], Words] = {
            (table, "channel"): Words(KINDS)
            for table in (GAPS, STATES)  # the same from the first batch on
        }

    def encoded(self, table: str, column: str, texts: pa.Array) -> pa.DictionaryArray:
        """Texts as a dictionary column of a table."""
        return self._others.setdefault((table, column), Words()).encoded(texts)

    def constant(self, table: str, column: str, value: str, count: int) -> pa.DictionaryArray:
        """A dictionary column that is the same in each of so many rows."""
        words = self._others.setdefault((table, column), Words())
        return words.column(np.full(count, words.index(value), np.int32))


def lines_of(messages: Sequence[bytes]) -> bytes:
    """Bare messages, at least one, a line each."""
    # one join: the text is megabytes, and a second copy takes as long as the first
    if len(messages) == 1:
        return b"".join((START, messages[0], _LAST))
    return _LINE_END.join((START + messages[0], *messages[1:-1], messages[-1] + _LAST))


def parse(kind: str, lines: bytes, count: int) -> Parsed:
    """So many lines of one kind, each a whole message: updates, snapshots, gaps, states.

    Raises:
        CorruptLog: one of them is not what the schemas say.
    """
    plain = lines.startswith(_UPDATE) and lines.count(b"\n" + _UPDATE) == count - 1
    usual = kind == "trades" and plain and not _may_have_seldom(lines, count)
    fields = [*_UPDATE_FIELDS, ("data", _USUAL_TRADES if usual else _DATA_TYPES[kind])]
    schema = pa.schema(fields if plain else fields + _OTHER_FIELDS)
    try:
        table = pa.json.read_json(
            pa.BufferReader(lines),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CorruptLog(f"{kind} of the feed log cannot be read: {error}") from error
    if table.num_rows != count:
        raise CorruptLog(f"{table.num_rows} {kind} in {count} messages of the feed log")
    columns = {name: _one_chunk(table.column(name)) for name in schema.names}
    return Parsed(kind, columns, None if plain else columns["type"])


def _may_have_seldom(updates: bytes, count: int) -> bool:
    """Whether so many updates of trades may have conditions or an exchange.

    To read fields that are not there takes Arrow 7 % longer, to look for their names in the text as much. Without them
    an update has one "[", and no name in it has an "x".
    """
    if b"x" in updates:
        return True
    text = np.frombuffer(updates, np.uint8)
    parts = range(0, len(text), _LOOKED_AT_BYTES)  # bytes.count takes three times as long, and so does it in one piece
    return sum(np.count_nonzero(text[at : at + _LOOKED_AT_BYTES] == ord("[")) for at in parts) != count


def rows_of(parsed: Parsed, places: Places, words: Dictionaries, *, keyframes: bool = False) -> pa.RecordBatch:
    """The rows of updates and snapshots in their kind's table."""
    fields, kind = parsed.fields, parsed.kind
    count = len(places.at)
    snapshots = np.zeros(count, bool)
    snapshots[parsed.of_type("snapshot")] = True
    prev = fields["prev"]
    if snapshots.any():
        prev = pc.if_else(pa.array(snapshots), pa.scalar(None, pa.int64()), prev)
    columns: dict[str, Any] = {
        "symbol": words.symbols.column(places.symbol),
        "source": words.sources.column(places.source),
        "seq": fields["seq"],
        "prev": prev,
        "ts_event": _time(fields["ts_event"]),
        "ts_recv": _time(fields["ts_recv"]),
        "is_snapshot": pa.array(snapshots),
        "is_keyframe": pa.array(np.full(count, keyframes)),
        "clock_lag": pa.array(places.clock - parsed.ts_recv),
        "at_lag": pa.array(places.at - parsed.seq),
    }
    if kind in _ITEM_TYPES:
        columns = _exploded(kind, columns, fields["data"], words)
    else:
        columns |= _DATA_COLUMNS[kind](fields["data"], words)
    return _batch(kind, columns)


def gaps_of(parsed: Parsed, places: Places, words: Dictionaries) -> pa.RecordBatch:
    """The rows of gap messages."""
    fields = parsed.fields
    return _batch(
        GAPS,
        {
            "channel": words.constant(GAPS, "channel", parsed.kind, len(places.at)),
            "symbol": words.symbols.column(places.symbol),
            "source": words.sources.encoded(fields["source"]),
            "prev": fields["prev"],
            "seq": fields["seq"],
            "count": fields["count"],
            "reason": words.encoded(GAPS, "reason", fields["reason"]),
            "lost": fields["lost"],
            "at": pa.array(places.at),
            "clock": pa.array(places.clock).cast(TIME),
        },
    )


def states_of(parsed: Parsed, places: Places, words: Dictionaries, *, keyframes: bool = False) -> pa.RecordBatch:
    """The rows of state messages."""
    fields = parsed.fields
    count = len(places.at)
    return _batch(
        STATES,
        {
            "source": words.sources.encoded(fields["source"]),
            "channel": words.constant(STATES, "channel", parsed.kind, count),
            "symbol": words.symbols.column(places.symbol),
            "seq": fields["seq"],
            "state": words.encoded(STATES, "state", fields["state"]),
            "reason": words.encoded(STATES, "reason", fields["reason"]),
            "since": _time(fields["since"]),
            "is_keyframe": pa.array(np.full(count, keyframes)),
            "at": pa.array(places.at),
            "clock": pa.array(places.clock).cast(TIME),
        },
    )


def _batch(table: str, columns: dict[str, Any]) -> pa.RecordBatch:
    schema = SCHEMAS[table]
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _exploded(kind: str, columns: dict[str, Any], lists: pa.ListArray, words: Dictionaries) -> dict[str, Any]:
    """A row an item: the columns of the message repeated, those of its items beside them."""
    count = pc.list_value_length(lists).to_numpy()
    items = lists.flatten()
    if len(count) and not (count.min() == count.max() == 1):
        rows = np.maximum(count, 1)
        message = np.repeat(np.arange(len(count)), rows)
        place = np.arange(len(message)) - np.repeat(np.cumsum(rows) - rows, rows)
        columns = {name: column.take(pa.array(message)) for name, column in columns.items()}
        empty = np.repeat(count == 0, rows)
        columns["item"] = pa.array(place.astype(np.int32), mask=empty)
        columns["items"] = pa.array(np.repeat(count, rows).astype(np.int32))
        if empty.any():
            items = items.take(pa.array(np.cumsum(~empty) - 1, mask=empty))
    else:
        columns["item"] = pa.array(np.zeros(len(count), np.int32))
        columns["items"] = pa.array(np.ones(len(count), np.int32))
    told = {field.name: column for field, column in zip(items.type, items.flatten(), strict=True)}
    for name, type_ in _ITEM_TYPES[kind].items():
        called = _TRADE_NAMES.get(name, name)
        column = told[name] if name in told else pa.nulls(len(items), type_)
        columns[called] = _typed(kind, called, type_, column, words)
    return columns


def _typed(kind: str, name: str, type_: pa.DataType, column: pa.Array, words: Dictionaries) -> pa.Array:
    wanted = SCHEMAS[kind].field(name).type
    if wanted == type_:
        return column
    return _time(column) if wanted == TIME else words.encoded(kind, name, column)


def _quotes(data: pa.StructArray, words: Dictionaries) -> dict[str, Any]:
    return {field.name: column for field, column in zip(data.type, data.flatten(), strict=True)}


def _book(data: pa.StructArray, words: Dictionaries) -> dict[str, Any]:
    return {field.name: _side(field.name, column) for field, column in zip(data.type, data.flatten(), strict=True)}


def _side(name: str, side: pa.ListArray) -> pa.ListArray:
    levels = side.flatten()
    offsets = side.offsets.to_numpy()
    pairs = levels.flatten()
    if len(pairs) != 2 * len(levels) or pairs.null_count or not (pc.list_value_length(levels).to_numpy() == 2).all():
        raise CorruptLog("level of a book that is not a price and a size")
    numbers = np.frombuffer(pairs.buffers()[1] or b"", "V16")[pairs.offset : pairs.offset + len(pairs)].reshape(-1, 2)
    split = [
        pa.Array.from_buffers(DECIMAL, len(levels), [None, pa.py_buffer(np.ascontiguousarray(numbers[:, at]))])
        for at in (0, 1)
    ]
    type_ = SCHEMAS["book"].field(name).type
    return pa.ListArray.from_arrays(
        pa.array(offsets - offsets[0]), pa.StructArray.from_arrays(split, fields=list(type_.value_type)), type=type_
    )


def _status(data: pa.StructArray, words: Dictionaries) -> dict[str, Any]:
    action, reason = data.flatten()
    return {"action": words.encoded("status", "action", action), "reason": reason}


def _instruments(data: pa.StructArray, words: Dictionaries) -> dict[str, Any]:
    columns = {field.name: column for field, column in zip(data.type, data.flatten(), strict=True)}
    for name in ("venue", "kind"):
        columns[name] = words.encoded("instruments", name, columns[name])
    return columns


_DATA_COLUMNS: Final[dict[str, Callable[[pa.StructArray, Dictionaries], dict[str, Any]]]] = {
    "quotes": _quotes,
    "book": _book,
    "status": _status,
    "instruments": _instruments,
}


def _time(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.int64()).cast(TIME)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
