"""Several recordings of the same feed logs as one: each message once, and what one of them lacks from another.

Owns what is a copy, and which hole another one fills. A message is known by table, channel, source, `seq` and whether
it is an update, a snapshot, a gap or a state; with all its rows it comes from the recording that has it at the earliest
place. A gap of reason `recording` is none where another recording has every update of it in an unbroken chain, and the
snapshot behind it is none then, either. Leaves each recording to `opened`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.errors import FeedError
from feed.model import KINDS
from feed.recording.chosen import Chosen
from feed.recording.merge import order_of
from feed.recording.recording import Recording
from feed.recording.shelf import NEVER, Cut
from feed.recording.standing import Channel, Standing
from feed.recording.tables import GAPS, SCHEMAS, STATES
from replay.ahead import head_of
from replay.opened import BookAt, Face, Opened, Symbols, chosen_of, columns_of, empty, in_time
from replay.times import Moment, ns_of

if TYPE_CHECKING:
    from replay.summary import Summary

_HOLE: Final = "recording"
_GIVEN_MIN: Final = 256
"""So many copies of a channel may be awaited before it is looked which can still come."""


class Filled(NamedTuple):
    """A hole of one recording that another fills: of which channel and source, and the `seq` at which it ends."""

    channel: str
    symbol: str
    source: str
    seq: int


class Together(Face):
    """Recordings of the same feed logs, of recorders that ran beside or after each other."""

    def __init__(self, paths: Sequence[str], *, verify: bool = True) -> None:
        """Opens them all.

        Raises:
            ConfigError: there is no such folder.
            CorruptRecording: a file is damaged.
        """
        self._opened: list[Opened] = []
        try:
            for path in paths:
                self._opened.append(Opened(path, verify=verify))
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<together {', '.join(map(repr, self._opened))}>"

    def __enter__(self) -> Together:
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
        keep = _owned(name, found, recording)
        if name == GAPS:
            keep &= self._true_gaps(found)
        found = found.filter(pa.array(keep))
        order = in_time(*_places(found), found.column("source"))
        found = found.select(wanted)
        return found if order is None else found.take(pa.array(order))

    def book_at(self, symbol: str, time: Moment) -> BookAt:
        """A whole book as it was at a time, of the recording that knows it best.

        Raises:
            FeedError: there was none in any of them.
        """
        found: list[BookAt] = []
        for opened in self._opened:
            try:
                found.append(opened.book_at(symbol, time))
            except FeedError:
                continue
        if not found:
            raise FeedError(f"no book of {symbol} at {time}")
        return max(found, key=lambda book: book.seq)

    def filled(self) -> set[Filled]:
        """The holes of one recording that another fills."""
        found: set[Filled] = set()
        for number, opened in enumerate(self._opened):
            for gap in opened.table(GAPS, columns=("channel", "symbol", "source", "prev", "seq", "reason")).to_pylist():
                others = [other for at, other in enumerate(self._opened) if at != number]
                if gap["reason"] == _HOLE and any(_fills(other, gap) for other in others):
                    found.add(Filled(gap["channel"], gap["symbol"], gap["source"], gap["seq"]))
        return found

    def _true_gaps(self, gaps: pa.Table) -> np.ndarray:
        filled = self.filled()
        columns = (gaps.column(name).to_pylist() for name in ("channel", "symbol", "source", "seq", "reason"))
        told = zip(*columns, strict=True)
        return np.array([reason != _HOLE or Filled(*where) not in filled for *where, reason in told], bool)

    def _timed(
        self, channels: str | Iterable[str], symbols: Symbols, start: Moment | None, end: Moment | None
    ) -> Iterator[tuple[int, bytes]]:
        chosen = chosen_of([channels] if isinstance(channels, str) else channels, symbols)
        first = Cut(-1 if start is None else ns_of(start) - 1)
        last = Cut(NEVER if end is None else ns_of(end) - 1)
        recordings = [opened.recording for opened in self._opened]
        once = _Once(recordings, self.filled())
        if start is not None:
            for standing in _standing(recordings, chosen, first).values():
                for message in standing.messages:
                    once.stands(standing.source, message)
                    yield 0, message
        streams = [_entries(number, one, chosen, first, last) for number, one in enumerate(recordings)]
        for entry in heapq.merge(*streams):
            if once.take(entry):
                yield entry.clock, entry.message


class _Entry(NamedTuple):
    """A message of one recording; they compare by their places."""

    clock: int
    source: str
    at: int
    rank: int
    recording: int
    number: int
    symbol: str
    message: bytes


class _Copies:
    """One kind of message of one channel and source: up to where each recording has given it, and by whom each was."""

    def __init__(self, passed: list[int]) -> None:
        self.passed = passed
        self.given: dict[int, int] = {}


class _Once:
    """Lets each message through once. What no recording can give again is forgotten."""

    def __init__(self, recordings: Sequence[Recording], filled: set[Filled]) -> None:
        self._filled = filled
        self._begins = [_begins_of(recording) for recording in recordings]
        self._copies: dict[tuple[str, str, str, str], _Copies] = {}

    def stands(self, source: str, message: bytes) -> None:
        """How a channel stood was given; a recording that tells it again behind a hole is not heard."""
        head = head_of(message)
        self._of(head.type, head.channel, head.symbol, source).given[head.seq] = -1

    def _of(self, type_: str, channel: str, symbol: str, source: str) -> _Copies:
        copies = self._copies.get((type_, channel, symbol, source))
        if copies is None:
            passed = [begins.get(source, NEVER) - 1 for begins in self._begins]
            copies = self._copies[type_, channel, symbol, source] = _Copies(passed)
        return copies

    def take(self, entry: _Entry) -> bool:
        """Whether a message is to be given."""
        head = head_of(entry.message)
        where = head.channel, entry.symbol, entry.source
        if self._filled and Filled(*where, head.seq) in self._filled and _of_hole(head.type, entry.message):
            return False
        copies = self._of(head.type, *where)
        copies.passed[entry.recording] = head.seq
        owner = copies.given.setdefault(head.seq, entry.recording)
        if len(copies.given) >= _GIVEN_MIN:
            low = min(copies.passed)
            copies.given = {seq: owner for seq, owner in copies.given.items() if seq >= low}
        return owner == entry.recording


def _of_hole(type_: str, message: bytes) -> bool:
    return type_ == "snapshot" or (type_ == "gap" and b'"reason":"recording"' in message)


def _begins_of(recording: Recording) -> dict[str, int]:
    """The first tick of each source that a recording has rows of."""
    found: dict[str, int] = {}
    for shelf in recording.shelves.values():
        for spot in shelf.spots():
            for source, span in shelf.block(spot).note.sources.items():
                if span.rows:
                    found[source] = min(span.first_at, found.get(source, NEVER))
    return found


def _entries(number: int, recording: Recording, chosen: Chosen, first: Cut, last: Cut) -> Iterator[_Entry]:
    count = 0
    for page in recording.pages(chosen, first, last, separator=""):
        columns = (values.tolist() for values in (page.clock, page.source, page.at, page.rank, page.symbol))
        texts = page.messages.cast(pa.binary()).to_pylist()
        for clock, source, at, rank, symbol, text in zip(*columns, texts, strict=True):
            count += 1
            yield _Entry(clock, page.sources[source], at, rank, number, count, page.symbols[symbol], text)


def _standing(recordings: Sequence[Recording], chosen: Chosen, cut: Cut) -> dict[Channel, Standing]:
    """How channels stand, each as the recording says that knows most of it.

    At one position one may say `stale` and another not: it has not recorded the end of it.
    """
    found: dict[Channel, Standing] = {}
    for recording in recordings:
        for channel, one in recording.standing(chosen, cut).items():
            known = found.get(channel)
            if known is None or (one.seq, -len(one.messages)) > (known.seq, -len(known.messages)):
                found[channel] = one
    return found


def _owned(name: str, table: pa.Table, recording: np.ndarray) -> np.ndarray:
    """Rows of messages of the recording that has them at the earliest place: one that begins has some later."""
    names = ["source", "symbol", "seq"]
    if name in (GAPS, STATES):
        names.append("channel")
    if "is_snapshot" in table.column_names:
        names.append("is_snapshot")
    keys = pa.table({column: _plain(table.column(column)) for column in names})
    clock, at = _places(table)
    order = np.lexsort((recording, at, clock))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    first = keys.append_column("place", pa.array(place)).group_by(names).aggregate([("place", "min")])
    numbered = keys.append_column("row", pa.array(np.arange(len(order))))
    joined = numbered.join(first, names).sort_by("row")
    mine: np.ndarray = recording[order][joined.column("place_min").to_numpy()] == recording
    return mine


def _places(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Clock and tick of each row."""
    clocks, ats = zip(*map(order_of, table.to_batches()), strict=True)
    return np.concatenate(clocks), np.concatenate(ats)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _fills(opened: Opened, gap: dict[str, Any]) -> bool:
    """Whether a recording has every update of a hole."""
    if gap["channel"] not in KINDS or gap["prev"] is None or gap["seq"] <= gap["prev"]:
        return False
    rows = opened.table(gap["channel"], gap["symbol"], columns=("source", "prev", "seq"))
    inside = pc.and_(
        pc.equal(rows.column("source").cast(pa.string()), gap["source"]),
        pc.and_(pc.greater(rows.column("seq"), gap["prev"]), pc.less_equal(rows.column("seq"), gap["seq"])),
    )
    rows = rows.filter(inside)
    at = gap["prev"]
    for prev, seq in sorted(set(zip(rows.column("prev").to_pylist(), rows.column("seq").to_pylist(), strict=True))):
        if prev != at:
            return False
        at = seq
    return bool(at == gap["seq"])
