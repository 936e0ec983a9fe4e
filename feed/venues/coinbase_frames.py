"""The frames of Coinbase, Exchange and Advanced Trade: their shapes, and what they say of each product.

Field names are the venue's. Owns reading bytes into these shapes; what they mean stands in `coinbase`. A field that may
be left out is unset then, which is neither null nor zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from feed.errors import BadTick
from feed.venues.counters import Counter
from feed.venues.rows import longer
from feed.wire.model import Kind

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
KIND_CHARS_MAX: Final = 40
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Levels = list[tuple[str, str]]
Text = str | UnsetType | None
Flag = bool | UnsetType


class Snapshot(Struct, gc=False):
    product_id: str
    bids: Levels
    asks: Levels
    time: str | None = None


class Change(Struct, gc=False):
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


class Ticker(Struct, gc=False):
    product_id: str
    sequence: Id | None = None
    best_bid: Text = UNSET
    best_ask: Text = UNSET
    best_bid_size: Text = UNSET
    best_ask_size: Text = UNSET
    time: str | None = None


class Product(Struct, gc=False):
    """Of a status frame."""

    id: str
    base_currency: Text = UNSET
    quote_currency: Text = UNSET
    base_increment: Text = UNSET
    quote_increment: Text = UNSET
    display_name: Text = UNSET
    product_type: Text = UNSET
    status: Text = UNSET
    status_message: Text = UNSET
    post_only: Flag = UNSET
    limit_only: Flag = UNSET
    cancel_only: Flag = UNSET
    auction_mode: Flag = UNSET
    trading_disabled: Flag = UNSET


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
    time: str | None = None


class TickerOf(Struct, gc=False):
    product_id: str
    best_bid: Text = UNSET
    best_ask: Text = UNSET
    best_bid_quantity: Text = UNSET
    best_ask_quantity: Text = UNSET


class TradesEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[TradeOf]


class TickersEvent(Struct, gc=False):
    tickers: list[TickerOf]


class ProductsEvent(Struct, gc=False):
    products: list[Product]


class Status(Struct, gc=False):
    products: list[Product]
    timestamp: str | None = None


class Books(Struct, gc=False):
    events: list[BookEvent]
    timestamp: str | None = None


class Trades(Struct, gc=False):
    events: list[TradesEvent]
    timestamp: str | None = None


class Tickers(Struct, gc=False):
    events: list[TickersEvent]
    timestamp: str | None = None


class Statuses(Struct, gc=False):
    events: list[ProductsEvent]
    timestamp: str | None = None


class Named(Struct, gc=False):
    product_id: str = ""
    id: str = ""


class EventHead(Struct, gc=False):
    product_id: str = ""
    trades: list[Named] = []
    tickers: list[Named] = []
    products: list[Named] = []
    candles: list[Named] = []


class Head(Struct, gc=False):
    """What tells a frame from the others, and the products that it speaks of."""

    type: str = ""
    channel: str = ""
    product_id: str = ""
    products: list[Named] = []
    events: list[EventHead] = []


class Event(Struct, gc=False):
    """One of an Advanced Trade frame, its entries unread."""

    type: str = ""
    trades: list[Raw] | UnsetType = UNSET
    tickers: list[Raw] | UnsetType = UNSET
    products: list[Raw] | UnsetType = UNSET


class Outer(Struct, gc=False):
    """A frame of several products, its entries unread."""

    timestamp: str | None = None
    products: list[Raw] | UnsetType = UNSET
    events: list[Raw] | UnsetType = UNSET


class Part(Struct, gc=False, frozen=True):
    """What a frame says of one product: its entries unread, each with the type of its event."""

    kind: str
    frame: bytes
    time: str | None = None
    said: list[tuple[str, Raw]] = []


class Facts(Struct, frozen=True, omit_defaults=True):
    """Whether a product trades, as far as the venue has said."""

    status: str | None = None
    status_message: str | None = None
    post_only: bool = False
    limit_only: bool = False
    cancel_only: bool = False
    auction_mode: bool = False
    trading_disabled: bool = False


class Saved(Struct, omit_defaults=True):
    """The private state: the last trade told, the last ticker told, whether the product trades."""

    trade: int | None = None
    quotes: Counter = field(default_factory=Counter)
    facts: Facts = Facts()


class One(Struct, frozen=True):
    """A kind of frames that speak of one product: how they are read, and of which channel they are."""

    decode: Callable[[bytes], Any]
    channel: Kind
    longer: Callable[[bytes], Any] | None = None


class Several(Struct, frozen=True):
    """A kind of frames that may speak of several: how a whole one is read, how its entries of one product are found in
    that, each with the type of its event, and how one entry is read."""

    all: Callable[[bytes], Any]
    own: Callable[[Any, str], list[tuple[str, Any]]]
    one: Callable[[Raw], Any]
    channel: Kind


HEAD: Final = msgspec.json.Decoder(Head).decode
SAVED: Final = msgspec.json.Decoder(Saved).decode
_OUTER: Final = msgspec.json.Decoder(Outer).decode
_EVENT: Final = msgspec.json.Decoder(Event).decode
_NAMED: Final = msgspec.json.Decoder(Named).decode
_MATCH: Final = msgspec.json.Decoder(Match).decode
ONE: Final[dict[str, One]] = {
    "snapshot": One(msgspec.json.Decoder(Snapshot).decode, "book", longer(Snapshot, 2, "bids", "asks")),
    "l2update": One(msgspec.json.Decoder(Change).decode, "book", longer(Change, 3, "changes")),
    "match": One(_MATCH, "trades"),
    "last_match": One(_MATCH, "trades"),
    "ticker": One(msgspec.json.Decoder(Ticker).decode, "quotes"),
}
SEVERAL: Final[dict[str, Several]] = {
    "status": Several(
        msgspec.json.Decoder(Status).decode,
        lambda data, name: [("", product) for product in data.products if product.id == name],
        msgspec.json.Decoder(Product).decode,
        "status",
    ),
    "channel l2_data": Several(
        msgspec.json.Decoder(Books).decode,
        lambda data, name: [(event.type, event) for event in data.events if event.product_id == name],
        msgspec.json.Decoder(BookEvent).decode,
        "book",
    ),
    "channel market_trades": Several(
        msgspec.json.Decoder(Trades).decode,
        lambda data, name: [(e.type, trade) for e in data.events for trade in e.trades if trade.product_id == name],
        msgspec.json.Decoder(TradeOf).decode,
        "trades",
    ),
    "channel ticker": Several(
        msgspec.json.Decoder(Tickers).decode,
        lambda data, name: [("", ticker) for e in data.events for ticker in e.tickers if ticker.product_id == name],
        msgspec.json.Decoder(TickerOf).decode,
        "quotes",
    ),
    "channel status": Several(
        msgspec.json.Decoder(Statuses).decode,
        lambda data, name: [("", product) for e in data.events for product in e.products if product.id == name],
        msgspec.json.Decoder(Product).decode,
        "status",
    ),
}
SEVERAL["channel ticker_batch"] = SEVERAL["channel ticker"]
_LISTS: Final = {
    "channel market_trades": "trades",
    "channel ticker": "tickers",
    "channel ticker_batch": "tickers",
    "channel status": "products",
}
_STARTS: Final = {
    (
        f'{{"channel":"{kind.removeprefix("channel ")}' if kind.startswith("channel ") else f'{{"type":"{kind}'
    ).encode(): kind
    for kind in (*ONE, *SEVERAL)
}


def kind(frame: bytes) -> str:
    """The kind of a frame: of its first bytes where they say it, else by reading it."""
    start = frame[: frame.find(b'",', 0, KIND_CHARS_MAX)]
    known = _STARTS.get(start)
    return _kind(HEAD(frame)) if known is None else known


def keys_of(head: Head) -> list[str]:
    if not head.type and not head.channel:
        raise BadTick("frame without `type` or `channel`")
    named = [head.product_id, *(product.id for product in head.products)]
    for event in head.events:
        named.append(event.product_id)
        named += [entry.product_id for entry in (*event.trades, *event.tickers, *event.candles)]
        named += [product.id for product in event.products]
    return [name for name in dict.fromkeys(named) if name]


def entries(frame: bytes) -> dict[str, Part]:
    """What a frame says of each product; nothing where it is of a kind that means nothing.

    Raises:
        BadTick: it cannot be read, or an entry does not name its product.
    """
    try:
        head = HEAD(frame)
        of = _kind(head)
        if of in ONE:
            return {head.product_id: Part(of, frame)} if head.product_id else {}
        if of not in SEVERAL:
            keys_of(head)
            return {}
        outer = _OUTER(frame)
        parts: dict[str, Part] = {}
        for name, type_, raw in _said(of, outer):
            if not name:
                raise BadTick(f"entry {bytes(raw)[:KIND_CHARS_MAX]!r} without a product")
            part = parts.get(name)
            if part is None:
                part = parts[name] = Part(of, frame, outer.timestamp, [])
            part.said.append((type_, raw))
        return parts
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def _kind(head: Head) -> str:
    return f"channel {head.channel}" if head.channel else head.type


def _said(of: str, outer: Outer) -> Iterator[tuple[str, str, Raw]]:
    """Each entry with its product and the type of its event."""
    if of == "status":
        for raw in _listed(outer, "products"):
            yield _NAMED(raw).id, "", raw
        return
    for raw in _listed(outer, "events"):
        if of == "channel l2_data":
            yield _NAMED(raw).product_id, "", raw
            continue
        event = _EVENT(raw)
        for entry in _listed(event, _LISTS[of]):
            named = _NAMED(entry)
            yield named.product_id or named.id, event.type, entry


def _listed(of: Struct, name: str) -> list[Raw]:
    """A list that has to be there: left out, it does not say that nothing is in it."""
    found: list[Raw] | UnsetType = getattr(of, name)
    if found is UNSET:
        raise BadTick(f"`{name}` is left out, wanted a list")
    return found
