"""Kraken: the sockets v1 (arrays) and v2 (objects).

Owns what their frames mean, the cut to the subscribed depth and the checksum. Leaves numbers to `decimals`, times to
`times`, trades sent twice and the messages to `symbol`. Symbols are as each socket writes them: `XBT/USD` in v1,
`BTC/USD` in v2. Frames of other kinds (spread, ohlc, heartbeats, answers to subscriptions) mean nothing, except that
answers tell the depth of a book and when trades were subscribed.

- Book: each update carries a CRC32 over the digits, as sent, of the ten best asks and bids after it, so all digits are
  kept. Where it differs the update is not taken and the book is stale until the next snapshot. After each update a side
  is cut to the depth, and the levels cut are told as deleted: the venue sends nothing about them any more. v1 names the
  depth in the channel; v2 in its answer to the subscription, else it is the smallest that holds the snapshot.
- Numbers of v2 are JSON numbers whose trailing zeros count, so their text is read.
- Trades: the side is the taker's. v2 counts them per book, so a skipped id is a hole; its snapshot is history. v1 has
  no ids: what its first frame after a subscription holds from before that is history, and subscribing again is a hole.
- Quotes: from `ticker`; v1's has no time.
- Times: of a v1 book the newest of its levels.

Sources: https://docs.kraken.com/exchange/api-reference/spot-websocket-v1 and -v2, and their guide to the checksum.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw, Struct, field

from feed.errors import BadTick
from feed.model import Action, Instrument, Level, Quote, Side, Trade
from feed.venues.decimals import DECIMALS_MAX, canonical, positive
from feed.venues.symbol import Symbol, Tick
from feed.venues.times import iso_ns, seconds_ns

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SHOWN_CHARS_MAX: Final = 50
_CHECKED_LEVELS: Final = 10
_ABSENT: Final = Raw(b"")
_DEPTHS: Final = (10, 25, 100, 500, 1000)
_REMEMBERED_MAX: Final = 8192
_ARRAY_PARTS_MIN: Final = 4
_DEPTH_CHARS_MAX: Final = 6
_CRC_CHARS_MAX: Final = 10
_SIDES: Final[dict[str, Side]] = {"b": "buy", "s": "sell"}
_ACTIONS: Final[dict[str, Action]] = {
    "online": "trading",
    "limit_only": "trading",
    "reduce_only": "trading",
    "post_only": "pre-open",
    "cancel_only": "halt",
    "maintenance": "halt",
    "delisted": "close",
}

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Crc = Annotated[int, Meta(ge=0, lt=2**32)]
Precision = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]
Sent = tuple[str, str]
"""A level's price and size as the venue wrote them."""


class _BookV1(Struct, gc=False):
    """One of the one or two objects of a frame; a level is price, size, time and perhaps "r" (sent again)."""

    all_asks: list[list[str]] | None = field(default=None, name="as")
    all_bids: list[list[str]] | None = field(default=None, name="bs")
    asks: list[list[str]] = field(default=[], name="a")
    bids: list[list[str]] = field(default=[], name="b")
    checksum: str | None = field(default=None, name="c")


class _TickerV1(Struct, gc=False):
    """Price, whole lots, lots of both sides."""

    a: tuple[str, Any, str]
    b: tuple[str, Any, str]


class _LevelV2(Struct, gc=False):
    price: Raw
    qty: Raw


class _BookV2(Struct, gc=False):
    symbol: str
    bids: list[_LevelV2] = []
    asks: list[_LevelV2] = []
    checksum: Crc | None = None
    timestamp: str | None = None


class _TradeV2(Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Raw
    qty: Raw
    trade_id: Id
    timestamp: str


class _TickerV2(Struct, gc=False):
    symbol: str
    bid: Raw
    bid_qty: Raw
    ask: Raw
    ask_qty: Raw
    timestamp: str | None = None


class _PairV2(Struct, gc=False):
    symbol: str
    base: str | None = None
    quote: str | None = None
    status: str | None = None
    price_precision: Precision | None = None
    qty_precision: Precision | None = None
    price_increment: Raw = _ABSENT
    qty_increment: Raw = _ABSENT


class _PairsV2(Struct, gc=False):
    pairs: list[_PairV2] = []


class _SystemV2(Struct, gc=False):
    system: str


class _AnswerV2(Struct, gc=False):
    """What was subscribed."""

    symbol: str = ""
    channel: str = ""
    depth: int | None = None


class _Subscription(Struct, gc=False):
    name: str = ""
    depth: int | None = None


class _Head(Struct, gc=False):
    """An object: v2, or an event of v1."""

    channel: str = ""
    type: str = ""
    data: Raw = _ABSENT
    method: str = ""
    result: _AnswerV2 | None = None
    error: Any = None
    event: str = ""
    status: str = ""
    pair: Any = None
    subscription: _Subscription | None = None


class _NamedV2(Struct, gc=False):
    symbol: str = ""


class _Saved(Struct):
    """The private state; levels as sent, so that the checksum can be made again.

    `depth` is the book's, `depth_told` that of the answer; `trade` the last id, `since` when trades were subscribed
    (v1, until their first frame), `traded` whether any came.
    """

    depth: int = _DEPTHS[0]
    depth_told: int | None = None
    trade: int | None = None
    since: int | None = None
    traded: bool = False
    bids: list[Sent] = []
    asks: list[Sent] = []


def _decoder(type_: Any) -> Callable[[bytes | Raw], Any]:
    return msgspec.json.Decoder(type_).decode


_ARRAY: Final = _decoder(list[Raw])
_TEXT: Final = _decoder(str)
_HEAD: Final = _decoder(_Head)
_SAVED: Final = _decoder(_Saved)
_BOOK_V1: Final = _decoder(_BookV1)
_TRADES_V1: Final = _decoder(list[list[str]])
_TICKER_V1: Final = _decoder(_TickerV1)
_BOOKS_V2: Final = _decoder(list[_BookV2])
_TRADES_V2: Final = _decoder(list[_TradeV2])
_TICKERS_V2: Final = _decoder(list[_TickerV2])
_PAIRS_V2: Final = _decoder(_PairsV2)
_SYSTEM_V2: Final = _decoder(list[_SystemV2])
_NAMES_V2: Final = _decoder(list[_NamedV2])


class _Level(NamedTuple):
    """A level, read: the rank of its price, the canonical texts, the digits for the checksum, the texts as sent."""

    rank: int
    price: str
    size: str
    digits: str
    sent: Sent


class _Side:
    """The levels of one side, best first. `sign` is 1 for asks, -1 for bids."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._ranks: list[int] = []
        self._levels: dict[int, _Level] = {}

    def __iter__(self) -> Iterator[_Level]:
        return (self._levels[rank] for rank in self._ranks)

    def read(self, sent: Sent) -> _Level:
        """A level as sent.

        Raises:
            BadTick: a number is not plain, or the price is zero.
        """
        price, rank, digits = _price(sent[0])
        return _Level(self._sign * rank, price, canonical(sent[1]), digits + _digits(sent[1]), sent)

    def set(self, level: _Level) -> None:
        """Takes a level; a size of zero deletes."""
        rank = level.rank
        if level.size != "0":
            if rank not in self._levels:
                insort(self._ranks, rank)
            self._levels[rank] = level
        elif self._levels.pop(rank, None) is not None:
            del self._ranks[bisect_left(self._ranks, rank)]

    def cut(self, depth: int) -> list[Level]:
        """Drops the levels beyond the depth and returns their deletes."""
        if len(self._ranks) <= depth:
            return []
        deletes = [(self._levels.pop(rank).price, "0") for rank in self._ranks[depth:]]
        del self._ranks[depth:]
        return deletes

    def checked(self) -> str:
        """The digits of the best levels."""
        return "".join([self._levels[rank].digits for rank in self._ranks[:_CHECKED_LEVELS]])

    def texts(self) -> dict[str, str]:
        """Canonical price to size."""
        return {level.price: level.size for level in self}


class _Change(NamedTuple):
    """What a frame says of the book, read. `depth` is None where the frame does not tell it."""

    snapshot: bool
    bids: list[_Level]
    asks: list[_Level]
    checksum: int | None
    time: str | None
    depth: int | None


class Kraken:
    """What reads the ticks of one pair."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._name = symbol.venue_symbol
        self._state = _Saved()
        self._bids = _Side(-1)
        self._asks = _Side(1)

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises `BadTick` before it has changed anything."""
        try:
            if tick.value.startswith(b"["):
                self._apply_v1(tick.value)
            else:
                self._apply_object(_HEAD(tick.value), tick.ts_recv)
        except _UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error

    def save(self) -> bytes:
        """The private state: positions, and the book as sent."""
        state = self._state
        state.bids = [level.sent for level in self._bids]
        state.asks = [level.sent for level in self._asks]
        saved = msgspec.json.encode(state)
        state.bids, state.asks = [], []
        return saved

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = _SAVED(saved)
        for side, levels in ((self._bids, self._state.bids), (self._asks, self._state.asks)):
            for sent in levels:
                side.set(side.read(sent))
        self._state.bids, self._state.asks = [], []

    def _apply_v1(self, frame: bytes) -> None:
        payloads, channel, pair = _array(frame)
        if pair != self._name:
            raise BadTick(f"frame of {pair[:_SHOWN_CHARS_MAX]!r}, wanted {self._name}")
        if channel.startswith("book"):
            self._take_changes([self._change_v1([_BOOK_V1(payload) for payload in payloads], _depth(channel))])
        elif channel == "trade":
            self._take_trades_v1([trade for payload in payloads for trade in _TRADES_V1(payload)])
        elif channel == "ticker":
            ticker = _TICKER_V1(payloads[-1])
            self._symbol.quote(Quote(*_top(ticker.b[0], ticker.b[2]), *_top(ticker.a[0], ticker.a[2])), None)

    def _apply_object(self, head: _Head, ts_recv: int) -> None:
        if not head.channel or not bytes(head.data):
            self._apply_answer(head, ts_recv)
        elif head.channel == "book":
            books = [book for book in _BOOKS_V2(head.data) if book.symbol == self._name]
            self._take_changes([self._change_v2(book, snapshot=head.type == "snapshot") for book in books])
        elif head.channel == "trade":
            trades = [trade for trade in _TRADES_V2(head.data) if trade.symbol == self._name]
            self._take_trades_v2([_trade_v2(trade) for trade in trades], history=head.type == "snapshot")
        elif head.channel == "ticker":
            tickers = [ticker for ticker in _TICKERS_V2(head.data) if ticker.symbol == self._name]
            self._take_tickers_v2(tickers)
        elif head.channel == "instrument":
            self._take_pairs([pair for pair in _PAIRS_V2(head.data).pairs if pair.symbol == self._name])

    def _apply_answer(self, head: _Head, ts_recv: int) -> None:
        _keys_of(head)
        result, subscription = head.result, head.subscription
        if result is not None and result.channel == "book" and result.symbol == self._name:
            if result.depth is not None and result.depth > 0:
                self._state.depth_told = result.depth
        elif subscription is not None and subscription.name == "trade" and head.status == "subscribed":
            if self._state.traded:
                self._symbol.hole()  # the connection was another one: what came between has no ids to tell
            self._state.since = ts_recv

    def _change_v1(self, books: list[_BookV1], depth: int) -> _Change:
        bids: list[list[str]] = []
        asks: list[list[str]] = []
        snapshot = False
        checksum: int | None = None
        for book in books:
            snapshot = snapshot or book.all_bids is not None or book.all_asks is not None
            bids += [*(book.all_bids or ()), *book.bids]
            asks += [*(book.all_asks or ()), *book.asks]
            if book.checksum is not None:
                checksum = _crc(book.checksum)
        times = [seconds_ns(_item(level, 2)) for level in (*bids, *asks)]
        return _Change(
            snapshot,
            [self._bids.read((_item(level, 0), _item(level, 1))) for level in bids],
            [self._asks.read((_item(level, 0), _item(level, 1))) for level in asks],
            checksum,
            max(times, key=int, default=None),
            depth,
        )

    def _change_v2(self, book: _BookV2, *, snapshot: bool) -> _Change:
        depth = None
        if snapshot:
            levels = max(len(book.bids), len(book.asks))
            depth = self._state.depth_told or next((depth for depth in _DEPTHS if levels <= depth), levels)
        return _Change(
            snapshot,
            [self._bids.read((_text(level.price), _text(level.qty))) for level in book.bids],
            [self._asks.read((_text(level.price), _text(level.qty))) for level in book.asks],
            book.checksum,
            None if book.timestamp is None else iso_ns(book.timestamp),
            depth,
        )

    def _take_changes(self, changes: list[_Change]) -> None:
        for change in changes:
            if change.snapshot:
                self._bids, self._asks = _Side(-1), _Side(1)
            elif not self._symbol.book_is_live:
                continue
            self._take_change(change)

    def _take_change(self, change: _Change) -> None:
        state, bids, asks = self._state, self._bids, self._asks
        state.depth = change.depth or state.depth
        for side, levels in ((bids, change.bids), (asks, change.asks)):
            for level in levels:
                side.set(level)
        cut_bids, cut_asks = bids.cut(state.depth), asks.cut(state.depth)
        if change.checksum is not None and zlib.crc32((asks.checked() + bids.checked()).encode()) != change.checksum:
            self._bids, self._asks = _Side(-1), _Side(1)
            self._symbol.book_stale("checksum")
        elif change.snapshot:
            self._symbol.book_replace(bids.texts(), asks.texts(), change.time)
        else:
            self._symbol.book_change(_told(change.bids, cut_bids), _told(change.asks, cut_asks), change.time)

    def _take_trades_v1(self, sent: list[list[str]]) -> None:
        trades = [
            Trade(positive(_item(trade, 0)), positive(_item(trade, 1)), _side(_item(trade, 3)), None, time)
            for trade in sent
            for time in (seconds_ns(_item(trade, 2)),)
        ]
        since, self._state.since = self._state.since, None
        if since is not None:
            self._symbol.history([trade for trade in trades if int(trade.ts_event or 0) < since])
            trades = [trade for trade in trades if int(trade.ts_event or 0) >= since]
        if trades:
            self._state.traded = True
            self._symbol.trades(trades, trades[-1].ts_event)

    def _take_trades_v2(self, trades: list[Trade], *, history: bool) -> None:
        if not trades:
            return
        state = self._state
        ids = [int(trade.trade_id or 0) for trade in trades]
        for number in ids:
            if state.trade is not None and number > state.trade + (0 if history else 1):
                self._symbol.hole()
            if (state.trade is not None or not history) and number > (state.trade or -1):
                state.trade = number
        if history:
            self._symbol.history(trades)
        else:
            self._symbol.trades(trades, trades[-1].ts_event)

    def _take_tickers_v2(self, tickers: list[_TickerV2]) -> None:
        quotes = [
            (
                Quote(*_top(_text(ticker.bid), _text(ticker.bid_qty)), *_top(_text(ticker.ask), _text(ticker.ask_qty))),
                None if ticker.timestamp is None else iso_ns(ticker.timestamp),
            )
            for ticker in tickers
        ]
        if quotes:
            self._symbol.quote(*quotes[-1])

    def _take_pairs(self, pairs: list[_PairV2]) -> None:
        if not pairs:
            return
        pair = pairs[-1]
        self._symbol.instrument(_instrument(pair), None)
        if pair.status is not None:
            self._symbol.status(*_action(pair.status), None)


def keys(frame: bytes) -> list[str]:
    """The pairs that a frame speaks of; none for heartbeats, the system's status and answers without a pair.

    Raises:
        BadTick: it cannot be read, or is neither v1's nor v2's.
    """
    try:
        if frame.startswith(b"["):
            return [_array(frame)[2]]
        return _keys_of(_HEAD(frame))
    except _UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def wide(frame: bytes) -> tuple[Action, str | None] | None:
    """What the status of the system says of all pairs.

    Raises:
        BadTick: the frame cannot be read, or speaks of pairs.
    """
    if keys(frame):
        raise BadTick("frame of a pair without a key")
    try:
        head = _HEAD(frame)
        if head.event == "systemStatus":
            return _action(head.status)
        if head.channel == "status" and bytes(head.data):
            systems = _SYSTEM_V2(head.data)
            return _action(systems[-1].system) if systems else None
    except _UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error
    return None


def _keys_of(head: _Head) -> list[str]:
    if head.event:
        return [head.pair] if isinstance(head.pair, str) and head.pair and head.status != "error" else []
    if head.method or head.error is not None:
        return [head.result.symbol] if head.result is not None and head.result.symbol else []
    if not head.channel:
        raise BadTick("frame without `channel`, `method` or `event`")
    if not bytes(head.data) or head.channel in ("status", "heartbeat"):
        return []
    named = _PAIRS_V2(head.data).pairs if head.channel == "instrument" else _NAMES_V2(head.data)
    return [name for name in dict.fromkeys(entry.symbol for entry in named) if name]


def _array(frame: bytes) -> tuple[list[Raw], str, str]:
    """The payloads, the channel and the pair of a frame of v1."""
    parts = _ARRAY(frame)
    if len(parts) < _ARRAY_PARTS_MIN:
        raise BadTick(f"array of {len(parts)}, wanted channel id, payload, channel and pair")
    return parts[1:-2], _TEXT(parts[-2]), _TEXT(parts[-1])


@lru_cache(_REMEMBERED_MAX)
def _price(sent: str) -> tuple[str, int, str]:
    """A price: canonical, as an integer that sorts as it does, and its digits for the checksum."""
    price = positive(sent)
    whole, _, fraction = price.partition(".")
    return price, int(whole + fraction.ljust(DECIMALS_MAX, "0")), _digits(sent)


def _digits(sent: str) -> str:
    return sent.replace(".", "").lstrip("0")


def _depth(channel: str) -> int:
    depth = channel.partition("-")[2] or str(_DEPTHS[0])
    if not (depth.isascii() and depth.isdecimal() and len(depth) < _DEPTH_CHARS_MAX and int(depth)):
        raise BadTick(f"channel {channel[:_SHOWN_CHARS_MAX]!r}, wanted book-DEPTH")
    return int(depth)


def _crc(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _CRC_CHARS_MAX):
        raise BadTick(f"checksum {text[:_SHOWN_CHARS_MAX]!r}, wanted digits")
    return int(text)


def _item(items: list[str], at: int) -> str:
    if at >= len(items):
        raise BadTick(f"array of {len(items)}, wanted more than {at}")
    return items[at]


def _side(text: str) -> Side:
    side = _SIDES.get(text)
    if side is None:
        raise BadTick(f"side {text[:_SHOWN_CHARS_MAX]!r}, wanted b or s")
    return side


def _text(number: Raw) -> str:
    return bytes(number).decode()


def _told(levels: list[_Level], cut: list[Level]) -> list[Level]:
    """What goes out of a side: the levels as the frame has them, then those cut; each price once, the last word."""
    return list({**{level.price: level.size for level in levels}, **dict(cut)}.items())


def _top(price: str, size: str) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has null or zero."""
    if "null" in (price, size):
        return None, None
    best = canonical(price), canonical(size)
    return (None, None) if "0" in best else best


def _trade_v2(trade: _TradeV2) -> Trade:
    return Trade(
        positive(_text(trade.price)),
        positive(_text(trade.qty)),
        trade.side,
        str(trade.trade_id),
        iso_ns(trade.timestamp),
    )


def _instrument(pair: _PairV2) -> Instrument:
    return Instrument(
        "kraken",
        pair.symbol,
        "spot",
        pair.base,
        pair.quote,
        _step(pair.price_increment, pair.price_precision),
        _step(pair.qty_increment, pair.qty_precision),
        [],
    )


def _step(increment: Raw, precision: int | None) -> str | None:
    if bytes(increment):
        return canonical(_text(increment))
    if precision is None:
        return None
    return "1" if precision == 0 else f"0.{'1':0>{precision}}"


def _action(status: str) -> tuple[Action, str | None]:
    return _ACTIONS.get(status, "unknown"), None if status == "online" else status
