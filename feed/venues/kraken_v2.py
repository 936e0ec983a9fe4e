"""Kraken's socket v2: objects with a channel and data, and answers to requests.

Owns the shapes of v2's frames and what they mean. Leaves the books, trades and quotes of a pair to `kraken_pair`, which
v1 and v2 share.

- A frame's `data` are entries, each of one pair; the channel `instrument` has them in `data.pairs`. Frames of other
  channels (ohlc, level3, heartbeats, an account's own) mean nothing.
- Numbers are JSON numbers whose trailing zeros count for the checksum, so their text is read.
- Book: frames do not name the depth; the answer to the subscription does, and counts from when it comes.
- Trades: ids are consecutive, and `kraken_trades` counts them; the snapshot is history.
- Quotes: from `ticker`.
- Status and definition: from `instrument`; what a pair's entry leaves out stays as it was.
- The channel `status` speaks of all pairs.

Source: https://docs.kraken.com/exchange/api-reference/spot-websocket-v2
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NamedTuple

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from feed.errors import SHOWN_MAX, BadTick, shown
from feed.venues.kraken_book import DEPTHS, BookChange, BookLevel, ask, bid
from feed.venues.kraken_books import V2, V2_BESIDE
from feed.venues.kraken_frames import ABSENT, KrakenHead, decoder
from feed.venues.kraken_pair import Pair, action
from feed.venues.texts import definition
from feed.venues.times import iso_ns
from feed.wire.decimals import DECIMALS_MAX, canonical, positive
from feed.wire.frames import UNREADABLE
from feed.wire.model import Action, Instrument, Kind, Quote, Trade

Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Crc = Annotated[int, Meta(ge=0, lt=2**32)]
Precision = Annotated[int, Meta(ge=0, le=DECIMALS_MAX)]
Text = str | UnsetType | None


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


class NamedV2(Struct, gc=False):
    symbol: str = ""


class EntryV2(NamedTuple):
    """What a frame says of one pair: the frame's head, and the items of its data that name the pair."""

    head: KrakenHead
    items: list[Raw]


class ChannelV2(NamedTuple):
    """A channel whose frames speak of pairs: how all items of its data are read at once, how one is, and of which kind
    they are. `has_history`: a snapshot means something else than an update, so a frame must say which it is."""

    all: Callable[[Raw], Any]
    one: Callable[[Raw], Any]
    kind: Kind
    has_history: bool = False


_PAIRS: Final = decoder(PairsV2)
CHANNELS: Final[dict[str, ChannelV2]] = {
    "book": ChannelV2(decoder(list[BookV2]), decoder(BookV2), "book", has_history=True),
    "trade": ChannelV2(decoder(list[TradeV2]), decoder(TradeV2), "trades", has_history=True),
    "ticker": ChannelV2(decoder(list[TickerV2]), decoder(TickerV2), "quotes"),
    "instrument": ChannelV2(lambda data: _PAIRS(data).pairs, decoder(PairV2), "instruments"),
}
"""The channels that mean something."""
_RAWS: Final = decoder(list[Raw])
_RAW_PAIRS: Final = decoder(RawPairsV2)
_NAMED: Final = decoder(NamedV2)
_SYSTEM: Final = decoder(list[SystemV2])


class KrakenV2:
    """What reads v2's frames of one pair."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def apply(self, head: KrakenHead, ts_recv: int) -> None:
        """A frame with data; raises as `Machine.apply` says."""
        name = self._pair.name
        try:
            items = [item for item in CHANNELS[head.channel].all(head.data) if item.symbol == name]
        except UNREADABLE:
            own = _items_by_pair(head).get(name)
            if own is not None:
                self.apply_entry(EntryV2(head, own), ts_recv)
        else:
            self._apply_items(head, items, ts_recv)

    def apply_entry(self, entry: EntryV2, ts_recv: int) -> None:
        """What a frame with data says of this pair; raises as `Machine.apply` says."""
        channel = CHANNELS[entry.head.channel]
        try:
            items = [channel.one(raw) for raw in entry.items]
        except UNREADABLE as error:
            raise self._spoiled(channel.kind, error) from error
        self._apply_items(entry.head, items, ts_recv)

    def apply_answer(self, head: KrakenHead) -> None:
        """What an answer says of a subscription to this pair's book.

        Raises:
            BadTick: there is no book of such a depth.
        """
        result = head.result
        if result is None or result.channel != "book" or result.symbol != self._pair.name or head.success is False:
            return
        if head.method == "subscribe" and result.depth is not None:
            if result.depth not in DEPTHS:
                raise BadTick(f"depth {str(result.depth)[:SHOWN_MAX]}, wanted one of {DEPTHS}")
            self._pair.books.subscribed_depth(result.depth)
        elif head.method == "unsubscribe":
            self._pair.books.unsubscribed_depth(result.depth)

    def _apply_items(self, head: KrakenHead, items: list[Any], ts_recv: int) -> None:
        channel, snapshot = CHANNELS[head.channel], head.type == "snapshot"
        kind, pair = channel.kind, self._pair
        try:
            if channel.has_history and not snapshot and head.type != "update":
                raise BadTick(f"type {shown(head.type)}, wanted snapshot or update")
            if kind == "book":
                changes = [_change(book, snapshot=snapshot) for book in items]
            elif kind == "trades":
                trades = [_trade(trade) for trade in items]
            elif kind == "quotes":
                quotes = self._quotes(items)
            else:
                instrument = pair.symbol.instrument_known
                for item in items:
                    instrument = _instrument(item, instrument)
                said = [action(item.status) for item in items if isinstance(item.status, str) and item.status]
        except (BadTick, *UNREADABLE) as error:
            raise self._spoiled(kind, error) from error
        if kind == "book":
            for change in changes:
                pair.books.apply_unnamed(change, ts_recv)
        elif kind == "trades":
            if snapshot:
                pair.trades.apply_history(trades)
            else:
                pair.trades.apply_with_ids(trades)
        elif kind == "quotes":
            if quotes:
                pair.symbol.quote(*quotes[-1])
        else:
            if instrument is not None:
                pair.symbol.instrument(instrument, None)
            if said:
                pair.symbol.status(*said[-1], None)

    def _quotes(self, tickers: list[TickerV2]) -> list[tuple[Quote, str | None]]:
        quotes: list[tuple[Quote, str | None]] = []
        for ticker in tickers:
            sides = (_text(ticker.bid), _text(ticker.bid_qty), _text(ticker.ask), _text(ticker.ask_qty))
            quote = self._pair.quote(*sides, before=quotes[-1][0] if quotes else None)
            if quote is not None:
                quotes.append((quote, iso_ns(ticker.timestamp)))
        return quotes

    def _spoiled(self, kind: Kind, why: Exception) -> BadTick:
        if kind == "book":  # which of the two streams it was is not known
            return self._pair.spoiled_book(why, V2, V2_BESIDE)
        return self._pair.symbol.spoiled(kind, why)


def has_data(head: KrakenHead) -> bool:
    """Whether a frame has data about pairs."""
    return head.channel in CHANNELS and bool(bytes(head.data))


def entries_of(head: KrakenHead) -> dict[str, EntryV2]:
    """What a frame with data says of each pair.

    Raises:
        BadTick: the data cannot be read, or an item does not name its pair.
    """
    return {name: EntryV2(head, items) for name, items in _items_by_pair(head).items()}


def system_status(head: KrakenHead) -> tuple[Action, str | None] | None:
    """What a frame says of all pairs, None where it says nothing of them; raises `BadTick`."""
    if head.channel != "status" or not bytes(head.data):
        return None
    try:
        said = [entry.system for entry in _SYSTEM(head.data) if entry.system]
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error
    return action(said[-1]) if said else None


def _items_by_pair(head: KrakenHead) -> dict[str, list[Raw]]:
    named: dict[str, list[Raw]] = {}
    try:
        for raw in _RAW_PAIRS(head.data).pairs if head.channel == "instrument" else _RAWS(head.data):
            name = _NAMED(raw).symbol
            if not name:
                raise BadTick(f"entry {shown(bytes(raw))} without a pair")
            named.setdefault(name, []).append(raw)
    except UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error
    return named


def _change(book: BookV2, *, snapshot: bool) -> BookChange:
    bids, asks = book.bids, book.asks
    if snapshot and (bids is UNSET or asks is UNSET):
        raise BadTick("snapshot of one side, wanted `bids` and `asks`")
    return BookChange(
        snapshot,
        [] if bids is UNSET else _levels(bid, bids),
        [] if asks is UNSET else _levels(ask, asks),
        book.checksum,
        iso_ns(book.timestamp),
    )


def _levels(read: Callable[[tuple[str, str]], BookLevel], levels: list[LevelV2]) -> list[BookLevel]:
    return [read((_text(level.price), _text(level.qty))) for level in levels]


def _trade(trade: TradeV2) -> Trade:
    return Trade(
        positive(_text(trade.price)),
        positive(_text(trade.qty)),
        trade.side,
        str(trade.trade_id),
        iso_ns(trade.timestamp),
    )


def _instrument(pair: PairV2, known: Instrument | None) -> Instrument | None:
    """The definition, with what the entry leaves out as it was; None where neither says anything."""
    before = Instrument("kraken", pair.symbol, "spot", None, None, None, None, []) if known is None else known
    instrument = Instrument(
        "kraken",
        pair.symbol,
        "spot",
        before.base if pair.base is UNSET else pair.base or None,
        before.quote if pair.quote is UNSET else pair.quote or None,
        _step(pair.price_increment, pair.price_precision, before.tick_size),
        _step(pair.qty_increment, pair.qty_precision, before.lot_size),
        [],
    )
    return known if known is None and instrument == before else definition(instrument)


def _step(increment: Raw, precision: int | None, before: str | None) -> str | None:
    text = _text(increment)
    if text:
        return None if text == "null" else canonical(text)
    if precision is None:
        return before
    return "1" if precision == 0 else f"0.{'1':0>{precision}}"


def _text(number: Raw) -> str:
    return bytes(number).decode()
