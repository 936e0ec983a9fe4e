"""A recording as its users see it: tables, books, messages.

Owns the face of `replay.open`. Leaves files, order and states to `feed.recording`.
"""

from __future__ import annotations

import time as clock
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from feed.errors import FeedError
from feed.recording.filter import Filter
from feed.recording.merge import order_of
from feed.recording.recording import RecordingFiles
from feed.recording.state_at import ChannelState
from feed.recording.table_files import NEVER, RecordingCut
from feed.recording.tables import GAPS, SCHEMAS, STATES
from feed.wire.model import KINDS
from replay.pacing import Pacing, Speed, seconds
from replay.times import Moment, ns_of

if TYPE_CHECKING:
    from pyarrow import dataset

    from replay.summary import Summary

_OUR_COLUMNS: Final = ("is_keyframe", "clock_lag", "at_lag", "at", "clock", "item", "items")
Symbols = str | Iterable[str] | None
Level = tuple[Decimal, Decimal]


class BookAt(NamedTuple):
    """A whole book, best first; `seq` is the last update in it."""

    symbol: str
    source: str
    seq: int
    bids: list[Level]
    asks: list[Level]

    def __repr__(self) -> str:
        best = [f"{size} @ {price}" for side in (self.bids, self.asks) for price, size in side[:1]]
        return (
            f"<book of {self.symbol} at {self.seq}: {len(self.bids)} bids, {len(self.asks)} asks, {' | '.join(best)}>"
        )


class Face:
    """What users ask of one recording (`Recording`) or of several (`together`): tables, books, messages.

    Times are nanoseconds, RFC 3339 text, dates or datetimes, on the clock by which ticks were received. `start` is in
    the range, `end` is not. Tables are pyarrow's: `.to_pandas()`, `polars.from_arrow(…)`, or a name in a query of
    DuckDB.
    """

    # ---- tables

    def trades(self, symbol: Symbols = None, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """A row a trade."""
        return self.table("trades", symbol, start, end)

    def quotes(self, symbol: Symbols = None, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """A row a change of the best bid or offer."""
        return self.table("quotes", symbol, start, end)

    def book(self, symbol: Symbols = None, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """A row an update, its levels as lists; size 0 deletes."""
        return self.table("book", symbol, start, end)

    def bars(self, symbol: Symbols = None, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """A row a bar as it was sent; of the same interval and time the last one counts."""
        return self.table("bars", symbol, start, end)

    def status(self, symbol: Symbols = None, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """A row a change."""
        return self.table("status", symbol, start, end)

    def instruments(self, symbol: Symbols = None, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """A row a change of a definition."""
        return self.table("instruments", symbol, start, end)

    def gaps(self, symbol: Symbols = None, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """A row a hole."""
        return self.table(GAPS, symbol, start, end)

    def states(self, symbol: Symbols = None, start: Moment | None = None, end: Moment | None = None) -> pa.Table:
        """A row a change of whether a channel can be trusted."""
        return self.table(STATES, symbol, start, end)

    def table(
        self,
        name: str,
        symbol: Symbols = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        snapshots: bool = False,
        columns: Iterable[str] | None = None,
    ) -> pa.Table:
        """Rows of any table."""
        raise NotImplementedError

    def messages(
        self,
        channels: str | Iterable[str] = KINDS,
        symbols: Symbols = None,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> Iterator[bytes]:
        """The messages of the live stream, byte for byte, in order; from a `start` on, first how each channel stood.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        for _, message in self._timed(channels, symbols, start, end):
            yield message

    def play(
        self,
        speed: Speed = 1.0,
        channels: str | Iterable[str] = KINDS,
        symbols: Symbols = None,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> Iterator[bytes]:
        """The same at recorded pace, at a factor, or `"max"`; waits where nothing is due."""
        pacing = Pacing(speed)
        for at, message in self._timed(channels, symbols, start, end):
            if at and (wait := pacing.wait_ns(at, clock.monotonic_ns())):
                clock.sleep(seconds(wait))
            yield message

    def _timed(
        self, channels: str | Iterable[str], symbols: Symbols, start: Moment | None, end: Moment | None
    ) -> Iterator[tuple[int, bytes]]:
        """Messages with their clocks; 0: how a channel stood."""
        raise NotImplementedError


class Recording(Face):
    """A recording."""

    def __init__(self, path: str, *, verify: bool = True) -> None:
        self._recording = RecordingFiles(path, verify=verify)
        self._path = path

    def __repr__(self) -> str:
        files = sum(len(table_files) for table_files in self._recording.files_by_table.values())
        return f"<recording {self._path}: {files} files>"

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all files."""
        self._recording.close()

    @property
    def recording(self) -> RecordingFiles:
        """What lies below: pages and states."""
        return self._recording

    # ---- tables

    def table(
        self,
        name: str,
        symbol: Symbols = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        snapshots: bool = False,
        columns: Iterable[str] | None = None,
    ) -> pa.Table:
        """Rows in order of the recording's clock; with `snapshots` also the keyframes, and the columns for order.

        Sources that were behind in the files are in their places by time, so this reads all of it before it gives any.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        wanted = list(columns) if columns is not None else columns_of(name, snapshots=snapshots)
        batches = list(self.batches(name, symbol, start, end, snapshots=snapshots, columns=SCHEMAS[name].names))
        if not batches:
            return empty(name, wanted)
        clock, at = (np.concatenate(values) for values in zip(*map(order_of, batches), strict=True))
        found = pa.Table.from_batches(batches).unify_dictionaries()
        order = in_time(clock, at, found.column("source"))
        found = found.select(wanted)
        return found if order is None else found.take(pa.array(order))

    def batches(
        self,
        name: str,
        symbol: Symbols = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        snapshots: bool = False,
        columns: Iterable[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The same, a block after the other as they lie in the files, so that a table of any length passes through.

        Rows of one source are in order; a source that was behind comes where it was written.
        """
        table_files = self._recording.files_by_table[name]
        chosen = chosen_of(KINDS, symbol)
        first = 0 if start is None else ns_of(start)
        last = NEVER if end is None else ns_of(end)
        wanted = list(columns) if columns is not None else columns_of(name, snapshots=snapshots)
        for ref in table_files.refs(table_files.start(RecordingCut(first - 1))):
            note = table_files.block(ref).note
            if note.keyframes and not snapshots:
                continue
            if not note.keyframes and not any(
                span.rows and span.first_clock < last and span.last_clock >= first for span in note.sources.values()
            ):
                continue
            batch = table_files.rows(ref)
            times = order_of(batch)[0]
            keep = (times >= first) & (times < last)
            if not snapshots and "is_snapshot" in batch.schema.names:
                keep &= ~batch.column("is_snapshot").to_numpy(zero_copy_only=False)
            if not snapshots and name == STATES:
                keep &= ~batch.column("is_keyframe").to_numpy(zero_copy_only=False)
            if (mask := chosen.rows(name, batch)) is not None:
                keep &= mask
            if keep.any():
                batch = batch if keep.all() else batch.filter(pa.array(keep))
                yield batch.select(wanted)

    def dataset(self, name: str) -> dataset.Dataset:
        """The sealed files of a table as a pyarrow data set, keyframes and all, with the column `date`."""
        from pyarrow import dataset

        folder = self._recording.folder
        found: dataset.Dataset = dataset.dataset(
            f"{folder.root}/{name}",
            filesystem=folder.fs,
            format="ipc",
            schema=SCHEMAS[name].append(pa.field("date", pa.string())),
            partitioning=dataset.partitioning(pa.schema([("date", pa.string())]), flavor="hive"),
            exclude_invalid_files=True,
        )
        return found

    # ---- books and messages

    def book_at(self, symbol: str, time: Moment) -> BookAt:
        """A whole book as it was at a time.

        Raises:
            FeedError: there was none.
        """
        found = self._recording.standing(Filter(["book"], [symbol]), RecordingCut(ns_of(time))).get(("book", symbol))
        if found is None:
            raise FeedError(f"no book of {symbol} at {time}")
        return book_of(symbol, found)

    def info(self) -> Summary:
        """What is in it."""
        from replay.summary import summary_of

        return summary_of(self._recording)

    def _timed(
        self, channels: str | Iterable[str], symbols: Symbols, start: Moment | None, end: Moment | None
    ) -> Iterator[tuple[int, bytes]]:
        chosen = chosen_of([channels] if isinstance(channels, str) else channels, symbols)
        first = RecordingCut(-1 if start is None else ns_of(start) - 1)
        last = RecordingCut(NEVER if end is None else ns_of(end) - 1)
        if start is not None:
            for standing in self._recording.standing(chosen, first).values():
                for message in standing.messages:
                    yield 0, message
        for page in self._recording.pages(chosen, first, last, separator=""):
            yield from zip(page.clock.tolist(), page.messages.cast(pa.binary()).to_pylist(), strict=True)


def book_of(symbol: str, standing: ChannelState) -> BookAt:
    """A book as it stands."""
    bids: list[Level] = []
    asks: list[Level] = []
    for message in standing.messages:
        read = msgspec.json.decode(message)
        if read["type"] == "snapshot":
            bids += [(Decimal(price), Decimal(size)) for price, size in read["data"]["bids"]]
            asks += [(Decimal(price), Decimal(size)) for price, size in read["data"]["asks"]]
    return BookAt(symbol, standing.source, standing.seq, bids, asks)


def chosen_of(kinds: Iterable[str], symbols: Symbols) -> Filter:
    if symbols is None:
        return Filter(kinds)
    return Filter(kinds, [symbols] if isinstance(symbols, str) else symbols)


def columns_of(name: str, *, snapshots: bool) -> list[str]:
    """The columns that users of a table see; with `snapshots` all that it has."""
    names: list[str] = SCHEMAS[name].names
    return names if snapshots else [n for n in names if n not in _OUR_COLUMNS and n != "is_snapshot"]


def in_time(clock: np.ndarray, at: np.ndarray, source: pa.ChunkedArray) -> np.ndarray | None:
    """The order of rows by clock, source and tick, as messages have it; None where they are in it."""
    later = np.diff(clock)
    if (later > 0).all():
        return None
    names = source.combine_chunks()
    ranks = np.argsort(np.argsort(np.array(names.dictionary.to_pylist(), object), kind="stable"), kind="stable")
    by_name = ranks[names.indices.to_numpy()]
    order = np.lexsort((at, by_name, clock))  # stable: rows of one message stay together
    return None if np.array_equal(order, np.arange(len(order))) else order


def empty(name: str, wanted: list[str]) -> pa.Table:
    return pa.schema([SCHEMAS[name].field(column) for column in wanted]).empty_table()


def with_floats(table: pa.Table) -> pa.Table:
    """The same with float64 in place of decimals: the nearest one of each, by way of its text (Arrow's is 1 off)."""
    exact = table.schema
    for number in (pa.string(), pa.float64()):
        table = table.cast(pa.schema([field.with_type(_with(number, field.type)) for field in exact]))
    return table


def _with(number: pa.DataType, type_: pa.DataType) -> pa.DataType:
    """A type with another one for the decimals in it."""
    if pa.types.is_decimal(type_):
        return number
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_with(number, type_.value_type)))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_with(number, field.type)) for field in type_.fields])
    return type_
