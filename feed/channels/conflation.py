"""What a view says of a channel: raw updates in, one update that stands for all of them out.

Owns which keys a merged update names (every one that was touched, with its value at the end) and, for the best n levels
of a book, which levels subscribers see. Leaves when an update is due, and its position in the chain, to `views`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final, Protocol

import msgspec

from feed.channels.books import book_of
from feed.channels.state import Body, Folded, body_of
from feed.wire.message import bare
from feed.wire.model import Bar, Book, Kind, Level, Snapshot
from feed.wire.parts import parted
from feed.wire.prices import rank_of

_BARS: Final = msgspec.json.Decoder(list[Bar])
Given = Book | list[Bar] | msgspec.Raw


class Merger(Protocol):
    """Updates of one channel on their way into one."""

    def take(self, body: Body) -> bool:
        """One more update, or a part of one, the last part being the end of it; whether subscribers see anything of
        it."""
        ...

    def give(self) -> Given | None:
        """The data of an update that stands for all taken since the last one; None: subscribers would see no change."""
        ...


class Quotes:
    """The last quote."""

    def __init__(self) -> None:
        self._data: msgspec.Raw | None = None

    def take(self, body: Body) -> bool:
        self._data = body.data.copy()
        return True

    def give(self) -> msgspec.Raw | None:
        data, self._data = self._data, None
        return data


class Levels:
    """Every price that was touched, with its size at the end."""

    def __init__(self) -> None:
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}

    def take(self, body: Body) -> bool:
        book = book_of(body.data)
        self._bids.update(book.bids)
        self._asks.update(book.asks)
        return True

    def give(self) -> Book | None:
        book = Book(list(self._bids.items()), list(self._asks.items()))
        self._bids, self._asks = {}, {}
        return book


class Bars:
    """Every bar that was touched, as it was at the end."""

    def __init__(self) -> None:
        self._bars: dict[tuple[str, int], Bar] = {}

    def take(self, body: Body) -> bool:
        for bar in _BARS.decode(body.data):
            self._bars[bar.interval, int(bar.open_time)] = bar
        return True

    def give(self) -> list[Bar] | None:
        bars, self._bars = self._bars, {}
        return [bars[key] for key in sorted(bars)]


class _Side:
    """One side of a whole book, of which the best `depth` levels are seen. Ranks: prices as integers, best lowest.

    `feed.venues.kraken_book` has a side that is sorted so, too; `feed.wire.prices` says why there is not one for both.
    """

    def __init__(self, depth: int, sign: int) -> None:
        self._depth = depth
        self._sign = sign
        self._levels: dict[int, Level] = {}
        self._ranks: list[int] = []
        self._touched: dict[int, str] = {}

    def fill(self, levels: list[Level]) -> None:
        """The whole side, in any order."""
        sign = self._sign
        self._levels = {sign * rank_of(level[0]): level for level in levels}
        self._ranks = sorted(self._levels)
        self._touched = {}

    def take(self, levels: list[Level]) -> bool:
        """What one tick changed; whether it is seen."""
        if not levels:
            return False
        depth, sign, ranks, held = self._depth, self._sign, self._ranks, self._levels
        edge = ranks[depth - 1] if len(ranks) >= depth else None
        changes = [(sign * rank_of(level[0]), level) for level in levels]
        seen = edge is None or any(rank <= edge for rank, _ in changes)
        before = ranks[:depth] if seen else []
        for rank, level in changes:
            if level[1] != "0":
                if rank not in held:
                    insort(ranks, rank)
                held[rank] = level
            elif rank in held:
                del held[rank]
                del ranks[bisect_left(ranks, rank)]
        if not seen:
            return False
        after = set(ranks[:depth])
        left = after.symmetric_difference(before)
        touched = {rank: level[0] for rank, level in changes if rank in after or rank in left}
        touched |= {rank: held[rank][0] for rank in left if rank not in touched}
        self._touched |= touched
        return bool(touched)

    def give(self) -> list[Level]:
        """The levels that were touched, best first, with their sizes now; 0 for those that are not seen any more."""
        ranks, held = self._ranks, self._levels
        edge = ranks[self._depth - 1] if len(ranks) >= self._depth else None
        touched, self._touched = self._touched, {}
        return [
            held[rank] if rank in held and (edge is None or rank <= edge) else (touched[rank], "0")
            for rank in sorted(touched)
        ]

    def best(self) -> list[Level]:
        return [self._levels[rank] for rank in self._ranks[: self._depth]]


class Best:
    """The best levels of a book: every one that entered or left them at any moment, or changed while in them.

    Holds the whole book: a level that leaves makes room for one that was never sent.
    """

    def __init__(self, depth: int) -> None:
        self._bids = _Side(depth, -1)
        self._asks = _Side(depth, 1)
        self._parts: Book | None = None

    def start(self, kind: Kind, symbol: str, source: str, whole: Folded) -> Folded:
        """Goes on from a whole book; what subscribers see of it."""
        bids: list[Level] = []
        asks: list[Level] = []
        body: Body | None = None
        for message in whole.messages:
            body = body_of(message)
            book = book_of(body.data)
            bids += book.bids
            asks += book.asks
        self._bids.fill(bids)
        self._asks.fill(asks)
        self._parts = None
        if body is None:
            return whole
        seen = Book(self._bids.best(), self._asks.best())
        snapshot = Snapshot(kind, symbol, source, body.seq, body.ts_event, body.ts_recv, seen)
        return whole._replace(messages=[bare(part) for part in parted(snapshot)])

    def take(self, body: Body) -> bool:
        book = book_of(body.data)
        if body.part is not None:
            # a book is never seen half changed
            if self._parts is not None and body.part[0] > 1:
                book = Book(self._parts.bids + book.bids, self._parts.asks + book.asks)
            self._parts = book
            if body.part[0] < body.part[1]:
                return False
            self._parts = None
        bids, asks = self._bids.take(book.bids), self._asks.take(book.asks)
        return bids or asks

    def give(self) -> Book | None:
        book = Book(self._bids.give(), self._asks.give())
        return book if book.bids or book.asks else None


def merger(kind: Kind, depth: int) -> Merger | None:
    """What merges updates of this kind; None: they are never merged."""
    if kind == "book":
        return Best(depth) if depth else Levels()
    if kind == "quotes":
        return Quotes()
    return Bars() if kind == "bars" else None
