"""The levels of one symbol's book, by price.

Owns both sides, what a new snapshot changes in them, the best of them, and the order in which a snapshot tells them.
Leaves to `symbol` what is told to whom. Prices and sizes are canonical text, so equal prices are equal keys; a size
of "0" is a level that was deleted, and stays until the next look at all of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from feed.wire.model import Book, Quote
from feed.wire.prices import sort_key

if TYPE_CHECKING:
    from feed.wire.model import Level

UNREAD_BYTES_MAX: Final = 65536
_BOOKS: Final = msgspec.json.Decoder(list[Book])
_NO_QUOTE: Final = Quote(None, None, None, None)


class SymbolLevels:
    """Both sides, not sorted: that waits until all levels are asked for."""

    __slots__ = ("_asks", "_bids", "_unread", "_unread_bytes")

    def __init__(self) -> None:
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}
        self._unread: list[bytes] = []
        self._unread_bytes = 0

    def change(self, bids: list[Level], asks: list[Level]) -> None:
        """Levels as absolute sizes, "0" deletes."""
        if self._unread:
            self._apply_unread()
        self._bids.update(bids)
        self._asks.update(asks)

    def change_json(self, text: bytes) -> None:
        """`change`, by the JSON of a `Book`; it is read when the levels are asked for, or when there is much of it."""
        self._unread.append(text)
        self._unread_bytes += len(text)
        if self._unread_bytes > UNREAD_BYTES_MAX:
            self._apply_unread()

    def differences(self, bids: dict[str, str], asks: dict[str, str]) -> tuple[list[Level], list[Level]]:
        """What turns the present sides into these."""
        self._apply_unread()
        return _difference(self._bids, bids), _difference(self._asks, asks)

    def best(self, before: Quote | None, bids: list[Level], asks: list[Level]) -> Quote:
        """The best of both sides, after these levels have changed; `before` is what it was."""
        self._apply_unread()
        before = before or _NO_QUOTE
        bid = _best(self._bids, bids, before.bid_price, highest=True)
        ask = _best(self._asks, asks, before.ask_price, highest=False)
        return Quote(bid, self._bids[bid] if bid else None, ask, self._asks[ask] if ask else None)

    def all(self) -> Book:
        """Every level, best first."""
        self._apply_unread()
        self._bids = _swept(self._bids, descending=True)
        self._asks = _swept(self._asks, descending=False)
        return Book(list(self._bids.items()), list(self._asks.items()))

    def _apply_unread(self) -> None:
        take_bids, take_asks = self._bids.update, self._asks.update
        for book in _BOOKS.decode(b"[" + b",".join(self._unread) + b"]"):
            take_bids(book.bids)
            take_asks(book.asks)
        self._unread.clear()
        self._unread_bytes = 0


def _difference(old: dict[str, str], new: dict[str, str]) -> list[Level]:
    """What turns one side into another: deletes first, in the old one's order of price, then what is new or changed."""
    gone = sorted((price for price, size in old.items() if size != "0" and price not in new), key=Decimal)
    return [(price, "0") for price in gone] + [level for level in new.items() if old.get(level[0], "0") != level[1]]


def _swept(side: dict[str, str], *, descending: bool) -> dict[str, str]:
    """The side without deleted levels, best first. Written back, so that the next sort finds it nearly sorted."""
    longest = max(map(len, side), default=0)
    prices = sorted(side, key=sort_key(longest), reverse=descending)
    return {price: size for price in prices if (size := side[price]) != "0"}


def _best(side: dict[str, str], changed: list[Level], best: str | None, *, highest: bool) -> str | None:
    """The best price after a change; looks at the whole side only when the best one was deleted."""
    if best is not None and side.get(best, "0") == "0":
        prices = [price for price, size in side.items() if size != "0"]
        return (max if highest else min)(prices, key=Decimal, default=None)
    for price, size in changed:
        if size != "0" and (best is None or (price != best and (Decimal(price) > Decimal(best)) == highest)):
            best = price
    return best
