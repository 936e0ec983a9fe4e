"""What Coinbase's two sockets have in common about one product: its trades, book, top of book, definition and status.

Owns what a symbol is told of them, whichever socket they came from, and the private state. Leaves what frames mean to
`coinbase_exchange` and `coinbase_advanced`.

- Trades: ids are consecutive, so a skipped one is a hole, and one that is far back and later has begun anew.
- Book: a change without a snapshot before it is of no use, and the book is stale.
- Quotes: a side that is left out stays as it was; an empty text, null and zero say that a side is empty.
- Status: what a product's entry leaves out stays as it was; a product trades only where its status and all of its flags
  say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, Struct, field

from feed.errors import BadTick, shown
from feed.venues.counters import VenueCounter
from feed.venues.now import strictest
from feed.venues.texts import definition, reason
from feed.wire.decimals import canonical, positive
from feed.wire.model import Action, Instrument, Level, Quote, Side, Trade

if TYPE_CHECKING:
    from feed.venues.coinbase_frames import Product, Text
    from feed.venues.symbol import Symbol

_STATUS: Final[dict[str, Action]] = {"online": "trading", "offline": "halt", "delisted": "close"}
_FLAGS: Final[dict[str, Action]] = {
    "trading_disabled": "halt",
    "cancel_only": "halt",
    "auction_mode": "pre-open",
    "post_only": "pre-open",
    "limit_only": "trading",
}
_ID_CHARS_MAX: Final = 18
_NO_QUOTE: Final = Quote(None, None, None, None)


class Facts(Struct, frozen=True, omit_defaults=True):
    """Whether a product trades, as far as the venue has said."""

    status: str | None = None
    status_message: str | None = None
    post_only: bool = False
    limit_only: bool = False
    cancel_only: bool = False
    auction_mode: bool = False
    trading_disabled: bool = False


class SavedProduct(Struct, omit_defaults=True):
    """The private state: the id of the last trade, where the sequence of Exchange's tickers stands, whether the product
    trades."""

    trade: int | None = None
    quotes: VenueCounter = field(default_factory=VenueCounter)
    facts: Facts = Facts()


_SAVED: Final = msgspec.json.Decoder(SavedProduct).decode


class ProductState:
    """One product, whichever socket tells of it."""

    def __init__(self, symbol: Symbol) -> None:
        self.symbol = symbol
        self.name = symbol.venue_symbol
        symbol.count_trades()
        self._state = SavedProduct()

    @property
    def tickers(self) -> VenueCounter:
        """Where the sequence of Exchange's tickers stands."""
        return self._state.quotes

    def apply_trades(self, trades: list[Trade]) -> None:
        """Trades as they are made, oldest first."""
        symbol, state = self.symbol, self._state
        for trade in trades:
            state.trade = symbol.follow(state.trade, number_of(trade), trade.ts_event)
        if symbol.trades(trades, trades[-1].ts_event):
            state.trade = number_of(trades[-1])

    def change_book(self, bids: list[Level], asks: list[Level], time: str | None) -> None:
        """Absolute sizes."""
        if self.symbol.book_is_live:
            self.symbol.book_change(bids, asks, time)
        else:
            self.symbol.book_missed()

    def quote(self, bid: Text, bid_size: Text, ask: Text, ask_size: Text, before: Quote | None = None) -> Quote | None:
        """A quote, None where both sides are left out; a side that is left out is what it was.

        Raises:
            BadTick: a number is not plain.
        """
        if bid is UNSET and ask is UNSET:
            return None
        known = before or self.symbol.quote_known or _NO_QUOTE
        bids = (known.bid_price, known.bid_size) if bid is UNSET else _top(bid, bid_size)
        asks = (known.ask_price, known.ask_size) if ask is UNSET else _top(ask, ask_size)
        return Quote(*bids, *asks)

    def apply_products(self, products: list[Product], time: str | None) -> None:
        """What a status frame says of this product; raises `BadTick`, and nothing has changed."""
        instrument, facts = self.symbol.instrument_known, self._state.facts
        for product in products:
            instrument, facts = _instrument(product, instrument), _facts(product, facts)
        self._state.facts = facts
        if instrument is not None:
            self.symbol.instrument(instrument, time)
        status = _status(facts)
        if status is not None:
            self.symbol.status(*status, time)

    def save(self) -> bytes:
        """The private state."""
        return msgspec.json.encode(self._state)

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        self._state = _SAVED(saved)


def trade_of(price: str, size: str, side: Side, trade_id: str, time: str | None) -> Trade:
    """A trade in canonical form; `side` is the taker's.

    Raises:
        BadTick: a number is not plain, or the id is none.
    """
    trade = Trade(positive(price), positive(size), side, trade_id, time)
    number_of(trade)
    return trade


def number_of(trade: Trade) -> int:
    """The id of a trade as the number that it is; raises `BadTick`."""
    text = trade.trade_id
    if text is None or not (text.isascii() and text.isdecimal() and len(text) <= _ID_CHARS_MAX):
        raise BadTick(f"trade_id {shown(str(text))}, wanted a number of up to {_ID_CHARS_MAX} digits")
    return int(text)


def side_of(levels: list[Level]) -> dict[str, str]:
    """A side of a snapshot: levels of a size of zero are none."""
    return {price: size for price, size in levels if size != "0"}


def _top(price: Text, size: Text) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has no price, or zero. A size that is left out is not known."""
    best = canonical(price) if price else "0"
    amount = canonical(size) if size else None
    return (None, None) if best == "0" or amount == "0" else (best, amount)


def _instrument(product: Product, known: Instrument | None) -> Instrument | None:
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


def _facts(product: Product, known: Facts) -> Facts:
    """Whether the product trades, with what the entry leaves out as it was."""
    said = {name: getattr(product, name) for name in Facts.__struct_fields__}
    for text in (product.status, product.status_message):
        reason(None if text is UNSET else text)
    return msgspec.structs.replace(known, **{name: value for name, value in said.items() if value is not UNSET})


def _status(facts: Facts) -> tuple[Action, str | None] | None:
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
