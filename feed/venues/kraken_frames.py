"""The frames of Kraken, v1 and v2: their shapes, and the pairs that they speak of.

Field names are the venue's where they are words. Owns reading bytes into these shapes; what they mean stands in
`kraken`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from feed.errors import BadTick
from feed.venues.decimals import DECIMALS_MAX

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ABSENT: Final = Raw(b"")
DEPTHS: Final = (10, 25, 100, 500, 1000)
ARRAY_PARTS_MIN: Final = 4
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Crc = Annotated[int, Meta(ge=0, lt=2**32)]
Precision = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]
Sent = tuple[str, str]
"""A level's price and size as the venue wrote them."""


class BookV1(Struct, gc=False):
    """One of the one or two objects of a frame; a level is price, size, time and perhaps "r" (sent again)."""

    all_asks: list[list[str]] | None = field(default=None, name="as")
    all_bids: list[list[str]] | None = field(default=None, name="bs")
    asks: list[list[str]] = field(default=[], name="a")
    bids: list[list[str]] = field(default=[], name="b")
    checksum: str | None = field(default=None, name="c")


class TickerV1(Struct, gc=False):
    """Price, whole lots, lots of both sides."""

    a: tuple[str, Any, str]
    b: tuple[str, Any, str]


class LevelV2(Struct, gc=False):
    price: Raw
    qty: Raw


class BookV2(Struct, gc=False):
    symbol: str
    bids: list[LevelV2] = []
    asks: list[LevelV2] = []
    checksum: Crc | None = None
    timestamp: str | None = None


class TradeV2(Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Raw
    qty: Raw
    trade_id: Id
    timestamp: str


class TickerV2(Struct, gc=False):
    symbol: str
    bid: Raw
    bid_qty: Raw
    ask: Raw
    ask_qty: Raw
    timestamp: str | None = None


class PairV2(Struct, gc=False):
    symbol: str
    base: str | None = None
    quote: str | None = None
    status: str | None = None
    price_precision: Precision | None = None
    qty_precision: Precision | None = None
    price_increment: Raw = ABSENT
    qty_increment: Raw = ABSENT


class PairsV2(Struct, gc=False):
    pairs: list[PairV2] = []


class SystemV2(Struct, gc=False):
    system: str


class AnswerV2(Struct, gc=False):
    """What was subscribed."""

    symbol: str = ""
    channel: str = ""
    depth: int | None = None


class Subscription(Struct, gc=False):
    name: str = ""
    depth: int | None = None


class Head(Struct, gc=False):
    """An object: v2, or an event of v1."""

    channel: str = ""
    type: str = ""
    data: Raw = ABSENT
    method: str = ""
    result: AnswerV2 | None = None
    error: Any = None
    event: str = ""
    status: str = ""
    pair: Any = None
    subscription: Subscription | None = None


class NamedV2(Struct, gc=False):
    symbol: str = ""


class Saved(Struct):
    """The private state; levels as sent, so that the checksum can be made again.

    `depth` is the book's, `depth_told` that of the answer; `trade` the last id, `since` when trades were subscribed
    (v1, until their first frame), `traded` whether any came.
    """

    depth: int = DEPTHS[0]
    depth_told: int | None = None
    trade: int | None = None
    since: int | None = None
    traded: bool = False
    bids: list[Sent] = []
    asks: list[Sent] = []


def decoder(type_: Any) -> Callable[[bytes | Raw], Any]:
    return msgspec.json.Decoder(type_).decode


ARRAY: Final = decoder(list[Raw])
TEXT: Final = decoder(str)
HEAD: Final = decoder(Head)
SAVED: Final = decoder(Saved)
BOOK_V1: Final = decoder(BookV1)
TRADES_V1: Final = decoder(list[list[str]])
TICKER_V1: Final = decoder(TickerV1)
BOOKS_V2: Final = decoder(list[BookV2])
TRADES_V2: Final = decoder(list[TradeV2])
TICKERS_V2: Final = decoder(list[TickerV2])
PAIRS_V2: Final = decoder(PairsV2)
SYSTEM_V2: Final = decoder(list[SystemV2])
NAMES_V2: Final = decoder(list[NamedV2])


def keys_of(head: Head) -> list[str]:
    if head.event:
        return [head.pair] if isinstance(head.pair, str) and head.pair and head.status != "error" else []
    if head.method or head.error is not None:
        return [head.result.symbol] if head.result is not None and head.result.symbol else []
    if not head.channel:
        raise BadTick("frame without `channel`, `method` or `event`")
    if not bytes(head.data) or head.channel in ("status", "heartbeat"):
        return []
    named = PAIRS_V2(head.data).pairs if head.channel == "instrument" else NAMES_V2(head.data)
    return [name for name in dict.fromkeys(entry.symbol for entry in named) if name]


def array(frame: bytes) -> tuple[list[Raw], str, str]:
    """The payloads, the channel and the pair of a frame of v1."""
    parts = ARRAY(frame)
    if len(parts) < ARRAY_PARTS_MIN:
        raise BadTick(f"array of {len(parts)}, wanted channel id, payload, channel and pair")
    return parts[1:-2], TEXT(parts[-2]), TEXT(parts[-1])
