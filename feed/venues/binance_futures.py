"""Futures of Binance, USD-M and COIN-M: what is their own.

Owns the shape of futures' depth updates, how their ids are chained, and which raw ones are partial books. Leaves all
else to `binance`, `binance_frames` and `binance_book`, which spot and futures share. USD-M and COIN-M differ in nothing
that is read, but that REST answers of COIN-M name their symbol.

- Update ids are shared by many symbols, and each diff names the one before it: diffs with `u < lastUpdateId` are old,
  and each `pu` must be at most the `u` before it.
- The time of a diff is `T`; quotes have one, too.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams and its twin for
COIN-M.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from feed.venues.binance import Binance
from feed.venues.binance_ahead import ReadAhead, read_ahead
from feed.venues.binance_book import Diffs
from feed.venues.binance_frames import Id, Sides, Time, frame_kind, heads_decoder
from feed.venues.symbol import Symbol, Tick
from feed.wire.decimals import canonical_levels

_PARTIAL_LEVELS: Final = (5, 10, 20)


class FuturesHead(Struct, gc=False, kw_only=True):
    """A depth update but for its sides; `time` is that of the event, `pu` names the update before."""

    s: str
    U: Id
    u: Id
    pu: Id
    time: Time | None = field(default=None, name="T")


class FuturesDiff(FuturesHead, gc=False, kw_only=True):
    b: Sides
    a: Sides


_HEADS: Final = heads_decoder(FuturesHead)


class FuturesDiffs(Diffs):
    """Each diff names the one before it."""

    kind = frame_kind("book", FuturesDiff, "b", "a")

    def is_partial(self, diff: FuturesDiff) -> bool:
        return _is_partial(canonical_levels(diff.b), canonical_levels(diff.a))

    def _is_old(self, diff: FuturesHead, last: int, *, first: bool) -> bool:
        return diff.u < last or (diff.u == last and not first)

    def _is_hole(self, diff: FuturesHead, last: int) -> bool:
        return diff.pu > last

    def _is_next(self, diff: FuturesHead, last: int) -> bool:
        return diff.pu == last < diff.u


def futures(symbol: Symbol) -> Binance:
    """What reads a symbol of USD-M or COIN-M futures."""
    return Binance(symbol, FuturesDiffs)


def futures_ahead(ticks: Sequence[Tick]) -> list[ReadAhead | None]:
    """Of each tick of futures what `apply_read` takes, None where it is for `apply`."""
    return read_ahead(ticks, _HEADS)


def _is_partial(bids: Sides, asks: Sides) -> bool:
    """Whether a depth update in canonical form looks like a partial book of futures: 5, 10 or 20 best levels a side.

    A raw frame does not say which of both it is. Of 34,000 depth updates of captured futures none looks like this.
    """
    if len(bids) != len(asks) or len(bids) not in _PARTIAL_LEVELS or any(size == "0" for _, size in bids + asks):
        return False
    highest = [float(price) for price, _ in bids]
    lowest = [float(price) for price, _ in asks]
    return highest == sorted(highest, reverse=True) and lowest == sorted(lowest)
