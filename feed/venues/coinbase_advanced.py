"""Coinbase Advanced Trade: frames with a `channel` and `events`, each of which may speak of several products.

Owns the shapes of Advanced Trade's frames and what they mean. Leaves what is known of a product to `coinbase_product`,
which both sockets share.

- Trades: `side` is taken to be the maker's, as Exchange says of its own. No capture shows it, so that is unproved. The
  snapshot of `market_trades` repeats trades at subscription; those that were missed show as a hole at the next one.
- Book: a snapshot, then absolute sizes. Nothing tells a hole: `sequence_num` counts a connection, whose frames lie in
  many partitions. A snapshot comes first on every connection.
- Quotes: a ticker has no identity. `ticker_batch`, which leaves out both sides, is no quote.
- Times: of the trade; of books, quotes and status the `timestamp` of the frame.

Source: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from feed.errors import BadTick, shown
from feed.venues.coinbase_frames import NAMED, Item, Product, SeveralProducts, Text, listed
from feed.venues.coinbase_product import ProductState, number_of, side_of, trade_of
from feed.venues.times import iso_ns
from feed.wire.decimals import canonical_levels
from feed.wire.model import Level, Quote, Side, Trade

_TAKER: Final[dict[str, Side]] = {"BUY": "sell", "SELL": "buy"}


class AdvancedLevel(Struct, gc=False):
    side: Literal["bid", "offer", "ask"]
    price_level: str
    new_quantity: str


class BookEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[AdvancedLevel]


class AdvancedTrade(Struct, gc=False):
    product_id: str
    trade_id: str
    side: Literal["BUY", "SELL"]
    size: str
    price: str
    time: str | None = None


class TradesEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[AdvancedTrade]


class AdvancedTicker(Struct, gc=False):
    product_id: str
    best_bid: Text = UNSET
    best_ask: Text = UNSET
    best_bid_quantity: Text = UNSET
    best_ask_quantity: Text = UNSET


class TickersEvent(Struct, gc=False):
    tickers: list[AdvancedTicker]


class ProductsEvent(Struct, gc=False):
    products: list[Product]


class BookFrame(Struct, gc=False):
    events: list[BookEvent]
    timestamp: str | None = None


class TradesFrame(Struct, gc=False):
    events: list[TradesEvent]
    timestamp: str | None = None


class TickersFrame(Struct, gc=False):
    events: list[TickersEvent]
    timestamp: str | None = None


class ProductsFrame(Struct, gc=False):
    events: list[ProductsEvent]
    timestamp: str | None = None


class RawFrame(Struct, gc=False):
    """A frame, its events unread."""

    timestamp: str | None = None
    events: list[Raw] | UnsetType = UNSET


class RawEvent(Struct, gc=False):
    """An event, its items unread."""

    type: str = ""
    trades: list[Raw] | UnsetType = UNSET
    tickers: list[Raw] | UnsetType = UNSET
    products: list[Raw] | UnsetType = UNSET


_RAW_FRAME: Final = msgspec.json.Decoder(RawFrame).decode
_RAW_EVENT: Final = msgspec.json.Decoder(RawEvent).decode
_RawItems = Iterator[tuple[str, str, Raw]]


def _raw_books(frame: bytes) -> tuple[str | None, _RawItems]:
    found = _RAW_FRAME(frame)
    return found.timestamp, ((NAMED(raw).product_id, "", raw) for raw in listed(found.events, "events"))


def _raw_items(name: str) -> Callable[[bytes], tuple[str | None, _RawItems]]:
    """Gives the items that stand in this list of each event."""

    def items_of(found: RawFrame) -> _RawItems:
        for raw in listed(found.events, "events"):
            event = _RAW_EVENT(raw)
            for item in listed(getattr(event, name), name):
                named = NAMED(item)
                yield named.product_id or named.id, event.type, item

    def read(frame: bytes) -> tuple[str | None, _RawItems]:
        found = _RAW_FRAME(frame)
        return found.timestamp, items_of(found)

    return read


_TICKERS: Final = SeveralProducts(
    msgspec.json.Decoder(TickersFrame).decode,
    lambda frame, name: [
        ("", ticker) for event in frame.events for ticker in event.tickers if ticker.product_id == name
    ],
    _raw_items("tickers"),
    msgspec.json.Decoder(AdvancedTicker).decode,
    "quotes",
)
SEVERAL: Final[dict[str, SeveralProducts]] = {
    "channel l2_data": SeveralProducts(
        msgspec.json.Decoder(BookFrame).decode,
        lambda frame, name: [(event.type, event) for event in frame.events if event.product_id == name],
        _raw_books,
        msgspec.json.Decoder(BookEvent).decode,
        "book",
    ),
    "channel market_trades": SeveralProducts(
        msgspec.json.Decoder(TradesFrame).decode,
        lambda frame, name: [
            (event.type, trade) for event in frame.events for trade in event.trades if trade.product_id == name
        ],
        _raw_items("trades"),
        msgspec.json.Decoder(AdvancedTrade).decode,
        "trades",
    ),
    "channel ticker": _TICKERS,
    "channel ticker_batch": _TICKERS,
    "channel status": SeveralProducts(
        msgspec.json.Decoder(ProductsFrame).decode,
        lambda frame, name: [
            ("", product) for event in frame.events for product in event.products if product.id == name
        ],
        _raw_items("products"),
        msgspec.json.Decoder(Product).decode,
        "status",
    ),
}
"""The channels that mean something."""


class CoinbaseAdvanced:
    """What Advanced Trade's frames of one product mean: `several` are the methods for the kinds in the table."""

    def __init__(self, product: ProductState) -> None:
        self._product = product
        self._symbol = product.symbol
        self.several: dict[str, Callable[[list[Item], str | None], None]] = {
            "channel l2_data": self._apply_book,
            "channel market_trades": self._apply_trades,
            "channel ticker": self._apply_tickers,
            "channel ticker_batch": self._apply_tickers,
            "channel status": self._apply_status,
        }

    def _apply_book(self, items: list[Item], time: str | None) -> None:
        events = [(event.type, *_sides(event.updates)) for _, event in items]
        for type_, bids, asks in events:
            if type_ == "snapshot":
                self._symbol.book_replace(side_of(bids), side_of(asks), time)
            else:
                self._product.change_book(bids, asks, time)

    def _apply_trades(self, items: list[Item], time: str | None) -> None:
        old: list[Trade] = []
        new: list[Trade] = []
        for type_, trade in items:
            if type_ not in ("snapshot", "update"):
                raise BadTick(f"event of the type {shown(type_)}, wanted snapshot or update")
            (old if type_ == "snapshot" else new).append(_trade(trade))
        # a frame lists the newest first; ids say in which order they were made
        for trades in (old, new):
            trades.sort(key=number_of)
        if old:
            self._symbol.history(old)
        if new:
            self._product.apply_trades(new)

    def _apply_tickers(self, items: list[Item], time: str | None) -> None:
        last: Quote | None = None
        for _, ticker in items:
            quote = self._product.quote(
                ticker.best_bid, ticker.best_bid_quantity, ticker.best_ask, ticker.best_ask_quantity, last
            )
            last = quote or last
        if last is not None:
            self._symbol.quote(last, time)

    def _apply_status(self, items: list[Item], time: str | None) -> None:
        self._product.apply_products([product for _, product in items], time)


def _trade(trade: AdvancedTrade) -> Trade:
    return trade_of(trade.price, trade.size, _TAKER[trade.side], trade.trade_id, iso_ns(trade.time))


def _sides(updates: list[AdvancedLevel]) -> tuple[list[Level], list[Level]]:
    bids = [(level.price_level, level.new_quantity) for level in updates if level.side == "bid"]
    asks = [(level.price_level, level.new_quantity) for level in updates if level.side != "bid"]
    return canonical_levels(bids), canonical_levels(asks)
