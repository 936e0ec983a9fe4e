"""The frames of Kraken, v1 and v2: their shapes, and what they say of each pair.

Field names are the venue's where they are words. Owns reading bytes into these shapes; what they mean stands in
`kraken`. A field that may be left out is absent then, which is neither null nor zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field

from feed.errors import BadTick
from feed.wire.decimals import DECIMALS_MAX
from feed.wire.model import Kind

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ABSENT: Final = Raw(b"")
ARRAY_PARTS_MIN: Final = 4
_SHOWN_BYTES_MAX: Final = 50
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Crc = Annotated[int, Meta(ge=0, lt=2**32)]
Precision = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]
Text = str | UnsetType | None
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
    """Price, whole lots, lots of both sides; other fields are not read."""

    a: list[Any] | UnsetType = UNSET
    b: list[Any] | UnsetType = UNSET


class LevelV2(Struct, gc=False):
    price: Raw
    qty: Raw


class BookV2(Struct, gc=False):
    symbol: str
    bids: list[LevelV2] | UnsetType = UNSET
    asks: list[LevelV2] | UnsetType = UNSET
    checksum: Crc | None = None
    timestamp: str | None = None


class TradeV2(Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Raw
    qty: Raw
    trade_id: Id
    timestamp: str | None = None


class TickerV2(Struct, gc=False):
    symbol: str
    bid: Raw = ABSENT
    bid_qty: Raw = ABSENT
    ask: Raw = ABSENT
    ask_qty: Raw = ABSENT
    timestamp: str | None = None


class PairV2(Struct, gc=False):
    symbol: str
    base: Text = UNSET
    quote: Text = UNSET
    status: Text = UNSET
    price_precision: Precision | None = None
    qty_precision: Precision | None = None
    price_increment: Raw = ABSENT
    qty_increment: Raw = ABSENT


class PairsV2(Struct, gc=False):
    pairs: list[PairV2] = []


class RawPairsV2(Struct, gc=False):
    pairs: list[Raw] = []


class SystemV2(Struct, gc=False):
    system: str = ""


class AnswerV2(Struct, gc=False):
    """What was subscribed, or is no longer."""

    symbol: str = ""
    channel: str = ""
    depth: int | None = None


class Subscription(Struct, gc=False):
    name: str = ""


class Head(Struct, gc=False):
    """An object: v2, or an event of v1."""

    channel: str = ""
    type: str = ""
    data: Raw = ABSENT
    method: str = ""
    success: bool | None = None
    result: AnswerV2 | None = None
    error: Any = None
    event: str = ""
    status: str = ""
    pair: Any = None
    channel_name: Any = field(default="", name="channelName")
    subscription: Subscription | None = None


class NamedV2(Struct, gc=False):
    symbol: str = ""


class PartV1(NamedTuple):
    """What an array of v1 says of its pair."""

    channel: str
    payloads: list[Raw]


class PartV2(NamedTuple):
    """What an object says of one pair: its head, and the entries that it has of it."""

    head: Head
    entries: list[Raw]


class SavedBook(Struct, omit_defaults=True):
    """One stream's book: levels as sent, so that the checksum can be made again; those cut on a guess, and the last."""

    stream: str
    depth: int
    told: bool
    bids: list[Sent] = []
    asks: list[Sent] = []
    cut_bids: list[Sent] = []
    cut_asks: list[Sent] = []
    last_bids: list[Sent] = []
    last_asks: list[Sent] = []


class Saved(Struct, omit_defaults=True):
    """The private state.

    `depths` are those that v2's answers told; `main` is the stream that is the book, and `unproven` when another one
    has spoken first since that one did; `trade` is the last id, `since` when trades were subscribed (v1, until their
    first frame), `traded` whether any came.
    """

    depths: list[int] = []
    main: str = ""
    unproven: int | None = None
    books: list[SavedBook] = []
    trade: int | None = None
    since: int | None = None
    traded: bool = False


def decoder(type_: Any) -> Callable[[bytes | Raw], Any]:
    return msgspec.json.Decoder(type_).decode


TEXT: Final = decoder(str)
HEAD: Final = decoder(Head)
SAVED: Final = decoder(Saved)
BOOK_V1: Final = decoder(BookV1)
TRADES_V1: Final = decoder(list[list[str]])
TICKER_V1: Final = decoder(TickerV1)
SYSTEM_V2: Final = decoder(list[SystemV2])
_RAWS: Final = decoder(list[Raw])
_RAW_PAIRS: Final = decoder(RawPairsV2)
_NAMED: Final = decoder(NamedV2)


_PAIRS: Final = decoder(PairsV2)


def _pairs(data: Raw) -> list[PairV2]:
    found: PairsV2 = _PAIRS(data)
    return found.pairs


class OfPairs(NamedTuple):
    """A channel of v2 whose frames speak of pairs: how all entries are read at once, how one is, of what they are."""

    all: Callable[[Raw], Any]
    one: Callable[[Raw], Any]
    channel: Kind


OF_PAIRS: Final[dict[str, OfPairs]] = {
    "book": OfPairs(decoder(list[BookV2]), decoder(BookV2), "book"),
    "trade": OfPairs(decoder(list[TradeV2]), decoder(TradeV2), "trades"),
    "ticker": OfPairs(decoder(list[TickerV2]), decoder(TickerV2), "quotes"),
    "instrument": OfPairs(_pairs, decoder(PairV2), "instruments"),
}


def keys_of(head: Head) -> list[str]:
    """The pairs that an object speaks of."""
    if head.event:
        return [head.pair] if isinstance(head.pair, str) and head.pair and head.status != "error" else []
    if head.method or head.error is not None:
        return [head.result.symbol] if head.result is not None and head.result.symbol else []
    if not head.channel:
        raise BadTick("frame without `channel`, `method` or `event`")
    return list(_named(head)) if head.channel in OF_PAIRS and bytes(head.data) else []


def entries(frame: bytes) -> dict[str, PartV1 | PartV2]:
    """What a frame says of each pair; nothing where it is of a kind that means nothing, or speaks of the venue.

    Raises:
        BadTick: it cannot be read, or an entry does not name its pair.
    """
    try:
        if frame.startswith(b"["):
            part, pair = array(frame)
            return {} if part is None else {pair: part}
        head = HEAD(frame)
        if not head.channel or not bytes(head.data) or head.channel not in OF_PAIRS:
            return {name: PartV2(head, []) for name in keys_of(head)}
        return {name: PartV2(head, own) for name, own in _named(head).items()}
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def array(frame: bytes) -> tuple[PartV1 | None, str]:
    """What a frame of v1 says, and of which pair; None where it is one of an account's own."""
    parts = _RAWS(frame)
    if len(parts) >= 2 and bytes(parts[1]).startswith(b'"'):
        return None, ""  # openOrders and ownTrades: [[…], "ownTrades", {"sequence": 2}]
    if len(parts) < ARRAY_PARTS_MIN:
        raise BadTick(f"array of {len(parts)}, wanted channel id, payload, channel and pair")
    return PartV1(TEXT(parts[-2]), parts[1:-2]), TEXT(parts[-1])


def _named(head: Head) -> dict[str, list[Raw]]:
    named: dict[str, list[Raw]] = {}
    for raw in _RAW_PAIRS(head.data).pairs if head.channel == "instrument" else _RAWS(head.data):
        name = _NAMED(raw).symbol
        if not name:
            raise BadTick(f"entry {bytes(raw)[:_SHOWN_BYTES_MAX]!r} without a pair")
        named.setdefault(name, []).append(raw)
    return named
