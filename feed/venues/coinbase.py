"""Coinbase: Exchange (`type`) and Advanced Trade (`channel`, `events`).

Owns what their frames mean. Leaves their shapes to `coinbase_frames`, numbers to `decimals`, times to `times`, trades
sent twice and the messages to `symbol`. Frames of other kinds (heartbeats, candles, the full channel's orders, answers)
are read and mean nothing.

- Sides: Exchange names the maker's side of a trade ("If the side is sell this indicates the maker was a sell order",
  https://docs.cdp.coinbase.com/exchange/websocket-feed/channels), so the taker's is the other one. Advanced Trade is
  read the same way; no capture shows it, so that is unproved.
- Trades: `trade_id` counts the trades of a product, so a skipped id is a hole, and one that is far back and later has
  begun anew. `last_match`, and the snapshot of `market_trades`, repeat trades at subscription; those that were missed
  show as a hole at the next trade.
- Book: a snapshot, then absolute sizes; nothing tells a hole (Exchange has no sequence here, and `sequence_num` counts
  a connection, whose frames lie in many partitions). A snapshot comes first on every connection; a change without one
  is of no use, and the book is stale. `level2` and `level2_batch` cannot be told apart: both are whole, so a book of
  both is right when both have told all.
- Quotes: `sequence` of Exchange's ticker rises, so one that does not is known, unless it has begun anew; Advanced
  Trade's has no identity. A side that is left out stays as it was, and `ticker_batch` of Advanced Trade, which leaves
  out both, is no quote; an empty text, null and zero say that a side is empty.
- Status: what a product's entry leaves out stays as it was; a product trades only where its status and all of its flags
  say so.
- Times: of the trade, of the change, of the ticker; of Advanced Trade's books and quotes the `timestamp` of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET

from feed.errors import BadTick
from feed.venues import coinbase_frames as frames
from feed.venues.legible import IN_DOUBT, leading
from feed.venues.now import strictest
from feed.venues.symbol import Symbol, Tick
from feed.venues.texts import definition, reason
from feed.venues.times import iso_ns
from feed.wire.decimals import canonical, canonical_levels, positive
from feed.wire.model import Action, Instrument, Kind, Level, Quote, Side, Trade

_SHOWN_CHARS_MAX: Final = 50
_TAKER: Final[dict[str, Side]] = {"buy": "sell", "sell": "buy", "BUY": "sell", "SELL": "buy"}
_STATUS: Final[dict[str, Action]] = {"online": "trading", "offline": "halt", "delisted": "close"}
_FLAGS: Final[dict[str, Action]] = {
    "trading_disabled": "halt",
    "cancel_only": "halt",
    "auction_mode": "pre-open",
    "post_only": "pre-open",
    "limit_only": "trading",
}
_NO_QUOTE: Final = Quote(None, None, None, None)


class Coinbase:
    """What reads the ticks of one product."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        symbol.count_trades()
        self._name = symbol.venue_symbol
        self._state = frames.Saved()
        self._ts_recv = 0
        self._one: dict[str, Callable[[Any], None]] = {
            "snapshot": self._take_snapshot,
            "l2update": self._take_change,
            "match": self._take_match,
            "last_match": self._take_last_match,
            "ticker": self._take_ticker,
        }
        self._several: dict[str, Callable[[list[tuple[str, Any]], str | None], None]] = {
            "status": self._take_products,
            "channel l2_data": self._take_books,
            "channel market_trades": self._take_trades,
            "channel ticker": self._take_tickers,
            "channel ticker_batch": self._take_tickers,
            "channel status": self._take_products,
        }

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises as `Machine.apply` says."""
        frame = tick.value
        self._ts_recv = tick.ts_recv
        try:
            kind = frames.kind(frame)
            if kind in frames.ONE:
                self._apply_one(kind, frame)
                return
            several = frames.SEVERAL.get(kind)
            if several is None:
                frames.keys_of(frames.HEAD(frame))
                return
        except frames.UNREADABLE as error:
            raise BadTick(f"frame cannot be read: {error}") from error
        try:
            data = several.all(frame)
        except frames.UNREADABLE:
            entry = frames.entries(frame).get(self._name)
            if entry is not None:
                self.apply_entry(tick, entry)
        else:
            said = several.own(data, self._name)
            if said:
                self._apply_several(kind, data.timestamp, said)

    def apply_entry(self, tick: Tick, entry: frames.Part) -> None:
        """What a frame says of this product, as `entries` gave it; raises as `Machine.apply` says."""
        self._ts_recv = tick.ts_recv
        if entry.kind in frames.ONE:
            self._apply_one(entry.kind, entry.frame)
            return
        several = frames.SEVERAL[entry.kind]
        try:
            said = [(type_, several.one(raw)) for type_, raw in entry.said]
        except frames.UNREADABLE as error:
            raise self._symbol.spoiled(several.channel, error) from error
        self._apply_several(entry.kind, entry.time, said)

    def refused(self, tick: Tick) -> None:
        """Puts in doubt what the tick may have held."""
        self._symbol.in_doubt(*_channels(tick.value))

    def save(self) -> bytes:
        """The private state: positions, and whether the product trades."""
        return msgspec.json.encode(self._state)

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = frames.SAVED(saved)

    def _apply_one(self, kind: str, frame: bytes) -> None:
        one = frames.ONE[kind]
        try:
            data = one.decode(frame)
        except frames.UNREADABLE as error:
            self._must_be_mine(frames.HEAD(frame).product_id)
            data = self._longer(one, frame, error)
        self._must_be_mine(data.product_id)
        try:
            self._one[kind](data)
        except BadTick as error:
            raise self._symbol.spoiled(one.channel, error) from error

    def _apply_several(self, kind: str, time: str | None, said: list[tuple[str, Any]]) -> None:
        try:
            self._several[kind](said, iso_ns(time))
        except BadTick as error:
            raise self._symbol.spoiled(frames.SEVERAL[kind].channel, error) from error

    def _longer(self, one: frames.One, frame: bytes, why: Exception) -> Any:
        if one.longer is None:
            raise self._symbol.spoiled(one.channel, why) from why
        try:
            return one.longer(frame)
        except frames.UNREADABLE:
            raise self._symbol.spoiled(one.channel, why) from why

    def _take_snapshot(self, data: frames.Snapshot) -> None:
        bids, asks = _side(canonical_levels(data.bids)), _side(canonical_levels(data.asks))
        self._symbol.book_replace(bids, asks, iso_ns(data.time))

    def _take_change(self, data: frames.Change) -> None:
        bids: list[Level] = []
        asks: list[Level] = []
        for side, price, size in data.changes:
            (bids if side == "buy" else asks).append((positive(price), canonical(size)))
        self._change_book(bids, asks, iso_ns(data.time))

    def _take_match(self, data: frames.Match) -> None:
        self._tell([_trade(data, str(data.trade_id))])

    def _take_last_match(self, data: frames.Match) -> None:
        self._symbol.history([_trade(data, str(data.trade_id))])

    def _take_ticker(self, data: frames.Ticker) -> None:
        quote = self._quote(data.best_bid, data.best_bid_size, data.best_ask, data.best_ask_size)
        time = iso_ns(data.time)
        if data.sequence is not None:
            known = self._state.quotes
            if data.sequence <= known.last:
                if not known.begins_anew(data.sequence, time, self._ts_recv):
                    return
                self._symbol.counts.epochs += 1
            known.set(data.sequence, time, self._ts_recv)
        if quote is not None:
            self._symbol.quote(quote, time)

    def _take_books(self, said: list[tuple[str, Any]], time: str | None) -> None:
        events = [(event.type, *_sides(event.updates)) for _, event in said]
        for type_, bids, asks in events:
            if type_ == "snapshot":
                self._symbol.book_replace(_side(bids), _side(asks), time)
            else:
                self._change_book(bids, asks, time)

    def _take_trades(self, said: list[tuple[str, Any]], time: str | None) -> None:
        old: list[Trade] = []
        new: list[Trade] = []
        for type_, data in said:
            if type_ not in ("snapshot", "update"):
                raise BadTick(f"event of the type {type_[:_SHOWN_CHARS_MAX]!r}, wanted snapshot or update")
            (old if type_ == "snapshot" else new).append(_trade(data, data.trade_id))
        # a frame lists the newest first; ids say in which order they were made
        for trades in (old, new):
            trades.sort(key=_number)
        if old:
            self._symbol.history(old)
        if new:
            self._tell(new)

    def _take_tickers(self, said: list[tuple[str, Any]], time: str | None) -> None:
        last: Quote | None = None
        for _, data in said:
            quote = self._quote(data.best_bid, data.best_bid_quantity, data.best_ask, data.best_ask_quantity, last)
            last = quote or last
        if last is not None:
            self._symbol.quote(last, time)

    def _take_products(self, said: list[tuple[str, Any]], time: str | None) -> None:
        instrument, facts = self._symbol.instrument_known, self._state.facts
        for _, product in said:
            instrument, facts = _instrument(product, instrument), _facts(product, facts)
        self._state.facts = facts
        if instrument is not None:
            self._symbol.instrument(instrument, time)
        status = _status(facts)
        if status is not None:
            self._symbol.status(*status, time)

    def _quote(
        self,
        bid: frames.Text,
        bid_size: frames.Text,
        ask: frames.Text,
        ask_size: frames.Text,
        before: Quote | None = None,
    ) -> Quote | None:
        """A quote, None where both sides are left out; a side that is left out is what it was."""
        if bid is UNSET and ask is UNSET:
            return None
        known = before or self._symbol.quote_known or _NO_QUOTE
        bids = (known.bid_price, known.bid_size) if bid is UNSET else _top(bid, bid_size)
        asks = (known.ask_price, known.ask_size) if ask is UNSET else _top(ask, ask_size)
        return Quote(*bids, *asks)

    def _change_book(self, bids: list[Level], asks: list[Level], time: str | None) -> None:
        if self._symbol.book_is_live:
            self._symbol.book_change(bids, asks, time)
        else:
            self._symbol.book_missed()

    def _tell(self, trades: list[Trade]) -> None:
        symbol, state = self._symbol, self._state
        for trade in trades:
            state.trade = symbol.follow(state.trade, _number(trade), trade.ts_event)
        if symbol.trades(trades, trades[-1].ts_event):
            state.trade = _number(trades[-1])

    def _must_be_mine(self, product_id: str) -> None:
        if product_id != self._name:
            raise BadTick(f"frame of {product_id[:_SHOWN_CHARS_MAX]!r}, wanted {self._name}")


def keys(frame: bytes) -> list[str]:
    """The products that a frame speaks of; none for heartbeats and answers to the client.

    Raises:
        BadTick: it cannot be read, or is neither Exchange's nor Advanced Trade's.
    """
    try:
        return frames.keys_of(frames.HEAD(frame))
    except frames.UNREADABLE as error:
        raise BadTick(f"frame cannot be read: {error}") from error


def entries(tick: Tick) -> dict[str, frames.Part]:
    """What a frame says of each product; raises `BadTick`."""
    return frames.entries(tick.value)


def wide(frame: bytes) -> tuple[Action, str | None] | None:
    """Nothing: Coinbase does not say what becomes of all products at once.

    Raises:
        BadTick: the frame cannot be read, or is neither Exchange's nor Advanced Trade's.
    """
    keys(frame)
    return None


def _channels(frame: bytes) -> Sequence[Kind]:
    """The channels that a refused frame may be of: `IN_DOUBT` where nothing says what it is."""
    try:
        kind = frames.kind(frame)
    except frames.UNREADABLE:
        said = leading(frame)
        kind = f"channel {said['channel']}" if said.get("channel") else said.get("type", "")
    if not kind:
        return IN_DOUBT
    known = frames.ONE.get(kind) or frames.SEVERAL.get(kind)
    return [] if known is None else [known.channel]


def _trade(data: frames.Match | frames.TradeOf, trade_id: str) -> Trade:
    trade = Trade(positive(data.price), positive(data.size), _TAKER[data.side], trade_id, iso_ns(data.time))
    _number(trade)
    return trade


def _number(trade: Trade) -> int:
    text = trade.trade_id
    if text is None or not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadTick(f"trade_id {str(text)[:_SHOWN_CHARS_MAX]!r}, wanted a number of up to 18 digits")
    return int(text)


def _top(price: frames.Text, size: frames.Text) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has no price, or zero. A size that is left out is not known."""
    best = canonical(price) if price else "0"
    amount = canonical(size) if size else None
    return (None, None) if best == "0" or amount == "0" else (best, amount)


def _sides(updates: list[frames.Level]) -> tuple[list[Level], list[Level]]:
    bids = [(level.price_level, level.new_quantity) for level in updates if level.side == "bid"]
    asks = [(level.price_level, level.new_quantity) for level in updates if level.side != "bid"]
    return canonical_levels(bids), canonical_levels(asks)


def _side(levels: list[Level]) -> dict[str, str]:
    return {price: size for price, size in levels if size != "0"}


def _instrument(product: frames.Product, known: Instrument | None) -> Instrument | None:
    """The definition, with what the entry leaves out as it was; None where neither says anything."""
    before = known or Instrument("coinbase", product.id, "spot", None, None, None, None, [])
    name = product.display_name
    instrument = Instrument(
        "coinbase",
        product.id,
        before.kind if product.product_type is UNSET else (product.product_type or "spot").lower(),
        before.base if product.base_currency is UNSET else product.base_currency or None,
        before.quote if product.quote_currency is UNSET else product.quote_currency or None,
        before.tick_size if product.quote_increment is UNSET else _step(product.quote_increment),
        before.lot_size if product.base_increment is UNSET else _step(product.base_increment),
        before.aliases if name is UNSET else [name] if name and name != product.id else [],
    )
    return known if known is None and instrument == before else definition(instrument)


def _step(text: str | None) -> str | None:
    return canonical(text) if text else None


def _facts(product: frames.Product, known: frames.Facts) -> frames.Facts:
    """Whether the product trades, with what the entry leaves out as it was."""
    said = {name: getattr(product, name) for name in frames.Facts.__struct_fields__}
    for text in (product.status, product.status_message):
        reason(None if text is UNSET else text)
    return msgspec.structs.replace(known, **{name: value for name, value in said.items() if value is not UNSET})


def _status(facts: frames.Facts) -> tuple[Action, str | None] | None:
    """What all facts together say of it; None where nothing was ever said."""
    said: list[tuple[Action, str | None]] = [(action, name) for name, action in _FLAGS.items() if getattr(facts, name)]
    if facts.status:
        online = facts.status == "online"
        said.insert(
            len(said) if online else 0, (_STATUS.get(facts.status, "unknown"), None if online else facts.status)
        )
    if not said:
        return None
    action, word = strictest(said)
    return action, facts.status_message or word
