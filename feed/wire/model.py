"""The messages of the protocol and the words that they are made of.

Owns the shape and the field order of every message that a client, the feed log or a recording holds: a Struct's field
order is the order of its JSON keys, so it is part of the promise "same update, same bytes". Meaning is in `schemas/`;
a test holds both equal. Encoding is `feed.wire.frames`'s, state is `feed.channels`'.

Units: times are decimal strings of integer nanoseconds since 1970 UTC (`null` where unknown), prices and sizes
canonical decimal strings, positions (`seq`, `prev`) integers below 2^53, -1 for "before the first".
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType, field

Kind = Literal["trades", "quotes", "book", "bars", "status", "instruments"]
KINDS: Final[tuple[Kind, ...]] = ("trades", "quotes", "book", "bars", "status", "instruments")
Side = Literal["buy", "sell"]
Interval = Literal["1s", "1m"]
INTERVALS_NS: Final[dict[Interval, int]] = {"1s": 1_000_000_000, "1m": 60_000_000_000}
Action = Literal["trading", "halt", "pre-open", "close", "unknown"]
GapReason = Literal["lag", "evicted", "source", "recording", "venue", "seek"]
StateReason = Literal["silent", "disconnected", "stalled", "gap", "checksum"]
ReplayState = Literal["ready", "playing", "paused", "ended"]
Mode = Literal["snapshot", "resumed", "live", "gap"]
OnLag = Literal["skip", "close"]
Level = tuple[str, str]
NO_SEQ: Final = -1
TRADES_KEPT: Final = 100
BARS_CLOSED_KEPT: Final = 5
"""How many trades, and closed bars of each interval, a snapshot holds where nobody says otherwise."""
PROTOCOL: Final = "feed.v1"
"""The protocol and its version."""


class Trade(Struct, frozen=True, gc=False, omit_defaults=True):
    """One execution at market; `side` is the taker's. `conditions` (the venue's words) and `exchange` where told."""

    price: str
    size: str
    side: Side | None
    trade_id: str | None
    ts_event: str | None
    conditions: list[str] | UnsetType = UNSET
    exchange: str | UnsetType = UNSET


class Quote(Struct, frozen=True, gc=False):
    """The best bid and offer; `null` where a side is empty or the venue does not say."""

    bid_price: str | None
    bid_size: str | None
    ask_price: str | None
    ask_size: str | None


class Book(Struct, frozen=True, gc=False):
    """Levels as (price, size): all of them, best first, in a snapshot; the changed ones in an update ("0" deletes)."""

    bids: list[Level]
    asks: list[Level]


class Bar(Struct, frozen=True, gc=False):
    """One interval of trades; key is (`interval`, `open_time`), the last one sent wins."""

    interval: Interval
    open_time: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int
    closed: bool


class Status(Struct, frozen=True, gc=False):
    """Whether a symbol trades, in the venue's own reason."""

    action: Action
    reason: str | None


class Instrument(Struct, frozen=True, gc=False):
    """The definition of a symbol as far as the venue gives it."""

    venue: str
    venue_symbol: str
    kind: str | None
    base: str | None
    quote: str | None
    tick_size: str | None
    lot_size: str | None
    aliases: list[str]


Data = list[Trade] | Quote | Book | list[Bar] | Status | Instrument


class Update(Struct, frozen=True, gc=False, tag_field="type", tag="update", omit_defaults=True):
    """What one tick did to one channel, whole; `part` is (this one, of how many) where it is larger than a frame.

    In a view it may stand for several: `count` of them, up to `seq`, of which it tells what came out.
    """

    channel: Kind
    symbol: str
    prev: int
    seq: int
    ts_event: str | None
    ts_recv: str
    data: Data
    count: int | UnsetType = UNSET
    part: tuple[int, int] | UnsetType = UNSET


class Snapshot(Struct, frozen=True, gc=False, tag_field="type", tag="snapshot", omit_defaults=True):
    """A channel's whole state at `seq`; `ts_event` and `ts_recv` are those of the update with that `seq`."""

    channel: Kind
    symbol: str
    source: str
    seq: int
    ts_event: str | None
    ts_recv: str | None
    data: Data
    part: tuple[int, int] | UnsetType = UNSET


class Gap(Struct, frozen=True, gc=False, tag_field="type", tag="gap"):
    """A hole, named: nothing in (`prev`, `seq`] comes any more; with `lost: false` a snapshot follows."""

    channel: Kind
    symbol: str
    source: str
    prev: int
    seq: int
    count: int | None
    reason: GapReason
    lost: bool


class State(Struct, frozen=True, gc=False, tag_field="type", tag="state", omit_defaults=True):
    """Whether a source, or (with `channel`, `symbol` and `seq`) one channel in its own order, can be trusted."""

    source: str
    channel: Kind | UnsetType = UNSET
    symbol: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    state: Literal["ok", "stale"] | UnsetType = UNSET
    reason: StateReason | UnsetType | None = UNSET
    since: str | UnsetType = UNSET


class Heartbeat(Struct, frozen=True, tag_field="type", tag="heartbeat"):
    """`marks[s] = W`: every update of `s` with `seq <= W` was sent before, on the channels that are in step."""

    time: str
    marks: dict[str, int]
    lag_ms: int | None


class Replayed(Struct, frozen=True, tag_field="type", tag="replay"):
    """Where a replay stands: everything of its channels before `time` has been sent."""

    state: ReplayState
    time: str
    speed: int | float | Literal["max"]
    start: str = field(name="from")
    to: str


class CaughtUp(Struct, frozen=True, tag_field="type", tag="caught_up"):
    """The subscribe with this `id` has sent its history; what follows is live."""

    id: str | int


class Goaway(Struct, frozen=True, tag_field="type", tag="goaway"):
    """The server is about to close: come back after `after_ms` and resume from `marks`."""

    reason: str
    after_ms: int
    marks: dict[str, int]


class Error(Struct, frozen=True, tag_field="type", tag="error", omit_defaults=True):
    """A request that was refused; `code` is one of `schemas/errors.json`."""

    id: str | int | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    retry: bool | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET


class Welcome(Struct, frozen=True, tag_field="type", tag="welcome"):
    """The server's first message."""

    version: int
    server: str
    time: str
    heartbeat_ms: int
    every_ms: list[int]
    depth: list[int]
    limits: dict[str, int]
    auth: Literal["required", "optional", "none"]


class Result(Struct, frozen=True, omit_defaults=True):
    """One channel and symbol (or one pattern) of an `ack`."""

    channel: str
    symbol: str
    ok: bool | UnsetType = UNSET
    code: str | UnsetType = UNSET
    mode: Mode | Literal["awaited"] | UnsetType = UNSET
    source: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    matched: int | UnsetType = UNSET
    on_lag: OnLag | UnsetType = UNSET
    every_ms: int | UnsetType = UNSET
    depth: int | UnsetType = UNSET
    without: list[str] | UnsetType = UNSET
    """Of a pattern: what was taken out of it."""


class Ack(Struct, frozen=True, kw_only=True, tag_field="type", tag="ack", omit_defaults=True):
    """The answer to a request: one result for each channel and symbol that it asked for.

    `ignored`: fields of the request that are not known, as paths.
    """

    id: str | int
    op: str
    ok: bool
    ignored: list[str] | UnsetType = UNSET
    results: list[Result]


class Joined(Struct, frozen=True, tag_field="type", tag="joined"):
    """What an ack's result would hold, for a channel that a pattern matched; its parameters are always told."""

    channel: Kind
    symbol: str
    mode: Mode
    source: str | UnsetType = UNSET
    seq: int | UnsetType = UNSET
    on_lag: OnLag = "skip"
    every_ms: int = 0
    depth: int = 0


class Pong(Struct, frozen=True, tag_field="type", tag="pong", omit_defaults=True):
    """The answer to a `ping`: when the server got it and when it answered."""

    id: str | int
    received: str
    time: str
    ignored: list[str] | UnsetType = UNSET
