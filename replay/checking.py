"""Whether a recording is what it should be: files whole, sources in order, chains unbroken; crossed prices counted.

Owns what `replay verify` looks at. A fault is told in words, with file and batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.recording.folder import Folder
from feed.recording.footing import is_trimmed
from feed.recording.merge import order_of
from feed.recording.notes import Gone
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import BlockRef, TableFiles
from feed.recording.tables import GAPS, STATES, TABLES, TICKS
from feed.recording.verify import faults_of
from feed.wire.model import KINDS, NO_SEQ
from replay.clocks import Clocks
from replay.holes import Gaps

_UNKNOWN: Final = NO_SEQ - 1
Key = tuple[str, str]
"""Symbol and source."""
Found = TypeVar("Found")


def file_faults(folder: Folder, tell: Callable[[int], None] = lambda done: None) -> Iterator[str]:
    """What is wrong with the files."""
    done = 0
    for place in folder.places((*TABLES, TICKS)):
        yield from faults_of(folder, place)
        done += place.size
        tell(done)


class Checked:
    """What the rows say, over all tables; `faults` after `run`."""

    def __init__(self, recording: RecordingFiles) -> None:
        self.faults: list[str] = []
        self.crossed: dict[str, int] = {"quotes": 0, "book": 0}
        self._recording = recording
        self._gaps = _whole(lambda: Gaps(recording.files_by_table[GAPS]))
        self.gaps_from = recording.footing((GAPS,))
        """From when on every gap is there: what told of earlier ones was deleted."""
        self.clocks = _whole(lambda: Clocks(recording))
        self._done = 0

    def run(self, tell: Callable[[int], None] = lambda done: None) -> Checked:
        """Reads everything once.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        for table in (GAPS, STATES):
            table_files = self._recording.files_by_table[table]
            _whole(partial(self._see, table_files))
        for kind in KINDS:
            _whole(partial(self._check, kind, tell))
        self.faults += self.clocks.faults()
        return self

    def _see(self, table_files: TableFiles) -> None:
        for ref in table_files.refs():
            self.clocks.see(table_files.rows(ref), where_of(table_files, ref))

    def _check(self, kind: str, tell: Callable[[int], None]) -> None:
        check = _Table(kind, self._recording.files_by_table[kind], self)
        for ref in check.table_files.refs():
            check.block(ref)
            block = check.table_files.block(ref)
            self._done += block.end - block.start
            tell(self._done)

    def explains(self, kind: str, symbol: str, stood: int, prev: int) -> bool:
        """Whether a gap tells why an update follows `prev` and not where its channel stood."""
        return self._gaps.explain(kind, symbol, stood, prev)


class _Table:
    """One kind: where each channel and each source stands as its rows are read."""

    def __init__(self, kind: str, table_files: TableFiles, checked: Checked) -> None:
        self.kind = kind
        self.table_files = table_files
        self._checked = checked
        self._seqs: dict[Key, int] = {}
        self._earlier = _sources_before(table_files)
        self._order: dict[str, tuple[int, int]] = {}

    def block(self, ref: BlockRef) -> None:
        batch = self.table_files.rows(ref)
        if not batch.num_rows:
            return
        where = where_of(self.table_files, ref)
        self._checked.clocks.see(batch, where)
        self._count_crossed(batch)
        if "item" in batch.schema.names:
            first = batch.column("item").fill_null(0).to_numpy() == 0
            batch = batch if first.all() else batch.filter(pa.array(first))
        if self.table_files.block(ref).note.keyframes:
            self._begin(batch)
            return
        self._check_order(batch, where)
        self._check_chains(batch, where)

    def _begin(self, batch: pa.RecordBatch) -> None:
        """Keyframes say where channels stand whose files before are gone."""
        for symbol, source, seq in zip(
            *(batch.column(n).to_pylist() for n in ("symbol", "source", "seq")), strict=True
        ):
            self._seqs.setdefault((symbol, source), seq)

    def _check_order(self, batch: pa.RecordBatch, where: str) -> None:
        clock, at = order_of(batch)
        codes = batch.column("source").indices.to_numpy()
        names = batch.column("source").dictionary
        for code in np.unique(codes).tolist():
            mine = np.flatnonzero(codes == code)
            times, ticks = clock[mine], at[mine]
            name = names[code].as_py()
            before = self._order.get(name, (-1, NO_SEQ))
            falls = (np.diff(times) < 0) | ((np.diff(times) == 0) & (np.diff(ticks) < 0))
            if falls.any() or (int(times[0]), int(ticks[0])) < before:
                self._checked.faults.append(f"{where}: rows of {name} are not in order")
            self._order[name] = int(times[-1]), int(ticks[-1])

    def _check_chains(self, batch: pa.RecordBatch, where: str) -> None:
        symbols, sources = batch.column("symbol"), batch.column("source")
        codes = symbols.indices.to_numpy().astype(np.int64) * len(sources.dictionary) + sources.indices.to_numpy()
        seq = batch.column("seq").to_numpy()
        clock = order_of(batch)[0]
        prev = batch.column("prev").fill_null(_UNKNOWN).to_numpy()
        order = np.argsort(codes, kind="stable")
        codes, seq, prev, clock = codes[order], seq[order], prev[order], clock[order]
        begins = np.flatnonzero(np.diff(codes, prepend=-1))
        expected = np.empty(len(seq), np.int64)
        expected[1:] = seq[:-1]
        # behind a hole an update that tells all may stand behind a snapshot of itself
        again = np.append(False, prev[:-1] == _UNKNOWN) & (seq == np.append(_UNKNOWN, seq[:-1]))
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(seq)], strict=True):
            symbol, source = divmod(int(codes[begin]), len(sources.dictionary))
            key = symbols.dictionary[symbol].as_py(), sources.dictionary[source].as_py()
            # the file is gone in which such a channel began
            unseen = int(prev[begin]) if key[1] in self._earlier else NO_SEQ
            expected[begin] = self._seqs.get(key, unseen)
            self._seqs[key] = int(seq[end - 1])
            for row in (
                begin
                + np.flatnonzero(
                    (prev[begin:end] != expected[begin:end])
                    & (prev[begin:end] != _UNKNOWN)
                    & (clock[begin:end] > self._checked.gaps_from)
                    & ~again[begin:end]
                )
            ).tolist():
                if not self._checked.explains(self.kind, key[0], int(expected[row]), int(prev[row])):
                    self._checked.faults.append(
                        f"{where}: {self.kind} of {key[0]} at {seq[row]} follows {prev[row]}, wanted {expected[row]}"
                    )

    def _count_crossed(self, batch: pa.RecordBatch) -> None:
        crossed = self._checked.crossed
        if self.kind == "quotes":
            over = pc.greater_equal(batch.column("bid_price"), batch.column("ask_price"))
            crossed["quotes"] += pc.sum(pc.fill_null(over, False)).as_py() or 0
        elif self.kind == "book":
            whole = batch.filter(batch.column("is_snapshot"))
            bests = [_best(whole.column(side)) for side in ("bids", "asks")]
            crossed["book"] += pc.sum(pc.fill_null(pc.greater_equal(*bests), False)).as_py() or 0


def _whole(read: Callable[[], Found]) -> Found:
    """What is read of a table to its end; where files were deleted meanwhile, it begins anew behind them."""
    while True:
        try:
            return read()
        except Gone:
            continue


def _sources_before(table_files: TableFiles) -> frozenset[str]:
    """The sources of which a table had files that were deleted."""
    ref = next(table_files.refs(), None)
    return frozenset() if ref is None or not is_trimmed(table_files) else frozenset(table_files.block(ref).note.sources)


def where_of(table_files: TableFiles, ref: BlockRef) -> str:
    """A batch, in words."""
    return f"{table_files.places[ref.file].path} batch {ref.block}"


def _best(side: pa.ListArray) -> pa.Array:
    """The first price of each side, null where it is empty."""
    offsets = side.offsets.to_numpy()
    empty = np.diff(offsets) == 0
    prices = side.values.field("price")
    return (
        prices.take(pa.array(np.where(empty, 0, offsets[:-1]), mask=empty))
        if len(prices)
        else pa.nulls(len(side), prices.type)
    )
