"""Coinbase: Exchange (`type`) and Advanced Trade (`channel`, `events`).

Owns what their frames mean. Leaves numbers to `decimals`, times to `times`, trades sent twice and the messages to
`symbol`. Frames of other kinds (heartbeats, candles, answers to subscriptions) are read and mean nothing.

- Sides: both name the maker's side of a trade ("If the side is sell this indicates the maker was a sell order",
  https://docs.cdp.coinbase.com/exchange/websocket-feed/channels), so the taker's is the other one.
- Trades: `trade_id` counts the trades of a product, so a skipped id is a hole. `last_match`, and the snapshot of
  `market_trades`, repeat trades at subscription; one of them with an id above the last trade means that it was missed.
- Book: a snapshot, then absolute sizes; nothing tells a hole (Exchange has no sequence here, and `sequence_num` counts
  a connection, whose frames lie in many partitions). Changes before the first snapshot are of no use and are dropped.
- Quotes: `sequence` of Exchange's ticker rises, so one that does not is known; Advanced Trade's has no identity.
- Times: of the trade, of the change, of the ticker; of Advanced Trade's books and quotes the `timestamp` of the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from feed.errors import BadTick
from feed.model import Action, Instrument, Level, Quote, Side, Trade
from feed.venues.decimals import canonical, canonical_levels, positive
from feed.venues.symbol import Symbol, Tick
from feed.venues.times import iso_ns

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_KIND_CHARS_MAX: Final = 40
_SHOWN_CHARS_MAX: Final = 50
_TAKER: Final[dict[str, Side]] = {"buy": "sell", "sell": "buy", "BUY": "sell", "SELL": "buy"}

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Levels = list[tuple[str, str]]


class _Snapshot(Struct, gc=False):
    product_id: str
    bids: Levels
    asks: Levels
    time: str | None = None


class _Change(Struct, gc=False):
    product_id: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]
    time: str


class _Match(Struct, gc=False):
    product_id: str
    trade_id: Id
    side: Literal["buy", "sell"]
    size: str
    price: str
    time: str


class _Ticker(Struct, gc=False):
    product_id: str
    sequence: Id
    best_bid: str
    best_ask: str
    best_bid_size: str | None = None
    best_ask_size: str | None = None
    time: str | None = None


class _Product(Struct, gc=False):
    """Of a status frame."""

    id: str
    base_currency: str | None = None
    quote_currency: str | None = None
    base_increment: str | None = None
    quote_increment: str | None = None
    display_name: str | None = None
    product_type: str | None = None
    status: str | None = None
    status_message: str | None = None
    post_only: bool = False
    cancel_only: bool = False
    auction_mode: bool = False
    trading_disabled: bool = False


class _Status(Struct, gc=False):
    products: list[_Product]


class _Level(Struct, gc=False):
    side: Literal["bid", "offer", "ask"]
    price_level: str
    new_quantity: str


class _BookEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[_Level]


class _TradeOf(Struct, gc=False):
    product_id: str
    trade_id: str
    side: Literal["BUY", "SELL"]
    size: str
    price: str
    time: str


class _TradesEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[_TradeOf]


class _TickerOf(Struct, gc=False):
    product_id: str
    best_bid: str | None = None
    best_bid_quantity: str | None = None
    best_ask: str | None = None
    best_ask_quantity: str | None = None


class _TickersEvent(Struct, gc=False):
    tickers: list[_TickerOf]


class _StatusEvent(Struct, gc=False):
    products: list[_Product]


class _Books(Struct, gc=False):
    timestamp: str
    events: list[_BookEvent]


class _Trades(Struct, gc=False):
    events: list[_TradesEvent]


class _Tickers(Struct, gc=False):
    timestamp: str
    events: list[_TickersEvent]


class _Statuses(Struct, gc=False):
    timestamp: str
    events: list[_StatusEvent]


class _Named(Struct, gc=False):
    product_id: str = ""
    id: str = ""


class _EventHead(Struct, gc=False):
    product_id: str = ""
    trades: list[_Named] = []
    tickers: list[_Named] = []
    products: list[_Named] = []


class _Head(Struct, gc=False):
    """What tells a frame from the others, and the products that it speaks of."""

    type: str = ""
    channel: str = ""
    product_id: str = ""
    products: list[_Named] = []
    events: list[_EventHead] = []


class _Saved(Struct):
    """The private state: the last trade told, the last ticker told."""

    trade: int | None = None
    ticker: int = -1


_HEAD: Final = msgspec.json.Decoder(_Head)
_SAVED: Final = msgspec.json.Decoder(_Saved)
_DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    kind: msgspec.json.Decoder(type_).decode
    for kind, type_ in {
        "snapshot": _Snapshot,
        "l2update": _Change,
        "match": _Match,
        "last_match": _Match,
        "ticker": _Ticker,
        "status": _Status,
        "channel l2_data": _Books,
        "channel market_trades": _Trades,
        "channel ticker": _Tickers,
        "channel ticker_batch": _Tickers,
        "channel status": _Statuses,
    }.items()
}


class Coinbase:
    """What reads the ticks of one product."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._name = symbol.venue_symbol
        self._state = _Saved()
        self._takes: dict[str, Callable[[Any], None]] = {
            "snapshot": self._take_snapshot,
            "l2update": self._take_change,
            "match": self._take_match,
            "last_match": self._take_last_match,
            "ticker": self._take_ticker,
            "status": self._take_status,
            "channel l2_data": self._take_books,
            "channel market_trades": self._take_trades,
            "channel ticker": self._take_tickers,
            "channel ticker_batch": self._take_tickers,
            "channel status": self._take_statuses,
        }

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises `BadTick` before it has changed anything."""
        frame = tick.value
        try:
            kind = _kind(frame)
            decode = _DECODERS.get(kind)
            if decode is None:
                _keys_of(_HEAD.decode(frame))
                return
            data = decode(frame)
        except _UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error
        self._takes[kind](data)

    def save(self) -> bytes:
        """The private state: positions."""
        return msgspec.json.encode(self._state)

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = _SAVED.decode(saved)

    def _take_snapshot(self, data: _Snapshot) -> None:
        self._must_be_mine(data.product_id)
        bids, asks = _side(canonical_levels(data.bids)), _side(canonical_levels(data.asks))
        time = None if data.time is None else iso_ns(data.time)
        self._symbol.book_replace(bids, asks, time)

    def _take_change(self, data: _Change) -> None:
        self._must_be_mine(data.product_id)
        bids: list[Level] = []
        asks: list[Level] = []
        for side, price, size in data.changes:
            (bids if side == "buy" else asks).append((positive(price), canonical(size)))
        time = iso_ns(data.time)
        if self._symbol.book_is_live:
            self._symbol.book_change(bids, asks, time)

    def _take_match(self, data: _Match) -> None:
        self._must_be_mine(data.product_id)
        trade = _trade(data, str(data.trade_id))
        self._follow(data.trade_id)
        self._symbol.trades([trade], trade.ts_event)

    def _take_last_match(self, data: _Match) -> None:
        self._must_be_mine(data.product_id)
        self._take_history([_trade(data, str(data.trade_id))])

    def _take_ticker(self, data: _Ticker) -> None:
        self._must_be_mine(data.product_id)
        quote = _quote(data.best_bid, data.best_bid_size, data.best_ask, data.best_ask_size)
        time = None if data.time is None else iso_ns(data.time)
        if data.sequence > self._state.ticker:
            self._state.ticker = data.sequence
            self._symbol.quote(quote, time)

    def _take_status(self, data: _Status) -> None:
        self._take_products(data.products, None)

    def _take_books(self, data: _Books) -> None:
        time = iso_ns(data.timestamp)
        events = [(event.type, *_sides(event.updates)) for event in data.events if event.product_id == self._name]
        for type_, bids, asks in events:
            if type_ == "snapshot":
                self._symbol.book_replace(_side(bids), _side(asks), time)
            elif self._symbol.book_is_live:
                self._symbol.book_change(bids, asks, time)

    def _take_trades(self, data: _Trades) -> None:
        old: list[Trade] = []
        new: list[Trade] = []
        for event in data.events:
            into = old if event.type == "snapshot" else new
            into += [_trade(trade, trade.trade_id) for trade in event.trades if trade.product_id == self._name]
        # a frame lists the newest first; ids say in which order they were made
        for trades in (old, new):
            trades.sort(key=_number)
        if old:
            self._take_history(old)
        if new:
            for trade in new:
                self._follow(_number(trade))
            self._symbol.trades(new, new[-1].ts_event)

    def _take_tickers(self, data: _Tickers) -> None:
        time = iso_ns(data.timestamp)
        quotes = [
            _quote(ticker.best_bid, ticker.best_bid_quantity, ticker.best_ask, ticker.best_ask_quantity)
            for event in data.events
            for ticker in event.tickers
            if ticker.product_id == self._name
        ]
        if quotes:
            self._symbol.quote(quotes[-1], time)

    def _take_statuses(self, data: _Statuses) -> None:
        self._take_products([product for event in data.events for product in event.products], iso_ns(data.timestamp))

    def _take_products(self, products: list[_Product], time: str | None) -> None:
        mine = [product for product in products if product.id == self._name]
        if not mine:
            return
        product = mine[-1]
        instrument = _instrument(product)
        self._symbol.instrument(instrument, time)
        if product.status is not None:
            self._symbol.status(*_action(product), time)

    def _take_history(self, trades: list[Trade]) -> None:
        last = _number(trades[-1])
        if self._state.trade is not None and last > self._state.trade:
            self._symbol.hole()
            self._state.trade = last
        self._symbol.history(trades)

    def _follow(self, trade_id: int) -> None:
        last = self._state.trade
        if last is None or trade_id > last:
            if last is not None and trade_id > last + 1:
                self._symbol.hole()
            self._state.trade = trade_id

    def _must_be_mine(self, product_id: str) -> None:
        if product_id != self._name:
            raise BadTick(f"frame of {product_id[:_SHOWN_CHARS_MAX]!r}, wanted {self._name}")


def keys(frame: bytes) -> list[str]:
    """The products that a frame speaks of; none for heartbeats and answers to the client.

    Raises:
        BadTick: it cannot be read, or is neither Exchange's nor Advanced Trade's.
    """
    try:
        return _keys_of(_HEAD.decode(frame))
    except _UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def wide(frame: bytes) -> tuple[Action, str | None] | None:
    """Nothing: Coinbase does not say what becomes of all products at once.

    Raises:
        BadTick: the frame cannot be read, or speaks of products.
    """
    if keys(frame):
        raise BadTick("frame of a product without a key")
    return None


def _keys_of(head: _Head) -> list[str]:
    if not head.type and not head.channel:
        raise BadTick("frame without `type` or `channel`")
    named = [head.product_id, *(product.id for product in head.products)]
    for event in head.events:
        named.append(event.product_id)
        named += [entry.product_id for entry in (*event.trades, *event.tickers)]
        named += [product.id for product in event.products]
    return [name for name in dict.fromkeys(named) if name]


def _kind(frame: bytes) -> str:
    """The kind of a frame: of its first bytes where they say it, else by reading it."""
    start = frame[: frame.find(b'",', 0, _KIND_CHARS_MAX)]
    known = _STARTS.get(start)
    if known is not None:
        return known
    head = _HEAD.decode(frame)
    return f"channel {head.channel}" if head.channel else head.type


_STARTS: Final = {
    (
        f'{{"channel":"{kind.removeprefix("channel ")}' if kind.startswith("channel ") else f'{{"type":"{kind}'
    ).encode(): kind
    for kind in _DECODERS
}


def _trade(data: _Match | _TradeOf, trade_id: str) -> Trade:
    trade = Trade(positive(data.price), positive(data.size), _TAKER[data.side], trade_id, iso_ns(data.time))
    _number(trade)
    return trade


def _number(trade: Trade) -> int:
    text = trade.trade_id
    if text is None or not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadTick(f"trade_id {str(text)[:_SHOWN_CHARS_MAX]!r}, wanted a number")
    return int(text)


def _quote(bid: str | None, bid_size: str | None, ask: str | None, ask_size: str | None) -> Quote:
    return Quote(*_top(bid, bid_size), *_top(ask, ask_size))


def _top(price: str | None, size: str | None) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has no price, or zero."""
    best = canonical(price) if price else "0"
    amount = canonical(size) if size else None
    return (None, None) if best == "0" or amount == "0" else (best, amount)


def _sides(updates: list[_Level]) -> tuple[list[Level], list[Level]]:
    bids = [(level.price_level, level.new_quantity) for level in updates if level.side == "bid"]
    asks = [(level.price_level, level.new_quantity) for level in updates if level.side != "bid"]
    return canonical_levels(bids), canonical_levels(asks)


def _side(levels: list[Level]) -> dict[str, str]:
    return {price: size for price, size in levels if size != "0"}


def _instrument(product: _Product) -> Instrument:
    aliases = [product.display_name] if product.display_name and product.display_name != product.id else []
    return Instrument(
        "coinbase",
        product.id,
        (product.product_type or "spot").lower(),
        product.base_currency,
        product.quote_currency,
        canonical(product.quote_increment) if product.quote_increment else None,
        canonical(product.base_increment) if product.base_increment else None,
        aliases,
    )


def _action(product: _Product) -> tuple[Action, str | None]:
    action: Action = {"online": "trading", "offline": "halt", "delisted": "close"}.get(product.status or "", "unknown")  # type: ignore[assignment]  # all are actions
    reason = product.status_message or None
    if action == "trading":
        if product.trading_disabled or product.cancel_only:
            return "halt", reason or ("trading_disabled" if product.trading_disabled else "cancel_only")
        if product.auction_mode or product.post_only:
            return "pre-open", reason or ("auction_mode" if product.auction_mode else "post_only")
    return action, reason if action == "trading" else reason or product.status
