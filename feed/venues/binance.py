"""Binance: spot, USD-M and COIN-M futures, streams (combined or raw) and REST depth snapshots.

Owns what their frames mean and the bridge from diffs to a book. Leaves their shapes to `binance_frames`, numbers to
`decimals`, times to `times`, trades sent twice and the messages to `symbol`. Frames of other kinds (kline, partial
books, lists of all symbols, answers) are read and mean nothing.

- Book: diffs are kept until a snapshot comes, those of the last minute and of at most 1 MiB. Spot: those with `u <=
  lastUpdateId` are old, and each `U` must be at most the `u` before it plus 1. Futures: those with `u < lastUpdateId`
  are old, and each `pu` must be at most the `u` before it. Streams of two speeds may be mixed: each is whole, so a
  diff that overlaps what is known goes on from there. A hole makes the book stale, and diffs are kept again until a
  snapshot bridges them. A snapshot that is older than the book, or too old for the diffs kept, is not used. Source:
  the venue's "How to manage a local order book correctly",
  https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and its twins for futures.
- An odd diff makes the book stale; an odd snapshot does not, for the diffs alone say whether something is missing.
- Trades: `m` is true where the buyer was the maker, so the taker sold. Ids are consecutive, also over those that were
  not made at market (`X`, insurance fund and others; they are no trades here), so a skipped id is a hole; aggregates
  count by `a`. Where both streams come, each trade is taken from the one that told it first.
- Quotes: `u` rises, so one that does not is known. Spot does not say when.
- Times are milliseconds, or microseconds for who asked for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw

from feed.errors import BadEntry, BadTick
from feed.model import Action, Kind, Quote, Trade
from feed.venues import binance_frames as frames
from feed.venues.binance_ahead import ReadAhead, read_ahead
from feed.venues.decimals import canonical, canonical_levels, positive
from feed.venues.symbol import Symbol, Tick
from feed.venues.times import ms_or_us_ns

_KEPT_BYTES_MAX: Final = 1 << 20
_KEPT_NS_MAX: Final = 60_000_000_000
_STREAM_AT: Final = len(b'{"stream":"')
_STREAM_CHARS_MAX: Final = 100
_SHOWN_CHARS_MAX: Final = 50
_DEPTH: Final = "depth"
_KINDS: Final = ("trade", "aggTrade", "bookTicker", "depthUpdate")
_CHANNELS: Final[dict[str, Kind]] = {"trade": "trades", "aggTrade": "trades", "depthUpdate": "book"}


class Binance:
    """What reads the ticks of one symbol; `spot`, `usdm` and `coinm` differ in how diffs are chained."""

    _diff: ClassVar[frames.Kind]

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._name = symbol.venue_symbol
        self._state = frames.Saved()
        self._ts_recv = 0
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        self._kinds: dict[str, tuple[frames.Kind, Callable[[Any], None]]] = {
            "trade": (frames.TRADE, self._take_trade),
            "aggTrade": (frames.AGGREGATE, self._take_aggregate),
            "bookTicker": (frames.TICKER, self._take_ticker),
            "depthUpdate": (self._diff, self._take_diff),
        }
        stream = self._name.lower()
        # the names of streams as they are subscribed, so that most frames are decoded once, by the right type
        self._streams = {
            f"{stream}@{name}".encode(): (self._kinds[kind][0].frame, self._kinds[kind][1], _CHANNELS.get(kind))
            for name, kind in frames.STREAMS.items()
        }
        self._depth_streams = {f"{stream}@{name}" for name, kind in frames.STREAMS.items() if kind == "depthUpdate"}

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises as `Machine.apply` says."""
        frame = tick.value
        self._ts_recv = tick.ts_recv
        if tick.request is not None:
            self._apply_answer(tick.request, frame)
            return
        known = self._streams.get(frame[_STREAM_AT : frame.find(b'"', _STREAM_AT, _STREAM_CHARS_MAX)])
        if known is None:
            self._apply_by_head(frame)
            return
        decode, take, channel = known
        try:
            data = decode(frame).data
        except frames.UNREADABLE:
            self._apply_by_head(frame)
            return
        self._must_be_mine(data.s)
        try:
            take(data)
        except BadTick as error:
            raise self._spoiled(channel, data.u if channel == "book" else None, error) from error

    def apply_entry(self, tick: Tick, entry: object) -> None:
        """As `apply`: a frame speaks of one symbol only."""
        self.apply(tick)

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
        try:
            time = ms_or_us_ns(head.time)
        except BadTick:
            return False
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
        self._state = frames.SAVED(saved)
        self._kept = deque((ts_recv, bytes(kept)) for ts_recv, kept in self._state.kept)
        self._kept_bytes = sum(len(kept) for _, kept in self._kept)
        self._state.kept = []

    def _apply_by_head(self, frame: bytes) -> None:
        """Frames whose first bytes do not say what they are, and those that are not what they should be."""
        try:
            head, inner = frames.read(frame)
            name = frames.kind(head)
            keys = frames.keys_of(head)
        except frames.UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error
        if name not in _KINDS or not keys:
            return
        self._must_be_mine(keys[0])
        kind, take = self._kinds[name]
        channel = _CHANNELS.get(name)
        try:
            data = _decoded(kind, inner)
            if name == "depthUpdate" and not head.stream and self._is_partial(data):
                return
            take(data)
        except (BadTick, *frames.UNREADABLE) as error:
            raise self._spoiled(channel, head.u, error) from error

    def _apply_answer(self, request: str, frame: bytes) -> None:
        if request and _DEPTH not in request:
            return  # the answer to another question
        try:
            depth = frames.DEPTH(frame)
        except frames.UNREADABLE as error:
            try:
                depth = frames.LONGER_DEPTH(frame)
            except frames.UNREADABLE:
                if _is_refusal(frame):
                    return
                raise BadTick(f"depth snapshot cannot be read: {error}") from error
        self._take_depth(depth)

    def _must_be_mine(self, name: str) -> None:
        if name != self._name:
            raise BadTick(f"frame of {name[:_SHOWN_CHARS_MAX]!r}, wanted {self._name}")

    def _spoiled(self, channel: Kind | None, last: object, why: Exception) -> BadEntry:
        """`last` is the id up to which the frame says that it tells of the book: no older snapshot makes up for it."""
        book = self._state.book
        if channel == "book" and book is not None and isinstance(last, int):
            self._state.book = max(book, last)
        return self._symbol.spoiled(channel, why)

    def _take_trade(self, data: frames.Trade) -> None:
        state = self._state
        number = data.t
        market = data.X == "MARKET"
        if market:
            time = ms_or_us_ns(data.T)
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
        time = ms_or_us_ns(data.T)
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
        time = ms_or_us_ns(data.T)
        if data.u > self._state.ticker:
            self._state.ticker = data.u
            self._symbol.quote(Quote(*bid, *ask), time)

    def _take_diff(self, data: Any) -> None:
        bids, asks = canonical_levels(data.b), canonical_levels(data.a)
        time = ms_or_us_ns(data.time)
        state = self._state
        if state.book is None or not self._symbol.book_is_live:
            self._keep(data)
        elif self._is_old(data, state.book, first=state.first):
            return
        elif self._is_hole(data, state.book):
            state.book = None
            self._symbol.book_stale("gap")
            self._keep(data)
        else:
            state.book, state.first = data.u, False
            self._symbol.book_change(bids, asks, time)

    def _take_depth(self, data: frames.Depth) -> None:
        if data.symbol is not None and data.symbol != self._name:
            raise BadTick(f"depth snapshot of {data.symbol[:_SHOWN_CHARS_MAX]!r}, wanted {self._name}")
        bids = {price: size for price, size in canonical_levels(data.bids) if size != "0"}
        asks = {price: size for price, size in canonical_levels(data.asks) if size != "0"}
        time = ms_or_us_ns(data.T or data.E)
        book = self._state.book
        if book is not None and data.lastUpdateId < book + self._symbol.book_is_live:
            return  # older than the book, or sent twice
        last, first = data.lastUpdateId, True
        for _, kept in self._kept:
            diff = self._diff.data(kept)
            if self._is_old(diff, last, first=first):
                continue
            if self._is_hole(diff, last):
                return  # too old for the diffs kept: the next one will do
            bids.update(canonical_levels(diff.b))
            asks.update(canonical_levels(diff.a))
            last, first = diff.u, False
            time = ms_or_us_ns(diff.time)
        self._kept.clear()
        self._kept_bytes = 0
        self._state.book, self._state.first = last, first
        self._symbol.book_replace(_without_deleted(bids), _without_deleted(asks), time)

    def _keep(self, diff: Any) -> None:
        kept = msgspec.json.encode(diff)
        self._kept.append((self._ts_recv, kept))
        self._kept_bytes += len(kept)
        oldest = self._ts_recv - _KEPT_NS_MAX
        while self._kept and (self._kept_bytes > _KEPT_BYTES_MAX or self._kept[0][0] < oldest):
            self._kept_bytes -= len(self._kept.popleft()[1])

    def _is_old(self, diff: Any, last: int, *, first: bool) -> bool:
        raise NotImplementedError

    def _is_hole(self, diff: Any, last: int) -> bool:
        raise NotImplementedError

    def _is_partial(self, diff: Any) -> bool:
        """Whether a raw depth update looks like a partial book; raises `BadTick`."""
        raise NotImplementedError

    def _is_next(self, diff: Any, last: int) -> bool:
        """True only where it is neither old nor behind a hole, whether `last` is a snapshot's or not."""
        raise NotImplementedError


class Spot(Binance):
    """Update ids are consecutive."""

    _diff = frames.SPOT_DIFF

    def _is_old(self, diff: frames.SpotHead, last: int, *, first: bool) -> bool:
        return diff.u <= last

    def _is_hole(self, diff: frames.SpotHead, last: int) -> bool:
        return last + 1 < diff.U

    def _is_partial(self, diff: frames.SpotDiff) -> bool:
        return False  # those of spot have fields of their own

    def _is_next(self, diff: frames.SpotHead, last: int) -> bool:
        return diff.U <= last + 1 <= diff.u


class Futures(Binance):
    """Update ids are shared by many symbols; each diff names the one before it."""

    _diff = frames.FUTURES_DIFF

    def _is_old(self, diff: frames.FuturesHead, last: int, *, first: bool) -> bool:
        return diff.u < last or (diff.u == last and not first)

    def _is_hole(self, diff: frames.FuturesHead, last: int) -> bool:
        return diff.pu > last

    def _is_partial(self, diff: frames.FuturesDiff) -> bool:
        return frames.is_partial(canonical_levels(diff.b), canonical_levels(diff.a))

    def _is_next(self, diff: frames.FuturesHead, last: int) -> bool:
        return diff.pu == last < diff.u


spot: Final = Spot
usdm: Final = Futures
coinm: Final = Futures


def spot_ahead(ticks: Sequence[Tick]) -> list[ReadAhead | None]:
    """Of each tick what `Spot.apply_read` takes, None where it is for `apply`."""
    return read_ahead(ticks, frames.SPOT_HEADS)


def futures_ahead(ticks: Sequence[Tick]) -> list[ReadAhead | None]:
    """Of each tick what `Futures.apply_read` takes, None where it is for `apply`."""
    return read_ahead(ticks, frames.FUTURES_HEADS)


def keys(frame: bytes) -> list[str]:
    """The symbol that a frame speaks of; none for answers, for lists of all symbols, and where it names none.

    Raises:
        BadTick: it cannot be read, or nothing says what it is.
    """
    try:
        head, _ = frames.read(frame)
        return frames.keys_of(head)
    except frames.UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def entries(frame: bytes) -> dict[str, object]:
    """The symbol that a frame speaks of, if it means anything.

    Raises:
        BadTick: it cannot be read, or nothing says what it is.
    """
    try:
        head, _ = frames.read(frame)
        return dict.fromkeys(frames.keys_of(head)) if frames.kind(head) in _KINDS else {}
    except frames.UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def wide(frame: bytes) -> tuple[Action, str | None] | None:
    """Nothing: Binance does not say what becomes of all symbols.

    Raises:
        BadTick: the frame cannot be read, or nothing says what it is.
    """
    keys(frame)
    return None


def _top(price: str, size: str) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has a price or a size of zero."""
    best = canonical(price), canonical(size)
    return (None, None) if "0" in best else best


def _without_deleted(side: dict[str, str]) -> dict[str, str]:
    return {price: size for price, size in side.items() if size != "0"}


def _decoded(kind: frames.Kind, data: bytes) -> Any:
    try:
        return kind.data(data)
    except frames.UNREADABLE:
        if kind.longer is None:
            raise
        return kind.longer(data)


def _is_refusal(frame: bytes) -> bool:
    """Whether a request was answered by the number of an error."""
    try:
        frames.ANSWER(frame)
    except frames.UNREADABLE:
        return False
    return True
