"""A venue's own counters: update ids, sequences, trade ids; and how it is known that one of them has begun anew.

A counter only rises, so a number that is not above the last one was seen before: a frame that was sent twice, or one
of a second connection that lags. Such a frame carries the time at which it was made, which is no later than what is
known. But a venue may count anew (after maintenance, when a symbol is listed again), and then everything would be old
for ever.

So a number has begun anew when it fell and its time went on:
- below half of the last one, a second later: no connection lags by half of a symbol's life, but for its first moments,
  and then its frames are not later;
- by whatever it fell, a minute later: clocks of a venue's machines and the order of its streams do not differ by that.

Times are the venue's where both numbers have one, else those of receiving: a frame without a time (spot's tickers) may
be a late one of a second connection, but not a second after the last one of the first, unless that is gone.

Where the last number has no time of the venue's (an answer), one below half of it has begun anew, too, if its time is a
minute after the answer was received: what is worked off in a hurry is received at one moment. One that fell less has
not: a collector's clock that is minutes slow must not make each diff before a snapshot a beginning.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

SOON_NS: Final = 1_000_000_000
LATE_NS: Final = 60_000_000_000
AHEAD_MAX_NS: Final = 24 * 3600 * 1_000_000_000
"""A trade that is dated by more than this ahead of its source's clock has no date: it would hide all that follow."""


def begins_anew(number: int, last: int, later_ns: int) -> bool:
    """Whether a counter that stood at `last` has begun anew with `number`, which came so much later."""
    return number < last and (later_ns > LATE_NS or (later_ns > SOON_NS and 2 * number < last))


class VenueCounter(Struct, omit_defaults=True):
    """Where a counter stands: its last number, and when that was, by the venue's clock and by receiving."""

    last: int = -1
    event: str | None = None
    recv: int = 0

    def set(self, number: int, event: str | None, recv: int) -> None:
        """The counter stands here."""
        self.last, self.event, self.recv = number, event, recv

    def later_ns(self, event: str | None, recv: int) -> int:
        """How much later than its last number this is."""
        if event is None or self.event is None:
            return recv - self.recv
        return int(event) - int(self.event)

    def begins_anew(self, number: int, event: str | None, recv: int) -> bool:
        """Whether it has begun anew with this number."""
        if event is not None and self.event is None and int(event) - self.recv > LATE_NS and 2 * number < self.last:
            return True
        return begins_anew(number, self.last, self.later_ns(event, recv))
