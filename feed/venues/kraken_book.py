"""One side of a Kraken book: levels best first, with the digits as they were sent, which the checksum is made of.

Owns order, the cut to the depth and the digits of the checksum. What a frame does to a side stands in `kraken`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from feed.model import Level
from feed.venues.decimals import DECIMALS_MAX, canonical, positive
from feed.venues.kraken_frames import Sent

_CHECKED_LEVELS: Final = 10
_REMEMBERED_MAX: Final = 8192


class BookLevel(NamedTuple):
    """A level, read: the rank of its price, the canonical texts, the digits for the checksum, the texts as sent."""

    rank: int
    price: str
    size: str
    digits: str
    sent: Sent


class BookSide:
    """The levels of one side, best first. `sign` is 1 for asks, -1 for bids."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._ranks: list[int] = []
        self._levels: dict[int, BookLevel] = {}

    def __iter__(self) -> Iterator[BookLevel]:
        return (self._levels[rank] for rank in self._ranks)

    def read(self, sent: Sent) -> BookLevel:
        """A level as sent.

        Raises:
            BadTick: a number is not plain, or the price is zero.
        """
        price, rank, digits = _price(sent[0])
        return BookLevel(self._sign * rank, price, canonical(sent[1]), digits + _digits(sent[1]), sent)

    def set(self, level: BookLevel) -> None:
        """Takes a level; a size of zero deletes."""
        rank = level.rank
        if level.size != "0":
            if rank not in self._levels:
                insort(self._ranks, rank)
            self._levels[rank] = level
        elif self._levels.pop(rank, None) is not None:
            del self._ranks[bisect_left(self._ranks, rank)]

    def cut(self, depth: int) -> list[Level]:
        """Drops the levels beyond the depth and returns their deletes."""
        if len(self._ranks) <= depth:
            return []
        deletes = [(self._levels.pop(rank).price, "0") for rank in self._ranks[depth:]]
        del self._ranks[depth:]
        return deletes

    def checked(self) -> str:
        """The digits of the best levels."""
        return "".join([self._levels[rank].digits for rank in self._ranks[:_CHECKED_LEVELS]])

    def texts(self) -> dict[str, str]:
        """Canonical price to size."""
        return {level.price: level.size for level in self}


@lru_cache(_REMEMBERED_MAX)
def _price(sent: str) -> tuple[str, int, str]:
    """A price: canonical, as an integer that sorts as it does, and its digits for the checksum."""
    price = positive(sent)
    whole, _, fraction = price.partition(".")
    return price, int(whole + fraction.ljust(DECIMALS_MAX, "0")), _digits(sent)


def _digits(sent: str) -> str:
    return sent.replace(".", "").lstrip("0")
