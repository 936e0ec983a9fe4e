"""A Binance book: depth updates (diffs), and the snapshots that they are bridged to.

Owns the chain of update ids as far as spot and futures have it in common, the diffs that wait for a snapshot (those of
the last minute and of at most 1 MiB), and when ids have begun anew. Leaves reading frames to `binance`, and which diff
is old, the next one or behind a hole to `binance_spot` and `binance_futures`.

- Streams of two speeds may be mixed: each is whole, so a diff that overlaps what is known goes on from there.
- No snapshot comes, and diffs are given up: the book is stale. It is not before: diffs always begin first.
- A hole makes the book stale, and diffs are kept again until a snapshot bridges them. A snapshot that is older than the
  book, or too old for the diffs kept, is not used.
- A diff that could not be read is a hole of unknown ends, whatever ids stand in it: no snapshot is used before the next
  diff, for only that one shows whether a snapshot reaches so far.
- Where ids have begun anew (`counters`) the book is stale until a snapshot. A snapshot alone shows it only a minute
  after the last diff: answers may come out of a cache that is half a minute old.

Source: the venue's "How to manage a local order book correctly",
https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and its twins for futures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Raw

from feed.errors import BadTick
from feed.venues import binance_frames as frames
from feed.venues.bulk_levels import CanonicalBook
from feed.venues.counters import LATE_NS
from feed.venues.symbol import Symbol
from feed.venues.times import ms_or_us_ns
from feed.wire.decimals import canonical_levels

_KEPT_BYTES_MAX: Final = 1 << 20
_KEPT_NS_MAX: Final = 60_000_000_000


class Diffs:
    """The diffs of one symbol; spot and futures differ in how they are chained.

    `begun_anew` is called where update ids have begun anew, for those who count by them, too.
    """

    kind: ClassVar[frames.FrameKind]

    def __init__(self, symbol: Symbol, begun_anew: Callable[[], object]) -> None:
        self._symbol = symbol
        self._state = frames.SavedDiffs()
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        self._begun_anew = begun_anew

    def apply_canonical(self, head: Any, book: CanonicalBook, ts_recv: int) -> bool:
        """Takes a diff whose sides are canonical JSON, if it is simply the next one of a live book; else nothing has
        changed."""
        state = self._state
        if state.book is None or not self._is_next(head, state.book) or not self._symbol.book_is_live:
            return False
        try:
            time = ms_or_us_ns(head.time)
        except BadTick:
            return False
        state.book, state.first = head.u, False
        seen = state.seen
        seen.last, seen.event, seen.recv = head.u, time, ts_recv
        self._symbol.book_change_json(book.text, book.levels, time)
        return True

    def apply(self, diff: Any, ts_recv: int) -> None:
        """Takes a diff.

        Raises:
            BadTick: a number or its time is odd; nothing has changed.
        """
        bids, asks = canonical_levels(diff.b), canonical_levels(diff.a)
        time = ms_or_us_ns(diff.time)
        state = self._state
        if diff.u <= state.seen.last and state.seen.begins_anew(diff.u, time, ts_recv):
            self._begin_anew()
            self._symbol.book_stale("gap")
        if diff.u > state.seen.last:
            state.seen.set(diff.u, time, ts_recv)
            state.missed = False
        if state.book is None or not self._symbol.book_is_live:
            self._keep(diff, ts_recv)
        elif self._is_old(diff, state.book, first=state.first):
            return
        elif self._is_hole(diff, state.book):
            state.book = None
            self._symbol.book_stale("gap")
            self._keep(diff, ts_recv)
        else:
            state.book, state.first = diff.u, False
            self._symbol.book_change(bids, asks, time)

    def apply_snapshot(self, depth: frames.DepthSnapshot, ts_recv: int) -> None:
        """Takes the answer to a request, if it is of use.

        Raises:
            BadTick: a number or its time is odd; nothing has changed.
        """
        bids, asks = dict(canonical_levels(depth.bids)), dict(canonical_levels(depth.asks))
        time = ms_or_us_ns(depth.T or depth.E)
        state = self._state
        if state.book is not None and depth.lastUpdateId < state.book + self._symbol.book_is_live:
            # older than the book, or sent twice
            if 2 * depth.lastUpdateId >= state.book or state.seen.later_ns(time, ts_recv) <= LATE_NS:
                return
            self._begin_anew()
        if state.missed:
            return  # nothing shows yet whether it holds what could not be read
        last, first = depth.lastUpdateId, True
        for _, kept in self._kept:
            diff = self.kind.data(kept)
            if self._is_old(diff, last, first=first):
                continue
            if self._is_hole(diff, last):
                return  # too old for the diffs kept: the next one will do
            bids.update(canonical_levels(diff.b))
            asks.update(canonical_levels(diff.a))
            last, first = diff.u, False
            time = ms_or_us_ns(diff.time)
        self._kept.clear()
        self._kept_bytes = 0
        state.book, state.first = last, first
        if last > state.seen.last:
            state.seen.set(last, time, ts_recv)
        self._symbol.book_replace(_without_deleted(bids), _without_deleted(asks), time)

    def miss(self) -> None:
        """A diff could not be read: no snapshot makes up for it before the next diff."""
        self._state.missed = True

    def is_partial(self, diff: Any) -> bool:
        """Whether a raw diff looks like a partial book; raises `BadTick`."""
        raise NotImplementedError

    def save(self) -> frames.SavedDiffs:
        """All of it, as `load` takes it."""
        return msgspec.structs.replace(self._state, kept=[(ts_recv, Raw(kept)) for ts_recv, kept in self._kept])

    def load(self, saved: frames.SavedDiffs) -> None:
        """Takes up what `save` gave."""
        self._kept = deque((ts_recv, bytes(kept)) for ts_recv, kept in saved.kept)
        self._kept_bytes = sum(len(kept) for _, kept in self._kept)
        self._state = msgspec.structs.replace(saved, kept=[])

    def _begin_anew(self) -> None:
        """Update ids have begun anew: nothing of before says anything about what comes."""
        self._symbol.counts.epochs += 1
        self._state.book, self._state.seen.last, self._state.missed = None, -1, False
        self._kept.clear()
        self._kept_bytes = 0
        self._begun_anew()

    def _keep(self, diff: Any, ts_recv: int) -> None:
        kept = msgspec.json.encode(diff)
        self._kept.append((ts_recv, kept))
        self._kept_bytes += len(kept)
        oldest = ts_recv - _KEPT_NS_MAX
        while self._kept and (self._kept_bytes > _KEPT_BYTES_MAX or self._kept[0][0] < oldest):
            self._kept_bytes -= len(self._kept.popleft()[1])
            self._symbol.book_missed()

    def _is_old(self, diff: Any, last: int, *, first: bool) -> bool:
        """Whether a book up to `last` holds it; `first`: no diff came since the snapshot."""
        raise NotImplementedError

    def _is_hole(self, diff: Any, last: int) -> bool:
        raise NotImplementedError

    def _is_next(self, diff: Any, last: int) -> bool:
        """True only where it is neither old nor behind a hole, whether `last` is a snapshot's or not."""
        raise NotImplementedError


def _without_deleted(side: dict[str, str]) -> dict[str, str]:
    return {price: size for price, size in side.items() if size != "0"}
