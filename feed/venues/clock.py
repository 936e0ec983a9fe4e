"""When a tick came to which Kafka has given no time.

Owns what is believed where there is no time of Kafka's to compare a collector's with. The clock of a source goes on by
at most a week at once: no market is closed for longer, and a clock that stood in 2090 for one odd number would close no
bar for decades. What is further ahead is a claim, and believed when the next such tick goes on from it. So a source
that was silent for months, or whose first tick was decades behind, loses one tick, and a constant is never believed
(the largest number for "unknown"), however often it comes. The first tick of all is compared with the year 2100 alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from feed.errors import BadTick
from feed.venues.tick import NO_TIME

if TYPE_CHECKING:
    from feed.venues.now import Now, SavedSymbol
    from feed.venues.tick import Tick

QUIET_NS_MAX: Final = 7 * 24 * 3600 * 1_000_000_000
UNTIMED_NS_MAX: Final = 4_102_444_800_000_000_000
"""The year 2100."""


def untimed(now: Now, tick: Tick, first: SavedSymbol | None) -> int:
    """When a tick without Kafka's time came, nanoseconds.

    `first`: the first checkpoint, where ticks are run again that came before it. The clock of then is not known, but
    what was believed is not above that of the checkpoint, nor, before it has jumped, above what it has jumped from.

    Raises:
        BadTick: nobody says when, or it is not believed (yet).
    """
    ts_recv, clock = tick.ts_recv, now.clock
    if first is not None:
        bound = first.jumped[1] if tick.seq < first.jumped[0] else first.clock
        if ts_recv == NO_TIME and bound:
            return clock or bound
        if ts_recv <= bound and ts_recv != NO_TIME:
            return ts_recv
        raise BadTick(f"ts_recv {ts_recv} in a record without a time was not believed")
    if ts_recv == NO_TIME:
        if not clock:
            raise BadTick("neither the record nor a header ts_recv says when it came, and no tick before it did")
        return clock
    claimed, now.claimed = now.claimed, 0
    if ts_recv < UNTIMED_NS_MAX:
        if not clock or ts_recv <= clock + QUIET_NS_MAX:
            return ts_recv
        if claimed and claimed < ts_recv <= claimed + QUIET_NS_MAX:
            now.jumped = tick.seq, clock
            return ts_recv
        now.claimed = ts_recv
    raise BadTick(
        f"ts_recv {ts_recv} in a record without a time, wanted at most a week after its source's clock, {clock}; "
        "from there on ticks that go on are believed, before 2100"
    )
