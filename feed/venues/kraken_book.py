"""The book of one Kraken stream: levels best first, with the digits as they were sent, of which the checksum is made.

Owns order, depth and checksum. Leaves what a frame says to `kraken_v1` and `kraken_v2`, and which of several streams'
books is the symbol's to `kraken_books`.

The venue says nothing about levels beyond the depth that was subscribed, so a book is cut to it after each frame: what
is beyond may be gone without a word. Where no answer told the depth, it is at least as large as the snapshot, and as
the place of any level that was sent. The book is cut to the smallest depth that fits, so that each level in it is true.
That may be too small, so the levels that were cut are kept. When the checksum of the ten best needs them, they were
good all the time: the depth is the next larger one, and they go out again.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import Struct, field

from feed.wire.decimals import canonical, positive
from feed.wire.model import Level
from feed.wire.prices import rank_of

Sent = tuple[str, str]
"""A level's price and size as the venue wrote them."""
DEPTHS: Final = (10, 25, 100, 500, 1000)
_CHECKED_LEVELS: Final = 10
_CUT_LEVELS_MAX: Final = 100
_REMEMBERED_MAX: Final = 8192


class BookLevel(NamedTuple):
    """A level, read: the rank of its price, the canonical texts, the digits for the checksum, the texts as sent."""

    rank: int
    price: str
    size: str
    digits: str
    sent: Sent


class BookChange(NamedTuple):
    """What a frame says of a book, read."""

    snapshot: bool
    bids: list[BookLevel]
    asks: list[BookLevel]
    checksum: int | None
    time: str | None


class BookDelta(NamedTuple):
    """What a change did to a book: levels as they go out."""

    bids: list[Level]
    asks: list[Level]


class SavedBook(Struct, omit_defaults=True):
    """One stream's book: levels as sent, so that the checksum can be made again; those that were cut while the depth
    was not known, and those of the last change."""

    stream: str
    depth: int
    depth_known: bool = field(name="told")
    bids: list[Sent] = []
    asks: list[Sent] = []
    cut_bids: list[Sent] = []
    cut_asks: list[Sent] = []
    last_bids: list[Sent] = []
    last_asks: list[Sent] = []


def bid(sent: Sent) -> BookLevel:
    """A level as sent.

    Raises:
        BadTick: a number is not plain, or the price is zero.
    """
    return _read(-1, sent)


def ask(sent: Sent) -> BookLevel:
    """As `bid`."""
    return _read(1, sent)


class StreamBook:
    """One stream's book. `depth_known`: by the stream's name, an answer, or both sides of a snapshot.

    `deeper_spoke`: whether the last change held a level beyond the depth, as only a deeper stream sends it.
    """

    def __init__(self, depth: int, *, depth_known: bool) -> None:
        self.depth = depth
        self.depth_known = depth_known
        self.deeper_spoke = False
        self._bids, self._asks = _Side(), _Side()
        self._last: tuple[list[BookLevel], list[BookLevel]] = ([], [])

    def apply(self, change: BookChange) -> BookDelta | None:
        """Makes a change; None where the checksum disagrees: then the book is of no use any more."""
        self.deeper_spoke = False
        last, self._last = self._last, ([], []) if change.snapshot else (change.bids, change.asks)
        delta = BookDelta(self._set(self._bids, change.bids, last[0]), self._set(self._asks, change.asks, last[1]))
        if change.checksum is None or self._checksum() == change.checksum:
            return delta
        if self.depth_known or not (self._bids.cut or self._asks.cut):
            return None
        back = self._deepen(smallest_depth(self.depth + 1))
        if self._checksum() != change.checksum:
            return None
        return BookDelta(
            *(list({**dict(first), **dict(then)}.items()) for first, then in zip(delta, back, strict=True))
        )

    def __len__(self) -> int:
        """The levels of the longer side."""
        return max(len(self._bids), len(self._asks))

    def agrees(self, other: StreamBook) -> bool:
        """Whether the best levels of this one are the other one's."""
        return all(
            list(mine.items())[: len(theirs)] == list(theirs.items())
            for mine, theirs in zip(self.texts(), other.texts(), strict=True)
        )

    def copy_best(self, deeper: StreamBook) -> None:
        """The best levels of a deeper book become those of this one."""
        self._bids.copy(deeper._bids, self.depth)
        self._asks.copy(deeper._asks, self.depth)

    def set_depth(self, depth: int) -> BookDelta:
        """The depth was told: it counts for the levels that are there, too."""
        self.depth_known = True
        return self._deepen(depth)

    def texts(self) -> tuple[dict[str, str], dict[str, str]]:
        """Canonical price to size, bids and asks."""
        return self._bids.texts(), self._asks.texts()

    def save(self, stream: str) -> SavedBook:
        """All of it, as `load` takes it."""
        return SavedBook(
            stream,
            self.depth,
            self.depth_known,
            *(
                [level.sent for level in levels]
                for levels in (self._bids, self._asks, self._bids.cut.values(), self._asks.cut.values(), *self._last)
            ),
        )

    @classmethod
    def load(cls, saved: SavedBook) -> StreamBook:
        """Takes up what `save` gave."""
        book = cls(saved.depth, depth_known=saved.depth_known)
        book._last = [bid(sent) for sent in saved.last_bids], [ask(sent) for sent in saved.last_asks]
        for side, read, levels, cut in (
            (book._bids, bid, saved.bids, saved.cut_bids),
            (book._asks, ask, saved.asks, saved.cut_asks),
        ):
            for sent in levels:
                side.set(read(sent))
            side.cut = {level.rank: level for level in map(read, cut)}
        return book

    def _set(self, side: _Side, levels: list[BookLevel], last: list[BookLevel]) -> list[Level]:
        delta: dict[str, str] = {}
        ranks, set_level = side.ranks, side.set
        for level in levels:
            delta[level.price] = level.size
            set_level(level)
            if len(ranks) > self.depth:
                # a frame that was sent twice tells of levels that it has pushed out itself
                self._overflow(side, level, delta, again=levels == last)
        if len(ranks) > self.depth:
            delta |= {gone.price: "0" for gone in side.shorten(self.depth)}
        return list(delta.items())

    def _overflow(self, side: _Side, level: BookLevel, delta: dict[str, str], *, again: bool) -> None:
        """A side is longer than the depth: a level sent beyond it shows a deeper stream, others are cut."""
        place = side.place(level)
        if level.size != "0" and place >= self.depth and not again:
            self.deeper_spoke = True
            if not self.depth_known:
                self.depth = smallest_depth(place + 1)
        if not self.depth_known:
            for gone in side.shorten(self.depth):
                side.keep(gone)
                delta[gone.price] = "0"

    def _deepen(self, depth: int) -> BookDelta:
        """Puts back what was cut while the depth was not known, down to this depth."""
        self.depth = depth
        delta: list[list[Level]] = []
        for side in (self._bids, self._asks):
            before = side.texts()
            back, side.cut = side.cut, {}
            for level in back.values():
                side.set(level)
            for gone in side.shorten(depth):
                if not self.depth_known:
                    side.keep(gone)
            after = side.texts()
            delta.append(
                [(price, "0") for price in before if price not in after]
                + [level for level in after.items() if level[0] not in before]
            )
        return BookDelta(*delta)

    def _checksum(self) -> int:
        return zlib.crc32((self._asks.checked() + self._bids.checked()).encode())


def smallest_depth(levels: int) -> int:
    """The smallest depth that holds so many levels."""
    return next((depth for depth in DEPTHS if levels <= depth), levels)


class _Side:
    """The levels of one side, best first; `cut` are those beyond a depth that is not known for sure.

    `feed.channels.conflation` has a side that is sorted so, too; `feed.wire.prices` says why there is not one for both.
    """

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self._levels: dict[int, BookLevel] = {}
        self.cut: dict[int, BookLevel] = {}

    def __len__(self) -> int:
        return len(self.ranks)

    def __iter__(self) -> Iterator[BookLevel]:
        return (self._levels[rank] for rank in self.ranks)

    def set(self, level: BookLevel) -> None:
        """Sets a level; a size of zero deletes it."""
        rank = level.rank
        if self.cut:
            self.cut.pop(rank, None)
        if level.size != "0":
            if rank not in self._levels:
                insort(self.ranks, rank)
            self._levels[rank] = level
        elif self._levels.pop(rank, None) is not None:
            del self.ranks[bisect_left(self.ranks, rank)]

    def copy(self, other: _Side, depth: int) -> None:
        """Becomes the best levels of another one."""
        self.ranks = other.ranks[:depth]
        self._levels = {rank: other._levels[rank] for rank in self.ranks}
        self.cut = {}

    def keep(self, level: BookLevel) -> None:
        """Keeps a level that was cut; the worst of too many goes."""
        self.cut[level.rank] = level
        if len(self.cut) > _CUT_LEVELS_MAX:
            del self.cut[max(self.cut)]

    def place(self, level: BookLevel) -> int:
        """Where a level stands, from 0."""
        return bisect_left(self.ranks, level.rank)

    def shorten(self, depth: int) -> list[BookLevel]:
        """Drops the levels beyond the depth, and gives them."""
        if len(self.ranks) <= depth:
            return []
        gone = [self._levels.pop(rank) for rank in self.ranks[depth:]]
        del self.ranks[depth:]
        return gone

    def checked(self) -> str:
        """The digits of the best levels."""
        return "".join([self._levels[rank].digits for rank in self.ranks[:_CHECKED_LEVELS]])

    def texts(self) -> dict[str, str]:
        """Canonical price to size."""
        return {level.price: level.size for level in self}


def _read(sign: int, sent: Sent) -> BookLevel:
    price, rank, digits = _price(sent[0])
    return BookLevel(sign * rank, price, canonical(sent[1]), digits + _digits(sent[1]), sent)


@lru_cache(_REMEMBERED_MAX)
def _price(sent: str) -> tuple[str, int, str]:
    """A price: canonical, as an integer that sorts as it does, and its digits for the checksum."""
    price = positive(sent)
    return price, rank_of(price), _digits(sent)


def _digits(sent: str) -> str:
    return sent.replace(".", "").lstrip("0")
