"""The frames of Binance: their shapes, how they are told apart, and the symbol that they speak of.

Field names are the venue's. Owns reading bytes into these shapes; what they mean stands in `binance`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from feed.errors import BadTick

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ABSENT: Final = Raw(b"")
Time = Annotated[int, Meta(ge=1, le=9_200_000_000_000_000)]
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Sides = list[tuple[str, str]]
Heads = Callable[[bytes], Any]
Decoders = tuple[Callable[[bytes], Any], Callable[[bytes], Any]]
"""For a combined frame, and for its data alone."""


class Trade(Struct, gc=False):
    s: str
    t: Id
    p: str
    q: str
    T: Time
    m: bool
    X: str = "MARKET"


class Aggregate(Struct, gc=False):
    s: str
    a: Id
    f: Id
    l: Id  # noqa: E741  # the venue's name
    p: str
    q: str
    T: Time
    m: bool


class Ticker(Struct, gc=False):
    s: str
    u: Id
    b: str
    B: str
    a: str
    A: str
    T: Time | None = None


class SpotHead(Struct, gc=False):
    """A depth update but for its sides; `time` is that of the event."""

    s: str
    U: Id
    u: Id
    time: Time = field(name="E")


class FuturesHead(Struct, gc=False):
    """As `SpotHead`; `pu` names the update before."""

    s: str
    U: Id
    u: Id
    pu: Id
    time: Time = field(name="T")


class SpotDiff(SpotHead, gc=False):
    b: Sides
    a: Sides


class FuturesDiff(FuturesHead, gc=False):
    b: Sides
    a: Sides


class Depth(Struct, gc=False):
    """A REST depth snapshot; only COIN-M names the symbol."""

    lastUpdateId: Id  # noqa: N815  # the venue's name
    bids: Sides
    asks: Sides
    E: Time | None = None
    T: Time | None = None
    symbol: str | None = None


class Head(Struct, gc=False):
    """What tells a frame, or the data of a combined one, from the others."""

    stream: str = ""
    data: Raw = ABSENT
    e: str = ""
    s: str = ""
    u: Any = None
    B: Any = None
    id: Any = msgspec.UNSET
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET
    code: Any = msgspec.UNSET


class Saved(Struct):
    """The private state: `book` is the last update id in the book, `first` whether it is a snapshot's."""

    book: int | None = None
    first: bool = False
    ticker: int = -1
    trade: int | None = None
    aggregate: int | None = None
    aggregated: bool = False
    kept: list[tuple[int, Raw]] = []


HEAD: Final = msgspec.json.Decoder(Head)
DEPTH: Final = msgspec.json.Decoder(Depth)
SAVED: Final = msgspec.json.Decoder(Saved)


def decoder(data: type) -> Callable[[bytes], Any]:
    """Reads a combined frame whose data is of that type."""
    frame = msgspec.defstruct("Frame", [("data", data)], gc=False)
    return msgspec.json.Decoder(frame).decode


def _heads_decoder(head: type) -> Callable[[bytes], Any]:
    """Reads a list of combined frames whose data is such a head and `"b":0`."""
    data = msgspec.defstruct("Data", [("b", Literal[0])], bases=(head,), gc=False)
    frame = msgspec.defstruct("Frame", [("stream", str), ("data", data)], gc=False)
    return msgspec.json.Decoder(list[frame]).decode  # type: ignore[valid-type]  # made just above


TRADE: Final = decoder(Trade), msgspec.json.Decoder(Trade).decode
AGGREGATE: Final = decoder(Aggregate), msgspec.json.Decoder(Aggregate).decode
TICKER: Final = decoder(Ticker), msgspec.json.Decoder(Ticker).decode
SPOT_DIFF: Final = decoder(SpotDiff), msgspec.json.Decoder(SpotDiff).decode
FUTURES_DIFF: Final = decoder(FuturesDiff), msgspec.json.Decoder(FuturesDiff).decode
SPOT_HEADS: Final = _heads_decoder(SpotHead)
FUTURES_HEADS: Final = _heads_decoder(FuturesHead)


def keys_of(head: Head) -> list[str]:
    if head.s:
        return [head.s]
    if head.stream:
        name, _, kind = head.stream.partition("@")
        return [name.upper()] if kind and not name.startswith("!") else []
    if any(said is not msgspec.UNSET for said in (head.id, head.result, head.error, head.code)):
        return []
    raise BadTick("frame without a symbol, wanted `s` or a name of a stream")


def read(frame: bytes) -> tuple[Head, bytes]:
    """What a frame is, and its data."""
    head = HEAD.decode(frame)
    if not bytes(head.data):
        return head, frame
    inner = bytes(head.data)
    if not inner.startswith(b"{"):
        return head, inner
    within = HEAD.decode(inner)
    within.stream = head.stream
    return within, inner


def kind(head: Head) -> str:
    if head.e or (head.u is None or head.B is None):
        return head.e
    return "bookTicker"  # spot's has no name of its own
