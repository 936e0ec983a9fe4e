"""The frames of Binance: their shapes, how they are told apart, and the symbol that they speak of.

Field names are the venue's. Owns reading bytes into these shapes; what they mean stands in `binance`.

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
from feed.venues.counters import Counter
from feed.venues.rows import longer

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
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
_PARTIAL_LEVELS: Final = (5, 10, 20)


class Trade(Struct, gc=False):
    s: str
    t: Id
    p: str
    q: str
    m: bool
    T: Time | None = None
    X: str = "MARKET"


class Aggregate(Struct, gc=False):
    s: str
    a: Id
    f: Id
    l: Id  # noqa: E741  # the venue's name
    p: str
    q: str
    m: bool
    T: Time | None = None


class Ticker(Struct, gc=False):
    s: str
    u: Id
    b: str
    B: str
    a: str
    A: str
    T: Time | None = None


class SpotHead(Struct, gc=False, kw_only=True):
    """A depth update but for its sides; `time` is that of the event."""

    s: str
    U: Id
    u: Id
    time: Time | None = field(default=None, name="E")


class FuturesHead(Struct, gc=False, kw_only=True):
    """As `SpotHead`; `pu` names the update before."""

    s: str
    U: Id
    u: Id
    pu: Id
    time: Time | None = field(default=None, name="T")


class SpotDiff(SpotHead, gc=False, kw_only=True):
    b: Sides
    a: Sides


class FuturesDiff(FuturesHead, gc=False, kw_only=True):
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


class Order(Struct, gc=False):
    """Of a liquidation."""

    s: str = ""


class Head(Struct, gc=False):
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


class Answer(Struct, gc=False):
    """What tells that a request was not done."""

    code: int
    msg: str = ""


class SavedDiffs(Struct, omit_defaults=True):
    """`book` is the last update id in the book, `first` whether it is a snapshot's, `seen` the last id of any diff or
    snapshot, `missed` whether one after that could not be read, `kept` the diffs that wait, each with its time of
    receiving."""

    book: int | None = None
    first: bool = False
    missed: bool = False
    seen: Counter = field(default_factory=Counter)
    kept: list[tuple[int, Raw]] = []


class Saved(Struct, omit_defaults=True):
    """The private state."""

    diffs: SavedDiffs = field(default_factory=SavedDiffs)
    quotes: Counter = field(default_factory=Counter)
    trade: int | None = None
    aggregate: int | None = None
    aggregated: bool = False


class Kind(Struct, frozen=True):
    """How a kind of frames is read: a combined frame, its data alone, and data with longer rows than are known."""

    frame: Callable[[bytes], Any]
    data: Callable[[bytes], Any]
    longer: Callable[[bytes], Any] | None = None


HEAD: Final = msgspec.json.Decoder(Head).decode
HEADS: Final = msgspec.json.Decoder(list[Head]).decode
ORDER: Final = msgspec.json.Decoder(Order).decode
DEPTH: Final = msgspec.json.Decoder(Depth).decode
LONGER_DEPTH: Final = longer(Depth, 2, "bids", "asks")
ANSWER: Final = msgspec.json.Decoder(Answer).decode
SAVED: Final = msgspec.json.Decoder(Saved).decode


def _kind_of(data: type[Struct], *rows: str) -> Kind:
    frame = msgspec.defstruct("Frame", [("data", data)], gc=False)
    return Kind(
        msgspec.json.Decoder(frame).decode, msgspec.json.Decoder(data).decode, longer(data, 2, *rows) if rows else None
    )


def _heads_decoder(head: type) -> Heads:
    """Reads a list of combined frames whose data is such a head and `"b":0`."""
    data = msgspec.defstruct("Data", [("b", Literal[0])], bases=(head,), gc=False, kw_only=True)
    frame = msgspec.defstruct("Frame", [("stream", str), ("data", data)], gc=False)
    return msgspec.json.Decoder(list[frame]).decode  # type: ignore[valid-type]  # made just above


TRADE: Final = _kind_of(Trade)
AGGREGATE: Final = _kind_of(Aggregate)
TICKER: Final = _kind_of(Ticker)
SPOT_DIFF: Final = _kind_of(SpotDiff, "b", "a")
FUTURES_DIFF: Final = _kind_of(FuturesDiff, "b", "a")
SPOT_HEADS: Final = _heads_decoder(SpotHead)
FUTURES_HEADS: Final = _heads_decoder(FuturesHead)


def keys_of(head: Head) -> list[str]:
    """The symbol that a frame speaks of; none for answers, for lists of all symbols, and where it names none."""
    if head.s:
        return [head.s]
    if head.stream:
        name, _, kind = head.stream.partition("@")
        return [name.upper()] if kind and not name.startswith("!") else []
    if bytes(head.o).startswith(b"{"):
        order = ORDER(head.o)
        return [order.s] if order.s else []
    if head.e or head.lastUpdateId is not None:
        return []
    if any(said is not msgspec.UNSET for said in (head.id, head.result, head.error, head.code, head.serverTime)):
        return []
    raise BadTick("frame without a symbol, wanted `s` or a name of a stream")


def read(frame: bytes) -> tuple[Head, bytes]:
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


def kind(head: Head) -> str:
    """The kind of a frame, as `e` calls it; an empty text where it means nothing."""
    if head.stream:
        name = head.stream.partition("@")[2]
        found = STREAMS.get(name, "depthUpdate" if _DIFFS(name) else "")
        return "bookTicker" if head.stream == _ALL_TICKERS else found
    if head.e or (head.u is None or head.B is None):
        return head.e
    return "bookTicker"  # spot's has no name of its own


def is_partial(bids: Sides, asks: Sides) -> bool:
    """Whether a depth update in canonical form looks like a partial book of futures: 5, 10 or 20 best levels a side.

    A raw frame does not say which of both it is. Of 34,000 depth updates of captured futures none looks like this.
    """
    if len(bids) != len(asks) or len(bids) not in _PARTIAL_LEVELS or any(size == "0" for _, size in bids + asks):
        return False
    highest = [float(price) for price, _ in bids]
    lowest = [float(price) for price, _ in asks]
    return highest == sorted(highest, reverse=True) and lowest == sorted(lowest)


def _head_of(frame: bytes) -> Head:
    heads = HEADS(frame)
    if not heads or not all(head.e for head in heads):
        raise BadTick(f"list of {len(heads)} entries, wanted a list of events")
    return Head(e=heads[0].e + "@arr")
