"""A page of a recording as Arrow: rows of each kind as they lie in the files, in the order of the messages.

Owns the merging of rows (not of texts), and frames of them: a binary frame is a whole IPC stream with rows of one kind;
gaps and states stay text, and no frame goes past one. Offers what `Ahead` does, so that all else of a replay is the
same. Of several kinds within one stretch each has a frame of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from feed.recording.filter import Filter
from feed.recording.merge import RANKS, Part, Reading, Rows, order_of
from feed.recording.table_files import BlockRef, RecordingCut, TableFiles
from feed.recording.tables import SCHEMAS
from feed.wire.frames import frame_head
from feed.wire.message import KIND_INDEX
from feed.wire.model import KINDS, NO_SEQ
from replay.ahead import SEPARATOR, Ahead, RowHead, head_of

FRAME_BYTES: Final = 256 * 1024
"""A frame has its schema and dictionaries, so small ones are mostly that."""
TABLE_KEY: Final = b"feed.table"
"""In the schema's metadata: of which kind the rows are."""
_BINARY: Final = b"\x82"
_KIND_OF_RANK: Final[dict[int, str]] = {RANKS[kind]: kind for kind in KINDS}
_SCHEMAS: Final[dict[str, pa.Schema]] = {
    kind: SCHEMAS[kind].with_metadata({TABLE_KEY: kind.encode()}) for kind in KINDS
}


class ArrowReading(Reading):
    """A walk over rows instead of messages; gaps and states are messages here, too."""

    def __init__(
        self, files_by_table: Mapping[str, TableFiles], chosen: Filter, start: RecordingCut, end: RecordingCut
    ) -> None:
        super().__init__(files_by_table, chosen, start, end, SEPARATOR)

    def rows(self, table_files: TableFiles, ref: BlockRef) -> Rows:
        """As of any reading; an item of a list is a row here."""
        if table_files.table not in KINDS:
            return super().rows(table_files, ref)
        batch = self.chosen_rows(table_files, ref)
        clock, at = order_of(batch)
        source, symbol = self.sources.indices(batch.column("source")), self.symbols.indices(batch.column("symbol"))
        return self.by_lane(batch, clock, at, source, symbol)

    def aheads(self) -> Iterator[ArrowAhead]:
        """All of it.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        for parts in self.steps():
            yield ArrowAhead(self, parts)


class ArrowAhead(Ahead):
    """Rows of a page, in order; an update of several items has several."""

    def __init__(self, reading: ArrowReading, parts: list[Part]) -> None:
        kinds: dict[int, list[Part]] = {}
        for part in sorted(parts, key=lambda part: part.rank):
            kinds.setdefault(part.rank, []).append(part)
        taken = [part for group in kinds.values() for part in group]
        clock = np.concatenate([part.clock for part in taken])
        at = np.concatenate([part.at for part in taken])
        symbol = np.concatenate([part.symbol for part in taken])
        number = reading.sources.index
        source = np.concatenate([np.full(len(part.clock), number(part.source), np.int32) for part in taken])
        rank = np.concatenate([np.full(len(part.clock), part.rank, np.int8) for part in taken])
        order = reading.order(clock, source, at, rank)
        self.clock, self.at, self.source, self.rank = clock[order], at[order], source[order], rank[order]
        self.sources, self._symbols = reading.sources.names, reading.symbols.names
        self.codes = (self.rank.astype(np.int64) - 1) + len(KINDS) * symbol[order].astype(np.int64)
        self.updates = np.zeros(len(order), bool)
        self.seqs = self.at.copy()
        self.heads = {}
        self._place = np.zeros(len(order), np.int64)
        self._batches: dict[int, pa.RecordBatch] = {}
        self._texts: dict[int, bytes] = {}
        done = 0
        for one, group in kinds.items():
            count = sum(len(part.clock) for part in group)
            rows = np.flatnonzero(self.rank == one)
            places = order[rows] - done
            done += count
            if one in _KIND_OF_RANK:
                self._take_rows(one, group, rows, places)
            else:
                self._take_texts(group, rows, places)
        self._row_bytes = sum(batch.nbytes for batch in self._batches.values()) / max(1, len(order))
        self._stops = np.array(sorted(self._texts), np.int64)

    def _take_rows(self, rank: int, group: list[Part], rows: np.ndarray, places: np.ndarray) -> None:
        batch = _joined([part.messages for part in group])
        if not np.array_equal(places, np.arange(len(places))):
            batch = batch.take(pa.array(places))
        self._batches[rank] = batch
        self._place[rows] = np.arange(len(rows))
        seqs, flags = batch.column("seq").to_numpy(), batch.column("is_snapshot").to_numpy(zero_copy_only=False)
        self.updates[rows] = ~flags
        self.seqs[rows] = seqs
        kind = _KIND_OF_RANK[rank]
        for place in np.flatnonzero(flags).tolist():
            symbol = batch.column("symbol")[place].as_py()
            source = batch.column("source")[place].as_py()
            self.heads[int(rows[place])] = RowHead("snapshot", kind, symbol, int(seqs[place]), source)

    def _take_texts(self, group: list[Part], rows: np.ndarray, places: np.ndarray) -> None:
        texts = [text.removesuffix(SEPARATOR).encode() for part in group for text in part.messages.to_pylist()]
        symbols = {name: number for number, name in enumerate(self._symbols)}
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            head = self.heads[row] = head_of(texts[place])
            self._texts[row] = texts[place]
            self.codes[row] = KIND_INDEX[head.channel] + len(KINDS) * symbols[head.symbol]
            self.seqs[row] = head.seq

    @cached_property
    def size(self) -> int:
        """Bytes of rows and texts."""
        return int(self._row_bytes * len(self)) + sum(map(len, self._texts.values()))

    def prev(self, row: int) -> int:
        """The position before an update."""
        found = self._batches[int(self.rank[row])].column("prev")[int(self._place[row])].as_py()
        return NO_SEQ if found is None else int(found)

    def fitting(self, start: int, stop: int, bytes_max: int) -> int:
        """How far frames from `start` go that are about as long: whole updates, and not past a text."""
        if start in self._texts:
            return start + 1
        after = int(np.searchsorted(self._stops, start))
        if after < len(self._stops):
            stop = min(stop, int(self._stops[after]))
        fits = start + max(1, int(max(bytes_max, FRAME_BYTES) / max(self._row_bytes, 1.0)))
        if fits >= stop:
            return stop
        # what one tick did to a channel is not cut
        same = (self.at[fits:stop] == self.at[fits - 1]) & (self.source[fits:stop] == self.source[fits - 1])
        return fits + (len(same) if same.all() else int(np.argmin(same)))

    def frame(self, start: int, stop: int) -> bytes:
        """Frames with some rows: one for each kind, or a text."""
        if start in self._texts:
            text = self._texts[start]
            return b"".join((frame_head(len(text) + 2), b"[", text, b"]"))
        frames: list[bytes] = []
        ranks = self.rank[start:stop]
        for rank in np.unique(ranks).tolist():
            rows = np.flatnonzero(ranks == rank)
            first = int(self._place[start + int(rows[0])])
            frames += _binary(_KIND_OF_RANK[rank], self._batches[rank].slice(first, len(rows)))
        return b"".join(frames)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    found: list[pa.RecordBatch] = pa.Table.from_batches(batches).unify_dictionaries().combine_chunks().to_batches()
    return found[0]


def _binary(kind: str, batch: pa.RecordBatch) -> tuple[bytes, bytes, pa.Buffer]:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, _SCHEMAS[kind]) as writer:
        writer.write_batch(batch)
    data = out.getvalue()
    return _BINARY, frame_head(len(data))[1:], data
