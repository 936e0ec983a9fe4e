"""The state machine of one source: ticks in, messages out, and its whole state as keyframes and checkpoints.

Owns the symbols of a source, its clock (the running maximum of `ts_recv`) and the order in which bars of all symbols
fall due. Leaves what a frame means to the venue's machine, what a message looks like to `symbol`, and what is written
where and when to `feed.feedlog`.

Deterministic: the same ticks in the same order give the same messages, also when the machine was restored from
keyframes and checkpoints taken at different ticks for different symbols: a symbol stays asleep until the tick at
which its own checkpoint was taken.
"""

from __future__ import annotations

import heapq
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from feed.errors import BadTick, CorruptLog
from feed.model import NO_SEQ, Bar, Book, Instrument, Kind, Quote, Snapshot, State, Status, Trade
from feed.symbols import is_pattern
from feed.venues.bars import NEVER
from feed.venues.symbol import NO_TIME, Machine, Message, Now, Rules, SavedSymbol, Symbol, Tick

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from feed.venues.venue import Venue

_KEY_CHARS_MAX: Final = 64
_AHEAD_TICKS: Final = 64
_DATA: Final[dict[Kind, msgspec.json.Decoder[Any]]] = {
    "trades": msgspec.json.Decoder(list[Trade]),
    "quotes": msgspec.json.Decoder(Quote),
    "book": msgspec.json.Decoder(Book),
    "bars": msgspec.json.Decoder(list[Bar]),
    "status": msgspec.json.Decoder(Status),
    "instruments": msgspec.json.Decoder(Instrument),
}
_SAVED: Final = msgspec.json.Decoder(SavedSymbol)


class _Read(Struct):
    """A message of a keyframe as it is read back: a snapshot, or a state without data."""

    type: str
    channel: Kind
    seq: int
    source: str = ""
    symbol: str = ""
    ts_event: str | None = None
    ts_recv: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


_READ: Final = msgspec.json.Decoder(list[_Read])


class Checkpoint(NamedTuple):
    """A symbol's whole state after tick `at`: the values of its keyframe records and of its checkpoint record."""

    at: int
    keyframes: list[bytes]
    private: bytes


class Source:
    """All symbols of one source, by their venue's name.

    `born` lists those that came since it was last emptied, each with the tick before its first. `now` is the tick in
    hand and what was made since the last `take`.
    """

    def __init__(self, venue: Venue, source: str, rules: Rules) -> None:
        self._venue = venue
        self._rules = rules
        self._ahead_max_ns = rules.ts_recv_ahead_max_ns
        self.now = Now(source)
        self._symbols: dict[str, tuple[Symbol, Machine]] = {}
        self._asleep: list[tuple[int, str, Checkpoint]] = []
        self._sleeping: set[str] = set()
        self._due: list[tuple[int, str]] = []
        self.born: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self._symbols)

    def __iter__(self) -> Iterator[str]:
        return iter(self._symbols)

    @property
    def clock(self) -> int:
        """The running maximum of `ts_recv`, nanoseconds."""
        return self.now.clock

    def name_of(self, venue_symbol: str) -> str:
        """The symbol's name in the feed."""
        return self._symbols[venue_symbol][0].name

    def take(self) -> list[Message]:
        """The messages made since the last call, in order."""
        out, self.now.out, self.now.weight = self.now.out, [], 0
        return out

    def ahead(self, ticks: Sequence[Tick]) -> Iterator[object]:
        """Of each tick what can be read of it now, for `apply`: what many frames have in common is done at once."""
        read = self._venue.ahead
        if read is None:
            return repeat(None, len(ticks))
        return chain.from_iterable(read(ticks[at : at + _AHEAD_TICKS]) for at in range(0, len(ticks), _AHEAD_TICKS))

    def apply(self, tick: Tick, read: object = None) -> None:
        """Does what one tick says; `read` is what `ahead` gave for it.

        Raises:
            BadTick: the tick cannot be used; nothing has changed but the clock.
        """
        now = self.now
        ts_recv = tick.ts_recv
        if self._asleep and self._asleep[-1][0] < tick.seq:
            self._wake(tick.seq)
        if ts_recv == NO_TIME:
            if not now.clock:
                raise BadTick("neither the record nor a header ts_recv says when it came, and no tick before it did")
            ts_recv = now.clock
            tick = replace(tick, ts_recv=ts_recv)
        if not 0 <= ts_recv <= tick.ts_kafka + self._ahead_max_ns:
            raise BadTick(f"ts_recv {ts_recv}, wanted at most a little after {tick.ts_kafka}")
        now.seq, now.ts_recv = tick.seq, str(ts_recv)
        if ts_recv > now.clock:
            now.clock = ts_recv
        try:
            known = self._symbols.get(tick.key)
            if known is None:
                symbol = self._apply_to_stranger(tick)
            else:
                symbol, machine = known
                if read is None or not machine.apply_read(tick, read):  # type: ignore[attr-defined]  # of its own venue
                    machine.apply(tick)
            if symbol is not None:
                symbol.end_tick()
                if symbol.bars.due < symbol.bars.scheduled:
                    self._schedule(symbol)
        finally:
            # a bad tick moves the clock like any other: whether it is bad is not looked at while its symbol sleeps
            if self._due and self._due[0][0] <= now.clock:
                self._end_bars()

    def keyframe(self, venue_symbol: str) -> list[Snapshot | State]:
        """The symbol's snapshots as they are after the last tick."""
        return self._symbols[venue_symbol][0].snapshots()

    def checkpoint(self, venue_symbol: str) -> bytes:
        """The symbol's private state as it is after the last tick."""
        symbol, machine = self._symbols[venue_symbol]
        return symbol.save(machine)

    def restore(self, checkpoints: list[Checkpoint]) -> None:
        """Takes up the state of a source from its symbols' checkpoints; then run the ticks after the oldest again.

        Raises:
            CorruptLog: a checkpoint cannot be read.
        """
        self._asleep = sorted(
            ((checkpoint.at, self._saved(checkpoint).venue_symbol, checkpoint) for checkpoint in checkpoints),
            key=lambda asleep: asleep[:2],
            reverse=True,
        )
        self._sleeping = {venue_symbol for _, venue_symbol, _ in self._asleep}

    def wake_all(self) -> None:
        """Ends the restoring: every symbol is at its checkpoint or later."""
        self._wake(2**63)

    def retell(self, value: bytes, pos: int) -> None:
        """Takes up what a record of the feed log says that ticks did which are gone: of its updates those above `pos`,
        and of these what no tick that is there has told.

        Raises:
            CorruptLog: it cannot be read.
        """
        try:
            for read in _READ.decode(value):
                if read.type != "update" or read.seq <= pos:
                    continue
                venue_symbol = read.symbol.partition(":")[2]
                known = self._symbols.get(venue_symbol)
                if known is None:
                    known = self._symbols[venue_symbol] = self._make(venue_symbol)
                    self.born.append((venue_symbol, NO_SEQ))
                data = _DATA[read.channel].decode(read.data)
                known[0].retell(read.channel, read.seq, read.ts_event, read.ts_recv, data)
                self.now.clock = max(self.now.clock, int(read.ts_recv or 0))
        except (msgspec.DecodeError, ValueError) as error:
            raise CorruptLog(f"record cannot be read again: {error}") from error

    def cut(self, pos: int) -> None:
        """Some ticks cannot be run again, and what follows begins after `pos`: no position lies beyond it, and no book
        is trusted until its venue sends it anew."""
        self.now.seq, self.now.ts_recv = pos, str(self.now.clock)
        for symbol, _ in self._symbols.values():
            symbol.cut(pos)
            self._schedule(symbol)
        self.born = [(venue_symbol, min(since, pos)) for venue_symbol, since in self.born]

    def _wake(self, seq: int) -> None:
        while self._asleep and self._asleep[-1][0] < seq:
            _, venue_symbol, checkpoint = self._asleep.pop()
            self._sleeping.discard(venue_symbol)
            saved = self._saved(checkpoint)
            symbol, machine = self._make(venue_symbol)
            symbol.load(_snapshots(checkpoint), saved, machine)
            self._symbols[venue_symbol] = symbol, machine
            self.now.clock = max(self.now.clock, saved.clock)
            self._schedule(symbol)

    def _saved(self, checkpoint: Checkpoint) -> SavedSymbol:
        try:
            return _SAVED.decode(checkpoint.private)
        except msgspec.DecodeError as error:
            raise CorruptLog(f"checkpoint at tick {checkpoint.at} cannot be read: {error}") from error

    def _make(self, venue_symbol: str) -> tuple[Symbol, Machine]:
        symbol = Symbol(f"{self._venue.prefix}:{venue_symbol}", venue_symbol, self.now, self._rules)
        return symbol, self._venue.machine(symbol)

    def _apply_to_stranger(self, tick: Tick) -> Symbol | None:
        if not tick.key:
            self._apply_to_all(tick)
        return None if not tick.key or tick.key in self._sleeping else self._born(tick)

    def _born(self, tick: Tick) -> Symbol:
        if len(tick.key) > _KEY_CHARS_MAX or not tick.key.isprintable():
            raise BadTick(
                f"key of {len(tick.key)} characters, wanted a symbol of up to {_KEY_CHARS_MAX} printable ones"
            )
        if is_pattern(tick.key):
            raise BadTick(f"key {tick.key!r} is a pattern, wanted a symbol")
        if len(self._symbols) + len(self._sleeping) >= self._rules.symbols_max:
            raise BadTick(f"symbol {tick.key} is one more than the {self._rules.symbols_max} that a source may have")
        symbol, machine = self._make(tick.key)
        machine.apply(tick)
        self._symbols[tick.key] = symbol, machine
        self.born.append((tick.key, tick.seq - 1))
        return symbol

    def _apply_to_all(self, tick: Tick) -> None:
        said = self._venue.wide(tick.value)
        if said is not None:
            # by name: the order in which symbols came is not known any more after a restart
            for _, (symbol, _) in sorted(self._symbols.items()):
                symbol.status(*said, None)

    def _end_bars(self) -> None:
        due = self._due
        while due and due[0][0] <= self.now.clock:
            at, venue_symbol = heapq.heappop(due)
            symbol = self._symbols[venue_symbol][0]
            if at == symbol.bars.scheduled:  # else an entry that an earlier one replaced
                symbol.end_bars()
                symbol.bars.scheduled = NEVER
                self._schedule(symbol)

    def _schedule(self, symbol: Symbol) -> None:
        bars = symbol.bars
        if bars.due != NEVER:
            bars.scheduled = bars.due
            heapq.heappush(self._due, (bars.due, symbol.venue_symbol))


def _snapshots(checkpoint: Checkpoint) -> list[Snapshot]:
    try:
        return [
            Snapshot(
                read.channel,
                read.symbol,
                read.source,
                read.seq,
                read.ts_event,
                read.ts_recv,
                _DATA[read.channel].decode(read.data),
            )
            for value in checkpoint.keyframes
            for read in _READ.decode(value)
            if read.type == "snapshot"
        ]
    except msgspec.DecodeError as error:
        raise CorruptLog(f"keyframe at tick {checkpoint.at} cannot be read: {error}") from error
