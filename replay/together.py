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
from replay.ahead import Head, head_of
from replay.opened import BookAt, Face, Opened, Symbols, chosen_of, columns_of, empty, in_time
from replay.times import Moment, ns_of

if TYPE_CHECKING:
    from replay.summary import Summary

_HOLE: Final = "recording"
Place = tuple[int, int, int]
"""Recording, clock and tick."""
Where = tuple[str, str, str]
"""Kind, symbol and source."""
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
        keep = _owned(name, found, recording, self.filled() if name in (GAPS, STATES) else set())
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
            for given in once.take(entry):
                yield given.clock, given.message
        for given in once.rest():
            yield given.clock, given.message


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
        self.given: dict[int, Place | None] = {}


class _Once:
    """Lets each message through once. What no recording can give again is forgotten.

    A recorder that begins again behind a hole tells there which gap comes next, before its place: behind the update at
    which it begins. Where another recording fills the hole, the gap waits for that update.
    """

    def __init__(self, recordings: Sequence[Recording], filled: set[Filled]) -> None:
        self._filled = filled
        self._holed = {(hole.channel, hole.symbol, hole.source) for hole in filled}
        self._at: dict[Where, int] = {}
        self._begins = [_begins_of(recording) for recording in recordings]
        self._copies: dict[tuple[str, Where], _Copies] = {}
        self._early: dict[Where, list[tuple[Head, _Entry]]] = {}

    def stands(self, source: str, message: bytes) -> None:
        """How a channel stood was given; a recording that tells it again behind a hole is not heard."""
        head = head_of(message)
        where = head.channel, head.symbol, source
        self._of(head.type, where).given[head.seq] = None
        if head.type == "snapshot":
            self._at[where] = head.seq

    def take(self, entry: _Entry) -> list[_Entry]:
        """What is to be given now that a message has come."""
        head = head_of(entry.message)
        where = head.channel, entry.symbol, entry.source
        if self._filled and Filled(*where, head.seq) in self._filled and _of_hole(head.type, entry.message):
            return []
        if head.type == "gap" and where in self._holed and head.prev > self._at.get(where, NEVER):
            self._early.setdefault(where, []).append((head, entry))
            return []
        found: list[_Entry] = []
        if head.type == "update":
            found += self._late(where, head.seq)
        if head.type in ("update", "snapshot"):
            self._at[where] = head.seq
        return [*found, entry] if self._mine(head, where, entry) else found

    def rest(self) -> list[_Entry]:
        """What has waited for its place, and will not be told by another recording."""
        return sorted(entry for where in list(self._early) for entry in self._late(where, NEVER))

    def _late(self, where: Where, seq: int) -> list[_Entry]:
        """What has waited, and belongs before an update that comes now."""
        waiting = self._early.pop(where, [])
        if later := [one for one in waiting if one[0].seq >= seq]:
            self._early[where] = later
        return [entry for head, entry in waiting if head.seq < seq and self._mine(head, where, entry)]

    def _mine(self, head: Head, where: Where, entry: _Entry) -> bool:
        """Whether a message is to be given, or was by another recording."""
        copies = self._of(head.type, where)
        copies.passed[entry.recording] = head.seq
        place = entry.recording, entry.clock, entry.at
        owner = copies.given.setdefault(head.seq, place)
        if len(copies.given) >= _GIVEN_MIN:
            low = min(copies.passed)
            copies.given = {seq: owner for seq, owner in copies.given.items() if seq >= low}
        # what a recording tells again behind its hole is a copy where that is filled, else it says what holds
        again = owner is not None and owner[0] == entry.recording and where not in self._holed
        return again or owner == place

    def _of(self, type_: str, where: Where) -> _Copies:
        copies = self._copies.get((type_, where))
        if copies is None:
            passed = [begins.get(where[2], NEVER) - 1 for begins in self._begins]
            copies = self._copies[type_, where] = _Copies(passed)
        return copies


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
