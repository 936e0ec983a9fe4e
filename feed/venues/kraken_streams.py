"""The book streams of one Kraken pair, and which of them is the book that is told.

Owns the choice: of several depths of one pair the deepest is the book, as long as it is alive; the others are kept up
beside it, and nothing is told of them. Leaves a stream's own depth and checksum to `kraken_book`.

v1 names the depth in the channel of each frame. v2 does not: there are two streams where its answers told two depths
and a snapshot fits only the smaller one. Then each update is taken by both books: both streams tell of the best
levels, and a level that is told twice is the same one.

A frame shows that a stream is alive: v1's by its channel, v2's deeper one by a level beyond the other's depth. When
others have told of changes for ten seconds and the deepest has not, or when a snapshot of another one disagrees with
its best levels, the other one is told: a collector that subscribes another depth does not always say so, and a book
that nobody keeps up is wrong. So it is when the checksum of the book that is told disagrees: it is stale only where
there is no other.
"""

from __future__ import annotations

from typing import Final, Literal

from feed.venues.kraken_book import DEPTHS, Book, Change, smallest_depth
from feed.venues.kraken_frames import Saved
from feed.venues.symbol import Symbol

V2: Final = "v2"
V2_BESIDE: Final = "v2 beside"
_UNPROVEN_NS_MAX: Final = 10_000_000_000
_DEPTHS_MAX: Final = len(DEPTHS)


class Streams:
    """The books of one pair, by the name of their stream; `_main` is the one that is told."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._books: dict[str, Book] = {}
        self._main = ""
        self._unproven: int | None = None
        self._depths: list[int] = []

    def take(self, stream: str, change: Change, depth: int, ts_recv: int) -> None:
        """A change of a stream that its frames name."""
        if change.snapshot:
            self._begin(stream, Book(depth, told=True), change)
        elif stream in self._books:
            self._go_on(stream, change)
            if len(self._books) > 1:
                self._prove(stream, change, ts_recv)
        else:
            self._miss()

    def take_v2(self, change: Change, ts_recv: int) -> None:
        """A change of a stream that nobody names."""
        if change.snapshot:
            self._begin(*self._place(change), change)
            return
        if V2 not in self._books:
            self._miss()
            return
        beside = self._books.get(V2_BESIDE)
        for stream in (V2, V2_BESIDE):
            if stream in self._books:
                self._go_on(stream, change)
        if len(self._books) > 1:
            self._prove(V2 if beside is None or beside.deeper_spoke else V2_BESIDE, change, ts_recv)

    def subscribed(self, depth: int) -> None:
        """An answer of v2: it counts for the book that is there, too, unless a deeper one was told."""
        if depth not in self._depths:
            self._depths = [*self._depths, depth][-_DEPTHS_MAX:]
        book = self._books.get(V2)
        if book is None or depth != max(self._depths):
            return
        told = book.know(depth)
        if self._main == V2 and (told.bids or told.asks):
            self._symbol.book_change(*told, None)

    def unsubscribed(self, depth: int | None) -> None:
        """An answer of v2: this depth comes no more."""
        if depth in self._depths:
            self._depths.remove(depth)
        for stream in (V2, V2_BESIDE):
            if stream in self._books and self._books[stream].depth == depth:
                self.left(stream)
                return

    def left(self, stream: str) -> None:
        """This stream comes no more: another one is told, if there is one."""
        if len(self._books) > 1:
            self.lose("gap", stream)

    def lose(self, reason: Literal["gap", "checksum"], *streams: str) -> None:
        """These streams have missed something: their books are of no use any more."""
        for stream in streams:
            self._books.pop(stream, None)
        if V2 not in self._books and V2_BESIDE in self._books:
            self._books[V2] = self._books.pop(V2_BESIDE)
            self._main = V2 if self._main == V2_BESIDE else self._main
        if self._main and self._main not in self._books:
            self._main, self._unproven = "", None
            if self._books:
                self._tell(self._deepest(), None)
            else:
                self._symbol.book_stale(reason)

    def save(self, state: Saved) -> None:
        """Puts all of it into the state of the machine."""
        state.books = [book.save(stream) for stream, book in self._books.items()]
        state.main, state.unproven, state.depths = self._main, self._unproven, self._depths

    @property
    def names(self) -> list[str]:
        """The streams that have a book."""
        return list(self._books)

    def load(self, state: Saved) -> None:
        """Takes up what `save` gave."""
        self._books = {saved.stream: Book.load(saved) for saved in state.books}
        self._main, self._unproven, self._depths = state.main, state.unproven, state.depths

    def _place(self, change: Change) -> tuple[str, Book]:
        """Of which stream a snapshot of v2 is, and the empty book that it begins."""
        levels = max(len(change.bids), len(change.asks))
        fitting = [depth for depth in self._depths if levels <= depth]
        if not fitting:
            return V2, Book(smallest_depth(levels), told=levels in DEPTHS and len(change.bids) == len(change.asks))
        known = self._books.get(V2)
        if known is not None and len(known) > min(fitting):
            return V2_BESIDE, Book(min(fitting), told=True)
        return V2, Book(max(fitting), told=True)

    def _begin(self, stream: str, book: Book, change: Change) -> None:
        if book.take(change) is None:
            self.lose("checksum", stream)
            return
        self._books[stream] = book
        main = self._books.get(self._main)
        if main is None or stream == self._main or book.depth > main.depth or not main.agrees(book):
            self._tell(stream, change.time)

    def _go_on(self, stream: str, change: Change) -> None:
        told = self._books[stream].take(change)
        if told is None:
            self.lose("checksum", stream)
        elif stream == self._main:
            self._symbol.book_change(*told, change.time)

    def _prove(self, alive: str, change: Change, ts_recv: int) -> None:
        """What it means that this one of several streams has spoken."""
        deepest = self._deepest()
        if alive == deepest:
            self._unproven = None
            if self._main != deepest:
                self._tell(deepest, change.time)
        elif self._main == deepest:
            if self._unproven is None:
                self._unproven = ts_recv
            elif ts_recv - self._unproven > _UNPROVEN_NS_MAX and alive in self._books:
                self._tell(alive, change.time)

    def _tell(self, stream: str, time: str | None) -> None:
        self._main, self._unproven = stream, None
        self._symbol.book_replace(*self._books[stream].texts(), time)

    def _deepest(self) -> str:
        return max(self._books, key=lambda stream: self._books[stream].depth)

    def _miss(self) -> None:
        """A change without a snapshot before it."""
        if not self._main:  # else it is of another stream than the one that is told
            self._symbol.book_missed()
