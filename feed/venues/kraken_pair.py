"""What Kraken's sockets v1 and v2 have in common about one pair: its books, trades, top of book and saved state.

Owns what a symbol is told of a quote or of a spoiled book, whichever socket it came from, and the form in which all of
a pair is saved. Leaves the books to `kraken_books`, trades to `kraken_trades`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from feed.venues.kraken_book import SavedBook
from feed.venues.kraken_books import PairBooks, SavedBooks
from feed.venues.kraken_trades import PairTrades, SavedTrades
from feed.venues.texts import reason
from feed.wire.decimals import canonical
from feed.wire.model import Action, Quote

if TYPE_CHECKING:
    from feed.errors import BadEntry
    from feed.venues.symbol import Symbol

_ACTIONS: Final[dict[str, Action]] = {
    "online": "trading",
    "limit_only": "trading",
    "reduce_only": "trading",
    "post_only": "pre-open",
    "cancel_only": "halt",
    "maintenance": "halt",
    "delisted": "close",
}
_NO_QUOTE: Final = Quote(None, None, None, None)


class SavedPair(Struct, omit_defaults=True):
    """The private state: the fields of `SavedBooks`, then those of `SavedTrades`."""

    depths: list[int] = []
    main: str = ""
    unproven: int | None = None
    books: list[SavedBook] = []
    trade: int | None = None
    since: int | None = None
    traded: bool = False


_SAVED: Final = msgspec.json.Decoder(SavedPair)


class Pair:
    """One pair, whichever socket tells of it."""

    def __init__(self, symbol: Symbol) -> None:
        self.symbol = symbol
        self.name = symbol.venue_symbol
        self.books = PairBooks(symbol)
        self.trades = PairTrades(symbol)

    def quote(self, bid: str, bid_size: str, ask: str, ask_size: str, before: Quote | None = None) -> Quote | None:
        """A quote, None where both sides are left out (empty texts); a side that is left out is what it was.

        Raises:
            BadTick: a number is not plain.
        """
        if not bid and not ask:
            return None
        known = before or self.symbol.quote_known or _NO_QUOTE
        bids = _top(bid, bid_size) if bid else (known.bid_price, known.bid_size)
        asks = _top(ask, ask_size) if ask else (known.ask_price, known.ask_size)
        return Quote(*bids, *asks)

    def spoiled_book(self, why: Exception, *streams: str) -> BadEntry:
        """What was said of the book in one of these streams cannot be read; the error to be raised."""
        self.books.lose("gap", *streams)
        return self.symbol.spoiled(None, why)

    def save(self) -> bytes:
        """The private state: positions, and the books as sent."""
        books, trades = self.books.save(), self.trades.save()
        return msgspec.json.encode(
            SavedPair(books.depths, books.main, books.unproven, books.books, trades.trade, trades.since, trades.traded)
        )

    def load(self, saved: bytes) -> None:
        """Takes up a private state."""
        pair = _SAVED.decode(saved)
        self.books.load(SavedBooks(pair.depths, pair.main, pair.unproven, pair.books))
        self.trades.load(SavedTrades(pair.trade, pair.since, pair.traded))


def action(status: str) -> tuple[Action, str | None]:
    """What a status of the venue means; raises `BadTick` where it is too long."""
    return _ACTIONS.get(status, "unknown"), None if status == "online" else reason(status)


def _top(price: str, size: str) -> tuple[str | None, str | None]:
    """The best of a side; an empty side has null or zero. A size that is left out is not known."""
    if price == "null":
        return None, None
    best, amount = canonical(price), None if size in ("", "null") else canonical(size)
    return (None, None) if best == "0" or amount == "0" else (best, amount)
