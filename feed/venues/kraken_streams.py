"""The book streams of one Kraken pair, and which of them is the book that is told.

Owns the choice: of several depths of one pair the deepest is the book, as long as it is alive; the others are kept up
beside it, and nothing is told of them. Leaves a stream's own depth and checksum to `kraken_book`.

v1 names the depth in the channel of each frame. v2 does not: there are two streams where its answers told two depths
and a snapshot fits only the smaller one, or is of the larger one. Then each update is taken by both books: both streams
tell of the best levels, and a level that is told twice is the same one. Where the deeper stream deletes a level and the
checksum proves its book, the shallower book is the best of it: only its own stream fills the place.

A frame shows that a stream is alive: v1's by its channel, v2's deeper one by a level beyond the other's depth. When
others have told of changes for ten seconds and the deepest has not, or when a snapshot of another one disagrees with
its best levels, the other one is told: a collector that subscribes another depth does not always say so, and a book
that nobody keeps up is wrong. So it is when the checksum of the book that is told disagrees, with the change in it that
showed it: it is stale only where there is no other. A deeper one than was told is no other: it was behind.
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
        alive = V2
        if V2_BESIDE in self._books:
            alive = self._go_on_both(change)
        else:
            self._go_on(V2, change)
        if len(self._books) > 1:
            self._prove(alive, change, ts_recv)

    def subscribed(self, depth: int) -> None:
        """An answer of v2: it counts for the book that is there, too, unless that has an answer of its own, or a deeper
        one was told."""
        book = self._books.get(V2)
        is_another = book is not None and book.depth != depth and book.depth in self._depths
        if depth not in self._depths:
            self._depths = [*self._depths, depth][-_DEPTHS_MAX:]
        if book is not None and not is_another and depth == max(self._depths):
            self._know(book, depth)

    def unsubscribed(self, depth: int | None) -> None:
        """An answer of v2: this depth comes no more."""
        if depth in self._depths:
            self._depths.remove(depth)
        for stream in (V2, V2_BESIDE):
            book = self._books.get(stream)
            if book is None or book.depth != depth:
                continue
            shallower = [known for known in self._depths if known < book.depth]
            if stream == V2 and V2_BESIDE not in self._books and shallower:
                self._know(book, max(shallower))  # the book of the stream that is left was lost: it is the best of this
            else:
                self.left(stream)
            return

    def left(self, stream: str) -> None:
        """One connection has left this stream: another one is told, if there is one.

        If not, the book stays as it is: another connection may have subscribed the same stream before this one left.
        """
        if stream in self._books and (stream != self._main or self._heirs(self._books[stream], stream)):
            self.lose("gap", stream)

    def lose(self, reason: Literal["gap", "checksum"], *streams: str, time: str | None = None) -> None:
        """These streams have missed something: their books are of no use any more. `time`: of the change that tells."""
        books = self._books
        told = books.get(self._main) if self._main in streams else None
        for stream in streams:
            books.pop(stream, None)
        if told is not None:
            books = self._books = self._heirs(told)
        if V2 not in books and V2_BESIDE in books:
            books[V2] = books.pop(V2_BESIDE)
            self._main = V2 if self._main == V2_BESIDE else self._main
        if told is None:
            return
        self._main, self._unproven = "", None
        if books:
            self._tell(self._deepest(), time)
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
        known = self._books.get(V2)
        if not fitting:
            book = Book(smallest_depth(levels), told=levels in DEPTHS and len(change.bids) == len(change.asks))
        elif known is not None and len(known) > min(fitting):
            return V2_BESIDE, Book(min(fitting), told=True)
        else:
            book = Book(max(fitting), told=True)
        if known is not None and known.depth < book.depth and known.depth in self._depths:
            self._books[V2_BESIDE] = self._books.pop(V2)
            self._main = V2_BESIDE if self._main == V2 else self._main
        return V2, book

    def _begin(self, stream: str, book: Book, change: Change) -> None:
        if book.take(change) is None:
            self.lose("checksum", stream, time=change.time)
            return
        self._books[stream] = book
        main = self._books.get(self._main)
        if main is None or stream == self._main or book.depth > main.depth or not main.agrees(book):
            self._tell(stream, change.time)

    def _go_on(self, stream: str, change: Change) -> None:
        told = self._books[stream].take(change)
        if told is None:
            self.lose("checksum", stream, time=change.time)
        elif stream == self._main:
            self._symbol.book_change(*told, change.time)

    def _go_on_both(self, change: Change) -> str:
        """Both books of v2 take a change; the stream that has told of it, as it is called afterwards."""
        deeper, beside = self._books[V2], self._books[V2_BESIDE]
        told = {V2: deeper.take(change), V2_BESIDE: beside.take(change)}
        lost = [stream for stream, levels in told.items() if levels is None]
        main = told.get(self._main)
        if main is not None:
            self._symbol.book_change(*main, change.time)
        if lost == [V2_BESIDE]:
            beside.follow(deeper)
            return V2
        if lost:
            self.lose("checksum", *lost, time=change.time)
            return V2
        return V2 if beside.deeper_spoke else V2_BESIDE

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

    def _know(self, book: Book, depth: int) -> None:
        """The depth of the book that is called `V2` was told."""
        told = book.know(depth)
        if self._main == V2 and (told.bids or told.asks):
            self._symbol.book_change(*told, None)

    def _heirs(self, told: Book, *without: str) -> dict[str, Book]:
        """The books that are of use when this one, which was told, is not: a deeper one was behind it."""
        return {
            stream: book for stream, book in self._books.items() if stream not in without and book.depth <= told.depth
        }

    def _deepest(self) -> str:
        return max(self._books, key=lambda stream: self._books[stream].depth)

    def _miss(self) -> None:
        """A change without a snapshot before it."""
        if not self._main:  # else it is of another stream than the one that is told
            self._symbol.book_missed()
