"""A source's clocks as they should have been: for a recording in which a turn threw them out.

Owns the reckoning. The order of a source's rows was right all the same, so it is kept: a clock that some tick may have
had stays, any other becomes the running maximum of when the ticks there were received. A gap does not say when that
was; it goes with the tick behind it, which is the one that caused the turn.

Memory: 24 bytes for each tick of the source.
"""

from __future__ import annotations

import numpy as np


class Timeline:
    """One source. `note` all its rows, `reckon`, and ask for the clock at a place."""

    def __init__(self, ceiling: int) -> None:
        """`ceiling`: no clock that is right is later."""
        self._ceiling = ceiling
        self._noted: list[np.ndarray] = []
        self._clock = self._at = self._right = np.zeros(0, np.int64)

    def note(self, clock: np.ndarray, at: np.ndarray, received: np.ndarray) -> None:
        """Rows: clock and tick, and when that was received, 0 where the row does not say."""
        rows = np.stack([clock, at, received])
        self._noted.append(_ticks(rows))

    def reckon(self) -> None:
        """Works out the right clocks of all that was noted."""
        clock, at, received = _ticks(np.concatenate(self._noted, axis=1))
        self._noted = []
        known = np.where(clock <= self._ceiling, np.maximum(clock, received), received)
        # those that do not say go with the next one that does
        place = np.where(known > 0, np.arange(len(known)), len(known) - 1)
        known = known[np.minimum.accumulate(place[::-1])[::-1]]
        later = np.cumsum(np.diff(clock, prepend=clock[:1]) > 0)
        self._clock, self._at = clock, at
        self._right = np.maximum.accumulate(known - later) + later

    def clocks(self, clock: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The right clock of each place, given as it was recorded: that of the last tick that is not behind it."""
        first = np.searchsorted(self._clock, clock, "left")
        stop = np.searchsorted(self._clock, clock, "right")
        found = stop - 1
        single = np.flatnonzero(stop - first == 1)
        found[single] -= self._at[found[single]] > at[single]
        several = np.flatnonzero(stop - first > 1)
        for one in np.unique(clock[several]).tolist():
            mine = several[clock[several] == one]
            begin, end = int(first[mine[0]]), int(stop[mine[0]])
            found[mine] = begin + np.searchsorted(self._at[begin:end], at[mine], "right") - 1
        # before the first tick nothing is known, and nothing was wrong
        return np.where(found < 0, np.minimum(clock, self._ceiling), self._right[np.maximum(found, 0)])

    def clock(self, clock: int, at: int) -> int:
        """The right clock of one place."""
        return int(self.clocks(np.array([clock]), np.array([at]))[0])


def _ticks(rows: np.ndarray) -> np.ndarray:
    """One row a tick, in order: when it was received as far as any row says."""
    rows = rows[:, np.lexsort((rows[1], rows[0]))]
    begins = np.flatnonzero((np.diff(rows[0], prepend=-1) != 0) | (np.diff(rows[1], prepend=-2) != 0))
    return np.stack([rows[0][begins], rows[1][begins], np.maximum.reduceat(rows[2], begins)])
