"""Kraken's socket v1: arrays, and events about subscriptions and the system.

Owns the shapes of v1's frames and what they mean. Leaves the books, trades and quotes of a pair to `kraken_pair`, which
v1 and v2 share.

- An array is `[channel id, payload, …, channel, pair]`: `[336, {"a": […]}, {"b": […]}, "book-10", "XBT/USD"]`. It
  speaks of one pair. Those of an account's own channels, and of the channels spread and ohlc, mean nothing.
- Book: the channel names the depth; the time of a frame is the newest of its levels.
- Trades: no ids. What the first frame after a subscription holds from before that is history (`kraken_trades`).
- Quotes: from `ticker`, which has no time.
- Events: `subscriptionStatus` tells when trades were subscribed, and that a book was left; `systemStatus` speaks of all
  pairs. Others mean nothing.

Source: https://docs.kraken.com/exchange/api-reference/spot-websocket-v1
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from msgspec import UNSET, Raw, Struct, UnsetType, field

from feed.errors import BadTick, shown
from feed.venues.kraken_book import BookChange, ask, bid
from feed.venues.kraken_frames import KrakenHead, decoder
from feed.venues.kraken_pair import Pair, action
from feed.venues.times import seconds_ns
from feed.wire.decimals import positive
from feed.wire.frames import UNREADABLE
from feed.wire.model import Action, Kind, Side, Trade

CHANNELS: Final[dict[str, Kind]] = {"book": "book", "trade": "trades", "ticker": "quotes"}
"""The channels that mean something, without their depth, and of which kind they are."""
_SIDES: Final[dict[str, Side]] = {"b": "buy", "s": "sell"}
_DEPTH_DEFAULT: Final = "10"
_DEPTH_CHARS_MAX: Final = 6
_CRC_CHARS_MAX: Final = 10
_ARRAY_PARTS_MIN: Final = 4
_ARRAY_END: Final = re.compile(rb',\s*"([a-z]+(?:-[0-9]+)?)"\s*,\s*"[^"\\]+"\s*\]\s*\Z').search
_ARRAY_END_BYTES: Final = 200


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


class EntryV1(NamedTuple):
    """What an array says of its pair."""

    channel: str
    payloads: list[Raw]


_TEXT: Final = decoder(str)
_RAWS: Final = decoder(list[Raw])
_BOOK: Final = decoder(BookV1)
_TRADES: Final = decoder(list[list[str]])
_TICKER: Final = decoder(TickerV1)


class KrakenV1:
    """What reads v1's frames of one pair."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def apply(self, frame: bytes, ts_recv: int) -> None:
        """An array; raises as `Machine.apply` says."""
        found = entry_of(frame)
        if found is None:
            return
        entry, name = found
        if name != self._pair.name:
            raise BadTick(f"frame of {shown(name)}, wanted {self._pair.name}")
        self.apply_entry(entry, ts_recv)

    def apply_entry(self, entry: EntryV1, ts_recv: int) -> None:
        """What an array says of this pair; raises as `Machine.apply` says."""
        channel, payloads = entry
        pair = self._pair
        kind = CHANNELS.get(channel.partition("-")[0])
        try:
            if kind == "book":
                change, depth = _change([_BOOK(payload) for payload in payloads]), _depth(channel)
            elif kind == "trades":
                trades = [_trade(trade) for payload in payloads for trade in _TRADES(payload)]
            elif kind == "quotes":
                ticker: TickerV1 = _TICKER(payloads[-1])
                quote = pair.quote(*_top(ticker.b), *_top(ticker.a))
        except (BadTick, *UNREADABLE) as error:
            if kind == "book":
                raise pair.spoiled_book(error, channel) from error
            raise pair.symbol.spoiled(kind, error) from error
        if kind == "book":
            pair.books.apply(channel, change, depth, ts_recv)
        elif kind == "trades":
            pair.trades.apply_without_ids(trades)
        elif kind == "quotes" and quote is not None:
            pair.symbol.quote(quote, None)

    def apply_event(self, head: KrakenHead, ts_recv: int) -> None:
        """What an event says of a subscription to this pair."""
        subscription = head.subscription
        if head.event != "subscriptionStatus" or subscription is None:
            return
        if subscription.name == "trade" and head.status == "subscribed":
            self._pair.trades.subscribed(ts_recv)
        elif subscription.name == "book" and head.status == "unsubscribed":
            self._pair.books.unsubscribed(str(head.channel_name))


def entry_of(frame: bytes) -> tuple[EntryV1, str] | None:
    """What an array says, and of which pair; None where it is one of an account's own.

    Raises:
        BadTick: it cannot be read, or has not enough parts.
    """
    try:
        parts = _RAWS(frame)
        if len(parts) >= 2 and bytes(parts[1]).startswith(b'"'):
            return None  # openOrders and ownTrades: [[…], "ownTrades", {"sequence": 2}]
        if len(parts) < _ARRAY_PARTS_MIN:
            raise BadTick(f"array of {len(parts)}, wanted channel id, payload, channel and pair")
        return EntryV1(_TEXT(parts[-2]), parts[1:-2]), _TEXT(parts[-1])
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def pairs_of(head: KrakenHead) -> list[str]:
    """The pair that an event speaks of, if it speaks of one and is no error."""
    return [head.pair] if isinstance(head.pair, str) and head.pair and head.status != "error" else []


def system_status(head: KrakenHead) -> tuple[Action, str | None] | None:
    """What an event says of all pairs, None where it says nothing of them."""
    return action(head.status) if head.event == "systemStatus" and head.status else None


def legible_channel(frame: bytes) -> str | None:
    """The channel of an array that was refused, an empty text where it has none; None where it cannot be read which."""
    try:
        found = entry_of(frame)
    except BadTick:
        end = _ARRAY_END(frame[-_ARRAY_END_BYTES:])
        return None if end is None else end[1].decode()
    return "" if found is None else found[0].channel


def _change(books: list[BookV1]) -> BookChange:
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
    if snapshot and (all(book.all_bids is None for book in books) or all(book.all_asks is None for book in books)):
        raise BadTick("snapshot of one side, wanted `as` and `bs`")
    times = [time for level in (*bids, *asks) if (time := seconds_ns(_item(level, 2))) is not None]
    return BookChange(
        snapshot,
        [bid((_item(level, 0), _item(level, 1))) for level in bids],
        [ask((_item(level, 0), _item(level, 1))) for level in asks],
        checksum,
        max(times, key=int, default=None),
    )


def _depth(channel: str) -> int:
    depth = channel.partition("-")[2] or _DEPTH_DEFAULT
    if not (depth.isascii() and depth.isdecimal() and len(depth) < _DEPTH_CHARS_MAX and int(depth)):
        raise BadTick(f"channel {shown(channel)}, wanted book-DEPTH")
    return int(depth)


def _crc(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _CRC_CHARS_MAX):
        raise BadTick(f"checksum {shown(text)}, wanted digits")
    return int(text)


def _trade(trade: list[str]) -> Trade:
    side, time = _side(_item(trade, 3)), seconds_ns(_item(trade, 2))
    return Trade(positive(_item(trade, 0)), positive(_item(trade, 1)), side, None, time)


def _side(text: str) -> Side:
    side = _SIDES.get(text)
    if side is None:
        raise BadTick(f"side {shown(text)}, wanted b or s")
    return side


def _top(side: Any) -> tuple[str, str]:
    """Price and lots of a side, empty texts where it is left out."""
    if side is UNSET:
        return "", ""
    price, lots = _item(side, 0), _item(side, 2)
    if not isinstance(price, str) or not isinstance(lots, str):
        raise BadTick(f"side {shown(str(side))}, wanted price, whole lots and lots")
    return price, lots


def _item(items: list[Any], at: int) -> Any:
    if at >= len(items):
        raise BadTick(f"array of {len(items)}, wanted more than {at}")
    return items[at]
