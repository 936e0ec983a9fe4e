"""Kraken: the sockets v1 (arrays) and v2 (objects).

Owns what their frames mean, the cut to the subscribed depth and the checksum. Leaves numbers to `decimals`, times to
`times`, trades sent twice and the messages to `symbol`. Symbols are as each socket writes them: `XBT/USD` in v1,
`BTC/USD` in v2. Frames of other kinds (spread, ohlc, heartbeats, answers to subscriptions) mean nothing, except that
answers tell the depth of a book and when trades were subscribed.

- Book: each update carries a CRC32 over the digits, as sent, of the ten best asks and bids after it, so all digits are
  kept. Where it differs the update is not taken and the book is stale until the next snapshot. After each update a side
  is cut to the depth, and the levels cut are told as deleted: the venue sends nothing about them any more. v1 names the
  depth in the channel; v2 in its answer to the subscription, else it is the smallest that holds the snapshot.
- Numbers of v2 are JSON numbers whose trailing zeros count, so their text is read.
- Trades: the side is the taker's. v2 counts them per book, so a skipped id is a hole; its snapshot is history. v1 has
  no ids: what its first frame after a subscription holds from before that is history, and subscribing again is a hole.
- Quotes: from `ticker`; v1's has no time.
- Times: of a v1 book the newest of its levels.

Sources: https://docs.kraken.com/exchange/api-reference/spot-websocket-v1 and -v2, and their guide to the checksum.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from feed.errors import BadTick
from feed.model import Action, Instrument, Level, Quote, Side, Trade
from feed.venues import kraken_frames as frames
from feed.venues.decimals import canonical, positive
from feed.venues.kraken_book import BookLevel, BookSide
from feed.venues.symbol import Symbol, Tick
from feed.venues.times import iso_ns, seconds_ns

_SHOWN_CHARS_MAX: Final = 50
_DEPTH_CHARS_MAX: Final = 6
_CRC_CHARS_MAX: Final = 10
_SIDES: Final[dict[str, Side]] = {"b": "buy", "s": "sell"}
_ACTIONS: Final[dict[str, Action]] = {
    "online": "trading",
    "limit_only": "trading",
    "reduce_only": "trading",
    "post_only": "pre-open",
    "cancel_only": "halt",
    "maintenance": "halt",
    "delisted": "close",
}


class _Change(NamedTuple):
    """What a frame says of the book, read. `depth` is None where the frame does not tell it."""

    snapshot: bool
    bids: list[BookLevel]
    asks: list[BookLevel]
    checksum: int | None
    time: str | None
    depth: int | None


class Kraken:
    """What reads the ticks of one pair."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._name = symbol.venue_symbol
        self._state = frames.Saved()
        self._bids = BookSide(-1)
        self._asks = BookSide(1)

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises `BadTick` before it has changed anything."""
        try:
            if tick.value.startswith(b"["):
                self._apply_v1(tick.value)
            else:
                self._apply_object(frames.HEAD(tick.value), tick.ts_recv)
        except frames.UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error

    def save(self) -> bytes:
        """The private state: positions, and the book as sent."""
        state = self._state
        state.bids = [level.sent for level in self._bids]
        state.asks = [level.sent for level in self._asks]
        saved = msgspec.json.encode(state)
        state.bids, state.asks = [], []
        return saved

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = frames.SAVED(saved)
        for side, levels in ((self._bids, self._state.bids), (self._asks, self._state.asks)):
            for sent in levels:
                side.set(side.read(sent))
        self._state.bids, self._state.asks = [], []

    def _apply_v1(self, frame: bytes) -> None:
        payloads, channel, pair = frames.array(frame)
        if pair != self._name:
            raise BadTick(f"frame of {pair[:_SHOWN_CHARS_MAX]!r}, wanted {self._name}")
        if channel.startswith("book"):
            self._take_changes([self._change_v1([frames.BOOK_V1(payload) for payload in payloads], _depth(channel))])
        elif channel == "trade":
            self._take_trades_v1([trade for payload in payloads for trade in frames.TRADES_V1(payload)])
        elif channel == "ticker":
            ticker = frames.TICKER_V1(payloads[-1])
            self._symbol.quote(Quote(*_top(ticker.b[0], ticker.b[2]), *_top(ticker.a[0], ticker.a[2])), None)

    def _apply_object(self, head: frames.Head, ts_recv: int) -> None:
        if not head.channel or not bytes(head.data):
            self._apply_answer(head, ts_recv)
        elif head.channel == "book":
            books = [book for book in frames.BOOKS_V2(head.data) if book.symbol == self._name]
            self._take_changes([self._change_v2(book, snapshot=head.type == "snapshot") for book in books])
        elif head.channel == "trade":
            trades = [trade for trade in frames.TRADES_V2(head.data) if trade.symbol == self._name]
            self._take_trades_v2([_trade_v2(trade) for trade in trades], history=head.type == "snapshot")
        elif head.channel == "ticker":
            tickers = [ticker for ticker in frames.TICKERS_V2(head.data) if ticker.symbol == self._name]
            self._take_tickers_v2(tickers)
        elif head.channel == "instrument":
            self._take_pairs([pair for pair in frames.PAIRS_V2(head.data).pairs if pair.symbol == self._name])

    def _apply_answer(self, head: frames.Head, ts_recv: int) -> None:
        frames.keys_of(head)
        result, subscription = head.result, head.subscription
        if result is not None and result.channel == "book" and result.symbol == self._name:
            if result.depth is not None and result.depth > 0:
                self._state.depth_told = result.depth
        elif subscription is not None and subscription.name == "trade" and head.status == "subscribed":
            if self._state.traded:
                self._symbol.hole()  # the connection was another one: what came between has no ids to tell
            self._state.since = ts_recv

    def _change_v1(self, books: list[frames.BookV1], depth: int) -> _Change:
        bids: list[list[str]] = []
        asks: list[list[str]] = []
        snapshot = False
        checksum: int | None = None
        for book in books:
            snapshot = snapshot or book.all_bids is not None or book.all_asks is not None
            bids += [*(book.all_bids or ()), *book.bids]
            asks += [*(book.all_asks or ()), *book.asks]
            if book.checksum is not None:
                checksum = _crc(book.checksum)
        times = [seconds_ns(_item(level, 2)) for level in (*bids, *asks)]
        return _Change(
            snapshot,
            [self._bids.read((_item(level, 0), _item(level, 1))) for level in bids],
            [self._asks.read((_item(level, 0), _item(level, 1))) for level in asks],
            checksum,
            max(times, key=int, default=None),
            depth,
        )

    def _change_v2(self, book: frames.BookV2, *, snapshot: bool) -> _Change:
        depth = None
        if snapshot:
            levels = max(len(book.bids), len(book.asks))
            depth = self._state.depth_told or next((depth for depth in frames.DEPTHS if levels <= depth), levels)
        return _Change(
            snapshot,
            [self._bids.read((_text(level.price), _text(level.qty))) for level in book.bids],
            [self._asks.read((_text(level.price), _text(level.qty))) for level in book.asks],
            book.checksum,
            None if book.timestamp is None else iso_ns(book.timestamp),
            depth,
        )

    def _take_changes(self, changes: list[_Change]) -> None:
        for change in changes:
            if change.snapshot:
                self._bids, self._asks = BookSide(-1), BookSide(1)
            elif not self._symbol.book_is_live:
                continue
            self._take_change(change)

    def _take_change(self, change: _Change) -> None:
        state, bids, asks = self._state, self._bids, self._asks
        state.depth = change.depth or state.depth
        for side, levels in ((bids, change.bids), (asks, change.asks)):
            for level in levels:
                side.set(level)
        cut_bids, cut_asks = bids.cut(state.depth), asks.cut(state.depth)
        if change.checksum is not None and zlib.crc32((asks.checked() + bids.checked()).encode()) != change.checksum:
            self._bids, self._asks = BookSide(-1), BookSide(1)
            self._symbol.book_stale("checksum")
        elif change.snapshot:
            self._symbol.book_replace(bids.texts(), asks.texts(), change.time)
        else:
            self._symbol.book_change(_told(change.bids, cut_bids), _told(change.asks, cut_asks), change.time)

    def _take_trades_v1(self, sent: list[list[str]]) -> None:
        trades = [
            Trade(positive(_item(trade, 0)), positive(_item(trade, 1)), _side(_item(trade, 3)), None, time)
            for trade in sent
            for time in (seconds_ns(_item(trade, 2)),)
        ]
        since, self._state.since = self._state.since, None
        if since is not None:
            self._symbol.history([trade for trade in trades if int(trade.ts_event or 0) < since])
            trades = [trade for trade in trades if int(trade.ts_event or 0) >= since]
        if trades:
            self._state.traded = True
            self._symbol.trades(trades, trades[-1].ts_event)

    def _take_trades_v2(self, trades: list[Trade], *, history: bool) -> None:
        if not trades:
            return
        if history:  # trades of it that were missed show as a hole at the next one
            self._symbol.history(trades)
            return
        state = self._state
        for number in [int(trade.trade_id or 0) for trade in trades]:
            if state.trade is None or number > state.trade:
                if state.trade is not None and number > state.trade + 1:
                    self._symbol.hole()
                state.trade = number
        self._symbol.trades(trades, trades[-1].ts_event)

    def _take_tickers_v2(self, tickers: list[frames.TickerV2]) -> None:
        quotes = [
            (
                Quote(*_top(_text(ticker.bid), _text(ticker.bid_qty)), *_top(_text(ticker.ask), _text(ticker.ask_qty))),
                None if ticker.timestamp is None else iso_ns(ticker.timestamp),
            )
            for ticker in tickers
        ]
        if quotes:
            self._symbol.quote(*quotes[-1])

    def _take_pairs(self, pairs: list[frames.PairV2]) -> None:
        if not pairs:
            return
        pair = pairs[-1]
        self._symbol.instrument(_instrument(pair), None)
        if pair.status is not None:
            self._symbol.status(*_action(pair.status), None)


def keys(frame: bytes) -> list[str]:
    """The pairs that a frame speaks of; none for heartbeats, the system's status and answers without a pair.

    Raises:
        BadTick: it cannot be read, or is neither v1's nor v2's.
    """
    try:
        if frame.startswith(b"["):
            return [frames.array(frame)[2]]
        return frames.keys_of(frames.HEAD(frame))
    except frames.UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def wide(frame: bytes) -> tuple[Action, str | None] | None:
    """What the status of the system says of all pairs.

    Raises:
        BadTick: the frame cannot be read, or speaks of pairs.
    """
    if keys(frame):
        raise BadTick("frame of a pair without a key")
    try:
        head = frames.HEAD(frame)
        if head.event == "systemStatus":
            return _action(head.status)
        if head.channel == "status" and bytes(head.data):
            systems = frames.SYSTEM_V2(head.data)
            return _action(systems[-1].system) if systems else None
    except frames.UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error
    return None


def _depth(channel: str) -> int:
    depth = channel.partition("-")[2] or str(frames.DEPTHS[0])
    if not (depth.isascii() and depth.isdecimal() and len(depth) < _DEPTH_CHARS_MAX and int(depth)):
        raise BadTick(f"channel {channel[:_SHOWN_CHARS_MAX]!r}, wanted book-DEPTH")
    return int(depth)


def _crc(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _CRC_CHARS_MAX):
        raise BadTick(f"checksum {text[:_SHOWN_CHARS_MAX]!r}, wanted digits")
    return int(text)


def _item(items: list[str], at: int) -> str:
    if at >= len(items):
        raise BadTick(f"array of {len(items)}, wanted more than {at}")
    return items[at]


def _side(text: str) -> Side:
    side = _SIDES.get(text)
    if side is None:
        raise BadTick(f"side {text[:_SHOWN_CHARS_MAX]!r}, wanted b or s")
    return side


def _text(number: Raw) -> str:
    return bytes(number).decode()


def _told(levels: list[BookLevel], cut: list[Level]) -> list[Level]:
    """What goes out of a side: the levels as the frame has them, then those cut; each price once, the last word."""
    return list({**{level.price: level.size for level in levels}, **dict(cut)}.items())


def _top(price: str, size: str) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has null or zero."""
    if "null" in (price, size):
        return None, None
    best = canonical(price), canonical(size)
    return (None, None) if "0" in best else best


def _trade_v2(trade: frames.TradeV2) -> Trade:
    return Trade(
        positive(_text(trade.price)),
        positive(_text(trade.qty)),
        trade.side,
        str(trade.trade_id),
        iso_ns(trade.timestamp),
    )


def _instrument(pair: frames.PairV2) -> Instrument:
    return Instrument(
        "kraken",
        pair.symbol,
        "spot",
        pair.base,
        pair.quote,
        _step(pair.price_increment, pair.price_precision),
        _step(pair.qty_increment, pair.qty_precision),
        [],
    )


def _step(increment: Raw, precision: int | None) -> str | None:
    if bytes(increment):
        return canonical(_text(increment))
    if precision is None:
        return None
    return "1" if precision == 0 else f"0.{'1':0>{precision}}"


def _action(status: str) -> tuple[Action, str | None]:
    return _ACTIONS.get(status, "unknown"), None if status == "online" else status
