"""The state machine of one source: ticks in, messages out, and its whole state as keyframes and checkpoints.

Owns the symbols of a source, its clock (the running maximum of `ts_recv`), which symbols of a frame without a key are
meant, and the order in which bars of all symbols fall due. Leaves what a frame means to the venue's machine, what a
message looks like to `symbol`, which times are believed without Kafka's to `clock`, and what is written where and when
to `feed.feedlog.writer`.

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

from feed.errors import BadEntry, BadTick, CorruptLog, SchemaAway, Unforeseen
from feed.venues.bars import NEVER
from feed.venues.clock import untimed
from feed.venues.now import ALL, NO_JUMP, Message, Now, SavedSymbol, SourceCounts
from feed.venues.symbol import Machine, Rules, Symbol, Tick
from feed.venues.tick import NEVER_WRITTEN, NO_TIME
from feed.wire.frames import UNREADABLE
from feed.wire.model import NO_SEQ, Action, Bar, Book, Instrument, Kind, Quote, Snapshot, State, Status, Trade
from feed.wire.symbols import is_pattern
from feed.wire.times import NS_MIN, unit_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
_NAMES: Final = msgspec.json.Decoder(list[str])
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
    hand and what was made since the last `take`. `is_own` says whether ticks of a symbol lie in this partition.
    """

    def __init__(
        self, venue: Venue, source: str, rules: Rules, *, is_own: Callable[[str], bool] = lambda symbol: True
    ) -> None:
        self._venue = venue
        self._by_value = venue.by_value
        self._sure: set[str] = set()
        """Of a venue whose values alone tell of which symbols they are: those of which something was told, or may have
        been, since all were in doubt. The others still are, so a stream of bad ticks costs what was told in between."""
        self._is_own = is_own
        self._rules = rules
        self._ahead_max_ns = rules.ts_recv_ahead_max_ns
        self.now = Now(source)
        self._symbols: dict[str, tuple[Symbol, Machine]] = {}
        self._asleep: list[tuple[int, str, Checkpoint]] = []
        self._sleeping: set[str] = set()
        self._first: SavedSymbol | None = None
        self._due: list[tuple[int, str]] = []
        self.born: list[tuple[str, int]] = []
        self._stood: dict[tuple[str, Kind], int] = {}
        """Where channels stood when what gone ticks did began to be told again, until `cut`."""

    def __len__(self) -> int:
        return len(self._symbols)

    def __iter__(self) -> Iterator[str]:
        """What has a state of its own: all symbols, and `ALL` where something is known of it."""
        return chain(self._symbols, [ALL] if self.now.venue_statuses else [])

    @property
    def counts(self) -> SourceCounts:
        """What was counted since `take_counts` was called last, or since the source was restored."""
        return self.now.counts

    def take_counts(self) -> SourceCounts:
        """What was counted since the last call."""
        counts, self.now.counts = self.now.counts, SourceCounts()
        return counts

    @property
    def clock(self) -> int:
        """The running maximum of `ts_recv`, nanoseconds."""
        return self.now.clock

    def name_of(self, venue_symbol: str) -> str:
        """The symbol's name in the feed."""
        return f"{self._venue.prefix}:{venue_symbol}"

    def take(self) -> list[Message]:
        """The messages made since the last call, in order."""
        out, self.now.out, self.now.weight = self.now.out, [], 0
        return out

    def ahead(self, ticks: Sequence[Tick]) -> Iterator[object]:
        """Of each tick what can be read of it now, for `apply`: what many frames have in common is done at once."""
        read = self._venue.ahead
        if read is None:
            return repeat(None, len(ticks))
        some = (ticks[at : at + _AHEAD_TICKS] for at in range(0, len(ticks), _AHEAD_TICKS))
        return chain.from_iterable(_read_ahead(read, each) for each in some)

    def apply(self, tick: Tick, read: object = None) -> Sequence[BadEntry]:
        """Does what one tick says; `read` is what `ahead` gave for it. The entries of it that cannot be used, if any.

        Raises:
            BadTick: the tick cannot be used; nothing has changed but the clock, and what the tick may have held of the
                symbols that its key or its header names is in doubt.
            SchemaAway: it cannot be read yet; this source is of no use any more, take its state up again.
        """
        bad: Sequence[BadEntry] = ()
        now = self.now
        if self._asleep and self._asleep[-1][0] < tick.seq:
            self._restore_until(tick.seq)
        if not NS_MIN <= tick.ts_recv <= tick.ts_kafka + self._ahead_max_ns:
            tick = self._timed(tick)
        ts_recv = tick.ts_recv
        now.seq, now.ts_recv = tick.seq, str(ts_recv)
        if ts_recv > now.clock:
            now.clock = ts_recv
        try:
            known = None if self._by_value else self._symbols.get(tick.key)
            if known is not None:
                symbol, machine = known
                try:
                    if read is None or not machine.apply_read(tick, read):  # type: ignore[attr-defined]  # of its own
                        machine.apply(tick)
                    symbol.end_tick()
                except BadEntry as error:
                    bad = [error, *self._ended(symbol)]
                except BadTick:
                    self._doubt(tick)
                    raise
                except SchemaAway:
                    raise
                except Exception as error:
                    bad = [symbol.unforeseen(error)]
                if symbol.bars.due < symbol.bars.scheduled:
                    self._schedule(symbol)
            elif self._by_value or not tick.key:
                try:
                    bad = self._apply_without_key(tick)
                except BadTick:
                    self._doubt(tick)
                    raise
            elif tick.key not in self._sleeping:
                self._create(tick, tick.key)
        finally:
            # a bad tick moves the clock like any other: whether it is bad is not looked at while its symbol sleeps
            if self._due and self._due[0][0] <= now.clock:
                self._end_bars()
        return bad

    def keyframe(self, venue_symbol: str) -> list[Snapshot | State]:
        """The symbol's snapshots as they are after the last tick."""
        return [] if venue_symbol == ALL else self._symbols[venue_symbol][0].snapshots()

    def checkpoint(self, venue_symbol: str) -> bytes:
        """The symbol's private state as it is after the last tick."""
        if venue_symbol == ALL:
            return self.now.save()
        symbol, machine = self._symbols[venue_symbol]
        saved, now = symbol.save(machine), self.now
        if now.claimed or now.jumped != NO_JUMP:  # rare, and the source's, not the symbol's
            saved = b'%b,"claimed":%d,"jumped":[%d,%d]}' % (saved[:-1], now.claimed, *now.jumped)
        return saved

    def restore(self, checkpoints: list[Checkpoint]) -> None:
        """Takes up the state of a source from its symbols' checkpoints; then run the ticks after the oldest again.

        Raises:
            CorruptLog: a checkpoint cannot be read.
        """
        saved = [(checkpoint.at, self._saved(checkpoint), checkpoint) for checkpoint in checkpoints]
        self._asleep = sorted(
            ((at, symbol.venue_symbol, checkpoint) for at, symbol, checkpoint in saved),
            key=lambda asleep: asleep[:2],
            reverse=True,
        )
        self._first = min(saved, key=lambda each: each[0])[1] if saved else None
        self._sleeping = {venue_symbol for _, venue_symbol, _ in self._asleep} - {ALL}
        # each status of the venue has a tick of its own: before that tick it does not count
        self.now.venue_statuses = next(
            (symbol.venue_statuses for _, symbol, _ in saved if symbol.venue_symbol == ALL), []
        )

    def wake_all(self) -> None:
        """Ends the restoring: every symbol is at its checkpoint or later, and counting begins."""
        self._restore_until(2**63)
        self.now.counts = SourceCounts()

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
                self._sure.add(venue_symbol)
                symbol = known[0]
                # those of one tick, or parts of one update, are told one after the other at one position
                stood = self._stood.setdefault((venue_symbol, read.channel), symbol.stands(read.channel))
                if read.seq <= stood:
                    continue
                self.now.clock = max(self.now.clock, int(read.ts_recv or 0))
                symbol.retell(
                    read.channel, read.seq, read.ts_event, read.ts_recv, _DATA[read.channel].decode(read.data)
                )
        except (msgspec.DecodeError, ValueError) as error:
            raise CorruptLog(f"record cannot be read again: {error}") from error

    def cut(self, pos: int) -> None:
        """Some ticks cannot be run again, and what follows begins after `pos`: no position lies beyond it, and no book
        is trusted until its venue sends it anew."""
        self._stood = {}
        self.now.seq, self.now.ts_recv = pos, str(self.now.clock)
        self.now.venue_statuses = [status._replace(seq=min(status.seq, pos)) for status in self.now.venue_statuses]
        for symbol, _ in self._symbols.values():
            symbol.cut(pos)
            self._schedule(symbol)
        self.born = [(venue_symbol, min(since, pos)) for venue_symbol, since in self.born]

    def _restore_until(self, seq: int) -> None:
        while self._asleep and self._asleep[-1][0] < seq:
            _, venue_symbol, checkpoint = self._asleep.pop()
            self._sleeping.discard(venue_symbol)
            saved = self._saved(checkpoint)
            if venue_symbol != ALL:
                symbol, machine = self._make(venue_symbol)
                symbol.load(_snapshots(checkpoint), saved, machine)
                self._symbols[venue_symbol] = symbol, machine
                self._sure.add(venue_symbol)
                self._schedule(symbol)
            self.now.clock = max(self.now.clock, saved.clock)
            self.now.claimed, self.now.jumped, self._first = saved.claimed, saved.jumped, None

    def _saved(self, checkpoint: Checkpoint) -> SavedSymbol:
        try:
            return _SAVED.decode(checkpoint.private)
        except msgspec.DecodeError as error:
            raise CorruptLog(f"checkpoint at tick {checkpoint.at} cannot be read: {error}") from error

    def _make(self, venue_symbol: str) -> tuple[Symbol, Machine]:
        symbol = Symbol(self.name_of(venue_symbol), venue_symbol, self.now, self._rules)
        return symbol, self._venue.machine(symbol)

    def _create(self, tick: Tick, name: str, entry: object = None) -> None:
        """The first tick of a symbol; `entry` is what it says of it where it has no key."""
        if len(name) > _KEY_CHARS_MAX or not name.isprintable():
            raise BadTick(f"key of {len(name)} characters, wanted a symbol of up to {_KEY_CHARS_MAX} printable ones")
        if is_pattern(name):
            raise BadTick(f"key {name!r} is a pattern, wanted a symbol")
        if len(self._symbols) + len(self._sleeping) >= self._rules.symbols_max:
            raise BadTick(f"symbol {name} is one more than the {self._rules.symbols_max} that a source may have")
        symbol, machine = self._make(name)
        out, weight = len(self.now.out), self.now.weight
        try:
            if tick.key and not self._by_value:
                machine.apply(tick)
            else:
                machine.apply_entry(tick, entry)
            symbol.tell_venue_status()
            symbol.end_tick()
        except (BadTick, SchemaAway):
            raise
        except Exception as error:
            # it is as if the symbol had never been
            del self.now.out[out:]
            self.now.weight = weight
            raise Unforeseen(f"first tick of {name}: {error!r}") from error
        self._symbols[name] = symbol, machine
        self.born.append((name, tick.seq - 1))
        if symbol.bars.due < symbol.bars.scheduled:
            self._schedule(symbol)

    def _apply_without_key(self, tick: Tick) -> list[BadEntry]:
        """A frame of several symbols is taken apart; what stands in none of its entries is said of all symbols."""
        try:
            entries = self._venue.entries(tick)
            said = None if entries else self._venue.venue_status(tick.value)
        except (BadTick, SchemaAway):
            raise
        except Exception as error:
            raise Unforeseen(f"frame without a key: {error!r}") from error
        if not entries:
            self._tell_venue_status(tick, said)
            return []
        bad: list[BadEntry] = []
        meant = self._meant(tick, entries)
        if self._by_value:
            self._sure.update(meant)
        for name in meant:
            known = self._symbols.get(name)
            try:
                if known is not None:
                    self._apply_entry(*known, tick, entries[name])
                elif name not in self._sleeping:
                    self._create(tick, name, entries[name])
            except BadEntry as error:
                bad.append(error)
            except BadTick as error:
                bad.append(BadEntry(f"entry of {name[:_KEY_CHARS_MAX]!r}: {error}"))
        return bad

    def _apply_entry(self, symbol: Symbol, machine: Machine, tick: Tick, entry: object) -> None:
        try:
            machine.apply_entry(tick, entry)
            symbol.end_tick()
        except BadTick:
            self._ended(symbol)
            raise
        except Exception as error:
            raise symbol.unforeseen(error) from error
        finally:
            if symbol.bars.due < symbol.bars.scheduled:
                self._schedule(symbol)

    @staticmethod
    def _ended(symbol: Symbol) -> list[BadEntry]:
        """Ends a tick of which some was of no use; what goes wrong with that, too."""
        try:
            symbol.end_tick()
        except Exception as error:
            return [symbol.unforeseen(error)]
        return []

    def _timed(self, tick: Tick) -> Tick:
        """The tick at the time at which it counts, where what it says itself cannot be believed."""
        try:
            if tick.ts_kafka != NEVER_WRITTEN or NO_TIME != tick.ts_recv < NS_MIN:
                raise BadTick(_odd_time(tick))
            return replace(tick, ts_recv=untimed(self.now, tick, self._first))
        except BadTick:
            # what is told of a tick that has no time is told at the source's clock
            self.now.seq, self.now.ts_recv = tick.seq, str(self.now.clock)
            self._doubt(tick)
            raise

    def _doubt(self, tick: Tick) -> None:
        """A tick is refused as a whole: what it may have held of the symbols that it is said to be of is in doubt; of
        all, where only its value says of which it is."""
        names = [tick.key] if tick.key else _named(tick)
        if self._by_value:
            names, self._sure = sorted(self._sure), set()
        for name in names:
            known = self._symbols.get(name)
            if known is None:
                continue
            symbol, machine = known
            try:
                machine.refused(tick)
                symbol.end_tick()
            except Exception as error:
                raise symbol.unforeseen(error) from error

    def _meant(self, tick: Tick, entries: Mapping[str, object]) -> list[str]:
        """The symbols of a frame without a key that are this source's."""
        if tick.symbols is not None:
            try:
                told = set(_NAMES.decode(tick.symbols))
            except UNREADABLE as error:
                raise BadTick(f"header `symbols`, wanted a list of names as JSON: {error}") from error
            return [name for name in entries if name in told]
        if self._venue.by_name:
            return list(entries)
        own = [name for name in entries if name in self._symbols or name in self._sleeping or self._is_own(name)]
        if not own and len(entries) == 1:
            raise BadTick(f"frame of {next(iter(entries))[:_KEY_CHARS_MAX]!r} alone, wanted it with its key")
        return own

    def _tell_venue_status(self, tick: Tick, said: tuple[Action, str | None] | None) -> None:
        """What a frame says of all symbols, if anything."""
        if said is not None:
            if not self.now.venue_statuses:
                self.born.append((ALL, tick.seq - 1))
            self.now.set_venue_status(*said)
            # by name: the order in which symbols came is not known any more after a restart
            for _, (symbol, _) in sorted(self._symbols.items()):
                symbol.tell_venue_status()

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


def _read_ahead(read: Callable[[Sequence[Tick]], Sequence[object]], ticks: Sequence[Tick]) -> Sequence[object]:
    """What can be read of some ticks at once; nothing where one of them ends in an exception: which, is found later."""
    try:
        return read(ticks)
    except Exception:
        return [None] * len(ticks)


def _named(tick: Tick) -> list[str]:
    """The symbols that a header names, as far as it can be read."""
    try:
        return list(dict.fromkeys(_NAMES.decode(tick.symbols or b"[]")))
    except UNREADABLE:
        return []


def _odd_time(tick: Tick) -> str:
    if tick.ts_recv >= NS_MIN:
        return f"ts_recv {tick.ts_recv}, wanted at most a little after {tick.ts_kafka}"
    if tick.ts_recv < 0:
        return "ts_recv cannot be read, wanted nanoseconds since 1970 as digits"
    return f"ts_recv {tick.ts_recv} looks like {unit_of(tick.ts_recv)}, wanted nanoseconds since 1970"


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
