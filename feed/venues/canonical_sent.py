"""Our own tick's data as people send it: JSON numbers for texts, words for sides, fields left out.

Owns what may stand for what, and what a field that is left out means: null where nothing was known before, else that it
stays as it was (a side of a quote, a field of a definition). Leaves single values to `sent`, and the form that is
mostly sent, which is read faster, to `canonical`: what both can read means the same.

Errors are `BadTick` of what a value is, or what `msgspec` raises for a shape.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from msgspec import UNSET, Raw, Struct, UnsetType

from feed.errors import BadTick
from feed.venues import sent
from feed.wire.model import Instrument, Level, Quote, Side, Status

_NO_QUOTE: Final = Quote(None, None, None, None)


class SentTrade(NamedTuple):
    """A trade in texts and words of the model, whose numbers are still to be checked."""

    price: str
    size: str
    side: Side | None
    trade_id: str | None
    ts_event: str | None
    conditions: list[str] | None
    exchange: str | None


class _Trade(Struct, gc=False):
    price: Any
    size: Any
    side: Any = None
    trade_id: Any = None
    ts_event: Any = None
    conditions: list[str] | None = None
    exchange: str | None = None


class _Quote(Struct, gc=False):
    bid_price: Any = UNSET
    bid_size: Any = UNSET
    ask_price: Any = UNSET
    ask_size: Any = UNSET


class _Book(Struct, gc=False):
    bids: list[tuple[Any, Any]] | UnsetType = UNSET
    asks: list[tuple[Any, Any]] | UnsetType = UNSET


class _Instrument(Struct, gc=False):
    venue: str
    venue_symbol: str
    kind: str | UnsetType | None = UNSET
    base: str | UnsetType | None = UNSET
    quote: str | UnsetType | None = UNSET
    tick_size: Any = UNSET
    lot_size: Any = UNSET
    aliases: list[str] | UnsetType = UNSET


_TRADES: Final = sent.decoder(list[_Trade])
_QUOTE: Final = sent.decoder(_Quote)
_BOOK: Final = sent.decoder(_Book)
_INSTRUMENT: Final = sent.decoder(_Instrument)


def trades(data: Raw) -> list[SentTrade]:
    """Trades; side, id and time may be left out."""
    return [
        SentTrade(
            sent.number("price", trade.price),
            sent.number("size", trade.size),
            sent.side(trade.side),
            sent.identity("trade_id", trade.trade_id),
            sent.moment(trade.ts_event),
            trade.conditions,
            trade.exchange,
        )
        for trade in _TRADES.decode(data)
    ]


def quote(data: Raw, known: Quote | None) -> Quote:
    """A quote; a side that is left out stays as it was, a size that is left out is not known."""
    found, before = _QUOTE.decode(data), known or _NO_QUOTE
    if found.bid_price is UNSET and found.ask_price is UNSET:
        raise BadTick("quote without bid_price and ask_price, wanted one of them at least")
    return Quote(
        *_top("bid", found.bid_price, found.bid_size, before.bid_price, before.bid_size),
        *_top("ask", found.ask_price, found.ask_size, before.ask_price, before.ask_size),
    )


def book(data: Raw, *, snapshot: bool) -> tuple[list[Level], list[Level]]:
    """Levels, bids and asks; a change may leave one side out."""
    found = _BOOK.decode(data)
    if found.bids is UNSET and found.asks is UNSET:
        raise BadTick("book without bids and asks, wanted one of them at least")
    if snapshot and (found.bids is UNSET or found.asks is UNSET):
        raise BadTick("snapshot of one side of a book, wanted bids and asks")
    return _levels(found.bids), _levels(found.asks)


def status(data: Raw) -> Status:
    """A status; without a reason there is none."""
    found = _STATUS.decode(data)
    return Status(found.action, found.reason)


def instrument(data: Raw, known: Instrument | None) -> Instrument:
    """A definition; what is left out stays as it was."""
    found = _INSTRUMENT.decode(data)
    before = known or Instrument(found.venue, found.venue_symbol, None, None, None, None, None, [])
    return Instrument(
        found.venue,
        found.venue_symbol,
        before.kind if found.kind is UNSET else found.kind,
        before.base if found.base is UNSET else found.base,
        before.quote if found.quote is UNSET else found.quote,
        _step("tick_size", found.tick_size, before.tick_size),
        _step("lot_size", found.lot_size, before.lot_size),
        before.aliases if found.aliases is UNSET else found.aliases,
    )


class _Status(Status, frozen=True, gc=False):
    reason: str | None = None


_STATUS: Final = sent.decoder(_Status)


def _top(
    side: str, price: Any, size: Any, price_before: str | None, size_before: str | None
) -> tuple[str | None, str | None]:
    if price is UNSET:
        if size is not UNSET:
            raise BadTick(f"{side}_size {sent.said(size)} without {side}_price, wanted both")
        return price_before, size_before
    return (
        None if price is None else sent.number(f"{side}_price", price),
        None if size is None or size is UNSET else sent.number(f"{side}_size", size),
    )


def _levels(levels: list[tuple[Any, Any]] | UnsetType) -> list[Level]:
    if levels is UNSET:
        return []
    return [(sent.number("price", price), sent.number("size", size)) for price, size in levels]


def _step(name: str, value: Any, before: str | None) -> str | None:
    if value is UNSET:
        return before
    return None if value is None else sent.number(name, value)
