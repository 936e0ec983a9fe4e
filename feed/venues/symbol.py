"""One symbol: what its ticks have led to, and the messages that they make.

Owns the state of a symbol's channels (last trades, quote, book, bars, status, definition), the chain of `prev`, the
removal of trades that were sent twice, and the form of every update and snapshot. A venue's machine tells it what a
tick meant; this module never reads venue bytes, a clock or a random number, so the same ticks give the same messages.

A machine calls each of `trades`, `quote`, `status` and `instrument` at most once a tick; the book methods as often as
it likes: they become one update at the end of the tick.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from feed.errors import CorruptLog
from feed.model import (
    KINDS,
    NO_SEQ,
    Action,
    Bar,
    Book,
    Data,
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
from feed.model import Gap as GapMessage
from feed.parts import parted
from feed.venues.bars import BarRules, Bars
from feed.venues.bars import Saved as SavedBars
from feed.venues.ids import TradeIds
from feed.venues.levels import Levels

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEVELS_FIT: Final = 2500
_ITEMS_FIT: Final = 512
# What makes a record full: about the bytes of an update, of a level and of anything else in its data.
_UPDATE_WEIGHT: Final = 200
_LEVEL_WEIGHT: Final = 24
_ITEM_WEIGHT: Final = 120
_BOOK: Final = msgspec.json.Decoder(Book)
Message = Update | Snapshot | GapMessage | State
NO_TIME: Final = -2
"""The receive time of a tick of which nobody says when it came."""


class Tick(Struct, frozen=True, gc=False):
    """One record of a tick topic: `seq` is its offset, `request` is there where it answers a request.

    Times are nanoseconds: `ts_recv` is the collector's, `ts_kafka` that of the record. A tick with `NO_TIME` counts at
    its source's clock.
    """

    seq: int
    key: str
    value: bytes
    ts_recv: int
    ts_kafka: int
    request: str | None = None


class Rules(Struct, frozen=True):
    """Every setting that changes bytes; its hash is part of the state version."""

    trades_kept: int = 100
    trade_id_runs_max: int = 256
    quotes_from: Literal["stream", "book"] = "stream"
    symbols_max: int = 20_000
    ts_recv_ahead_max_ns: int = 60_000_000_000
    bars: BarRules = BarRules()


class Machine(Protocol):
    """What reads one venue's bytes for one symbol."""

    def __init__(self, symbol: Symbol) -> None: ...

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises `BadTick` before it has changed anything."""

    def save(self) -> bytes:
        """The machine's private state, as JSON; the book is saved by the symbol."""

    def load(self, saved: bytes) -> None:
        """Takes up a private state; the symbol's book is there already."""


class Now:
    """The tick in hand and what it has led to so far: shared by all symbols of a source."""

    __slots__ = ("clock", "out", "seq", "source", "ts_recv", "weight")

    def __init__(self, source: str) -> None:
        self.source = source
        self.seq = NO_SEQ
        self.ts_recv = "0"
        self.clock = 0
        self.out: list[Message] = []
        self.weight = 0


class Last(Struct):
    """The position of a channel: its last update."""

    seq: int = NO_SEQ
    ts_event: str | None = None
    ts_recv: str | None = None


class SavedSymbol(Struct, frozen=True):
    """A symbol's private state: all that its snapshots do not hold."""

    venue_symbol: str
    clock: int
    stale: State | None
    live: bool
    hole: bool
    ids: list[tuple[int, int]]
    texts: list[str]
    bars: SavedBars
    last_trades: Last
    machine: Raw


class Symbol:
    """Everything that one symbol's ticks have led to."""

    def __init__(self, name: str, venue_symbol: str, now: Now, rules: Rules) -> None:
        self.name = name
        self.venue_symbol = venue_symbol
        self.bars = Bars(rules.bars)
        self._now = now
        self._rules = rules
        self._makes_bars = bool(rules.bars.intervals)
        self._last: dict[Kind, Last] = {}
        self._trades: deque[Trade] = deque(maxlen=rules.trades_kept)
        self._ids = TradeIds(rules.trade_id_runs_max)
        self._levels = Levels()
        self._hole = False
        self._quote: Quote | None = None
        self._status: Status | None = None
        self._instrument: Instrument | None = None
        self._live = False
        self._stale: State | None = None
        self._change: tuple[list[Level], list[Level], str | None] | None = None
        self._state_change: State | None = None

    @property
    def book_is_live(self) -> bool:
        """Whether the venue's snapshot was taken and no hole or bad checksum came since."""
        return self._live and self._stale is None

    def trades(self, trades: list[Trade], ts_event: str | None) -> None:
        """Trades at market, in the venue's order; those whose id is known already are dropped."""
        is_new = self._ids.add
        new = [trade for trade in trades if trade.trade_id is None or is_new(trade.trade_id)]
        if not new:
            return
        now, last = self._now, self._last.get("trades")
        seq = NO_SEQ if last is None else last.seq
        if seq == NO_SEQ:
            self._trades.clear()
        if self._hole:
            self._hole = False
            now.out.append(GapMessage("trades", self.name, now.source, seq, seq, None, "venue", True))
        self._update("trades", new, ts_event, _ITEM_WEIGHT * len(new), len(new) <= _ITEMS_FIT)
        self._trades.extend(new)
        if not self._makes_bars:
            return
        clock, add = now.clock, self.bars.add
        for trade in new:
            time = trade.ts_event
            add(clock if time is None else int(time), trade.price, trade.size, clock)

    def history(self, trades: list[Trade]) -> None:
        """Trades that the venue sent again at subscription: they stand in the snapshot before the first live trade."""
        if "trades" in self._last and self._last["trades"].seq != NO_SEQ:
            return
        self._last.setdefault("trades", Last())
        for trade in trades:
            if trade.trade_id is None or self._ids.add(trade.trade_id):
                self._trades.append(trade)

    def hole(self) -> None:
        """The venue's own sequence skipped trades: a gap goes out before the next update of this channel."""
        self._hole = True

    def quote(self, quote: Quote, ts_event: str | None) -> None:
        """The venue's top of book; dropped where quotes are made from the book."""
        if self._rules.quotes_from == "stream":
            self._set_quote(quote, ts_event)

    def status(self, action: Action, reason: str | None, ts_event: str | None) -> None:
        """Whether the symbol trades; repeated words are no update."""
        status = Status(action, reason)
        if status != self._status:
            self._status = status
            self._update("status", status, ts_event)

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

    def book_told(self, text: bytes, levels: int, ts_event: str | None) -> None:
        """`book_change` by the canonical JSON of a `Book` with so many levels, which is passed on as it stands; the one
        word about the book in this tick."""
        if levels > _LEVELS_FIT or self._rules.quotes_from == "book":
            book = _BOOK.decode(text)
            self.book_change(book.bids, book.asks, ts_event)
        else:
            self._levels.tell(text)
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
        if self._live and self._stale is None:
            now = self._now
            self._stale = self._state_change = State(
                now.source, "book", self.name, now.seq, "stale", reason, now.ts_recv
            )

    def end_tick(self) -> None:
        """Sends what the book methods gathered, then any change of its state."""
        if self._change is not None:
            bids, asks, ts_event = self._change
            self._change = None
            levels = len(bids) + len(asks)
            self._update("book", Book(bids, asks), ts_event, _LEVEL_WEIGHT * levels, levels <= _LEVELS_FIT)
            if self._rules.quotes_from == "book":
                self._quote_from_book(bids, asks, ts_event)
        if self._state_change is not None:
            self._now.out.append(self._state_change)
            self._state_change = None

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
            if last is None:
                continue
            data = self._data(kind)
            if data is not None and (data or last.seq != NO_SEQ):
                out += parted(Snapshot(kind, self.name, self._now.source, last.seq, last.ts_event, last.ts_recv, data))
            if kind == "book" and self._stale is not None:
                out.append(self._stale)
        return out

    def save(self, machine: Machine) -> bytes:
        """The private state; with `snapshots()` at the same tick it is the whole state."""
        ids, texts = self._ids.save()
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
        self._ids.load(saved.ids, saved.texts)
        self.bars.load(bars, saved.bars, saved.clock)
        machine.load(bytes(saved.machine))

    def retell(self, kind: Kind, seq: int, ts_event: str | None, ts_recv: str | None, data: Data) -> None:
        """Takes up what an update said whose tick is gone; of parts each by itself."""
        last = self._last_of(kind)
        if seq < last.seq:
            return
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
            self._trades.extend(trade for trade in trades if trade.trade_id is None or self._ids.add(trade.trade_id))
        else:
            self.bars.retell(data)  # type: ignore[arg-type]  # of the channel bars
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
