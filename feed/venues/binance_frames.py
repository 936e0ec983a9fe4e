"""The frames that spot and futures of Binance have in common: their shapes, how they are told apart, their symbol.

Owns reading bytes into these shapes. Leaves what they mean to `binance`, and the shapes of depth updates, in which spot
and futures differ, to `binance_spot` and `binance_futures`. Field names are the venue's.

What a frame is stands in the name of its stream: partial books, `depth5`, `depth10@100ms`, `rpiDepth`, have the same
fields as depth updates. Raw frames have no such name, and say only by `e` what they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from feed.errors import BadTick
from feed.venues.counters import VenueCounter
from feed.venues.rows import longer
from feed.wire.model import Kind

ABSENT: Final = Raw(b"")
Time = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Sides = list[tuple[str, str]]
Heads = Callable[[bytes], Any]
_SPEEDS: Final = ("", "@0ms", "@100ms", "@250ms", "@500ms", "@1000ms")
STREAMS: Final = {
    "trade": "trade",
    "aggTrade": "aggTrade",
    "bookTicker": "bookTicker",
    **{f"depth{speed}": "depthUpdate" for speed in _SPEEDS},
}
"""Names of streams, after the symbol, to the kind of their frames. Those of other names mean nothing."""
_DIFFS: Final = re.compile(r"depth(?:@[0-9]+ms)?", re.ASCII).fullmatch
_ALL_TICKERS: Final = "!bookTicker"


class BinanceTrade(Struct, gc=False):
    s: str
    t: Id
    p: str
    q: str
    m: bool
    T: Time | None = None
    X: str = "MARKET"


class AggTrade(Struct, gc=False):
    s: str
    a: Id
    f: Id
    l: Id  # noqa: E741  # the venue's name
    p: str
    q: str
    m: bool
    T: Time | None = None


class BookTicker(Struct, gc=False):
    s: str
    u: Id
    b: str
    B: str
    a: str
    A: str
    T: Time | None = None


class DepthSnapshot(Struct, gc=False):
    """The answer of REST; only COIN-M names the symbol."""

    lastUpdateId: Id  # noqa: N815  # the venue's name
    bids: Sides
    asks: Sides
    E: Time | None = None
    T: Time | None = None
    symbol: str | None = None


class Liquidation(Struct, gc=False):
    """The order of a `forceOrder`."""

    s: str = ""


class BinanceHead(Struct, gc=False):
    """What tells a frame, or the data of a combined one, from the others."""

    stream: str = ""
    data: Raw = ABSENT
    e: str = ""
    s: str = ""
    o: Raw = ABSENT
    u: Any = None
    B: Any = None
    lastUpdateId: Any = None  # noqa: N815  # the venue's name
    id: Any = msgspec.UNSET
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET
    code: Any = msgspec.UNSET
    serverTime: Any = msgspec.UNSET  # noqa: N815  # the venue's name


class RequestError(Struct, gc=False):
    """The answer to a request that was not done."""

    code: int
    msg: str = ""


class SavedDiffs(Struct, omit_defaults=True):
    """`book` is the last update id in the book, `first` whether it is a snapshot's, `seen` the last id of any diff or
    snapshot, `missed` whether one after that could not be read, `kept` the diffs that wait, each with its time of
    receiving."""

    book: int | None = None
    first: bool = False
    missed: bool = False
    seen: VenueCounter = field(default_factory=VenueCounter)
    kept: list[tuple[int, Raw]] = []


class SavedBinance(Struct, omit_defaults=True):
    """The private state."""

    diffs: SavedDiffs = field(default_factory=SavedDiffs)
    quotes: VenueCounter = field(default_factory=VenueCounter)
    trade: int | None = None
    aggregate: int | None = None
    aggregated: bool = False


class FrameKind(Struct, frozen=True):
    """A kind of frames that means something: of which channel it is, and how it is read: a combined frame, its data
    alone, and data with longer rows than are known."""

    channel: Kind
    frame: Callable[[bytes], Any]
    data: Callable[[bytes], Any]
    longer: Callable[[bytes], Any] | None = None


HEAD: Final = msgspec.json.Decoder(BinanceHead).decode
HEADS: Final = msgspec.json.Decoder(list[BinanceHead]).decode
LIQUIDATION: Final = msgspec.json.Decoder(Liquidation).decode
DEPTH_SNAPSHOT: Final = msgspec.json.Decoder(DepthSnapshot).decode
LONGER_DEPTH_SNAPSHOT: Final = longer(DepthSnapshot, 2, "bids", "asks")
REQUEST_ERROR: Final = msgspec.json.Decoder(RequestError).decode
SAVED: Final = msgspec.json.Decoder(SavedBinance).decode


def frame_kind(channel: Kind, data: type[Struct], *rows: str) -> FrameKind:
    """The kind of frames whose data looks like this; `rows` are its fields that are rows of two elements or more."""
    frame = msgspec.defstruct("Frame", [("data", data)], gc=False)
    return FrameKind(
        channel,
        msgspec.json.Decoder(frame).decode,
        msgspec.json.Decoder(data).decode,
        longer(data, 2, *rows) if rows else None,
    )


def heads_decoder(head: type) -> Heads:
    """Reads a list of combined frames whose data is such a head and `"b":0`."""
    data = msgspec.defstruct("Data", [("b", Literal[0])], bases=(head,), gc=False, kw_only=True)
    frame = msgspec.defstruct("Frame", [("stream", str), ("data", data)], gc=False)
    return msgspec.json.Decoder(list[frame]).decode  # type: ignore[valid-type]  # made just above


KINDS: Final[dict[str, FrameKind]] = {
    "trade": frame_kind("trades", BinanceTrade),
    "aggTrade": frame_kind("trades", AggTrade),
    "bookTicker": frame_kind("quotes", BookTicker),
}
"""The kinds that mean something, as `e` calls them, but for `depthUpdate`, in which spot and futures differ."""


def keys_of(head: BinanceHead) -> list[str]:
    """The symbol that a frame speaks of; none for answers, for lists of all symbols, and where it names none."""
    if head.s:
        return [head.s]
    if head.stream:
        name, _, kind = head.stream.partition("@")
        return [name.upper()] if kind and not name.startswith("!") else []
    if bytes(head.o).startswith(b"{"):
        order = LIQUIDATION(head.o)
        return [order.s] if order.s else []
    if head.e or head.lastUpdateId is not None:
        return []
    if any(said is not msgspec.UNSET for said in (head.id, head.result, head.error, head.code, head.serverTime)):
        return []
    raise BadTick("frame without a symbol, wanted `s` or a name of a stream")


def read(frame: bytes) -> tuple[BinanceHead, bytes]:
    """What a frame is, and its data. A list, as of all symbols' tickers, is the head of its first entry."""
    if frame.startswith(b"["):
        return _head_of(frame), frame
    head = HEAD(frame)
    if not bytes(head.data):
        return head, frame
    inner = bytes(head.data)
    if not inner.startswith(b"{"):
        return head, inner
    within = HEAD(inner)
    within.stream = head.stream
    return within, inner


def kind(head: BinanceHead) -> str:
    """The kind of a frame, as `e` calls it; an empty text where it means nothing."""
    if head.stream:
        name = head.stream.partition("@")[2]
        found = STREAMS.get(name, "depthUpdate" if _DIFFS(name) else "")
        return "bookTicker" if head.stream == _ALL_TICKERS else found
    if head.e or (head.u is None or head.B is None):
        return head.e
    return "bookTicker"  # spot's has no name of its own


def _head_of(frame: bytes) -> BinanceHead:
    heads = HEADS(frame)
    if not heads or not all(head.e for head in heads):
        raise BadTick(f"list of {len(heads)} entries, wanted a list of events")
    return BinanceHead(e=heads[0].e + "@arr")
