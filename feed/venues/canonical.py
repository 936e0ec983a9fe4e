"""Our own JSON tick, for anyone's data: one object a tick, one channel of one symbol, in the words of our protocol.

Owns its rules, which `schemas/canonical_tick.json` says as JSON Schema. Leaves numbers to `decimals`, trades sent twice
and the messages to `symbol`.

`{"channel":"trades","ts_event":"1795467600131000000","data":[…]}`: `data` is what an update of that channel holds;
bars are made from trades here as everywhere. A book with `"snapshot":true` replaces what is known, other books are
changes (absolute sizes, "0" deletes) and need a snapshot before them: without one the book is stale. Numbers may have
trailing zeros. `symbol` may name the symbol where the record's key does not; a status without key and symbol is that of
the venue: a symbol trades only where both say so.

Ticks are read in the form of our protocol, which is fast. Those that are not in it are read again as people send them
(`canonical_sent`): JSON numbers, integers for ids and times, RFC 3339, other words for sides, fields left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct

from feed.errors import BadTick, shown
from feed.venues import canonical_sent, sent
from feed.venues.canonical_sent import SentTrade
from feed.venues.legible import IN_DOUBT, leading
from feed.venues.symbol import Symbol, Tick
from feed.venues.texts import definition, reason
from feed.wire.decimals import canonical, positive, signed, signed_levels
from feed.wire.frames import UNREADABLE
from feed.wire.model import Action, Book, Instrument, Level, Quote, Side, Trade

_TRADE_ID_CHARS_MAX: Final = 100
_CONDITIONS_MAX: Final = 16
_WORD_CHARS_MAX: Final = 32


class _Tick(Struct, gc=False):
    """What a tick speaks of is read first; the rest of it is one entry, which may be odd."""

    channel: Literal["trades", "quotes", "book", "status", "instruments"]
    symbol: str | None = None
    data: Raw = Raw(b"")
    ts_event: Any = None
    snapshot: Any = None


class _Trade(Struct, gc=False):
    price: str
    size: str
    side: Side | None = None
    trade_id: str | None = None
    ts_event: str | None = None
    conditions: list[str] | None = None
    exchange: str | None = None


_TICK: Final = sent.decoder(_Tick)
_TRADES: Final = msgspec.json.Decoder(list[_Trade])
_QUOTE: Final = msgspec.json.Decoder(Quote)
_BOOK: Final = msgspec.json.Decoder(Book)


class Canonical:
    """What reads the ticks of one symbol. All of its state is the symbol's."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what the tick meant; raises as `Machine.apply` says."""
        said = _read(tick.value)
        if said.symbol is not None and said.symbol != self._symbol.venue_symbol:
            raise BadTick(f"symbol {shown(said.symbol)}, wanted {self._symbol.venue_symbol}")
        try:
            self._apply_read(said, sent.moment(said.ts_event), snapshot=_is_snapshot(said))
        except (BadTick, *UNREADABLE) as error:
            raise self._symbol.spoiled(said.channel, error) from error

    def apply_entry(self, tick: Tick, entry: object) -> None:
        """As `apply`: a tick speaks of one symbol only."""
        self.apply(tick)

    def refused(self, tick: Tick) -> None:
        """Puts in doubt what the tick may have held: one channel, if it can be read which."""
        try:
            channel: str | None = _TICK.decode(tick.value).channel
        except UNREADABLE:
            channel = leading(tick.value).get("channel")
        self._symbol.in_doubt(*(IN_DOUBT if channel is None else [channel]))

    def save(self) -> bytes:
        """No private state."""
        return b"null"

    def load(self, saved: bytes) -> None:
        """No private state."""

    def _apply_read(self, said: _Tick, time: str | None, *, snapshot: bool) -> None:
        symbol = self._symbol
        if said.channel == "trades":
            trades = [_trade(trade) for trade in _trades(said.data)]
            if not trades:
                raise BadTick("no trades, wanted at least one")
            symbol.trades(trades, time or trades[-1].ts_event)
        elif said.channel == "quotes":
            symbol.quote(_quote(said.data, symbol), time)
        elif said.channel == "book":
            bids, asks = map(signed_levels, _sides(said.data, snapshot=snapshot))
            if snapshot:
                symbol.book_replace(_without_deleted(bids), _without_deleted(asks), time)
            elif symbol.book_is_live:
                symbol.book_change(bids, asks, time)
            else:
                symbol.book_missed()
        elif said.channel == "status":
            status = canonical_sent.status(said.data)
            symbol.status(status.action, reason(status.reason), time)
        else:
            symbol.instrument(_instrument(canonical_sent.instrument(said.data, symbol.instrument_known)), time)


def keys(frame: bytes) -> list[str]:
    """The symbol that a tick names; none where it is the status of the whole venue.

    Raises:
        BadTick: it cannot be read, or names none (its sender must know).
    """
    said = _read(frame)
    if not said.symbol and said.channel != "status":
        raise BadTick("tick without `symbol`, wanted a key")
    return [said.symbol] if said.symbol else []


def entries(tick: Tick) -> dict[str, object]:
    """The symbol that a tick names, if it names one.

    Raises:
        BadTick: it cannot be read.
    """
    said = _read(tick.value)
    return {said.symbol: None} if said.symbol else {}


def venue_status(frame: bytes) -> tuple[Action, str | None] | None:
    """What a tick without a key and a symbol says of all symbols: a status.

    Raises:
        BadTick: the tick cannot be read, or is of another channel.
    """
    said = _read(frame)
    if said.channel != "status":
        raise BadTick(f"tick of the channel {said.channel} without a key")
    try:
        status = canonical_sent.status(said.data)
    except UNREADABLE as error:
        raise BadTick(f"tick cannot be read: {error}") from error
    return status.action, reason(status.reason)


def _read(value: bytes) -> _Tick:
    try:
        tick: _Tick = _TICK.decode(value)
    except UNREADABLE as error:
        raise BadTick(f"tick cannot be read: {error}") from error
    return tick


def _is_snapshot(said: _Tick) -> bool:
    if said.snapshot is None:
        return False
    if said.channel != "book" or not isinstance(said.snapshot, bool):
        raise BadTick(f"`snapshot` {shown(str(said.snapshot))}, wanted true or false, and in book only")
    return said.snapshot


def _trades(data: Raw) -> Sequence[_Trade | SentTrade]:
    try:
        return _TRADES.decode(data)
    except msgspec.ValidationError:
        return canonical_sent.trades(data)


def _sides(data: Raw, *, snapshot: bool) -> tuple[list[Level], list[Level]]:
    try:
        book = _BOOK.decode(data)
    except msgspec.ValidationError:
        return canonical_sent.book(data, snapshot=snapshot)
    return book.bids, book.asks


def _trade(trade: _Trade | SentTrade) -> Trade:
    if trade.trade_id is not None and not 0 < len(trade.trade_id) <= _TRADE_ID_CHARS_MAX:
        raise BadTick(f"trade_id of {len(trade.trade_id)} characters, wanted 1 to {_TRADE_ID_CHARS_MAX}, or null")
    price, size, time = signed(trade.price), positive(trade.size), sent.moment(trade.ts_event)
    if not trade.conditions and trade.exchange is None:
        return Trade(price, size, trade.side, trade.trade_id, time)
    conditions = trade.conditions or []
    if len(conditions) > _CONDITIONS_MAX:
        raise BadTick(f"{len(conditions)} conditions, wanted at most {_CONDITIONS_MAX}")
    for word in conditions:
        _bounded("condition", word, _WORD_CHARS_MAX)
    if trade.exchange is not None:
        _bounded("exchange", trade.exchange, _WORD_CHARS_MAX)
    exchange = UNSET if trade.exchange is None else trade.exchange
    return Trade(price, size, trade.side, trade.trade_id, time, conditions or UNSET, exchange)


def _bounded(name: str, text: str, chars_max: int) -> None:
    if not 0 < len(text) <= chars_max:
        raise BadTick(f"{name} of {len(text)} characters, wanted 1 to {chars_max}")


def _quote(data: Raw, symbol: Symbol) -> Quote:
    try:
        quote: Quote = _QUOTE.decode(data)
    except msgspec.ValidationError:
        quote = canonical_sent.quote(data, symbol.quote_known)
    return Quote(*_top(quote.bid_price, quote.bid_size), *_top(quote.ask_price, quote.ask_size))


def _top(price: str | None, size: str | None) -> tuple[str | None, str | None]:
    if price is None and size is not None:
        raise BadTick(f"size {shown(size)} without a price, wanted null")
    return None if price is None else signed(price), None if size is None else canonical(size)


def _instrument(instrument: Instrument) -> Instrument:
    fields: dict[str, Any] = msgspec.structs.asdict(instrument)
    for name in ("tick_size", "lot_size"):
        if fields[name] is not None:
            fields[name] = canonical(fields[name])
    return definition(Instrument(**fields))


def _without_deleted(levels: list[tuple[str, str]]) -> dict[str, str]:
    return {price: size for price, size in levels if size != "0"}
