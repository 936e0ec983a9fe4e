"""Several recordings of the same feed logs as one: each message once, and what one of them lacks from another.

Owns what is a copy, and which hole another one fills. A message is known by table, channel, source, `seq` and whether
it is an update, a snapshot, a gap or a state; with all its rows it comes from the recording that has it at the earliest
place. A gap of reason `recording` is none where another recording has every update of it in an unbroken chain, and the
snapshot behind it is none then, either. Leaves each recording to `opened`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.errors import FeedError
from feed.recording.filter import Filter
from feed.recording.merge import order_of
from feed.recording.recording import RecordingFiles
from feed.recording.state_at import Channel, ChannelState
from feed.recording.table_files import NEVER, RecordingCut
from feed.recording.tables import GAPS, SCHEMAS, STATES
from feed.wire.model import KINDS
from replay.once import HOLE, Entry, Filled, Once
from replay.opened import BookAt, Face, Recording, Symbols, book_of, chosen_of, columns_of, empty, in_time
from replay.times import Moment, ns_of

if TYPE_CHECKING:
    from replay.summary import Summary


class _Gap(NamedTuple):
    source: str
    prev: int
    seq: int


class CombinedRecording(Face):
    """Recordings of the same feed logs, of recorders that ran beside or after each other."""

    def __init__(self, paths: Sequence[str], *, verify: bool = True) -> None:
        """Opens them all.

        Raises:
            ConfigError: there is no such folder.
            CorruptRecording: a file is damaged.
        """
        self._opened: list[Recording] = []
        try:
            for path in paths:
                self._opened.append(Recording(path, verify=verify))
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<together {', '.join(map(repr, self._opened))}>"

    def __enter__(self) -> CombinedRecording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes all files."""
        for opened in self._opened:
            opened.close()

    def info(self) -> list[Summary]:
        """What is in each of them."""
        return [opened.info() for opened in self._opened]

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
        """Rows in order of the recordings' clock, as of one recording; each message once.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        wanted = list(columns) if columns is not None else columns_of(name, snapshots=snapshots)
        parts = [
            opened.table(name, symbol, start, end, snapshots=snapshots, columns=SCHEMAS[name].names)
            for opened in self._opened
        ]
        recording = np.repeat(np.arange(len(parts)), [part.num_rows for part in parts])
        found = pa.concat_tables(parts).unify_dictionaries()
        if not found.num_rows:
            return empty(name, wanted)
        filled = self.filled() if name in (GAPS, STATES) else set()
        keep = _owned(name, found, recording, filled)
        if name == GAPS:
            keep &= _true_gaps(found, filled)
        found = found.filter(pa.array(keep))
        order = in_time(*_places(found), found.column("source"))
        found = found.select(wanted)
        return found if order is None else found.take(pa.array(order))

    def book_at(self, symbol: str, time: Moment) -> BookAt:
        """A whole book as it was at a time, of the recording that knows it best.

        Raises:
            FeedError: there was none in any of them.
        """
        recordings = [opened.recording for opened in self._opened]
        found = _standing(recordings, Filter(["book"], [symbol]), RecordingCut(ns_of(time))).get(("book", symbol))
        if found is None:
            raise FeedError(f"no book of {symbol} at {time}")
        return book_of(symbol, found)

    def filled(self) -> set[Filled]:
        """The holes of one recording that another fills."""
        names = ("channel", "symbol", "source", "prev", "seq", "reason")
        holes: list[dict[tuple[str, str], set[_Gap]]] = []
        for opened in self._opened:
            of_one: dict[tuple[str, str], set[_Gap]] = {}
            for kind, symbol, *gap, reason in zip(
                *(column.to_pylist() for column in opened.table(GAPS, columns=names).columns), strict=True
            ):
                if reason == HOLE and kind in KINDS:
                    of_one.setdefault((kind, symbol), set()).add(_Gap(*gap))
            holes.append(of_one)
        found: set[Filled] = set()
        for number, of_one in enumerate(holes):
            # a table is read once for all holes of a channel
            for (kind, symbol), gaps in of_one.items():
                for at, other in enumerate(self._opened):
                    left = gaps - holes[at].get((kind, symbol), set())
                    if at != number and left:
                        filled = _filled_by(other, kind, symbol, left)
                        found |= {Filled(kind, symbol, gap.source, gap.seq) for gap in filled}
                        gaps = gaps - filled
        return found

    def _timed(
        self, channels: str | Iterable[str], symbols: Symbols, start: Moment | None, end: Moment | None
    ) -> Iterator[tuple[int, bytes]]:
        chosen = chosen_of([channels] if isinstance(channels, str) else channels, symbols)
        first = RecordingCut(-1 if start is None else ns_of(start) - 1)
        last = RecordingCut(NEVER if end is None else ns_of(end) - 1)
        recordings = [opened.recording for opened in self._opened]
        once = Once(recordings, self.filled())
        if start is not None:
            for standing in _standing(recordings, chosen, first).values():
                for message in standing.messages:
                    once.stands(standing.source, message)
                    yield 0, message
        streams = [_entries(number, one, chosen, first, last, once) for number, one in enumerate(recordings)]
        for entry in heapq.merge(*streams):
            for given in once.take(entry):
                yield given.clock, given.message
        for given in once.rest():
            yield given.clock, given.message


def _entries(
    number: int, recording: RecordingFiles, chosen: Filter, first: RecordingCut, last: RecordingCut, once: Once
) -> Iterator[Entry]:
    count = 0
    for page in recording.pages(chosen, first, last, separator=""):
        columns = (values.tolist() for values in (page.clock, page.source, page.at, page.rank, page.symbol))
        texts = page.messages.cast(pa.binary()).to_pylist()
        for clock, source, at, rank, symbol, text in zip(*columns, texts, strict=True):
            count += 1
            yield Entry(clock, page.sources[source], at, rank, number, count, page.symbols[symbol], text)
    once.ends(number)


def _standing(recordings: Sequence[RecordingFiles], chosen: Filter, cut: RecordingCut) -> dict[Channel, ChannelState]:
    """How channels stand, each as the recording says that knows most of it."""
    found: dict[Channel, ChannelState] = {}
    for recording in recordings:
        for channel, one in recording.standing(chosen, cut).items():
            known = found.get(channel)
            if known is None or _knows_more(one, known):
                found[channel] = one
    return found


def _knows_more(one: ChannelState, other: ChannelState) -> bool:
    """Positions compare within a source only; of two sources the later one in time is where a channel has gone on.

    At one position one recording may say `stale` and another not: it has not recorded the end of it.
    """
    if one.source != other.source:
        return one.received > other.received
    return (one.seq, -len(one.messages)) > (other.seq, -len(other.messages))


def _owned(name: str, table: pa.Table, recording: np.ndarray, filled: set[Filled]) -> np.ndarray:
    """Rows of messages of the recording that has them at the earliest place: one that begins has some later.

    Gaps are told too early by one that begins; and what it tells again behind a hole that is filled is a copy.
    """
    names = ["source", "symbol", "seq"]
    if name in (GAPS, STATES):
        names.append("channel")
    if "is_snapshot" in table.column_names:
        names.append("is_snapshot")
    keys = pa.table({column: _plain(table.column(column)) for column in names})
    clock, at = _places(table)
    order = np.lexsort((recording, -at, -clock) if name == GAPS else (recording, at, clock))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    first = keys.append_column("place", pa.array(place)).group_by(names).aggregate([("place", "min")])
    numbered = keys.append_column("row", pa.array(np.arange(len(order))))
    joined = numbered.join(first, names).sort_by("row")
    one = order[joined.column("place_min").to_numpy()]
    mine: np.ndarray = recording[one] == recording
    if filled:
        holed = {(hole.channel, hole.symbol, hole.source) for hole in filled}
        where = zip(*(keys.column(column).to_pylist() for column in ("channel", "symbol", "source")), strict=True)
        again = np.array([one in holed for one in where], bool)
        mine &= ~again | ((clock[one] == clock) & (at[one] == at))
    return mine


def _places(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Clock and tick of each row."""
    clocks, ats = zip(*map(order_of, table.to_batches()), strict=True)
    return np.concatenate(clocks), np.concatenate(ats)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _true_gaps(gaps: pa.Table, filled: set[Filled]) -> np.ndarray:
    columns = (gaps.column(name).to_pylist() for name in ("channel", "symbol", "source", "seq", "reason"))
    told = zip(*columns, strict=True)
    return np.array([reason != HOLE or Filled(*where) not in filled for *where, reason in told], bool)


def _filled_by(opened: Recording, kind: str, symbol: str, gaps: set[_Gap]) -> set[_Gap]:
    """Those of a channel's holes of which a recording has every update."""
    rows = opened.table(kind, symbol, columns=("source", "prev", "seq"))
    rows = rows.filter(pc.is_valid(rows.column("prev")))
    sources = rows.column("source").cast(pa.string())
    found: set[_Gap] = set()
    for source in {gap.source for gap in gaps}:
        mine = rows.filter(pc.equal(sources, source))
        # an update of several items is one
        seq, first = np.unique(mine.column("seq").to_numpy(), return_index=True)
        prev = mine.column("prev").to_numpy()[first]
        breaks = np.append(0, np.cumsum(np.append(False, prev[1:] != seq[:-1])[: len(seq)]))
        for gap in gaps:
            if gap.source != source:
                continue
            begin, end = np.searchsorted(seq, (gap.prev, gap.seq), "right").tolist()
            if gap.prev == gap.seq:
                # a hole of the venue's own may have been here: who has the update behind it knows
                known = end < len(seq) and prev[end] == gap.seq
            else:
                known = begin < end and prev[begin] == gap.prev and seq[end - 1] == gap.seq
                known = known and breaks[end] == breaks[begin + 1]
            if known:
                found.add(gap)
    return found
