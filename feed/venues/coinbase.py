"""Coinbase: Exchange (`type`) and Advanced Trade (`channel`, `events`).

Owns what their frames mean. Leaves numbers to `decimals`, times to `times`, trades sent twice and the messages to
`symbol`. Frames of other kinds (heartbeats, candles, answers to subscriptions) are read and mean nothing.

- Sides: Exchange names the maker's side of a trade ("If the side is sell this indicates the maker was a sell order",
  https://docs.cdp.coinbase.com/exchange/websocket-feed/channels), so the taker's is the other one. Advanced Trade is
  read the same way; no capture shows it, so that is unproved.
- Trades: `trade_id` counts the trades of a product, so a skipped id is a hole. `last_match`, and the snapshot of
  `market_trades`, repeat trades at subscription; those that were missed show as a hole at the next trade.
- Book: a snapshot, then absolute sizes; nothing tells a hole (Exchange has no sequence here, and `sequence_num` counts
  a connection, whose frames lie in many partitions). Changes before the first snapshot are of no use and are dropped.
- Quotes: `sequence` of Exchange's ticker rises, so one that does not is known; Advanced Trade's has no identity.
- Times: of the trade, of the change, of the ticker; of Advanced Trade's books and quotes the `timestamp` of the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from feed.errors import BadTick
from feed.model import Action, Instrument, Level, Quote, Side, Trade
from feed.venues import coinbase_frames as frames
from feed.venues.decimals import canonical, canonical_levels, positive
from feed.venues.symbol import Symbol, Tick
from feed.venues.times import iso_ns

_SHOWN_CHARS_MAX: Final = 50
_TAKER: Final[dict[str, Side]] = {"buy": "sell", "sell": "buy", "BUY": "sell", "SELL": "buy"}


class Coinbase:
    """What reads the ticks of one product."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._name = symbol.venue_symbol
        self._state = frames.Saved()
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
            kind = frames.kind(frame)
            decode = frames.DECODERS.get(kind)
            if decode is None:
                frames.keys_of(frames.HEAD.decode(frame))
                return
            data = decode(frame)
        except frames.UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error
        self._takes[kind](data)

    def save(self) -> bytes:
        """The private state: positions."""
        return msgspec.json.encode(self._state)

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = frames.SAVED.decode(saved)

    def _take_snapshot(self, data: frames.Snapshot) -> None:
        self._must_be_mine(data.product_id)
        bids, asks = _side(canonical_levels(data.bids)), _side(canonical_levels(data.asks))
        time = None if data.time is None else iso_ns(data.time)
        self._symbol.book_replace(bids, asks, time)

    def _take_change(self, data: frames.Change) -> None:
        self._must_be_mine(data.product_id)
        bids: list[Level] = []
        asks: list[Level] = []
        for side, price, size in data.changes:
            (bids if side == "buy" else asks).append((positive(price), canonical(size)))
        time = iso_ns(data.time)
        if self._symbol.book_is_live:
            self._symbol.book_change(bids, asks, time)

    def _take_match(self, data: frames.Match) -> None:
        self._must_be_mine(data.product_id)
        trade = _trade(data, str(data.trade_id))
        self._follow(data.trade_id)
        self._symbol.trades([trade], trade.ts_event)

    def _take_last_match(self, data: frames.Match) -> None:
        self._must_be_mine(data.product_id)
        self._symbol.history([_trade(data, str(data.trade_id))])

    def _take_ticker(self, data: frames.Ticker) -> None:
        self._must_be_mine(data.product_id)
        quote = _quote(data.best_bid, data.best_bid_size, data.best_ask, data.best_ask_size)
        time = None if data.time is None else iso_ns(data.time)
        if data.sequence > self._state.ticker:
            self._state.ticker = data.sequence
            self._symbol.quote(quote, time)

    def _take_status(self, data: frames.Status) -> None:
        self._take_products(data.products, None)

    def _take_books(self, data: frames.Books) -> None:
        time = iso_ns(data.timestamp)
        events = [(event.type, *_sides(event.updates)) for event in data.events if event.product_id == self._name]
        for type_, bids, asks in events:
            if type_ == "snapshot":
                self._symbol.book_replace(_side(bids), _side(asks), time)
            elif self._symbol.book_is_live:
                self._symbol.book_change(bids, asks, time)

    def _take_trades(self, data: frames.Trades) -> None:
        old: list[Trade] = []
        new: list[Trade] = []
        for event in data.events:
            into = old if event.type == "snapshot" else new
            into += [_trade(trade, trade.trade_id) for trade in event.trades if trade.product_id == self._name]
        # a frame lists the newest first; ids say in which order they were made
        for trades in (old, new):
            trades.sort(key=_number)
        if old:
            self._symbol.history(old)
        if new:
            for trade in new:
                self._follow(_number(trade))
            self._symbol.trades(new, new[-1].ts_event)

    def _take_tickers(self, data: frames.Tickers) -> None:
        time = iso_ns(data.timestamp)
        quotes = [
            _quote(ticker.best_bid, ticker.best_bid_quantity, ticker.best_ask, ticker.best_ask_quantity)
            for event in data.events
            for ticker in event.tickers
            if ticker.product_id == self._name
        ]
        if quotes:
            self._symbol.quote(quotes[-1], time)

    def _take_statuses(self, data: frames.Statuses) -> None:
        self._take_products([product for event in data.events for product in event.products], iso_ns(data.timestamp))

    def _take_products(self, products: list[frames.Product], time: str | None) -> None:
        mine = [product for product in products if product.id == self._name]
        if not mine:
            return
        product = mine[-1]
        instrument = _instrument(product)
        self._symbol.instrument(instrument, time)
        if product.status is not None:
            self._symbol.status(*_action(product), time)

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
        return frames.keys_of(frames.HEAD.decode(frame))
    except frames.UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def wide(frame: bytes) -> tuple[Action, str | None] | None:
    """Nothing: Coinbase does not say what becomes of all products at once.

    Raises:
        BadTick: the frame cannot be read, or speaks of products.
    """
    if keys(frame):
        raise BadTick("frame of a product without a key")
    return None


def _trade(data: frames.Match | frames.TradeOf, trade_id: str) -> Trade:
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


def _sides(updates: list[frames.Level]) -> tuple[list[Level], list[Level]]:
    bids = [(level.price_level, level.new_quantity) for level in updates if level.side == "bid"]
    asks = [(level.price_level, level.new_quantity) for level in updates if level.side != "bid"]
    return canonical_levels(bids), canonical_levels(asks)


def _side(levels: list[Level]) -> dict[str, str]:
    return {price: size for price, size in levels if size != "0"}


def _instrument(product: frames.Product) -> Instrument:
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


def _action(product: frames.Product) -> tuple[Action, str | None]:
    action: Action = {"online": "trading", "offline": "halt", "delisted": "close"}.get(product.status or "", "unknown")  # type: ignore[assignment]  # all are actions
    reason = product.status_message or None
    if action == "trading":
        if product.trading_disabled or product.cancel_only:
            return "halt", reason or ("trading_disabled" if product.trading_disabled else "cancel_only")
        if product.auction_mode or product.post_only:
            return "pre-open", reason or ("auction_mode" if product.auction_mode else "post_only")
    return action, reason if action == "trading" else reason or product.status
