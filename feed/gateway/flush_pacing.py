"""When the next flush may begin: at once where little happens, in proportion to what the last one cost under load, and
in larger steps where the loop has little time left.

Pure: times and CPU times are arguments. What an update costs falls with the number of those that share a write
(measured at 40,000 updates/s to 1,000 clients: 1.2 to 1.9 million deliveries a CPU second at 80 flushes a second, 3.4
at 14). So a loop that is busy anyway is given that back, for some milliseconds of latency that a loop with time to
spare does not have to pay.
"""

from __future__ import annotations

from math import exp
from typing import Final

_BUSY_FROM: Final = 0.45
_BUSY_TO: Final = 0.75
_MEMORY_SECONDS: Final = 0.2


class FlushPacing:
    """`share` is what sending may take of the loop's time, but no flush waits longer than `interval_max`.

    From a use of the loop of 45 % on, flushes begin further and further apart, at 75 % by `interval_busy`. Seconds all.
    """

    def __init__(self, *, share: float, interval_busy: float, interval_max: float) -> None:
        self.use = 0.0
        """The share of time for which the loop's thread has run lately."""
        self.earliest = 0.0
        """When the next flush may begin that is large already: larger steps would save nothing."""
        self._rest = 1 / share - 1
        self._interval_busy = interval_busy
        self._interval_max = interval_max
        self._at = 0.0
        self._cpu_at = 0.0

    def next_flush(self, *, began: float, now: float, cost: float, cpu: float) -> float:
        """The earliest begin of the next flush; the last one began at `began`, is over now and cost so much.

        `cpu` is the CPU time of the loop's thread so far, `now` a time of the same clock as `began`.
        """
        if now > self._at:
            kept = exp((self._at - now) / _MEMORY_SECONDS)
            self.use = self.use * kept + (cpu - self._cpu_at) / (now - self._at) * (1 - kept)
            self._at, self._cpu_at = now, cpu
        busy = min(max(0.0, (self.use - _BUSY_FROM) / (_BUSY_TO - _BUSY_FROM)), 1.0)
        self.earliest = now + min(cost * self._rest, self._interval_max)
        return min(max(self.earliest, began + busy * self._interval_busy), now + self._interval_max)
