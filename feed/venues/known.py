"""Which trades of a symbol were seen before, and when a venue has begun to count them anew.

Owns identity: a trade that was sent twice has an id that is known, and a time that is not later than what is known. An
id that is known and later than every trade so far is another trade: ids of a day, of a session, of a symbol that was
listed again. Then the old ones are forgotten. Leaves what ids look like to `ids`.
"""

from __future__ import annotations

from typing import Final

from feed.venues.counters import AHEAD_MAX_NS, begins_anew
from feed.venues.ids import TradeIds
from feed.venues.now import SavedSymbol, SourceCounts
from feed.wire.model import Trade

_ROUNDED_NS: Final = 1_000_000


class KnownTrades:
    """The trades of one symbol that were seen. `newest`: the latest time of any of them, nanoseconds; `clock` is
    their source's.

    `are_counted`: the venue's ids are consecutive. Such a venue may write the time of one trade in milliseconds here
    and in microseconds there, so what is later by less than a millisecond is the same one.
    """

    def __init__(self, runs_max: int) -> None:
        self.newest = 0
        self.are_counted = False
        self._ids = TradeIds(runs_max)
        self._aggregates = TradeIds(runs_max)

    def sift(self, trades: list[Trade], counts: SourceCounts, aggregated: bool, clock: int) -> tuple[list[Trade], bool]:
        """Those that are new, and whether ids have begun anew with one of them.

        `aggregated`: their ids are those of aggregates, which count by themselves.
        """
        ids = self._aggregates if aggregated else self._ids
        if len(trades) == 1 and (trades[0].trade_id is None or ids.add(trades[0].trade_id)):
            return trades, False
        new: list[Trade] = []
        anew = False
        newest, compared = self.newest, 0  # of `new` so many are in it: most frames have no copy to compare with
        for trade in trades:
            trade_id = trade.trade_id
            if trade_id is None or ids.add(trade_id):
                new.append(trade)
                continue
            newest = max([newest, *(dated(one, clock) for one in new[compared:])])
            compared = len(new)
            if self._is_later(dated(trade, clock), newest):
                self.forget(counts)
                ids.add(trade_id)
                new.append(trade)
                anew = True
            else:
                counts.copies += 1
        return new, anew

    def add(self, trade: Trade, clock: int) -> bool:
        """Whether a trade that the venue has sent again is new; it is known afterwards."""
        if trade.trade_id is not None and not self._ids.add(trade.trade_id):
            return False
        self.newest = max(self.newest, dated(trade, clock))
        return True

    def restarts(self, last: int, number: int, ts_event: str | None, clock: int) -> bool:
        """Whether consecutive ids that stood at `last` have begun anew with this one."""
        time = None if ts_event is None else int(ts_event)
        return time is not None and time <= clock + AHEAD_MAX_NS and begins_anew(number, last, time - self.newest)

    def forget(self, counts: SourceCounts) -> None:
        """Ids have begun anew: none of the old ones is known any more."""
        counts.epochs += 1
        self._ids.clear()
        self._aggregates.clear()

    def save(self) -> tuple[list[tuple[int, int]], list[str], list[tuple[int, int]]]:
        """Runs and texts of ids, and the runs of aggregates."""
        return *self._ids.save(), self._aggregates.save()[0]

    def load(self, saved: SavedSymbol) -> None:
        """Takes up what a symbol has written down."""
        self.newest = saved.newest
        self._ids.load(saved.ids, saved.texts)
        self._aggregates.load(saved.aggregates, [])

    def _is_later(self, time: int, newest: int) -> bool:
        return time - newest >= (_ROUNDED_NS if self.are_counted else 1)


def dated(trade: Trade, clock: int) -> int:
    """When a trade happened; 0 where it does not say so, or cannot mean it."""
    time = int(trade.ts_event or 0)
    return time if time <= clock + AHEAD_MAX_NS else 0
