"""A book and what changed it, put together: a part of the book at a time, however large it is.

Owns the order of levels and what is cut into which part. A book may have hundreds of thousands of levels, of which an
update changes a few: those that stay where they are are not sorted again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from feed.channels.steps import Steps
from feed.wire.model import Book, Level
from feed.wire.prices import sort_key

_BOOKS: Final = msgspec.json.Decoder(Book)
_FEW: Final = 1_000
"""So many new levels are put in one by one; more are sorted in."""
_LEVELS_A_STEP: Final = 5_000
_UPDATES_A_STEP: Final = 100
STEP: Final = 200
"""What a step counts as: some milliseconds."""


def book_of(data: bytes | msgspec.Raw) -> Book:
    """The levels of a message's data."""
    return _BOOKS.decode(data)


def folded(snapshot: Iterable[msgspec.Raw], updates: Iterable[msgspec.Raw]) -> Steps[Book]:
    """The book after updates: levels by exact price, best first, none of size 0."""
    bids, asks = _Side(-1), _Side(1)
    for count, data in enumerate(updates, 1):
        book = book_of(data)
        bids.changes.update(book.bids)
        asks.changes.update(book.asks)
        if count % _UPDATES_A_STEP == 0:
            yield STEP
    for data in snapshot:
        book = book_of(data)
        bids.take(book.bids)
        asks.take(book.asks)
        if len(bids.levels) + len(asks.levels) > _LEVELS_A_STEP:
            yield STEP
    for side in (bids, asks):
        side.end()
        if len(side.levels) > _LEVELS_A_STEP:
            yield STEP
    return Book(bids.levels, asks.levels)


class _Side:
    """One side. `sign`: -1 where the highest price is the best."""

    def __init__(self, sign: int) -> None:
        self.levels: list[Level] = []
        self.changes: dict[str, str] = {}
        self._sign = sign
        self._longest = 0

    def take(self, levels: list[Level]) -> None:
        """More levels of the book before the changes, in order."""
        changes = self.changes
        if not changes:
            self.levels += levels
            return
        self._longest = max(self._longest, max(map(_length, levels), default=0))
        changed = [at for at, level in enumerate(levels) if level[0] in changes]
        for at in changed:
            price = levels[at][0]
            levels[at] = price, changes.pop(price, "0")
        self.levels += [level for level in levels if level[1] != "0"] if changed else levels

    def end(self) -> None:
        """Puts in what is new."""
        new = [level for level in self.changes.items() if level[1] != "0"]
        if not new:
            return
        levels = self.levels
        number: Callable[[str], Any] = sort_key(max(self._longest, *map(_length, new)))
        sign = self._sign

        def key(level: Level) -> Any:
            return sign * number(level[0])

        if len(new) > min(_FEW, len(levels) // 8):
            levels += new
            levels.sort(key=key)
            return
        for level in new:
            levels.insert(bisect_left(levels, key(level), key=key), level)


def _length(level: Level) -> int:
    return len(level[0])
