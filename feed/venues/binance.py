"""Binance: streams (combined or raw) and REST depth snapshots, alike for spot, USD-M and COIN-M futures.

Owns what their frames mean. Leaves their shapes to `binance_frames`, the book to `binance_book`, what only spot or only
futures have to `binance_spot` and `binance_futures`, numbers to `decimals`, times to `times`, trades sent twice and the
messages to `symbol`. Frames of other kinds (kline, partial books, lists of all symbols, answers) are read and mean
nothing.

- Book: diffs, and snapshots that they are bridged to, are `binance_book`'s.
- An odd diff makes the book stale; an odd snapshot does not, for the diffs alone say whether something is missing.
- Trades: `m` is true where the buyer was the maker, so the taker sold. Ids are consecutive, also over those that were
  not made at market (`X`, insurance fund and others; they are no trades here), so a skipped id is a hole; aggregates
  count by `a`. Where both streams come, each trade is taken from the one that told it first.
- Quotes: `u` rises, so one that does not is known. Spot does not say when.
- Where ids of updates, of tickers or of trades have begun anew (`counters`), the book is stale until a snapshot, which
  is taken; quotes and trades go on. A snapshot alone shows it only a minute after the last diff: answers may come out
  of a cache half a minute old.
- Times are milliseconds, or microseconds where the connection asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from feed.errors import BadEntry, BadTick, shown
from feed.venues import binance_frames as frames
from feed.venues.binance_frames import KINDS
from feed.venues.legible import IN_DOUBT, leading
from feed.venues.times import ms_or_us_ns
from feed.wire.decimals import canonical, positive
from feed.wire.frames import UNREADABLE
from feed.wire.model import Action, Kind, Quote, Trade

if TYPE_CHECKING:
    from feed.venues.binance_ahead import ReadAhead
    from feed.venues.binance_book import Diffs
    from feed.venues.symbol import Symbol, Tick

_STREAM_AT: Final = len(b'{"stream":"')
_STREAM_CHARS_MAX: Final = 100
_DEPTH: Final = "depth"
_DIFF: Final = "depthUpdate"
_CHANNELS: Final[dict[str, Kind]] = {_DIFF: "book", **{name: kind.channel for name, kind in KINDS.items()}}
"""The kinds of frames that mean something, as `e` calls them, and the channels that they are of."""


class Binance:
    """What reads the ticks of one symbol; spot and futures differ in how diffs are chained."""

    def __init__(self, symbol: Symbol, diffs: Callable[[Symbol, Callable[[], object]], Diffs]) -> None:
        self._symbol = symbol
        self._diffs = diffs(symbol, self._begin_tickers_anew)
        symbol.count_trades()
        self._name = symbol.venue_symbol
        self._state = frames.SavedBinance()
        self._ts_recv = 0
        self._kinds: dict[str, tuple[frames.FrameKind, Callable[[Any], None]]] = {
            "trade": (KINDS["trade"], self._apply_trade),
            "aggTrade": (KINDS["aggTrade"], self._apply_agg_trade),
            "bookTicker": (KINDS["bookTicker"], self._apply_ticker),
            _DIFF: (self._diffs.kind, self._apply_diff),
        }
        stream = self._name.lower()
        # the names of streams as they are subscribed, so that most frames are decoded once, by the right type
        self._streams = {
            f"{stream}@{name}".encode(): (self._kinds[kind][0].frame, self._kinds[kind][1], _CHANNELS[kind])
            for name, kind in frames.STREAMS.items()
        }
        self._depth_streams = {f"{stream}@{name}" for name, kind in frames.STREAMS.items() if kind == _DIFF}

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
        decode, apply, channel = known
        try:
            data = decode(frame).data
        except UNREADABLE:
            self._apply_by_head(frame)
            return
        if data.s != self._name:
            self._must_be_mine(data.s)
        try:
            apply(data)
        except BadTick as error:
            raise self._spoiled(channel, error) from error

    def apply_entry(self, tick: Tick, entry: object) -> None:
        """As `apply`: a frame speaks of one symbol only."""
        self.apply(tick)

    def apply_read(self, tick: Tick, read: ReadAhead) -> bool:
        """Takes a depth update that was read ahead, if it is simply the next one of a live book; else nothing has
        changed, and it is for `apply`."""
        head = read.head
        return (
            head.s == self._name
            and read.stream in self._depth_streams
            and self._diffs.apply_canonical(head, read.book, tick.ts_recv)
        )

    def refused(self, tick: Tick) -> None:
        """Puts in doubt what the tick may have held; an answer says nothing that is missed."""
        if tick.request is None:
            self._symbol.in_doubt(*_channels(tick.value))

    def save(self) -> bytes:
        """The private state: positions, and the diffs kept."""
        return msgspec.json.encode(msgspec.structs.replace(self._state, diffs=self._diffs.save()))

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = frames.SAVED(saved)
        self._diffs.load(self._state.diffs)
        self._state.diffs = frames.SavedDiffs()

    def _apply_by_head(self, frame: bytes) -> None:
        """Frames whose first bytes do not say what they are, and those that are not what they should be."""
        try:
            head, inner = frames.read(frame)
            name = frames.kind(head)
            keys = frames.keys_of(head)
        except UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error
        if name not in _CHANNELS or not keys:
            return
        self._must_be_mine(keys[0])
        kind, apply = self._kinds[name]
        try:
            data = _decoded(kind, inner)
            if name == _DIFF and not head.stream and self._diffs.is_partial(data):
                return
            apply(data)
        except (BadTick, *UNREADABLE) as error:
            raise self._spoiled(kind.channel, error) from error

    def _apply_answer(self, request: str, frame: bytes) -> None:
        if request and _DEPTH not in request:
            return  # the answer to another question
        try:
            depth = frames.DEPTH_SNAPSHOT(frame)
        except UNREADABLE as error:
            try:
                depth = frames.LONGER_DEPTH_SNAPSHOT(frame)
            except UNREADABLE:
                if _is_refusal(frame):
                    return
                raise BadTick(f"depth snapshot cannot be read: {error}") from error
        if depth.symbol is not None:
            self._must_be_mine(depth.symbol)
        self._diffs.apply_snapshot(depth, self._ts_recv)

    def _must_be_mine(self, name: str) -> None:
        if name != self._name:
            raise BadTick(f"frame of {shown(name)}, wanted {self._name}")

    def _apply_diff(self, data: Any) -> None:
        self._diffs.apply(data, self._ts_recv)

    def _spoiled(self, channel: Kind, why: Exception) -> BadEntry:
        if channel == "book":
            self._diffs.miss()
        return self._symbol.spoiled(channel, why)

    def _apply_trade(self, data: frames.BinanceTrade) -> None:
        state, symbol = self._state, self._symbol
        number, time = data.t, ms_or_us_ns(data.T)
        market = data.X == "MARKET"
        if market:
            trade = Trade(positive(data.p), positive(data.q), "sell" if data.m else "buy", str(number), time)
        last = state.trade
        if number - 1 != last:
            number = symbol.follow(last, number, time)
            if number == last and state.aggregated:
                return
            if last is not None and number < last:
                state.aggregate = None
        if number != last:
            state.trade, state.aggregated = number, False
        if market and symbol.trades([trade], time):
            state.trade, state.aggregate, state.aggregated = data.t, None, False

    def _apply_agg_trade(self, data: frames.AggTrade) -> None:
        state, symbol = self._state, self._symbol
        time = ms_or_us_ns(data.T)
        trade = Trade(positive(data.p), positive(data.q), "sell" if data.m else "buy", str(data.a), time)
        if data.l < data.f:
            raise BadTick(f"aggregate of the trades {data.f} to {data.l}, wanted a rising range")
        number, last = (data.a, state.aggregate) if state.aggregated else (data.l, state.trade)
        if last is not None and symbol.restarts(last, number, time):
            state.trade, state.aggregate, state.aggregated = None, None, False
        if state.trade is not None:
            if not state.aggregated:
                if data.f <= state.trade:
                    return
                if data.f > state.trade + 1:
                    symbol.hole()
            elif state.aggregate is not None and data.a > state.aggregate + 1:
                symbol.hole()
        anew = symbol.trades([trade], time, aggregated=True)
        if anew or state.aggregate is None or data.a > state.aggregate:
            state.aggregate, state.trade, state.aggregated = data.a, data.l, True

    def _begin_tickers_anew(self) -> None:
        """Tickers carry the book's update ids: where those have begun anew, these have."""
        self._state.quotes.last = -1

    def _apply_ticker(self, data: frames.BookTicker) -> None:
        bid, ask = _top(data.b, data.B), _top(data.a, data.A)
        time = ms_or_us_ns(data.T)
        known = self._state.quotes
        if data.u <= known.last:
            if not known.begins_anew(data.u, time, self._ts_recv):
                return
            self._symbol.counts.epochs += 1
        known.last, known.event, known.recv = data.u, time, self._ts_recv
        self._symbol.quote(Quote(*bid, *ask), time)


def keys(frame: bytes) -> list[str]:
    """The symbol that a frame speaks of; none for answers, for lists of all symbols, and where it names none.

    Raises:
        BadTick: it cannot be read, or nothing says what it is.
    """
    try:
        head, _ = frames.read(frame)
        return frames.keys_of(head)
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def entries(tick: Tick) -> dict[str, object]:
    """The symbol that a frame speaks of, if it means anything.

    Raises:
        BadTick: it cannot be read, nothing says what it is, or it is a depth snapshot (who asked knows of what).
    """
    try:
        head, _ = frames.read(tick.value)
        if tick.request is not None and head.lastUpdateId is not None:
            raise BadTick("depth snapshot without a key, wanted the symbol that was asked for")
        return dict.fromkeys(frames.keys_of(head)) if frames.kind(head) in _CHANNELS else {}
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def venue_status(frame: bytes) -> tuple[Action, str | None] | None:
    """Nothing: Binance does not say what becomes of all symbols.

    Raises:
        BadTick: the frame cannot be read, or nothing says what it is.
    """
    keys(frame)
    return None


def _channels(frame: bytes) -> Sequence[Kind]:
    """The channels that a refused frame may be of: `IN_DOUBT` where nothing says what it is."""
    try:
        head, _ = frames.read(frame)
        if not frames.kind(head):
            frames.keys_of(head)
    except (BadTick, *UNREADABLE):
        said = leading(frame)
        head = frames.BinanceHead(stream=said.get("stream", ""), e=said.get("e", ""), u=said.get("u"), B=said.get("B"))
        if not head.stream and not frames.kind(head):
            return IN_DOUBT
    channel = _CHANNELS.get(frames.kind(head))
    return [] if channel is None else [channel]


def _top(price: str, size: str) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has a price or a size of zero."""
    best = canonical(price), canonical(size)
    return (None, None) if "0" in best else best


def _decoded(kind: frames.FrameKind, data: bytes) -> Any:
    try:
        return kind.data(data)
    except UNREADABLE:
        if kind.longer is None:
            raise
        return kind.longer(data)


def _is_refusal(frame: bytes) -> bool:
    """Whether a request was answered by the number of an error."""
    try:
        frames.REQUEST_ERROR(frame)
    except UNREADABLE:
        return False
    return True
