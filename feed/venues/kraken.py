"""Kraken: the sockets v1 (arrays) and v2 (objects).

Owns what their frames mean. Leaves their shapes to `kraken_frames`, a book's depth and checksum to `kraken_book`,
which of several books is told to `kraken_streams`, numbers to `decimals`, times to `times`, trades sent twice and the
messages to `symbol`. Symbols are as each socket writes them: `XBT/USD` in v1, `BTC/USD` in v2. Frames of other kinds
(spread, ohlc, level3, heartbeats, an account's own, answers to subscriptions) mean nothing, except that answers tell
the depth of a book and when trades were subscribed.

- Book: each update carries a CRC32 over the digits, as sent, of the ten best asks and bids after it, so all digits are
  kept. Where it differs the update is not taken and the book is stale until the next snapshot. Of two depths of one
  pair the deeper is the book, the other one means nothing. v1 names the depth in the channel; v2 in its answer to the
  subscription, which counts from when it comes.
- Numbers of v2 are JSON numbers whose trailing zeros count, so their text is read.
- Trades: the side is the taker's. v2 counts them per book, so a skipped id is a hole, and one that is far back and
  later has begun anew; its snapshot is history. v1 has no ids: what its first frame after a subscription holds from
  before that is history, and subscribing again is a hole. Where a pair is called alike in both, v1's trades are not
  taken once v2's have come: they are the same ones.
- Quotes: from `ticker`; v1's has no time. A side that is left out stays as it was; null and zero say that it is empty.
- Status: a pair trades only where the system and the pair say so. What a pair's entry leaves out stays as it was.
- Times: of a v1 book the newest of its levels.

Sources: https://docs.kraken.com/exchange/api-reference/spot-websocket-v1 and -v2, and their guide to the checksum.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw

from feed.errors import BadTick
from feed.venues import kraken_frames as frames
from feed.venues.kraken_book import DEPTHS, BookLevel, Change, ask, bid
from feed.venues.kraken_streams import V2, V2_BESIDE, Streams
from feed.venues.legible import IN_DOUBT, leading
from feed.venues.symbol import Symbol, Tick
from feed.venues.texts import definition, reason
from feed.venues.times import iso_ns, seconds_ns
from feed.wire.decimals import canonical, positive
from feed.wire.model import Action, Instrument, Quote, Side, Trade

_SHOWN_CHARS_MAX: Final = 50
_DEPTH_CHARS_MAX: Final = 6
_DEPTH_DEFAULT: Final = "10"
_CRC_CHARS_MAX: Final = 10
_TYPED: Final = ("book", "trade")
"""Channels of v2 whose snapshots mean something else than their updates."""
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
_CHANNELS_V1: Final = {"book": "book", "trade": "trades", "ticker": "quotes"}
_ARRAY_END: Final = re.compile(rb',\s*"([a-z]+(?:-[0-9]+)?)"\s*,\s*"[^"\\]+"\s*\]\s*\Z').search
_ARRAY_END_BYTES: Final = 200
_NO_QUOTE: Final = Quote(None, None, None, None)


class Kraken:
    """What reads the ticks of one pair."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._name = symbol.venue_symbol
        self._state = frames.Saved()
        self._streams = Streams(symbol)

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises as `Machine.apply` says."""
        frame = tick.value
        try:
            if frame.startswith(b"["):
                part, pair = frames.array(frame)
                if part is not None and pair != self._name:
                    raise BadTick(f"frame of {pair[:_SHOWN_CHARS_MAX]!r}, wanted {self._name}")
                if part is not None:
                    self._apply_v1(part, tick.ts_recv)
                return
            head = frames.HEAD(frame)
        except frames.UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error
        of = frames.OF_PAIRS.get(head.channel)
        if of is None or not bytes(head.data):
            self._apply_answer(head, tick.ts_recv)
            return
        try:
            read = [entry for entry in of.all(head.data) if entry.symbol == self._name]
        except frames.UNREADABLE:
            entry = frames.entries(frame).get(self._name)
            if entry is not None:
                self.apply_entry(tick, entry)
        else:
            self._apply_v2(head, read, tick.ts_recv)

    def apply_entry(self, tick: Tick, entry: frames.PartV1 | frames.PartV2) -> None:
        """What a frame says of this pair, as `entries` gave it; raises as `Machine.apply` says."""
        if isinstance(entry, frames.PartV1):
            self._apply_v1(entry, tick.ts_recv)
        elif not entry.entries:
            self._apply_answer(entry.head, tick.ts_recv)
        else:
            of = frames.OF_PAIRS[entry.head.channel]
            try:
                read = [of.one(raw) for raw in entry.entries]
            except frames.UNREADABLE as error:
                raise self._spoiled(of.channel, V2, error) from error
            self._apply_v2(entry.head, read, tick.ts_recv)

    def refused(self, tick: Tick) -> None:
        """Puts in doubt what the tick may have held."""
        channel, stream = _speaks_of(tick.value)
        if channel is None:
            self._streams.lose("gap", *self._streams.names)
            self._symbol.in_doubt(*IN_DOUBT)
        elif channel == "book":
            self._lose(stream)
        else:
            self._symbol.in_doubt(channel)

    def save(self) -> bytes:
        """The private state: positions, and the books as sent."""
        state = self._state
        self._streams.save(state)
        saved = msgspec.json.encode(state)
        state.books = []
        return saved

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = frames.SAVED(saved)
        self._streams.load(self._state)
        self._state.books = []

    def _apply_v1(self, part: frames.PartV1, ts_recv: int) -> None:
        channel, payloads = part
        kind = channel.partition("-")[0]
        try:
            if kind == "book":
                change, depth = _change_v1([frames.BOOK_V1(payload) for payload in payloads]), _depth(channel)
            elif kind == "trade":
                trades = [_trade_v1(trade) for payload in payloads for trade in frames.TRADES_V1(payload)]
            elif kind == "ticker":
                ticker = frames.TICKER_V1(payloads[-1])
                quote = self._quote(*_top_v1(ticker.b), *_top_v1(ticker.a))
        except (BadTick, *frames.UNREADABLE) as error:
            raise self._spoiled("trades" if kind == "trade" else kind, channel, error) from error
        if kind == "book":
            self._streams.take(channel, change, depth, ts_recv)
        elif kind == "trade":
            self._take_trades_v1(trades)
        elif kind == "ticker" and quote is not None:
            self._symbol.quote(quote, None)

    def _apply_v2(self, head: frames.Head, read: list[Any], ts_recv: int) -> None:
        channel, snapshot = head.channel, head.type == "snapshot"
        try:
            if channel in _TYPED and not snapshot and head.type != "update":
                raise BadTick(f"type {head.type[:_SHOWN_CHARS_MAX]!r}, wanted snapshot or update")
            if channel == "book":
                changes = [_change_v2(book, snapshot=snapshot) for book in read]
            elif channel == "trade":
                trades = [_trade_v2(trade) for trade in read]
            elif channel == "ticker":
                quotes = self._quotes_v2(read)
            else:
                instrument = self._symbol.instrument_known
                for pair in read:
                    instrument = _instrument(pair, instrument)
                said = [_action(pair.status) for pair in read if isinstance(pair.status, str) and pair.status]
        except (BadTick, *frames.UNREADABLE) as error:
            raise self._spoiled(frames.OF_PAIRS[channel].channel, V2, error) from error
        if channel == "book":
            for change in changes:
                self._streams.take_v2(change, ts_recv)
        elif channel == "trade":
            self._take_trades_v2(trades, history=snapshot)
        elif channel == "ticker":
            if quotes:
                self._symbol.quote(*quotes[-1])
        else:
            self._take_pairs(said, instrument)

    def _apply_answer(self, head: frames.Head, ts_recv: int) -> None:
        frames.keys_of(head)
        result, subscription = head.result, head.subscription
        if (
            result is not None
            and result.channel == "book"
            and result.symbol == self._name
            and head.success is not False
        ):
            if head.method == "subscribe" and result.depth is not None:
                if result.depth not in DEPTHS:
                    raise BadTick(f"depth {str(result.depth)[:_SHOWN_CHARS_MAX]}, wanted one of {DEPTHS}")
                self._streams.subscribed(result.depth)
            elif head.method == "unsubscribe":
                self._streams.unsubscribed(result.depth)
        elif head.event == "subscriptionStatus" and subscription is not None:
            if subscription.name == "trade" and head.status == "subscribed":
                if self._state.traded:
                    self._symbol.hole()  # the connection was another one: what came between has no ids to tell
                self._state.since = ts_recv
            elif subscription.name == "book" and head.status == "unsubscribed":
                self._streams.left(str(head.channel_name))

    def _spoiled(self, channel: Any, stream: str, why: Exception) -> BadTick:
        if channel == "book":
            self._lose(stream)
            channel = None
        return self._symbol.spoiled(channel, why)

    def _lose(self, stream: str) -> None:
        # which of v2's streams it was is not known
        self._streams.lose("gap", *((V2, V2_BESIDE) if stream == V2 else (stream,)))

    def _take_trades_v1(self, trades: list[Trade]) -> None:
        if self._state.trade is not None:
            return
        since, self._state.since = self._state.since, None
        if since is not None:
            self._symbol.history([trade for trade in trades if int(trade.ts_event or since) < since])
            trades = [trade for trade in trades if int(trade.ts_event or since) >= since]
        if trades:
            self._state.traded = True
            self._symbol.trades(trades, trades[-1].ts_event)

    def _take_trades_v2(self, trades: list[Trade], *, history: bool) -> None:
        if not trades:
            return
        if history:  # trades of it that were missed show as a hole at the next one
            self._symbol.history(trades)
            return
        symbol, state = self._symbol, self._state
        symbol.count_trades()
        for trade in trades:
            state.trade = symbol.follow(state.trade, int(trade.trade_id or 0), trade.ts_event)
        if symbol.trades(trades, trades[-1].ts_event):
            state.trade = int(trades[-1].trade_id or 0)

    def _quotes_v2(self, tickers: list[frames.TickerV2]) -> list[tuple[Quote, str | None]]:
        quotes: list[tuple[Quote, str | None]] = []
        for ticker in tickers:
            sides = (_text(ticker.bid), _text(ticker.bid_qty), _text(ticker.ask), _text(ticker.ask_qty))
            quote = self._quote(*sides, before=quotes[-1][0] if quotes else None)
            if quote is not None:
                quotes.append((quote, iso_ns(ticker.timestamp)))
        return quotes

    def _quote(self, bid: str, bid_size: str, ask: str, ask_size: str, before: Quote | None = None) -> Quote | None:
        """A quote, None where both sides are left out; a side that is left out is what it was."""
        if not bid and not ask:
            return None
        known = before or self._symbol.quote_known or _NO_QUOTE
        bids = _top(bid, bid_size) if bid else (known.bid_price, known.bid_size)
        asks = _top(ask, ask_size) if ask else (known.ask_price, known.ask_size)
        return Quote(*bids, *asks)

    def _take_pairs(self, said: list[tuple[Action, str | None]], instrument: Instrument | None) -> None:
        if instrument is not None:
            self._symbol.instrument(instrument, None)
        if said:
            self._symbol.status(*said[-1], None)


def keys(frame: bytes) -> list[str]:
    """The pairs that a frame speaks of; none for heartbeats, the system's status and answers without a pair.

    Raises:
        BadTick: it cannot be read, or is neither v1's nor v2's.
    """
    return list(frames.entries(frame))


def entries(tick: Tick) -> dict[str, frames.PartV1 | frames.PartV2]:
    """What a frame says of each pair; raises `BadTick`."""
    return frames.entries(tick.value)


def wide(frame: bytes) -> tuple[Action, str | None] | None:
    """What the status of the system says of all pairs, None where it is left out.

    Raises:
        BadTick: the frame cannot be read, or is neither v1's nor v2's.
    """
    keys(frame)
    if frame.startswith(b"["):
        return None
    try:
        head = frames.HEAD(frame)
        if head.event == "systemStatus":
            return _action(head.status) if head.status else None
        if head.channel == "status" and bytes(head.data):
            said = [entry.system for entry in frames.SYSTEM_V2(head.data) if entry.system]
            return _action(said[-1]) if said else None
    except frames.UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error
    return None


def _speaks_of(frame: bytes) -> tuple[str | None, str]:
    """The channel of a refused frame, empty where it is none of a symbol, None where nothing says it; and its stream.

    When trades were subscribed again is a word about trades.
    """
    if frame.startswith(b"["):
        try:
            part, _ = frames.array(frame)
            name = "" if part is None else part.channel
        except (BadTick, *frames.UNREADABLE):
            end = _ARRAY_END(frame[-_ARRAY_END_BYTES:])
            if end is None:
                return None, ""
            name = end[1].decode()
        return _CHANNELS_V1.get(name.partition("-")[0], ""), name
    try:
        head = frames.HEAD(frame)
        said = {"channel": head.channel, "method": head.method, "event": head.event, "error": head.error}
        said["channelName"] = head.channel_name
    except frames.UNREADABLE:
        said = {**leading(frame)}
    if not any(said.get(name) for name in ("channel", "method", "event", "error")):
        return None, ""
    if said.get("event") == "subscriptionStatus" and said.get("channelName") == "trade":
        return "trades", ""
    of = frames.OF_PAIRS.get(said.get("channel", ""))
    return "" if of is None else of.channel, V2


def _change_v1(books: list[frames.BookV1]) -> Change:
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
    return Change(
        snapshot,
        [bid((_item(level, 0), _item(level, 1))) for level in bids],
        [ask((_item(level, 0), _item(level, 1))) for level in asks],
        checksum,
        max(times, key=int, default=None),
    )


def _change_v2(book: frames.BookV2, *, snapshot: bool) -> Change:
    bids, asks = book.bids, book.asks
    if snapshot and (bids is UNSET or asks is UNSET):
        raise BadTick("snapshot of one side, wanted `bids` and `asks`")
    return Change(
        snapshot,
        [] if bids is UNSET else _levels(bid, bids),
        [] if asks is UNSET else _levels(ask, asks),
        book.checksum,
        iso_ns(book.timestamp),
    )


def _levels(read: Any, levels: list[frames.LevelV2]) -> list[BookLevel]:
    return [read((_text(level.price), _text(level.qty))) for level in levels]


def _depth(channel: str) -> int:
    depth = channel.partition("-")[2] or _DEPTH_DEFAULT
    if not (depth.isascii() and depth.isdecimal() and len(depth) < _DEPTH_CHARS_MAX and int(depth)):
        raise BadTick(f"channel {channel[:_SHOWN_CHARS_MAX]!r}, wanted book-DEPTH")
    return int(depth)


def _crc(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _CRC_CHARS_MAX):
        raise BadTick(f"checksum {text[:_SHOWN_CHARS_MAX]!r}, wanted digits")
    return int(text)


def _item(items: list[Any], at: int) -> Any:
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


def _top_v1(side: Any) -> tuple[str, str]:
    """Price and lots of a side, empty texts where it is left out."""
    if side is UNSET:
        return "", ""
    price, lots = _item(side, 0), _item(side, 2)
    if not isinstance(price, str) or not isinstance(lots, str):
        raise BadTick(f"side {str(side)[:_SHOWN_CHARS_MAX]!r}, wanted price, whole lots and lots")
    return price, lots


def _top(price: str, size: str) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has null or zero. A size that is left out is not known."""
    if price == "null":
        return None, None
    best, amount = canonical(price), None if size in ("", "null") else canonical(size)
    return (None, None) if best == "0" or amount == "0" else (best, amount)


def _trade_v1(trade: list[str]) -> Trade:
    side, time = _side(_item(trade, 3)), seconds_ns(_item(trade, 2))
    return Trade(positive(_item(trade, 0)), positive(_item(trade, 1)), side, None, time)


def _trade_v2(trade: frames.TradeV2) -> Trade:
    return Trade(
        positive(_text(trade.price)),
        positive(_text(trade.qty)),
        trade.side,
        str(trade.trade_id),
        iso_ns(trade.timestamp),
    )


def _instrument(pair: frames.PairV2, known: Instrument | None) -> Instrument | None:
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


def _action(status: str) -> tuple[Action, str | None]:
    return _ACTIONS.get(status, "unknown"), None if status == "online" else reason(status)
