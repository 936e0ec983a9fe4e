"""The frames of Coinbase, Exchange and Advanced Trade: their shapes, and the products that they speak of.

Field names are the venue's. Owns reading bytes into these shapes; what they mean stands in `coinbase`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from feed.errors import BadTick

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
KIND_CHARS_MAX: Final = 40
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Levels = list[tuple[str, str]]


class Snapshot(Struct, gc=False):
    product_id: str
    bids: Levels
    asks: Levels
    time: str | None = None


class Change(Struct, gc=False):
    product_id: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]
    time: str


class Match(Struct, gc=False):
    product_id: str
    trade_id: Id
    side: Literal["buy", "sell"]
    size: str
    price: str
    time: str


class Ticker(Struct, gc=False):
    product_id: str
    sequence: Id
    best_bid: str
    best_ask: str
    best_bid_size: str | None = None
    best_ask_size: str | None = None
    time: str | None = None


class Product(Struct, gc=False):
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


class Status(Struct, gc=False):
    products: list[Product]


class Level(Struct, gc=False):
    side: Literal["bid", "offer", "ask"]
    price_level: str
    new_quantity: str


class BookEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: list[Level]


class TradeOf(Struct, gc=False):
    product_id: str
    trade_id: str
    side: Literal["BUY", "SELL"]
    size: str
    price: str
    time: str


class TradesEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[TradeOf]


class TickerOf(Struct, gc=False):
    product_id: str
    best_bid: str | None = None
    best_bid_quantity: str | None = None
    best_ask: str | None = None
    best_ask_quantity: str | None = None


class TickersEvent(Struct, gc=False):
    tickers: list[TickerOf]


class StatusEvent(Struct, gc=False):
    products: list[Product]


class Books(Struct, gc=False):
    timestamp: str
    events: list[BookEvent]


class Trades(Struct, gc=False):
    events: list[TradesEvent]


class Tickers(Struct, gc=False):
    timestamp: str
    events: list[TickersEvent]


class Statuses(Struct, gc=False):
    timestamp: str
    events: list[StatusEvent]


class Named(Struct, gc=False):
    product_id: str = ""
    id: str = ""


class EventHead(Struct, gc=False):
    product_id: str = ""
    trades: list[Named] = []
    tickers: list[Named] = []
    products: list[Named] = []


class Head(Struct, gc=False):
    """What tells a frame from the others, and the products that it speaks of."""

    type: str = ""
    channel: str = ""
    product_id: str = ""
    products: list[Named] = []
    events: list[EventHead] = []


class Saved(Struct):
    """The private state: the last trade told, the last ticker told."""

    trade: int | None = None
    ticker: int = -1


HEAD: Final = msgspec.json.Decoder(Head)
SAVED: Final = msgspec.json.Decoder(Saved)
DECODERS: Final[dict[str, Callable[[bytes], Any]]] = {
    kind: msgspec.json.Decoder(type_).decode
    for kind, type_ in {
        "snapshot": Snapshot,
        "l2update": Change,
        "match": Match,
        "last_match": Match,
        "ticker": Ticker,
        "status": Status,
        "channel l2_data": Books,
        "channel market_trades": Trades,
        "channel ticker": Tickers,
        "channel ticker_batch": Tickers,
        "channel status": Statuses,
    }.items()
}


def keys_of(head: Head) -> list[str]:
    if not head.type and not head.channel:
        raise BadTick("frame without `type` or `channel`")
    named = [head.product_id, *(product.id for product in head.products)]
    for event in head.events:
        named.append(event.product_id)
        named += [entry.product_id for entry in (*event.trades, *event.tickers)]
        named += [product.id for product in event.products]
    return [name for name in dict.fromkeys(named) if name]


def kind(frame: bytes) -> str:
    """The kind of a frame: of its first bytes where they say it, else by reading it."""
    start = frame[: frame.find(b'",', 0, KIND_CHARS_MAX)]
    known = STARTS.get(start)
    if known is not None:
        return known
    head = HEAD.decode(frame)
    return f"channel {head.channel}" if head.channel else head.type


STARTS: Final = {
    (
        f'{{"channel":"{kind.removeprefix("channel ")}' if kind.startswith("channel ") else f'{{"type":"{kind}'
    ).encode(): kind
    for kind in DECODERS
}
