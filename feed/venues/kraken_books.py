"""The books of one Kraken pair, one a stream, and which of them is the symbol's book.

Owns the choice. Of several depths of one pair the deepest is the symbol's book (the main one) as long as its stream is
alive. The others are kept up beside it, and no client hears of them. Leaves a stream's own depth and checksum to
`kraken_book`.

v1 names the depth in the channel of each frame. v2 does not. It has two streams where its answers told two depths, and
a snapshot fits only the smaller one, or is of the larger one. Then each update goes into both books: both streams tell
of the best levels, and a level that is told twice is the same one. Where the deeper stream deletes a level and the
checksum proves its book, the shallower book is the best of it: only its own stream fills the place.

A frame shows that a stream is alive: v1's by its channel, v2's deeper one by a level beyond the other's depth. Another
book becomes the main one
- when its streams have told of changes for ten seconds and the deepest has not, or when its snapshot disagrees with the
  best levels of the main one: a collector that subscribes another depth does not always say so, and a book that nobody
  keeps up is wrong;
- when the checksum of the main one disagrees: the symbol's book is stale only where there is no other. A deeper book is
  no other one: it was not the main one because its stream was behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from feed.venues.kraken_book import DEPTHS, BookChange, SavedBook, StreamBook, smallest_depth

if TYPE_CHECKING:
    from feed.venues.symbol import Symbol

V2: Final = "v2"
"""The stream of v2, of two the deeper one."""
V2_BESIDE: Final = "v2 beside"
"""The shallower one of two streams of v2."""
_UNPROVEN_NS_MAX: Final = 10_000_000_000
_DEPTHS_MAX: Final = len(DEPTHS)


class SavedBooks(Struct):
    """`depths` are those that v2's answers told; `main` is the stream of the symbol's book, and `unproven` the time at
    which another one has spoken first since that one did."""

    depths: list[int] = []
    main: str = ""
    unproven: int | None = None
    books: list[SavedBook] = []


class PairBooks:
    """The books of one pair, by the name of their stream; `_main` names the one that is the symbol's book."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol
        self._books: dict[str, StreamBook] = {}
        self._main = ""
        self._unproven: int | None = None
        self._depths: list[int] = []

    def apply(self, stream: str, change: BookChange, depth: int, ts_recv: int) -> None:
        """A change of a stream that its frames name."""
        if change.snapshot:
            self._begin(stream, StreamBook(depth, depth_known=True), change)
        elif stream in self._books:
            self._apply_to(stream, change)
            if len(self._books) > 1:
                self._spoke(stream, change, ts_recv)
        else:
            self._miss_change()

    def apply_unnamed(self, change: BookChange, ts_recv: int) -> None:
        """A change of v2, whose frames do not name their stream."""
        if change.snapshot:
            self._begin(*self._place(change), change)
            return
        if V2 not in self._books:
            self._miss_change()
            return
        alive = V2
        if V2_BESIDE in self._books:
            alive = self._apply_to_both(change)
        else:
            self._apply_to(V2, change)
        if len(self._books) > 1:
            self._spoke(alive, change, ts_recv)

    def subscribed_depth(self, depth: int) -> None:
        """An answer of v2: it counts for the book that is there, too, unless that has an answer of its own, or a deeper
        one was told."""
        book = self._books.get(V2)
        is_another = book is not None and book.depth != depth and book.depth in self._depths
        if depth not in self._depths:
            self._depths = [*self._depths, depth][-_DEPTHS_MAX:]
        if book is not None and not is_another and depth == max(self._depths):
            self._set_depth(book, depth)

    def unsubscribed_depth(self, depth: int | None) -> None:
        """An answer of v2: this depth comes no more."""
        if depth in self._depths:
            self._depths.remove(depth)
        for stream in (V2, V2_BESIDE):
            book = self._books.get(stream)
            if book is None or book.depth != depth:
                continue
            shallower = [known for known in self._depths if known < book.depth]
            if stream == V2 and V2_BESIDE not in self._books and shallower:
                # the book of the stream that is left was lost: it is the best of this one
                self._set_depth(book, max(shallower))
            else:
                self.unsubscribed(stream)
            return

    def unsubscribed(self, stream: str) -> None:
        """One connection has left this stream: another book becomes the main one, if there is one.

        If not, this one stays as it is: another connection may have subscribed the same stream before this one left.
        """
        if stream in self._books and (stream != self._main or self._others(self._books[stream], stream)):
            self.lose("gap", stream)

    def lose(self, reason: Literal["gap", "checksum"], *streams: str, time: str | None = None) -> None:
        """These streams have missed something: their books are of no use any more. `time`: of the change that shows
        it."""
        books = self._books
        main = books.get(self._main) if self._main in streams else None
        for stream in streams:
            books.pop(stream, None)
        if main is not None:
            books = self._books = self._others(main)
        if V2 not in books and V2_BESIDE in books:
            books[V2] = books.pop(V2_BESIDE)
            self._main = V2 if self._main == V2_BESIDE else self._main
        if main is None:
            return
        self._main, self._unproven = "", None
        if books:
            self._make_main(self._deepest(), time)
        else:
            self._symbol.book_stale(reason)

    @property
    def names(self) -> list[str]:
        """The streams that have a book."""
        return list(self._books)

    def save(self) -> SavedBooks:
        """All of it, as `load` takes it."""
        books = [book.save(stream) for stream, book in self._books.items()]
        return SavedBooks(self._depths, self._main, self._unproven, books)

    def load(self, saved: SavedBooks) -> None:
        """Takes up what `save` gave."""
        self._books = {book.stream: StreamBook.load(book) for book in saved.books}
        self._main, self._unproven, self._depths = saved.main, saved.unproven, saved.depths

    def _place(self, change: BookChange) -> tuple[str, StreamBook]:
        """The stream that a snapshot of v2 is of, and the empty book that it begins."""
        levels = max(len(change.bids), len(change.asks))
        fitting = [depth for depth in self._depths if levels <= depth]
        known = self._books.get(V2)
        if not fitting:
            is_full = levels in DEPTHS and len(change.bids) == len(change.asks)
            book = StreamBook(smallest_depth(levels), depth_known=is_full)
        elif known is not None and len(known) > min(fitting):
            return V2_BESIDE, StreamBook(min(fitting), depth_known=True)
        else:
            book = StreamBook(max(fitting), depth_known=True)
        if known is not None and known.depth < book.depth and known.depth in self._depths:
            self._books[V2_BESIDE] = self._books.pop(V2)
            self._main = V2_BESIDE if self._main == V2 else self._main
        return V2, book

    def _begin(self, stream: str, book: StreamBook, change: BookChange) -> None:
        if book.apply(change) is None:
            self.lose("checksum", stream, time=change.time)
            return
        self._books[stream] = book
        main = self._books.get(self._main)
        if main is None or stream == self._main or book.depth > main.depth or not main.agrees(book):
            self._make_main(stream, change.time)

    def _apply_to(self, stream: str, change: BookChange) -> None:
        delta = self._books[stream].apply(change)
        if delta is None:
            self.lose("checksum", stream, time=change.time)
        elif stream == self._main:
            self._symbol.book_change(*delta, change.time)

    def _apply_to_both(self, change: BookChange) -> str:
        """Both books of v2 take a change. Gives the stream that has told of it, as it is called afterwards."""
        deeper, beside = self._books[V2], self._books[V2_BESIDE]
        deltas = {V2: deeper.apply(change), V2_BESIDE: beside.apply(change)}
        lost = [stream for stream, delta in deltas.items() if delta is None]
        main = deltas.get(self._main)
        if main is not None:
            self._symbol.book_change(*main, change.time)
        if lost == [V2_BESIDE]:
            beside.copy_best(deeper)
            return V2
        if lost:
            self.lose("checksum", *lost, time=change.time)
            return V2
        return V2 if beside.deeper_spoke else V2_BESIDE

    def _spoke(self, alive: str, change: BookChange, ts_recv: int) -> None:
        """What it means that this one of several streams has spoken."""
        deepest = self._deepest()
        if alive == deepest:
            self._unproven = None
            if self._main != deepest:
                self._make_main(deepest, change.time)
        elif self._main == deepest:
            if self._unproven is None:
                self._unproven = ts_recv
            elif ts_recv - self._unproven > _UNPROVEN_NS_MAX and alive in self._books:
                self._make_main(alive, change.time)

    def _make_main(self, stream: str, time: str | None) -> None:
        self._main, self._unproven = stream, None
        self._symbol.book_replace(*self._books[stream].texts(), time)

    def _set_depth(self, book: StreamBook, depth: int) -> None:
        """The depth of the book that is called `V2` was told."""
        delta = book.set_depth(depth)
        if self._main == V2 and (delta.bids or delta.asks):
            self._symbol.book_change(*delta, None)

    def _others(self, main: StreamBook, *without: str) -> dict[str, StreamBook]:
        """The books that can stand in for the main one: a deeper one is behind."""
        return {
            stream: book for stream, book in self._books.items() if stream not in without and book.depth <= main.depth
        }

    def _deepest(self) -> str:
        return max(self._books, key=lambda stream: self._books[stream].depth)

    def _miss_change(self) -> None:
        """A change without a snapshot before it."""
        if not self._main:  # else it is of another stream than the main one
            self._symbol.book_missed()
