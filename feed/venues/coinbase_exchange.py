"""Coinbase Exchange: frames with a `type`, each of one product but for `status`.

Owns the shapes of Exchange's frames and what they mean. Leaves what is known of a product to `coinbase_product`, which
both sockets share.

- Trades: `side` is the maker's ("If the side is sell this indicates the maker was a sell order"), so the taker's is the
  other one. `last_match` repeats a trade at subscription; those that were missed show as a hole at the next one.
- Book: a snapshot, then absolute sizes. Nothing tells a hole. `level2` and `level2_batch` look alike. Both are
  whole, so a book of both is right when both have told all.
- Quotes: `sequence` of a ticker rises, so one that does not is known, unless it has begun anew.
- Times: of the trade, of the change, of the ticker.

Source: https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from feed.venues.coinbase_frames import NAMED, Id, Item, OneProduct, Product, SeveralProducts, Text, listed
from feed.venues.coinbase_product import ProductState, side_of, trade_of
from feed.venues.rows import longer
from feed.venues.times import iso_ns
from feed.wire.decimals import canonical, canonical_levels, positive
from feed.wire.model import Level, Side, Trade

_TAKER: Final[dict[str, Side]] = {"buy": "sell", "sell": "buy"}
Rows = list[tuple[str, str]]


class ExchangeSnapshot(Struct, gc=False):
    product_id: str
    bids: Rows
    asks: Rows
    time: str | None = None


class L2Update(Struct, gc=False):
    product_id: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]
    time: str | None = None


class Match(Struct, gc=False):
    product_id: str
    trade_id: Id
    side: Literal["buy", "sell"]
    size: str
    price: str
    time: str | None = None


class ExchangeTicker(Struct, gc=False):
    product_id: str
    sequence: Id | None = None
    best_bid: Text = UNSET
    best_ask: Text = UNSET
    best_bid_size: Text = UNSET
    best_ask_size: Text = UNSET
    time: str | None = None


class ExchangeStatus(Struct, gc=False):
    products: list[Product]
    timestamp: str | None = None


class RawStatus(Struct, gc=False):
    """A status frame, its products unread."""

    timestamp: str | None = None
    products: list[Raw] | UnsetType = UNSET


_RAW_STATUS: Final = msgspec.json.Decoder(RawStatus).decode
_MATCH: Final = msgspec.json.Decoder(Match).decode


def _raw_products(frame: bytes) -> tuple[str | None, Iterator[tuple[str, str, Raw]]]:
    status = _RAW_STATUS(frame)
    return status.timestamp, ((NAMED(raw).id, "", raw) for raw in listed(status.products, "products"))


ONE: Final[dict[str, OneProduct]] = {
    "snapshot": OneProduct(
        msgspec.json.Decoder(ExchangeSnapshot).decode, "book", longer(ExchangeSnapshot, 2, "bids", "asks")
    ),
    "l2update": OneProduct(msgspec.json.Decoder(L2Update).decode, "book", longer(L2Update, 3, "changes")),
    "match": OneProduct(_MATCH, "trades"),
    "last_match": OneProduct(_MATCH, "trades"),
    "ticker": OneProduct(msgspec.json.Decoder(ExchangeTicker).decode, "quotes"),
}
"""The types of frames that mean something and speak of one product."""
SEVERAL: Final[dict[str, SeveralProducts]] = {
    "status": SeveralProducts(
        msgspec.json.Decoder(ExchangeStatus).decode,
        lambda status, name: [("", product) for product in status.products if product.id == name],
        _raw_products,
        msgspec.json.Decoder(Product).decode,
        "status",
    ),
}
"""Those that may speak of several."""


class CoinbaseExchange:
    """What Exchange's frames of one product mean: `one` and `several` are the methods for the kinds in the tables."""

    def __init__(self, product: ProductState) -> None:
        self._product = product
        self._symbol = product.symbol
        self.one: dict[str, Callable[[Any, int], None]] = {
            "snapshot": self._apply_snapshot,
            "l2update": self._apply_l2update,
            "match": self._apply_match,
            "last_match": self._apply_last_match,
            "ticker": self._apply_ticker,
        }
        self.several: dict[str, Callable[[list[Item], str | None], None]] = {"status": self._apply_status}

    def _apply_snapshot(self, snapshot: ExchangeSnapshot, ts_recv: int) -> None:
        bids, asks = side_of(canonical_levels(snapshot.bids)), side_of(canonical_levels(snapshot.asks))
        self._symbol.book_replace(bids, asks, iso_ns(snapshot.time))

    def _apply_l2update(self, update: L2Update, ts_recv: int) -> None:
        bids: list[Level] = []
        asks: list[Level] = []
        for side, price, size in update.changes:
            (bids if side == "buy" else asks).append((positive(price), canonical(size)))
        self._product.change_book(bids, asks, iso_ns(update.time))

    def _apply_match(self, match: Match, ts_recv: int) -> None:
        self._product.apply_trades([_trade(match)])

    def _apply_last_match(self, match: Match, ts_recv: int) -> None:
        self._symbol.history([_trade(match)])

    def _apply_ticker(self, ticker: ExchangeTicker, ts_recv: int) -> None:
        quote = self._product.quote(ticker.best_bid, ticker.best_bid_size, ticker.best_ask, ticker.best_ask_size)
        time = iso_ns(ticker.time)
        if ticker.sequence is not None:
            known = self._product.tickers
            if ticker.sequence <= known.last:
                if not known.begins_anew(ticker.sequence, time, ts_recv):
                    return
                self._symbol.counts.epochs += 1
            known.set(ticker.sequence, time, ts_recv)
        if quote is not None:
            self._symbol.quote(quote, time)

    def _apply_status(self, items: list[Item], time: str | None) -> None:
        self._product.apply_products([product for _, product in items], time)


def _trade(match: Match) -> Trade:
    return trade_of(match.price, match.size, _TAKER[match.side], str(match.trade_id), iso_ns(match.time))
