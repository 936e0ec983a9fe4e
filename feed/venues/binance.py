"""Binance: spot, USD-M and COIN-M futures, streams (combined or raw) and REST depth snapshots.

Owns what their frames mean and the bridge from diffs to a book. Leaves numbers to `decimals`, trades sent twice and the
messages to `symbol`. Frames of other kinds (kline, partial books, answers to subscriptions) are read and mean nothing.

- Book: diffs are kept until a snapshot comes, those of the last minute and of at most 1 MiB. Spot: those with
  `u <= lastUpdateId` are old, and each `U` must be at most the `u` before it plus 1. Futures: those with
  `u < lastUpdateId` are old, and each `pu` must be the `u` before it (at most `lastUpdateId` for the first). A hole
  makes the book stale, and diffs are kept again until a snapshot bridges them. A snapshot that is older than the book,
  or too old for the diffs kept, is not used. Source: the venue's "How to manage a local order book correctly",
  https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and its twins for futures.
- Trades: `m` is true where the buyer was the maker, so the taker sold. Ids are consecutive, also over those that were
  not made at market (`X`, insurance fund and others; they are no trades here), so a skipped id is a hole; aggregates
  count by `a`. Where both streams come, each trade is taken from the one that told it first.
- Quotes: `u` rises, so one that does not is known. Spot does not say when.
- Times are milliseconds, or microseconds for who asked for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw, Struct

from feed.errors import BadTick
from feed.model import Action, Quote, Trade
from feed.venues import binance_frames as frames
from feed.venues.decimals import canonical, canonical_levels, positive
from feed.venues.sides import Told, canonical_sides
from feed.venues.symbol import Symbol, Tick

_KEPT_BYTES_MAX: Final = 1 << 20
_KEPT_NS_MAX: Final = 60_000_000_000
_MS_MAX: Final = 9_200_000_000_000
_US_MIN: Final = 100_000_000_000_000
_STREAM_AT: Final = len(b'{"stream":"')
_STREAM_CHARS_MAX: Final = 100
_SHOWN_CHARS_MAX: Final = 50
_SIDES: Final = b'"b":['
_SIDES_AT: Final = len(b'"b":')
_NO_SIDES: Final = b'"b":0}}'
_AHEAD_BYTES_MIN: Final = 2048
_STREAMS: Final = {
    "trade": "trade",
    "aggTrade": "aggTrade",
    "bookTicker": "bookTicker",
    **{f"depth{speed}": "depthUpdate" for speed in ("", "@0ms", "@100ms", "@250ms", "@500ms")},
}


class ReadAhead(Struct, frozen=True, gc=False):
    """A depth update that was read together with others."""

    stream: str
    head: Any
    told: Told


class Binance:
    """What reads the ticks of one symbol; `spot`, `usdm` and `coinm` differ in how diffs are chained."""

    _diff: ClassVar[frames.Decoders]

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._name = symbol.venue_symbol
        self._state = frames.Saved()
        self._ts_recv = 0
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        self._kinds: dict[str, tuple[frames.Decoders, Callable[[Any], None]]] = {
            "trade": (frames.TRADE, self._take_trade),
            "aggTrade": (frames.AGGREGATE, self._take_aggregate),
            "bookTicker": (frames.TICKER, self._take_ticker),
            "depthUpdate": (self._diff, self._take_diff),
        }
        stream = self._name.lower()
        # the names of streams as they are subscribed, so that most frames are decoded once, by the right type
        self._streams = {
            f"{stream}@{name}".encode(): (self._kinds[kind][0][0], self._kinds[kind][1])
            for name, kind in _STREAMS.items()
        }
        self._depth_streams = {f"{stream}@{name}" for name, kind in _STREAMS.items() if kind == "depthUpdate"}

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises `BadTick` before it has changed anything."""
        frame = tick.value
        self._ts_recv = tick.ts_recv
        try:
            if tick.request is not None:
                self._take_depth(frames.DEPTH.decode(frame))
                return
            known = self._streams.get(frame[_STREAM_AT : frame.find(b'"', _STREAM_AT, _STREAM_CHARS_MAX)])
            if known is not None:
                decode, take = known
                data = decode(frame).data
            else:
                head, inner = frames.read(frame)
                kind = self._kinds.get(frames.kind(head))
                if kind is None:
                    frames.keys_of(head)
                    return
                (_, decode), take = kind
                data = decode(inner)
        except frames.UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error
        if data.s != self._name:
            raise BadTick(f"frame of {data.s[:_SHOWN_CHARS_MAX]!r}, wanted {self._name}")
        take(data)

    def apply_read(self, tick: Tick, read: ReadAhead) -> bool:
        """Takes a depth update that was read ahead, if it is simply the next one of a live book; else nothing has
        changed, and it is for `apply`."""
        head, state = read.head, self._state
        if (
            state.book is None
            or not self._is_next(head, state.book)
            or head.s != self._name
            or read.stream not in self._depth_streams
            or not self._symbol.book_is_live
        ):
            return False
        time = _ns(head.time)
        state.book, state.first = head.u, False
        self._symbol.book_told(read.told.text, read.told.levels, time)
        return True

    def save(self) -> bytes:
        """The private state: positions, and the diffs kept."""
        self._state.kept = [(ts_recv, Raw(kept)) for ts_recv, kept in self._kept]
        saved = msgspec.json.encode(self._state)
        self._state.kept = []
        return saved

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = frames.SAVED.decode(saved)
        self._kept = deque((ts_recv, bytes(kept)) for ts_recv, kept in self._state.kept)
        self._kept_bytes = sum(len(kept) for _, kept in self._kept)
        self._state.kept = []

    def _take_trade(self, data: frames.Trade) -> None:
        state = self._state
        number = data.t
        market = data.X == "MARKET"
        if market:
            time = _ns(data.T)
            trade = Trade(positive(data.p), positive(data.q), "sell" if data.m else "buy", str(number), time)
        last = state.trade
        if last is not None and number != last + 1:
            if number > last:
                self._symbol.hole()
            elif state.aggregated:
                return
        if last is None or number > last:
            state.trade = number
            state.aggregated = False
        if market:
            self._symbol.trades([trade], time)

    def _take_aggregate(self, data: frames.Aggregate) -> None:
        state = self._state
        time = _ns(data.T)
        trade = Trade(positive(data.p), positive(data.q), "sell" if data.m else "buy", str(data.a), time)
        if data.l < data.f:
            raise BadTick(f"aggregate of the trades {data.f} to {data.l}, wanted a rising range")
        if state.trade is not None:
            if not state.aggregated:
                if data.f <= state.trade:
                    return
                if data.f > state.trade + 1:
                    self._symbol.hole()
            elif state.aggregate is not None and data.a > state.aggregate + 1:
                self._symbol.hole()
        if state.aggregate is None or data.a > state.aggregate:
            state.aggregate = data.a
            state.trade = data.l
            state.aggregated = True
        self._symbol.trades([trade], time)

    def _take_ticker(self, data: frames.Ticker) -> None:
        bid, ask = _top(data.b, data.B), _top(data.a, data.A)
        time = None if data.T is None else _ns(data.T)
        if data.u > self._state.ticker:
            self._state.ticker = data.u
            self._symbol.quote(Quote(*bid, *ask), time)

    def _take_diff(self, data: Any) -> None:
        bids, asks = canonical_levels(data.b), canonical_levels(data.a)
        time = _ns(data.time)
        state = self._state
        if state.book is None or not self._symbol.book_is_live:
            self._keep(data)
        elif self._is_old(data, state.book, first=state.first):
            return
        elif self._is_hole(data, state.book, first=state.first):
            state.book = None
            self._symbol.book_stale("gap")
            self._keep(data)
        else:
            state.book, state.first = data.u, False
            self._symbol.book_change(bids, asks, time)

    def _take_depth(self, data: frames.Depth) -> None:
        if data.symbol is not None and data.symbol != self._name:
            raise BadTick(f"depth snapshot of {data.symbol}, wanted {self._name}")
        bids = {price: size for price, size in canonical_levels(data.bids) if size != "0"}
        asks = {price: size for price, size in canonical_levels(data.asks) if size != "0"}
        time = data.T if data.T is not None else data.E
        time_ns = None if time is None else _ns(time)
        if self._state.book is not None and data.lastUpdateId <= self._state.book:
            return  # older than the book, or sent twice
        last, first = data.lastUpdateId, True
        for _, kept in self._kept:
            diff = self._diff[1](kept)
            if self._is_old(diff, last, first=first):
                continue
            if self._is_hole(diff, last, first=first):
                return  # too old for the diffs kept: the next one will do
            bids.update(canonical_levels(diff.b))
            asks.update(canonical_levels(diff.a))
            last, first = diff.u, False
            time_ns = _ns(diff.time)
        self._kept.clear()
        self._kept_bytes = 0
        self._state.book, self._state.first = last, first
        self._symbol.book_replace(_without_deleted(bids), _without_deleted(asks), time_ns)

    def _keep(self, diff: Any) -> None:
        kept = msgspec.json.encode(diff)
        self._kept.append((self._ts_recv, kept))
        self._kept_bytes += len(kept)
        oldest = self._ts_recv - _KEPT_NS_MAX
        while self._kept and (self._kept_bytes > _KEPT_BYTES_MAX or self._kept[0][0] < oldest):
            self._kept_bytes -= len(self._kept.popleft()[1])

    def _is_old(self, diff: Any, last: int, *, first: bool) -> bool:
        raise NotImplementedError

    def _is_hole(self, diff: Any, last: int, *, first: bool) -> bool:
        raise NotImplementedError

    def _is_next(self, diff: Any, last: int) -> bool:
        """True only where it is neither old nor behind a hole, whether `last` is a snapshot's or not."""
        raise NotImplementedError


class Spot(Binance):
    """Update ids are consecutive."""

    _diff = frames.SPOT_DIFF

    def _is_old(self, diff: frames.SpotHead, last: int, *, first: bool) -> bool:
        return diff.u <= last

    def _is_hole(self, diff: frames.SpotHead, last: int, *, first: bool) -> bool:
        return last + 1 < diff.U

    def _is_next(self, diff: frames.SpotHead, last: int) -> bool:
        return diff.U <= last + 1 <= diff.u


class Futures(Binance):
    """Update ids are shared by many symbols; each diff names the one before it."""

    _diff = frames.FUTURES_DIFF

    def _is_old(self, diff: frames.FuturesHead, last: int, *, first: bool) -> bool:
        return diff.u < last or (diff.u == last and not first)

    def _is_hole(self, diff: frames.FuturesHead, last: int, *, first: bool) -> bool:
        return diff.pu > last if first else diff.pu != last

    def _is_next(self, diff: frames.FuturesHead, last: int) -> bool:
        return diff.pu == last < diff.u


spot: Final = Spot
usdm: Final = Futures
coinm: Final = Futures


def spot_ahead(ticks: Sequence[Tick]) -> list[ReadAhead | None]:
    """Of each tick what `Spot.apply_read` takes, None where it is for `apply`."""
    return _read_ahead(ticks, frames.SPOT_HEADS)


def futures_ahead(ticks: Sequence[Tick]) -> list[ReadAhead | None]:
    """Of each tick what `Futures.apply_read` takes, None where it is for `apply`."""
    return _read_ahead(ticks, frames.FUTURES_HEADS)


def keys(frame: bytes) -> list[str]:
    """The symbol that a frame speaks of; none for answers to the client and for lists of all symbols.

    Raises:
        BadTick: it cannot be read, or names no symbol (a REST snapshot: whoever asked knows).
    """
    try:
        head, _ = frames.read(frame)
    except frames.UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error
    return frames.keys_of(head)


def wide(frame: bytes) -> tuple[Action, str | None] | None:
    """Nothing: Binance does not say what becomes of all symbols.

    Raises:
        BadTick: the frame cannot be read, or speaks of one symbol.
    """
    if keys(frame):
        raise BadTick("frame of one symbol without a key")
    return None


def _read_ahead(ticks: Sequence[Tick], decode: frames.Heads) -> list[ReadAhead | None]:
    """Depth updates without a level in hand: heads decoded all at once, sides as text."""
    found: list[ReadAhead | None] = [None] * len(ticks)
    values = [tick.value for tick in ticks]
    cuts = list(map(bytes.find, values, repeat(_SIDES)))
    if max(cuts) < 0:
        return found
    heads, sides, indexes = [], [], []
    for index, (frame, cut) in enumerate(zip(values, cuts, strict=True)):
        if cut > 0 and frame.endswith(b"}}") and ticks[index].request is None:
            heads.append(frame[:cut])
            sides.append(frame[cut + _SIDES_AT : -2])
            indexes.append(index)
    if sum(map(len, sides)) < _AHEAD_BYTES_MIN:
        return found
    joined = b"[%b%b]" % ((_NO_SIDES + b",").join(heads), _NO_SIDES)
    try:
        read = decode(joined)
    except frames.UNREADABLE:
        return found  # one of them is bad, and `apply` will say which
    # each has two objects and no more, the second one is open: what stands there are its data's own sides, to the end
    if joined.count(b"{") != 2 * len(heads):
        return found
    for index, frame, told in zip(indexes, read, canonical_sides(sides), strict=True):
        if told is not None:
            found[index] = ReadAhead(frame.stream, frame.data, told)
    return found


def _top(price: str, size: str) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has a price or a size of zero."""
    best = canonical(price), canonical(size)
    return (None, None) if "0" in best else best


def _without_deleted(side: dict[str, str]) -> dict[str, str]:
    return {price: size for price, size in side.items() if size != "0"}


def _ns(time: int) -> str:
    if time <= _MS_MAX:
        return f"{time}000000"
    if time >= _US_MIN:
        return f"{time}000"
    raise BadTick(f"time {time}, wanted milliseconds or microseconds since 1970")
