"""Spot of Binance: what is its own.

Owns the shape of spot's depth updates and how their ids are chained. Leaves all else to `binance`, `binance_frames` and
`binance_book`, which spot and futures share.

- Update ids are consecutive: diffs with `u <= lastUpdateId` are old, and each `U` must be at most the `u` before it
  plus 1.
- The time of a diff is `E`; quotes have none.
- Partial books have fields of their own, so they are never taken for diffs.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
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


class SpotHead(Struct, gc=False, kw_only=True):
    """A depth update but for its sides; `time` is that of the event."""

    s: str
    U: Id
    u: Id
    time: Time | None = field(default=None, name="E")


class SpotDiff(SpotHead, gc=False, kw_only=True):
    b: Sides
    a: Sides


_HEADS: Final = heads_decoder(SpotHead)


class SpotDiffs(Diffs):
    """Update ids are consecutive."""

    kind = frame_kind("book", SpotDiff, "b", "a")

    def is_partial(self, diff: SpotDiff) -> bool:
        return False

    def _is_old(self, diff: SpotHead, last: int, *, first: bool) -> bool:
        return diff.u <= last

    def _is_hole(self, diff: SpotHead, last: int) -> bool:
        return last + 1 < diff.U

    def _is_next(self, diff: SpotHead, last: int) -> bool:
        return diff.U <= last + 1 <= diff.u


def spot(symbol: Symbol) -> Binance:
    """What reads a symbol of spot."""
    return Binance(symbol, SpotDiffs)


def spot_ahead(ticks: Sequence[Tick]) -> list[ReadAhead | None]:
    """Of each tick of spot what `apply_read` takes, None where it is for `apply`."""
    return read_ahead(ticks, _HEADS)
