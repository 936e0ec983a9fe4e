"""The messages of a recording in order, a page at a time: the one way in which it is read as a stream.

Owns the order: sources are merged by (clock, source, tick), within a tick a gap comes first, then the kinds in the
order of `KINDS`, then states. All of it is vectorised, and the memory is that of one block for each table and source
that is being read, whatever the size of the recording: a source that lags in the files is read from its own place.

A *lane* is one source in one table. Its rows are in order; so the page may hold what lies before the next row that any
lane has yet to load.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.recording.filter import Filter
from feed.recording.notes import Gone, Note, Span
from feed.recording.table_files import NEVER, BlockRef, RecordingCut, TableFiles
from feed.recording.tables import GAPS, STATES
from feed.recording.text import messages_of
from feed.wire.model import KINDS

PAGE_MESSAGES: Final = 16_384
BLOCKS_KEPT: Final = 8
RANKS: Final[dict[str, int]] = {
    GAPS: 0,
    **{kind: 1 + index for index, kind in enumerate(KINDS)},
    STATES: 1 + len(KINDS),
}
"""Where the messages of a table stand within one tick."""


class RowPage(NamedTuple):
    """Messages in order. `sources` and `symbols` are the names that the arrays `source` and `symbol` index.

    `messages`: the JSON of each, followed by the separator; `clock`: nanoseconds; `at`: the tick; `rank`: of `RANKS`.
    A page never ends within a tick.
    """

    messages: pa.Array
    clock: np.ndarray
    at: np.ndarray
    source: np.ndarray
    symbol: np.ndarray
    rank: np.ndarray
    sources: list[str]
    symbols: list[str]

    def __len__(self) -> int:
        return len(self.clock)

    def slice(self, start: int, stop: int) -> RowPage:
        """A part of it."""
        part = slice(start, stop)
        return RowPage(
            self.messages.slice(start, stop - start),
            self.clock[part],
            self.at[part],
            self.source[part],
            self.symbol[part],
            self.rank[part],
            self.sources,
            self.symbols,
        )

    def whole_ticks(self, at_least: int) -> int:
        """How many messages from the begin are whole ticks, of so many and a few more; all of them at the end."""
        if at_least >= len(self.clock):
            return len(self.clock)
        return int(np.searchsorted(self.clock, self.clock[at_least - 1], "right"))

    def take(self, rows: np.ndarray) -> RowPage:
        """These messages of it, in this order."""
        messages = self.messages.take(pa.array(rows))
        clock, at, source = self.clock[rows], self.at[rows], self.source[rows]
        return RowPage(messages, clock, at, source, self.symbol[rows], self.rank[rows], self.sources, self.symbols)

    def text(self) -> memoryview:
        """All messages as one text, without a copy."""
        messages = self.messages
        _, offsets, data = messages.buffers()
        bounds = np.frombuffer(offsets, np.int32)
        first, last = bounds[messages.offset], bounds[messages.offset + len(messages)]
        return memoryview(data)[first:last] if data is not None else memoryview(b"")


class Rows(NamedTuple):
    """The messages of one block that are read, by lane: for each source their places in the arrays."""

    messages: pa.Array | pa.RecordBatch
    clock: np.ndarray
    at: np.ndarray
    symbol: np.ndarray
    lanes: dict[str, np.ndarray]


class Names:
    """Numbers of names, the same in all pages of one reading."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._index: dict[str, int] = {}

    def index(self, name: str) -> int:
        """The number of a name."""
        found = self._index.get(name)
        if found is None:
            found = self._index[name] = len(self.names)
            self.names.append(name)
        return found

    def indices(self, column: pa.DictionaryArray) -> np.ndarray:
        """Those of a column."""
        table = np.array([self.index(name) for name in column.dictionary.to_pylist()], np.int32)
        return table[column.indices.to_numpy()] if len(column) else np.zeros(0, np.int32)


class Reading:
    """One walk over the stream of some channels, from one cut to another."""

    def __init__(
        self,
        files_by_table: Mapping[str, TableFiles],
        chosen: Filter,
        start: RecordingCut,
        end: RecordingCut,
        separator: str,
    ) -> None:
        self._chosen = chosen
        self.start = start
        self._end = end
        self._separator = separator
        self.sources, self.symbols = Names(), Names()
        self._files_by_table = [files_by_table[table] for table in chosen.tables if table in files_by_table]

    def pages(self) -> Iterator[RowPage]:
        """All of it.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        for parts in self.steps():
            page = self._page(parts)
            start = 0
            while start < len(page):
                stop = page.whole_ticks(start + PAGE_MESSAGES)
                yield page.slice(start, stop)
                start = stop

    def steps(self) -> Iterator[list[Part]]:
        """All of it, by lanes: every part of a step is before all of the next one.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        # lanes hold their table, and tables this reading; nothing of it is held back, so all goes with the iterator
        lanes = [lane for table_files in self._files_by_table for lane in _Table(self, table_files).lanes()]
        while lanes:
            bound = min(lane.bound for lane in lanes)
            parts = [part for lane in lanes for part in lane.take(bound)]
            if parts:
                yield parts
            if bound == NEVER:
                return
            for lane in lanes:
                if lane.bound == bound:
                    lane.load()

    def rows(self, table_files: TableFiles, ref: BlockRef) -> Rows:
        """The chosen messages of a block that lie between the cuts."""
        batch = self.chosen_rows(table_files, ref)
        texts = messages_of(table_files.table, batch, self._separator)
        clock, at = (values[texts.rows] for values in order_of(batch))
        source = self.sources.indices(batch.column("source"))[texts.rows]
        symbol = self.symbols.indices(batch.column("symbol"))[texts.rows]
        return self.by_lane(texts.messages, clock, at, source, symbol)

    def chosen_rows(self, table_files: TableFiles, ref: BlockRef) -> pa.RecordBatch:
        """The chosen rows of a block, without keyframes."""
        batch = table_files.rows(ref)
        mask = self._chosen.rows(table_files.table, batch)
        return _without_keyframes(batch if mask is None else batch.filter(pa.array(mask)))

    def by_lane(
        self,
        messages: pa.Array | pa.RecordBatch,
        clock: np.ndarray,
        at: np.ndarray,
        source: np.ndarray,
        symbol: np.ndarray,
    ) -> Rows:
        """Rows with their places in the arrays, those between the cuts."""
        lanes: dict[str, np.ndarray] = {}
        for number in np.unique(source).tolist():
            name = self.sources.names[number]
            places = np.flatnonzero(source == number)
            lanes[name] = places[self._between(name, clock[places], at[places])]
        return Rows(messages, clock, at, symbol, lanes)

    def wants(self, source: str, span: Span, note: Note) -> bool:
        """Whether a block has rows of a source between the cuts."""
        if not span.rows or note.keyframes:
            return False
        return not self.start.ends_before(source, span) and self._end.begins_before(source, span)

    def _between(self, source: str, clock: np.ndarray, at: np.ndarray) -> slice:
        return slice(_before(self.start, source, clock, at), _before(self._end, source, clock, at))

    def _page(self, taken: list[Part]) -> RowPage:
        messages = pa.concat_arrays([part.messages for part in taken]) if len(taken) > 1 else taken[0].messages
        clock = np.concatenate([part.clock for part in taken])
        at = np.concatenate([part.at for part in taken])
        symbol = np.concatenate([part.symbol for part in taken])
        source = np.concatenate([np.full(len(part.clock), self.sources.index(part.source), np.int32) for part in taken])
        rank = np.concatenate([np.full(len(part.clock), part.rank, np.int8) for part in taken])
        page = RowPage(messages, clock, at, source, symbol, rank, self.sources.names, self.symbols.names)
        if len(taken) == 1:
            return page
        order = self.order(clock, source, at, rank)
        return page if np.array_equal(order, np.arange(len(order))) else page.take(order)

    def order(self, clock: np.ndarray, source: np.ndarray, at: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """How rows of several lanes stand to each other."""
        names = self.sources.names
        by_name = np.empty(len(names), np.int32)
        by_name[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        return np.lexsort((rank, at, by_name[source], clock))


class Part(NamedTuple):
    """What a lane gives to a page: messages, or the rows themselves."""

    source: str
    rank: int
    messages: pa.Array | pa.RecordBatch
    clock: np.ndarray
    at: np.ndarray
    symbol: np.ndarray

    def slice(self, start: int, stop: int) -> Part:
        """Some of it."""
        part = slice(start, stop)
        messages = self.messages.slice(start, stop - start)
        return Part(self.source, self.rank, messages, self.clock[part], self.at[part], self.symbol[part])


class _Table:
    """One table as it is read, and the blocks of it that were decoded last."""

    def __init__(self, reading: Reading, table_files: TableFiles) -> None:
        self.rank = RANKS[table_files.table]
        self._reading = reading
        self._table_files = table_files
        self._decoded: OrderedDict[BlockRef, Rows] = OrderedDict()

    def lanes(self) -> list[_Lane]:
        """A lane for each source that has rows between the cuts."""
        while True:
            try:
                return [_Lane(self, source, refs) for source, refs in self._ahead().items()]
            except Gone:
                continue  # nothing was given yet: it begins behind what was deleted

    def _ahead(self) -> dict[str, list[tuple[BlockRef, int]]]:
        """For each source the blocks to load, and the clock of their first row."""
        reading, table_files = self._reading, self._table_files
        ahead: dict[str, list[tuple[BlockRef, int]]] = {}
        for ref in table_files.refs(table_files.start(reading.start)):
            note = table_files.block(ref).note
            for source, span in note.sources.items():
                if reading.wants(source, span, note):
                    ahead.setdefault(source, []).append((ref, span.first_clock))
        return ahead

    def rows(self, ref: BlockRef) -> Rows:
        """A block, decoded; lanes that are at the same place share it."""
        found = self._decoded.get(ref)
        if found is None:
            found = self._decoded[ref] = self._reading.rows(self._table_files, ref)
            if len(self._decoded) > BLOCKS_KEPT:
                self._decoded.popitem(last=False)
        return found


class _Lane:
    """One source in one table, from its next row on."""

    def __init__(self, table: _Table, source: str, ahead: list[tuple[BlockRef, int]]) -> None:
        self._table = table
        self._source = source
        self._ahead = ahead
        self._next = 0
        self._loaded: deque[Part] = deque()

    @property
    def bound(self) -> int:
        """No row that is yet to be loaded has a smaller clock."""
        return self._ahead[self._next][1] if self._next < len(self._ahead) else NEVER

    def load(self) -> None:
        """Loads the next block."""
        ref, _ = self._ahead[self._next]
        self._next += 1
        rows = self._table.rows(ref)
        places = rows.lanes.get(self._source)
        if places is None or not len(places):
            return
        messages, clock, at, symbol = rows.messages, rows.clock, rows.at, rows.symbol
        if len(places) == len(clock):
            self._loaded.append(Part(self._source, self._table.rank, messages, clock, at, symbol))
        elif places[-1] - places[0] == len(places) - 1:
            part = slice(places[0], places[-1] + 1)
            found = messages.slice(places[0], len(places))
            self._loaded.append(Part(self._source, self._table.rank, found, clock[part], at[part], symbol[part]))
        else:
            found = messages.take(pa.array(places))
            self._loaded.append(Part(self._source, self._table.rank, found, clock[places], at[places], symbol[places]))

    def take(self, bound: int) -> Iterator[Part]:
        """Takes what is loaded and has a smaller clock."""
        while self._loaded:
            part = self._loaded.popleft()
            count = int(np.searchsorted(part.clock, bound))
            if count:
                yield part.slice(0, count)
            if count < len(part.clock):
                self._loaded.appendleft(part.slice(count, len(part.clock)))
                return


def order_of(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Clock and tick of each row."""
    if "clock" in batch.schema.names:
        return batch.column("clock").cast(pa.int64()).to_numpy(), batch.column("at").to_numpy()
    received = batch.column("ts_recv").cast(pa.int64())
    if received.null_count:
        received = pc.fill_null(received, 0)
    clock = received.to_numpy() + batch.column("clock_lag").to_numpy()
    return clock, batch.column("seq").to_numpy() + batch.column("at_lag").to_numpy()


def _without_keyframes(batch: pa.RecordBatch) -> pa.RecordBatch:
    if "is_keyframe" not in batch.schema.names:
        return batch
    flags = batch.column("is_keyframe")
    return batch.filter(pc.invert(flags)) if flags.true_count else batch


def _before(cut: RecordingCut, source: str, clock: np.ndarray, at: np.ndarray) -> int:
    """How many of a source's rows are before a cut."""
    tick = cut.ticks.get(source)
    return int(np.searchsorted(clock, cut.time, "right") if tick is None else np.searchsorted(at, tick, "right"))
