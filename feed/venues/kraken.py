"""Kraken: which of its two sockets a frame comes from.

Owns the machine of one pair. It hands each frame to the reader of its socket, `kraken_v1` or `kraken_v2`. Both tell the
same `kraken_pair`, so a collector may change from one socket to the other, or write both. Symbols are as each socket
writes them: `XBT/USD` in v1, `BTC/USD` in v2. Most pairs are therefore two symbols, and some are one.

What holds for both sockets:
- Book: each update carries a CRC32 over the digits, as sent, of the ten best asks and bids after it, so all digits are
  kept. Where it differs the update is not taken and the book is stale until the next snapshot. Of two depths of one
  pair the deeper is the book, the other one means nothing (`kraken_book`, `kraken_books`).
- Trades: the side is the taker's (`kraken_trades`).
- Quotes: a side that is left out stays as it was; null and zero say that it is empty.
- Status: a pair trades only where the system and the pair say so.

Sources: https://docs.kraken.com/exchange/api-reference/spot-websocket-v1 and -v2, and their guide to the checksum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from feed.errors import BadTick
from feed.venues import kraken_v1, kraken_v2
from feed.venues.kraken_books import V2, V2_BESIDE
from feed.venues.kraken_frames import KrakenHead, head_of
from feed.venues.kraken_pair import Pair
from feed.venues.kraken_v1 import EntryV1, KrakenV1
from feed.venues.kraken_v2 import EntryV2, KrakenV2
from feed.venues.legible import IN_DOUBT, leading

if TYPE_CHECKING:
    from feed.venues.symbol import Symbol, Tick
    from feed.wire.model import Action

Entry = EntryV1 | EntryV2 | KrakenHead
"""What a frame says of one pair: an array of v1, items of v2's data, or an object that has neither."""
_WORDS: Final = ("channel", "method", "event", "error")
"""An object that has none of these is neither v1's nor v2's."""


class Kraken:
    """What reads the ticks of one pair."""

    def __init__(self, symbol: Symbol) -> None:
        self._pair = Pair(symbol)
        self._v1 = KrakenV1(self._pair)
        self._v2 = KrakenV2(self._pair)

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises as `Machine.apply` says."""
        if tick.value.startswith(b"["):
            self._v1.apply(tick.value, tick.ts_recv)
            return
        head = head_of(tick.value)
        if kraken_v2.has_data(head):
            self._v2.apply(head, tick.ts_recv)
        else:
            self._apply_object(head, tick.ts_recv)

    def apply_entry(self, tick: Tick, entry: Entry) -> None:
        """What a frame says of this pair, as `entries` gave it; raises as `Machine.apply` says."""
        if isinstance(entry, EntryV1):
            self._v1.apply_entry(entry, tick.ts_recv)
        elif isinstance(entry, EntryV2):
            self._v2.apply_entry(entry, tick.ts_recv)
        else:
            self._apply_object(entry, tick.ts_recv)

    def refused(self, tick: Tick) -> None:
        """Puts in doubt what the tick may have held."""
        channel, streams = _legible(tick.value)
        books, symbol = self._pair.books, self._pair.symbol
        if channel is None:
            books.lose("gap", *books.names)
            symbol.in_doubt(*IN_DOUBT)
        elif channel == "book":
            books.lose("gap", *streams)
        else:
            symbol.in_doubt(channel)

    def save(self) -> bytes:
        """The private state: positions, and the books as sent."""
        return self._pair.save()

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._pair.load(saved)

    def _apply_object(self, head: KrakenHead, ts_recv: int) -> None:
        """An object without data about pairs."""
        _pairs_of(head)
        if head.is_event:
            self._v1.apply_event(head, ts_recv)
        else:
            self._v2.apply_answer(head)


def keys(frame: bytes) -> list[str]:
    """The pairs that a frame speaks of; none for heartbeats, the system's status and answers without a pair.

    Raises:
        BadTick: it cannot be read, or is neither v1's nor v2's.
    """
    return list(_entries(frame))


def entries(tick: Tick) -> dict[str, Entry]:
    """What a frame says of each pair; raises `BadTick`."""
    return _entries(tick.value)


def venue_status(frame: bytes) -> tuple[Action, str | None] | None:
    """What the status of the system says of all pairs, None where it is left out.

    Raises:
        BadTick: the frame cannot be read, or is neither v1's nor v2's.
    """
    keys(frame)
    if frame.startswith(b"["):
        return None
    head = head_of(frame)
    return kraken_v1.system_status(head) if head.event == "systemStatus" else kraken_v2.system_status(head)


def _entries(frame: bytes) -> dict[str, Entry]:
    """What a frame says of each pair; nothing where it is of a kind that means nothing, or speaks of the venue.

    Raises:
        BadTick: it cannot be read, or an item does not name its pair.
    """
    if frame.startswith(b"["):
        found = kraken_v1.entry_of(frame)
        return {} if found is None else {found[1]: found[0]}
    head = head_of(frame)
    if kraken_v2.has_data(head):
        return {**kraken_v2.entries_of(head)}
    return dict.fromkeys(_pairs_of(head), head)


def _pairs_of(head: KrakenHead) -> list[str]:
    """The pairs that an object without data about pairs speaks of: at most one."""
    if head.event:
        return kraken_v1.pairs_of(head)
    if head.method or head.error is not None:
        return [head.result.symbol] if head.result is not None and head.result.symbol else []
    if not head.channel:
        raise BadTick("frame without `channel`, `method` or `event`")
    return []


def _legible(frame: bytes) -> tuple[str | None, tuple[str, ...]]:
    """The kind that a refused frame speaks of, and the book's streams that it may be of.

    The kind is an empty text where it is none of a symbol, None where nothing says it. When trades were subscribed
    again is a word about trades.
    """
    if frame.startswith(b"["):
        channel = kraken_v1.legible_channel(frame)
        return (None, ()) if channel is None else (kraken_v1.CHANNELS.get(channel.partition("-")[0], ""), (channel,))
    try:
        head = head_of(frame)
        said = {"channel": head.channel, "method": head.method, "event": head.event, "error": head.error}
        said["channelName"] = head.channel_name
    except BadTick:
        said = {**leading(frame)}
    if not any(said.get(word) for word in _WORDS):
        return None, ()
    if said.get("event") == "subscriptionStatus" and said.get("channelName") == "trade":
        return "trades", ()
    known = kraken_v2.CHANNELS.get(said.get("channel", ""))
    return ("", ()) if known is None else (known.kind, (V2, V2_BESIDE))
