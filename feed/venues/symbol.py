"""One symbol: what its ticks have led to, and the messages that they make.

Owns the state of a symbol's channels (last trades, quote, book, bars, status, definition), the chain of `prev`, and the
form of every update and snapshot. Leaves which trades were sent twice to `known`. A venue's machine tells it what a
tick meant; this module never reads venue bytes, a clock or a random number, so the same ticks give the same messages.

A machine calls each of `trades`, `quote`, `status` and `instrument` at most once a tick; the book methods as often as
it likes: they become one update at the end of the tick.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from feed.errors import BadEntry, CorruptLog, Unforeseen
from feed.venues.bars import Bars, Odd
from feed.venues.counters import AHEAD_MAX_NS
from feed.venues.known import KnownTrades
from feed.venues.legible import IN_DOUBT
from feed.venues.levels import SymbolLevels
from feed.venues.now import Last, Now, SavedSymbol, SourceCounts, strictest
from feed.venues.tick import Rules as Rules
from feed.venues.tick import Tick as Tick
from feed.wire.model import (
    KINDS,
    NO_SEQ,
    Action,
    Bar,
    Book,
    Data,
    Gap,
    Instrument,
    Kind,
    Level,
    Quote,
    Snapshot,
    State,
    Status,
    Trade,
    Update,
)
from feed.wire.parts import parted

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEVELS_FIT: Final = 2500
_ITEMS_FIT: Final = 512
# What makes a record full: about the bytes of an update, of a level and of anything else in its data.
_UPDATE_WEIGHT: Final = 200
_LEVEL_WEIGHT: Final = 24
_ITEM_WEIGHT: Final = 120
_BOOK: Final = msgspec.json.Decoder(Book)


class Machine(Protocol):
    """What reads one venue's bytes for one symbol."""

    def __init__(self, symbol: Symbol) -> None: ...

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant.

        Raises:
            BadTick: it cannot be used, and nothing has changed.
            BadEntry: what it says of this symbol cannot be used, and `Symbol.spoiled` has told what is in doubt.
        """

    def apply_entry(self, tick: Tick, entry: Any) -> None:
        """As `apply`, of what the venue's `entries` gave for this symbol of a frame without a key."""

    def refused(self, tick: Tick) -> None:
        """Tells the symbol what is in doubt since a tick of it that was refused as a whole, by what is legible of it:
        the book, the trades, both, or nothing where its kind is legible and says nothing of them. Raises nothing."""

    def save(self) -> bytes:
        """The machine's private state, as JSON; the book is saved by the symbol."""

    def load(self, saved: bytes) -> None:
        """Takes up a private state; the symbol's book is there already."""


class Symbol:
    """Everything that one symbol's ticks have led to."""

    def __init__(self, name: str, venue_symbol: str, now: Now, rules: Rules) -> None:
        self.name = name
        self.venue_symbol = venue_symbol
        self.bars = Bars(rules.bars, self._count_odd)
        self._now = now
        self._rules = rules
        self._add_to_bar = self.bars.add if rules.bars.intervals else None
        self._last: dict[Kind, Last] = {}
        self._trades: deque[Trade] = deque(maxlen=rules.trades_kept)
        self._known = KnownTrades(rules.trade_id_runs_max)
        self._levels = SymbolLevels()
        self._hole = False
        self._quote: Quote | None = None
        self._status: Status | None = None
        self._own_status: Status | None = None
        self._instrument: Instrument | None = None
        self._live = False
        self._stale: State | None = None
        self._change: tuple[list[Level], list[Level], str | None] | None = None
        self._state_change: State | None = None

    @property
    def counts(self) -> SourceCounts:
        """What the source has counted."""
        return self._now.counts

    @property
    def quote_known(self) -> Quote | None:
        """The last quote."""
        return self._quote

    @property
    def instrument_known(self) -> Instrument | None:
        """The definition as it was told last."""
        return self._instrument

    @property
    def book_is_live(self) -> bool:
        """Whether the venue's snapshot was taken and no hole or bad checksum came since."""
        return self._live and self._stale is None

    def trades(self, trades: list[Trade], ts_event: str | None, *, aggregated: bool = False) -> bool:
        """Trades at market, in the venue's order; those that were seen before are dropped (`known`).

        Whether the venue's ids have begun anew with one of them. `aggregated`: the ids are those of aggregates.
        """
        now, known = self._now, self._known
        new, anew = known.sift(trades, now.counts, aggregated, now.clock)
        if not new:
            return False
        if anew and known.are_counted:
            self._hole = True
        last = self._last.get("trades")
        if last is None or last.seq == NO_SEQ:
            self._trades.clear()
        if self._hole:
            self._hole = False
            seq = NO_SEQ if last is None else last.seq
            now.out.append(Gap("trades", self.name, now.source, seq, seq, None, "venue", True))
        self._update("trades", new, ts_event, _ITEM_WEIGHT * len(new), len(new) <= _ITEMS_FIT)
        self._trades.extend(new)
        self._add_to_bars(new)
        return anew

    def _add_to_bars(self, trades: list[Trade]) -> None:
        known, clock, add = self._known, self._now.clock, self._add_to_bar
        for trade in trades:
            text = trade.ts_event
            time = clock if text is None else int(text)
            if known.newest < time <= clock + AHEAD_MAX_NS and text is not None:
                known.newest = time
            if add is not None:
                add(time, trade.price, trade.size, clock)

    def _count_odd(self, what: Odd, count: int) -> None:
        counts = self._now.counts
        setattr(counts, what, getattr(counts, what) + count)
        counts.bars_of = self.name

    def count_trades(self) -> None:
        """The venue's ids of trades are consecutive."""
        self._known.are_counted = True

    def follow(self, last: int | None, number: int, ts_event: str | None) -> int:
        """Where a venue's consecutive ids of trades stand after this one, from where they stood.

        What was skipped is a hole. An id that is far back and later has begun anew (`counters`).
        """
        if last is None or number == last + 1:
            return number
        if number > last:
            self.hole()
            return number
        return number if self.restarts(last, number, ts_event) else last

    def restarts(self, last: int, number: int, ts_event: str | None) -> bool:
        """Whether consecutive ids that stood at `last` begin anew with this one: what was missed nobody knows."""
        if not self._known.restarts(last, number, ts_event, self._now.clock):
            return False
        self._known.forget(self._now.counts)
        self.hole()
        return True

    def history(self, trades: list[Trade]) -> None:
        """Trades that the venue sent again at subscription: they stand in the snapshot before the first live trade."""
        if "trades" in self._last and self._last["trades"].seq != NO_SEQ:
            return
        self._last.setdefault("trades", Last())
        clock = self._now.clock
        self._trades.extend(trade for trade in trades if self._known.add(trade, clock))

    def hole(self) -> None:
        """The venue's own sequence skipped trades: a gap goes out before the next update of this channel."""
        self._hole = True

    def quote(self, quote: Quote, ts_event: str | None) -> None:
        """The venue's top of book; dropped where quotes are made from the book."""
        if self._rules.quotes_from == "stream":
            self._set_quote(quote, ts_event)

    def status(self, action: Action, reason: str | None, ts_event: str | None) -> None:
        """Whether the symbol trades by itself; it does only where the venue says so of all of them, too."""
        self._own_status = Status(action, reason)
        self._tell_status(ts_event)

    def tell_venue_status(self) -> None:
        """The venue has said something of all its symbols."""
        self._tell_status(None)

    def instrument(self, instrument: Instrument, ts_event: str | None) -> None:
        """The symbol's definition; a repeated one is no update."""
        if instrument != self._instrument:
            self._instrument = instrument
            self._update("instruments", instrument, ts_event)

    def book_change(self, bids: list[Level], asks: list[Level], ts_event: str | None) -> None:
        """Levels as absolute sizes, "0" deletes. Deletes of unknown levels are passed on as they stand."""
        self._levels.change(bids, asks)
        before = self._change
        if before is not None:
            bids = list({**dict(before[0]), **dict(bids)}.items())
            asks = list({**dict(before[1]), **dict(asks)}.items())
        self._change = bids, asks, ts_event

    def book_change_json(self, text: bytes, levels: int, ts_event: str | None) -> None:
        """`book_change` by the canonical JSON of a `Book` with so many levels, which is passed on as it stands. It is
        the only change of the book in this tick."""
        if levels > _LEVELS_FIT or self._rules.quotes_from == "book":
            book = _BOOK.decode(text)
            self.book_change(book.bids, book.asks, ts_event)
        else:
            self._levels.change_json(text)
            self._update("book", Raw(text), ts_event, _LEVEL_WEIGHT * levels)

    def book_replace(self, bids: dict[str, str], asks: dict[str, str], ts_event: str | None) -> None:
        """The venue's own snapshot: the difference goes out, and a stale book is good again."""
        changed = self._levels.differences(bids, asks)
        self._live = True
        self.book_change(*changed, ts_event)
        if self._stale is not None:
            self._stale = None
            self._state_change = State(
                self._now.source, "book", self.name, self._now.seq, "ok", None, self._now.ts_recv
            )

    def book_stale(self, reason: Literal["gap", "checksum"]) -> None:
        """The book cannot be trusted from this tick on, until the venue's next snapshot."""
        if self._live:
            self._doubt_book(reason)

    def book_missed(self) -> None:
        """A change of a book that has not begun, or that waits for a snapshot: of no use, counted, and told once.

        Where changes usually come before their snapshot, a machine keeps them, and says this of those that it gives up.
        """
        self._now.counts.changes_lost += 1
        self._doubt_book("gap")

    def spoiled(self, channel: Kind | None, why: Exception) -> BadEntry:
        """What the venue said of this channel in this tick cannot be read; the error to be raised.

        A book that missed a change is stale, and trades that were missed are a hole; other channels hold one thing,
        and the next word of the venue replaces it.
        """
        self.in_doubt(channel)
        self._now.counts.bad_entries += 1
        return BadEntry(f"entry of {self.venue_symbol}: {why}")

    def in_doubt(self, *channels: str | None) -> None:
        """A tick that may have held something of these channels cannot be read: the book is stale until a snapshot,
        a gap goes out before the next trades. Of other channels nothing is in doubt."""
        if "book" in channels:
            self.book_stale("gap")
        if "trades" in channels:
            self.hole()

    def unforeseen(self, error: Exception) -> Unforeseen:
        """A tick ended in an exception that nobody has expected, and so ends here: what it has left is in doubt; the
        error to be told."""
        self.in_doubt(*IN_DOUBT)
        self._now.counts.bad_entries += 1
        try:
            self.end_tick()
        except Exception:
            # what was gathered of the book goes out with the next tick, or clients would miss it for ever
            self._tell_state_change()
        found = Unforeseen(f"entry of {self.venue_symbol}: {error!r}")
        found.__cause__ = error
        return found

    def end_tick(self) -> None:
        """Sends what the book methods gathered, then any change of its state."""
        if self._change is not None:
            bids, asks, ts_event = self._change
            levels = len(bids) + len(asks)
            self._update("book", Book(bids, asks), ts_event, _LEVEL_WEIGHT * levels, levels <= _LEVELS_FIT)
            self._change = None
            if self._rules.quotes_from == "book":
                self._quote_from_book(bids, asks, ts_event)
        if self._state_change is not None:
            self._tell_state_change()

    def end_bars(self) -> None:
        """Sends the bars that are due at the source's clock."""
        bars = self.bars.emit(self._now.clock)
        if bars:
            last_trade = self._last["trades"].ts_event if "trades" in self._last else None
            self._update("bars", bars, last_trade, _ITEM_WEIGHT * len(bars), len(bars) <= _ITEMS_FIT)

    def snapshots(self) -> list[Snapshot | State]:
        """The whole state of each channel that has one, in parts where large, a stale book followed by its state."""
        out: list[Snapshot | State] = []
        for kind in KINDS:
            last = self._last.get(kind)
            data = None if last is None else self._data(kind)
            if last is not None and data is not None and (data or last.seq != NO_SEQ):
                out += parted(Snapshot(kind, self.name, self._now.source, last.seq, last.ts_event, last.ts_recv, data))
            if kind == "book" and self._stale is not None:
                out.append(self._stale)
        return out

    def save(self, machine: Machine) -> bytes:
        """The private state; with `snapshots()` at the same tick it is the whole state."""
        ids, texts, aggregates = self._known.save()
        return msgspec.json.encode(
            SavedSymbol(
                self.venue_symbol,
                self._now.clock,
                self._stale,
                self._live,
                self._hole,
                ids,
                texts,
                self.bars.save(),
                self._last.get("trades", Last()),
                Raw(machine.save()),
                self._own_status,
                newest=self._known.newest,
                aggregates=aggregates,
            )
        )

    def load(self, snapshots: Iterable[Snapshot], saved: SavedSymbol, machine: Machine) -> None:
        """Takes up the state that `snapshots` and `save` gave."""
        if saved.last_trades.seq != NO_SEQ or self._trades:
            self._last["trades"] = saved.last_trades
        bars: list[Bar] = []
        for snapshot in snapshots:
            last = self._last_of(snapshot.channel)
            last.seq, last.ts_event, last.ts_recv = snapshot.seq, snapshot.ts_event, snapshot.ts_recv
            data = snapshot.data
            if isinstance(data, Book):
                self._levels.change(data.bids, data.asks)
            elif isinstance(data, Quote):
                self._quote = data
            elif isinstance(data, Status):
                self._status = data
            elif isinstance(data, Instrument):
                self._instrument = data
            elif snapshot.channel == "trades":
                self._trades.extend(data)  # type: ignore[arg-type]  # of the channel trades
            else:
                bars += data  # type: ignore[arg-type]  # of the channel bars
        self._live, self._hole = saved.live, saved.hole
        # told of another source, clients would take no notice of it
        self._stale = None if saved.stale is None else replace(saved.stale, source=self._now.source)
        self._own_status = saved.status
        self._known.load(saved)
        self.bars.load(bars, saved.bars, saved.clock)
        machine.load(bytes(saved.machine))

    def stands(self, kind: Kind) -> int:
        """The position of a channel, `NO_SEQ` before its first update."""
        last = self._last.get(kind)
        return NO_SEQ if last is None else last.seq

    def retell(self, kind: Kind, seq: int, ts_event: str | None, ts_recv: str | None, data: Data) -> None:
        """Takes up what an update said whose tick is gone, one that is not in the state; of parts each by itself."""
        last = self._last_of(kind)
        if isinstance(data, Book):
            self._levels.change(data.bids, data.asks)
            self._live = True  # nothing is told of a book before its venue's snapshot
        elif isinstance(data, Quote):
            self._quote = data
        elif isinstance(data, Status):
            self._status = data
        elif isinstance(data, Instrument):
            self._instrument = data
        elif kind == "trades":
            trades: list[Trade] = data  # type: ignore[assignment]  # of the channel trades
            if last.seq == NO_SEQ:
                self._trades.clear()
            new = [trade for trade in trades if self._known.add(trade, self._now.clock)]
            self._trades.extend(new)
            self._add_to_bars(new)
        else:
            self.bars.retell(data, self._now.clock)  # type: ignore[arg-type]  # of the channel bars
        last.seq, last.ts_event, last.ts_recv = seq, ts_event, ts_recv

    def cut(self, pos: int) -> None:
        """Positions go on after `pos`, and what happened in between is not known: no book is trusted."""
        for last in self._last.values():
            last.seq = min(last.seq, pos)
        if self._stale is not None:
            self._stale = replace(self._stale, seq=min(self._stale.seq, pos))  # type: ignore[type-var]  # of a channel
        elif self._live:
            self._stale = State(self._now.source, "book", self.name, pos, "stale", "gap", self._now.ts_recv)

    def _last_of(self, kind: Kind) -> Last:
        last = self._last.get(kind)
        if last is None:
            last = self._last[kind] = Last()
        return last

    def _update(
        self, kind: Kind, data: Data | Raw, ts_event: str | None, weight: int = _ITEM_WEIGHT, fits: bool = True
    ) -> None:
        """Sends an update; `weight` is about the bytes of its data, which may need parts where it is not sure that it
        `fits`. Raw data is the JSON of what it stands for."""
        now, last = self._now, self._last.get(kind)
        if last is None:
            last = self._last[kind] = Last()
        if last.seq == now.seq:
            raise CorruptLog(f"second update of {kind} of {self.name} in tick {now.seq}, wanted one")
        update = Update(kind, self.name, last.seq, now.seq, ts_event, now.ts_recv, data)  # type: ignore[arg-type]
        if fits:
            now.out.append(update)
        else:
            now.out += parted(update)
        now.weight += _UPDATE_WEIGHT + weight
        last.seq, last.ts_event, last.ts_recv = now.seq, ts_event, now.ts_recv

    def _tell_state_change(self) -> None:
        if self._state_change is not None:
            self._now.out.append(self._state_change)
            self._state_change = None

    def _doubt_book(self, reason: Literal["gap", "checksum"]) -> None:
        now = self._now
        if self._stale is None:
            self._stale = self._state_change = State(
                now.source, "book", self.name, now.seq, "stale", reason, now.ts_recv
            )

    def _tell_status(self, ts_event: str | None) -> None:
        """Of what was said of this symbol and of all of them that which allows less; repeated words are no update."""
        own, of_all = self._own_status, self._now.venue_status
        said = [(status.action, status.reason) for status in (own, of_all) if status is not None]
        status = Status(*strictest(said)) if said else None
        if status is not None and status != self._status:
            self._status = status
            self._update("status", status, ts_event)

    def _set_quote(self, quote: Quote, ts_event: str | None) -> None:
        self._quote = quote
        self._update("quotes", quote, ts_event)

    def _quote_from_book(self, bids: list[Level], asks: list[Level], ts_event: str | None) -> None:
        best = self._levels.best(self._quote, bids, asks)
        if best != self._quote:
            self._set_quote(best, ts_event)

    def _data(self, kind: Kind) -> Data | None:
        if kind == "book":
            return self._levels.all()
        if kind == "trades":
            return list(self._trades)
        if kind == "bars":
            return self.bars.state()
        if kind == "quotes":
            return self._quote
        return self._status if kind == "status" else self._instrument
