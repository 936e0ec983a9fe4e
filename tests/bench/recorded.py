"""Recordings to play: made of columns, so that ten million updates take seconds, written as a recorder writes them.

Owns their content: a venue of some symbols whose trades, quotes and books follow each other at a steady pace, with
keyframes whenever the recorder's rules say so. What is measured of them is in `replaying`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from feed.channels.state import FoldRules
from feed.recorder.commits import Commits
from feed.recorder.recovery import seal_ended
from feed.recorder.rows import Taken
from feed.recording.disk import Disk
from feed.recording.notes import Span
from feed.recording.tables import DECIMAL, SCHEMAS, TABLES, TIME
from feed.runtime.settings import RecordSettings

START_NS: Final = 1_795_467_600_000_000_000
PACE_NS: Final = 20_000
"""Between two ticks where it is not said: 50,000 a second."""
SYMBOLS: Final = 20
SOURCE: Final = "coinbase/0@k7qd"
LEVELS: Final = 10
_COMMIT_ROWS: Final = 50_000
"""A second's at that pace."""
_KEPT: Final = 100


def record(root: Path, updates: int, kinds: tuple[str, ...] = ("trades", "quotes"), pace_ns: int = PACE_NS) -> None:
    """So many updates, the kinds in turns."""
    root.mkdir(parents=True)
    made = _Made(kinds, pace_ns)
    disk = Disk(root)
    commits = Commits(disk, TABLES, 0, FoldRules(), RecordSettings(rotate_s=10**9))
    for first in range(0, updates, _COMMIT_ROWS):
        seq = np.arange(first, min(first + _COMMIT_ROWS, updates))
        last = int(seq[-1])
        commits.write(made.taken(seq), {SOURCE: Span(last, first // _COMMIT_ROWS + 1, made.clock(last))})
        for table in commits.due():
            commits.write_round(table, [made.keyframes(table, last)], [SOURCE])
        for table in commits.full():
            commits.sync()
            path = commits.end(table)
            commits.write_round(table, [made.keyframes(table, last)], [SOURCE])
            if path is not None:
                seal_ended(root, disk, path)
    for path in commits.end_all():
        seal_ended(root, disk, path)


class _Made:
    """Rows of some kinds in turns."""

    def __init__(self, kinds: tuple[str, ...], pace_ns: int) -> None:
        self._kinds = kinds
        self._pace_ns = pace_ns

    def clock(self, seq: int) -> int:
        """When a tick was received."""
        return START_NS + int(seq) * self._pace_ns

    def taken(self, seq: np.ndarray) -> dict[str, Taken]:
        """The rows of some ticks, by table."""
        found: dict[str, Taken] = {}
        for number, kind in enumerate(self._kinds):
            mine = seq[seq % len(self._kinds) == number]
            if len(mine):
                span = len(mine), self.clock(mine[0]), int(mine[0]), self.clock(mine[-1]), int(mine[-1])
                found[kind] = Taken(self._batch(kind, mine), {SOURCE: span})
        return found

    def keyframes(self, table: str, last: int) -> pa.RecordBatch:
        """The states of all channels of a kind after a tick."""
        if table not in self._kinds:
            return pa.RecordBatch.from_pylist([], schema=SCHEMAS[table])
        kept = _KEPT if table == "trades" else 1
        step = len(self._kinds)
        seq = np.arange(max(self._kinds.index(table), last - step * SYMBOLS * kept), last + 1)
        seq = seq[seq % step == self._kinds.index(table)]
        symbol = (seq // step) % SYMBOLS
        order = np.lexsort((seq, symbol))
        seq, symbol = seq[order], symbol[order]
        # the last ones of each symbol, in order of symbols
        from_end = np.concatenate([np.arange(n)[::-1] for n in np.bincount(symbol)])
        seq = seq[from_end < kept]
        items = np.bincount((seq // step) % SYMBOLS, minlength=SYMBOLS)
        items = items[items > 0]
        heads = np.repeat(seq[np.cumsum(items) - 1], items)
        count = len(seq)
        columns = {
            "seq": pa.array(heads),
            "prev": pa.nulls(count, pa.int64()),
            "ts_event": self._times(heads),
            "ts_recv": self._times(heads),
            "is_snapshot": pa.array(np.ones(count, bool)),
            "is_keyframe": pa.array(np.ones(count, bool)),
            "clock_lag": pa.array((last - heads) * self._pace_ns),
            "at_lag": pa.array(last - heads),
        }
        if table == "trades":
            numbers = np.concatenate([np.arange(n, dtype=np.int32) for n in items])
            columns |= {"item": pa.array(numbers), "items": pa.array(np.repeat(items, items).astype(np.int32))}
        batch = self._batch(table, seq)
        arrays = [columns.get(name, batch.column(name)) for name in batch.schema.names]
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)

    def _batch(self, kind: str, seq: np.ndarray) -> pa.RecordBatch:
        """A row an update."""
        count, step = len(seq), len(self._kinds)
        prev = seq - step * SYMBOLS
        columns = {
            "symbol": _words((seq // step) % SYMBOLS, [f"COINBASE:S{n:02}-USD" for n in range(SYMBOLS)]),
            "source": _words(np.zeros(count, np.int64), [SOURCE]),
            "seq": pa.array(seq),
            "prev": pa.array(np.where(prev < 0, -1, prev)),
            "ts_event": self._times(seq),
            "ts_recv": self._times(seq),
            "is_snapshot": pa.array(np.zeros(count, bool)),
            "is_keyframe": pa.array(np.zeros(count, bool)),
            "clock_lag": pa.array(np.zeros(count, np.int64)),
            "at_lag": pa.array(np.zeros(count, np.int64)),
        }
        if kind == "trades":
            columns |= {
                "item": pa.array(np.zeros(count, np.int32)),
                "items": pa.array(np.ones(count, np.int32)),
                "price": _decimals(6_718_000 + seq * 7 % 2_000, 2),
                "size": _decimals(1 + seq * 7919 % 3_000_000, 8),
                "side": _words(seq % 2, ["buy", "sell"]),
                "trade_id": pa.array(seq).cast(pa.string()),
                "trade_ts_event": self._times(seq),
                "conditions": pa.nulls(count, pa.list_(pa.string())),
                "exchange": pa.nulls(count, pa.string()),
            }
        elif kind == "quotes":
            for side, edge in (("bid", 0), ("ask", 1)):
                columns[f"{side}_price"] = _decimals(6_718_000 + seq * 7 % 2_000 + edge, 2)
                columns[f"{side}_size"] = _decimals(1 + seq * 7919 % 3_000_000, 8)
        else:
            for side, edge in (("bids", 0), ("asks", 1_000)):
                columns[side] = _levels(seq, edge)
        schema = SCHEMAS[kind]
        return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

    def _times(self, seq: np.ndarray) -> pa.Array:
        return pa.array(START_NS + seq * self._pace_ns).cast(TIME)


def _levels(seq: np.ndarray, edge: int) -> pa.ListArray:
    """A side of `LEVELS` changes."""
    flat = np.repeat(seq, LEVELS)
    number = np.tile(np.arange(LEVELS), len(seq))
    price = _decimals(6_718_000 + edge + number * 3 + flat % 50, 2)
    size = _decimals(flat * 7919 % 3_000_000, 8)
    fields = SCHEMAS["book"].field("bids").type.value_type
    offsets = pa.array(np.arange(len(seq) + 1, dtype=np.int32) * LEVELS)
    levels = pa.StructArray.from_arrays([price, size], fields=list(fields))
    return pa.ListArray.from_arrays(offsets, levels).cast(SCHEMAS["book"].field("bids").type)


def _decimals(values: np.ndarray, scale: int) -> pa.Array:
    return pa.array(values).cast(pa.decimal128(19, 0)).view(pa.decimal128(19, scale)).cast(DECIMAL)


def _words(codes: np.ndarray, words: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(words))
