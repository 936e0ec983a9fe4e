"""What a flush of the hub changed, as rows of the tables.

Owns whose each message is and where it stands in its source's order. Leaves what is new and what is a copy, a hole or
a rebase to the hub, columns to `feed.recording.columns`, and files to `commits`.

The common case never looks at a message: its symbol and source are the channel's, its place is its own `seq`. Where a
channel takes a rebase (a new source, a state after waiting, a hole) its gap, its snapshot and what follows stand at the
last tick that was read before, and the source's clock goes on by a nanosecond, so that the order of a source says what
came after what. A channel that goes on in another source is placed after everything that the first one said.

Over 400 lines: the common case, rebases and keyframes fill the same arrays, and only together keep them in order.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from feed.errors import CorruptLog
from feed.recording.columns import Dictionaries, Parsed, Places, gaps_of, lines_of, parse, rows_of, states_of
from feed.recording.tables import GAPS, STATES
from feed.wire.message import END, JOINT, KIND_BIT, START, bare, head_of
from feed.wire.model import KINDS, NO_SEQ, Bar, Book, Data, Gap, GapReason, Kind, Snapshot, Trade, Update

if TYPE_CHECKING:
    from collections.abc import Callable

    from feed.channels.channel import Channel, Listing
    from feed.channels.flush import Flush
    from feed.channels.log import Entry
    from feed.channels.state import Folded, FoldRules

_SOURCES_MAX: Final = 1 << 20
_BITS: Final = tuple(KIND_BIT[kind] for kind in KINDS)
_DATA: Final[dict[str, Any]] = {"trades": list[Trade], "bars": list[Bar], "book": Book}


class Taken(NamedTuple):
    """Rows of one table in order, and for each source what its rows are: count, first and last clock and tick."""

    batch: pa.RecordBatch
    spans: dict[str, tuple[int, int, int, int, int]]


class _Gathered:
    """Messages of one kind: a code of symbol and source each, and for those that do not stand at their own `seq` where.

    `places`: row to (tick, number of the rebase).
    """

    __slots__ = ("codes", "messages", "places")

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.codes = array("q")
        self.places: dict[int, tuple[int, int]] = {}


class _Rebased(NamedTuple):
    """A rebase of a channel to another source: the one that it leaves, and the rebase's number."""

    left: str
    source: str
    number: int


class RowBuilder:
    """Makes rows. `clocks`: each source's, as of the last take; `ticks`: up to where each was taken."""

    def __init__(self, wanted: Callable[[Kind, str], bool], words: Dictionaries, rules: FoldRules) -> None:
        self.clocks: dict[str, int] = {}
        self.ticks: dict[str, int] = {}
        self.words = words
        self._wanted = wanted
        self._rules = rules
        self._sources: dict[tuple[str, str], str] = {}
        self._gathered: dict[int, _Gathered] = {}
        self._rebased: list[_Rebased] = []
        self._turns = 0

    def know(self, kind: str, symbol: str, source: str) -> None:
        """A channel that was recorded before, and of which source."""
        self._sources[kind, symbol] = source

    def gather(
        self,
        flush: Flush,
        listings: dict[int, Listing],
        recorded: dict[tuple[str, str], tuple[str, int]],
        *,
        but: set[str],
    ) -> None:
        """Notes what a flush changed; channels of the sources `but` are passed over.

        `recorded`: source and last `seq` of channels that were recorded before and not seen since; those that are seen
        are taken out of it.
        """
        for id_, runs in flush.runs.items():
            bits = self._recorded(listings[id_], but)
            for run in runs:
                channel = bits.get(run.bit)
                if channel is None:
                    continue
                if recorded and (before := recorded.pop((channel.kind, channel.listing.name), None)) is not None:
                    self._go_on(channel, before, run.entries(), recorded)
                    continue
                self._of(run.bit).messages += run.text.split(JOINT)
                self._fill_up(channel)
        for id_, entries in flush.changed.items():
            listing = listings[id_]
            bits = self._recorded(listing, but)
            if recorded:
                for channel in list(bits.values()):
                    if (before := recorded.pop((channel.kind, listing.name), None)) is not None:
                        self._go_on(channel, before, [entry for entry in entries if entry[1] == channel.bit], recorded)
                        del bits[channel.bit]
            if not bits:
                continue
            if [entry for entry in entries if entry[3] is not None]:  # a third of what `any` takes
                for channel in bits.values():
                    self._rebasing(channel, [entry for entry in entries if entry[1] == channel.bit])
                continue
            add: dict[int, Callable[[bytes], None]] = dict.fromkeys(_BITS, _ignore)
            for bit in bits:
                add[bit] = self._of(bit).messages.append
            for _, bit, message, _ in entries:
                add[bit](message)
            for channel in bits.values():
                self._fill_up(channel)

    def rebase(self, channel: Channel, messages: list[bytes], tick: int) -> None:
        """A rebase that the hub did not take, but the recording does: what was recorded does not lead to its state."""
        self._take_turn(channel.kind, channel.listing.name, channel.source.name, whole_messages(messages), tick)

    def take(self) -> dict[str, Taken]:
        """The rows of all tables since the last take; tables without any are left out.

        Raises:
            CorruptLog: a message is not what the schemas say.
        """
        kinds: list[tuple[Parsed, np.ndarray, np.ndarray, np.ndarray]] = []
        for kind in KINDS:
            gathered = self._gathered.get(KIND_BIT[kind])
            if gathered is None or not gathered.messages:
                continue
            lines = lines_of(gathered.messages)
            if JOINT in lines:
                _take_apart(gathered)
                lines = lines_of(gathered.messages)
            parsed = parse(kind, lines, len(gathered.messages))
            at, rebase = parsed.seq, np.zeros(len(gathered.messages), np.int64)
            if gathered.places:
                at = at.copy()
                rows = np.fromiter(gathered.places, np.int64, len(gathered.places))
                at[rows], rebase[rows] = np.array(list(gathered.places.values()), np.int64).T
            kinds.append((parsed, np.frombuffer(gathered.codes, np.int64), at, rebase))
        self._gathered = {}
        if not kinds:
            return {}
        clocks = self._clock(kinds)
        taken = self._rows(kinds, clocks)
        self._rebased, self._turns = [], 0
        return taken

    def keyframes(
        self, kind: Kind, channels: list[Channel], folded: list[list[bytes]]
    ) -> tuple[pa.RecordBatch | None, pa.RecordBatch | None]:
        """The rows of snapshots (their parts joined or not) and of states of one kind's channels, as of now."""
        gathered = _Gathered()
        for channel, messages in zip(channels, folded, strict=True):
            code = self._code(channel.listing.name, channel.source.name)
            for message in whole_messages(messages):
                gathered.messages.append(message)
                gathered.codes.append(code)
        if not gathered.messages:
            return None, None
        parsed = parse(kind, lines_of(gathered.messages), len(gathered.messages))
        codes = np.frombuffer(gathered.codes, np.int64)
        sources = codes % _SOURCES_MAX
        names = self.words.sources.values
        at = np.array([self.ticks.get(names[code], NO_SEQ) for code in sources.tolist()], np.int64)
        clock = np.array([self.clocks.get(names[code], 0) for code in sources.tolist()], np.int64)
        places = Places((codes // _SOURCES_MAX).astype(np.int32), sources.astype(np.int32), at, clock)
        snapshots, states = parsed.of_type("snapshot"), parsed.of_type("state")
        words = self.words
        return (
            rows_of(parsed.take(snapshots), places.take(snapshots), words, keyframes=True) if len(snapshots) else None,
            states_of(parsed.take(states), places.take(states), words, keyframes=True) if len(states) else None,
        )

    # ---- what a flush brings

    def _of(self, bit: int) -> _Gathered:
        found = self._gathered.get(bit)
        if found is None:
            found = self._gathered[bit] = _Gathered()
        return found

    def _recorded(self, listing: Listing, but: set[str]) -> dict[int, Channel]:
        """The channels of a symbol that are recorded, by the bit of their kind."""
        return {
            channel.bit: channel
            for channel in listing.channels
            if channel is not None and self._wanted(channel.kind, listing.name) and channel.source.name not in but
        }

    def _fill_up(self, channel: Channel) -> None:
        """The messages of its kind that were added last are this channel's."""
        into, symbol, source = self._of(channel.bit), channel.listing.name, channel.source.name
        into.codes.extend(array("q", (self._code(symbol, source),)) * (len(into.messages) - len(into.codes)))
        self._sources[channel.kind, symbol] = source

    def _code(self, symbol: str, source: str) -> int:
        return self.words.symbols.index(symbol) * _SOURCES_MAX + self.words.sources.index(source)

    def _go_on(
        self,
        channel: Channel,
        recorded: tuple[str, int],
        entries: list[Entry],
        again: dict[tuple[str, str], tuple[str, int]],
    ) -> None:
        """The first entries of a channel that was recorded before, but which the hub has only now heard of."""
        source, seq = recorded
        messages = [one for entry in entries for one in whole_messages(entry[2].split(JOINT)) if one]
        heads = [head_of(one) for one in messages]
        new = [
            (one, head) for one, head in zip(messages, heads, strict=True) if head.type != "snapshot" and head.seq > seq
        ]
        updates = [head for _, head in new if head.type == "update"]
        # a snapshot that is ahead of what was recorded is all that tells of what is missing
        rebased = any(
            (head.type == "gap" and head.source != source) or (head.type == "snapshot" and head.seq > seq)
            for head in heads
        )
        if channel.source.name == source and not rebased and (not updates or updates[0].prev == seq):
            into = self._of(channel.bit)
            for one, _ in new:
                into.messages.append(one)
                into.codes.append(self._code(channel.listing.name, source))
            return
        if self._go_over(channel, recorded, entries):
            return
        folded = channel.folded(self._rules)
        if folded is None:
            again[channel.kind, channel.listing.name] = recorded
            return  # it waits: what comes first of it will be compared
        tick = max(folded.covers, self.ticks.get(channel.source.name, NO_SEQ))
        self.rebase(channel, missing(channel, recorded, folded), tick)

    def _go_over(self, channel: Channel, recorded: tuple[str, int], entries: list[Entry]) -> bool:
        """A channel that goes on in another source, or behind a hole: every update that is there is an update here.

        False where it is not known what they follow: then only its state is.
        """
        before, prev = recorded
        rebased = max((at for at, entry in enumerate(entries) if entry[3] is not None), default=0)
        messages = [one for entry in entries[rebased:] for one in whole_messages(entry[2].split(JOINT)) if one]
        heads = [head_of(one) for one in messages]
        begin = next((at for at, head in enumerate(heads) if head.type in ("snapshot", "update")), None)
        if begin is None:
            return False
        seq = heads[begin].seq if heads[begin].type == "snapshot" else heads[begin].prev
        if heads[begin].type == "update" and seq != (heads[begin - 1].seq if begin else NO_SEQ):
            return False
        kind, symbol, source = channel.kind, channel.listing.name, channel.source.name
        if before == source and seq <= prev:
            return False
        reason: GapReason = "recording" if before == source else "source"
        said = [bare(Gap(kind, symbol, source, prev, seq, None, reason, lost=channel.loses))]
        rest = begin
        while rest < len(heads) and heads[rest].type == "snapshot":
            rest += 1  # the parts of one were put together
        if not channel.loses:
            said += messages[begin:rest] or [channel.nothing()]
        tick = max(seq, self.ticks.get(source, NO_SEQ))
        while rest < len(heads) and heads[rest].seq <= tick:
            said.append(messages[rest])
            rest += 1
        self._take_turn(kind, symbol, source, said, tick)
        into, code = self._of(channel.bit), self._code(symbol, source)
        for message, head in zip(messages[rest:], heads[rest:], strict=True):
            if head.type != "gap" or head.source == source:
                into.messages.append(message)
                into.codes.append(code)
        return True

    def _rebasing(self, channel: Channel, entries: list[Entry]) -> None:
        """The entries of a channel that takes a rebase in this flush."""
        kind, symbol = channel.kind, channel.listing.name
        source = self._sources.get((kind, symbol), channel.source.name)
        last = NO_SEQ
        for seq, bit, message, rebase in entries:
            if rebase is None:
                into = self._of(bit)
                into.messages.append(message)
                into.codes.append(self._code(symbol, source))
                last = max(last, seq)
            elif message:
                messages = whole_messages(message.split(JOINT))
                heads = [head_of(one) for one in messages]
                source = next(head.source for head in heads if head.source)
                tick = max(last, self.ticks.get(source, NO_SEQ), *(head.seq for head in heads))
                self._take_turn(kind, symbol, source, messages, tick)

    def _take_turn(self, kind: Kind, symbol: str, source: str, messages: list[bytes], tick: int) -> None:
        self._turns += 1
        before = self._sources.get((kind, symbol), source)
        if before != source:
            self._rebased.append(_Rebased(before, source, self._turns))
        self._sources[kind, symbol] = source
        into = self._of(KIND_BIT[kind])
        for message in messages:
            into.places[len(into.messages)] = tick, self._turns
            into.messages.append(message)
            into.codes.append(self._code(symbol, source))

    # ---- the order

    def _clock(self, kinds: list[tuple[Parsed, np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
        """The clock of each message, all kinds one after the other; moves the sources' clocks."""
        names = self.words.sources.values
        source = np.concatenate([codes for _, codes, _, _ in kinds]) % _SOURCES_MAX
        at = np.concatenate([at for _, _, at, _ in kinds])
        rebase = np.concatenate([rebase for _, _, _, rebase in kinds])
        received = np.concatenate([_received(parsed) for parsed, _, _, _ in kinds])
        clock = np.empty(len(at), np.int64)
        orders: dict[str, np.ndarray] = {}
        for number in np.unique(source).tolist():
            name = names[number]
            mine = np.flatnonzero(source == number)
            order = orders[name] = mine[np.lexsort((rebase[mine], at[mine]))]
            before = self.clocks.get(name, 0)
            running = np.maximum.accumulate(np.maximum(received[order], before))
            # what belongs together has one clock, also a gap, which does not say when its tick was received
            ends = np.flatnonzero((np.diff(at[order]) != 0) | (np.diff(rebase[order]) != 0))
            sizes = np.diff(ends, prepend=-1, append=len(order) - 1)
            running = np.repeat(running[np.append(ends, len(order) - 1)], sizes)
            clock[order] = _apart(running, rebase[order], before)
        for rebased in self._rebased:
            self._place_after(rebased, orders, rebase, clock)
        for name, order in orders.items():
            self.clocks[name] = int(clock[order[-1]])
        return clock

    def _place_after(
        self, rebased: _Rebased, orders: dict[str, np.ndarray], rebase: np.ndarray, clock: np.ndarray
    ) -> None:
        """Has a rebase, and what follows it in its source, stand behind all that the source said which it left."""
        left = orders.get(rebased.left)
        behind = max(self.clocks.get(rebased.left, 0), int(clock[left[-1]]) if left is not None else 0)
        order = orders[rebased.source]
        rest = order[int(np.flatnonzero(rebase[order] == rebased.number)[0]) :]
        if clock[rest[0]] <= behind:
            # a floor and no distance: the rebase's own clock may be 0, and a distance from there is all time since 1970
            clock[rest] = _apart(clock[rest], rebase[rest], behind)

    def _rows(
        self, kinds: list[tuple[Parsed, np.ndarray, np.ndarray, np.ndarray]], clocks: np.ndarray
    ) -> dict[str, Taken]:
        taken: dict[str, list[Taken]] = {}
        done = 0
        by_name = _by_name(self.words.sources.values)
        for parsed, codes, at, _ in kinds:
            clock = clocks[done : done + len(at)]
            done += len(at)
            source = (codes % _SOURCES_MAX).astype(np.int32)
            places = Places((codes // _SOURCES_MAX).astype(np.int32), source, at, clock)
            for table, types, make in (
                (parsed.kind, ("update", "snapshot"), rows_of),
                (GAPS, ("gap",), gaps_of),
                (STATES, ("state",), states_of),
            ):
                rows = parsed.of_type(*types)
                if not len(rows):
                    continue
                order = np.lexsort((at[rows], by_name[source[rows]], clock[rows]))
                rows = rows[order]
                batch = make(parsed.take(rows), places.take(rows), self.words)
                taken.setdefault(table, []).append(
                    Taken(batch, self._spans(batch, source[rows], clock[rows], at[rows]))
                )
        return {table: _together(parts, by_name) for table, parts in taken.items()}

    def _spans(
        self, batch: pa.RecordBatch, source: np.ndarray, clock: np.ndarray, at: np.ndarray
    ) -> dict[str, tuple[int, int, int, int, int]]:
        counts = np.bincount(batch.column("source").indices.to_numpy())
        spans: dict[str, tuple[int, int, int, int, int]] = {}
        for number in np.unique(source).tolist():
            mine = np.flatnonzero(source == number)
            first, last = mine[0], mine[-1]
            place = int(clock[first]), int(at[first]), int(clock[last]), int(at[last])
            spans[self.words.sources.values[number]] = (int(counts[number]), *place)
        return spans


def missing(channel: Channel, recorded: tuple[str, int], folded: Folded) -> list[bytes]:
    """How a channel goes on after what was recorded of it: a gap, and its state where that makes up for it."""
    reason: GapReason = "recording" if recorded[0] == channel.source.name else "source"
    kind, symbol, source = channel.kind, channel.listing.name, channel.source.name
    gap = bare(Gap(kind, symbol, source, recorded[1], folded.seq, None, reason, lost=channel.loses))
    state = [] if folded.state is None else [folded.state]
    if channel.loses:
        return [gap, *state]
    return [gap, *(folded.messages or [channel.nothing()]), *state]


def _by_name(names: list[str]) -> np.ndarray:
    """Where each name stands among all of them in order."""
    places = np.empty(len(names), np.int64)
    places[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return places


def _apart(clock: np.ndarray, rebase: np.ndarray, before: int) -> np.ndarray:
    """The running maximum of clocks and of one before them, each rebase at least a nanosecond after what came
    before."""
    if not rebase.any():
        return clock
    rebases = np.cumsum((rebase > 0) & (np.diff(rebase, prepend=0) != 0))
    apart: np.ndarray = np.maximum(np.maximum.accumulate(clock - rebases), before) + rebases
    return apart


def _received(parsed: Parsed) -> np.ndarray:
    """When the tick of each message was received, 0 where it does not say (a gap)."""
    received = parsed.ts_recv
    if parsed.types is not None and len(states := parsed.of_type("state")):
        received = received.copy()
        received[states] = parsed.fields["since"].take(pa.array(states)).cast(pa.int64()).to_numpy()
    return received


def _together(parts: list[Taken], by_name: np.ndarray) -> Taken:
    """The rows of a table that came from several kinds, in one order."""
    if len(parts) == 1:
        return parts[0]
    # gaps and states of several kinds: few, so they are put in order row by row
    batch = pa.concat_batches([part.batch for part in parts])
    clock = batch.column("clock").cast(pa.int64()).to_numpy()
    order = np.lexsort((batch.column("at").to_numpy(), by_name[batch.column("source").indices.to_numpy()], clock))
    spans: dict[str, tuple[int, int, int, int, int]] = {}
    for part in parts:
        for source, new in part.spans.items():
            old = spans.get(source, new)
            rows = new[0] if old is new else old[0] + new[0]
            spans[source] = (rows, *min(old[1:3], new[1:3]), *max(old[3:5], new[3:5]))
    return Taken(batch.take(pa.array(order)), spans)


def _ignore(message: bytes) -> None:
    """For messages that are not wanted."""


# ---- messages that are not one line each


def _take_apart(gathered: _Gathered) -> None:
    """Makes each message a single, whole one; those of one tick stand at that tick."""
    messages, codes, places = gathered.messages, gathered.codes, gathered.places
    gathered.messages, gathered.codes, gathered.places = [], array("q"), {}
    for row, message in enumerate(messages):
        place = places.get(row)
        single = [message]
        if JOINT in message:
            single = whole_messages(message.split(JOINT))
            if place is None:
                place = max(head_of(one).seq for one in single), 0
        for one in single:
            if place is not None:
                gathered.places[len(gathered.messages)] = place
            gathered.messages.append(one)
            gathered.codes.append(codes[row])


def whole_messages(messages: list[bytes]) -> list[bytes]:
    """The same with the parts of large messages put together."""
    out: list[bytes] = []
    parts: list[bytes] = []
    for message in messages:
        if not message.endswith(b"]") or (head := head_of(message)).part is None:
            out.append(message)
            continue
        parts.append(message)
        if head.part[0] == head.part[1]:
            out.append(_whole(parts))
            parts = []
    if parts:
        raise CorruptLog(f"{len(parts)} parts of {head.channel} of {head.symbol}, wanted {head.part}")
    return out


class _Read(msgspec.Struct):
    """An update or a snapshot, its data unread."""

    type: str
    channel: Kind
    symbol: str
    seq: int
    ts_event: str | None
    ts_recv: str | None
    data: msgspec.Raw
    prev: int = NO_SEQ
    source: str = ""


_READ: Final = msgspec.json.Decoder(_Read)


def _whole(parts: list[bytes]) -> bytes:
    """One message of all its parts."""
    read = [_READ.decode(START + part + END) for part in parts]
    first = read[0]
    pieces = [msgspec.json.decode(one.data, type=_DATA[first.channel]) for one in read]
    data: Data
    if isinstance(pieces[0], Book):
        data = Book(
            [level for book in pieces for level in book.bids], [level for book in pieces for level in book.asks]
        )
    else:
        data = [item for items in pieces for item in items]
    if first.type == "snapshot":
        return bare(Snapshot(first.channel, first.symbol, first.source, first.seq, first.ts_event, first.ts_recv, data))
    assert first.ts_recv is not None
    return bare(Update(first.channel, first.symbol, first.prev, first.seq, first.ts_event, first.ts_recv, data))
