"""A log that does not flood: what goes wrong again and again is said once a minute, with how often.

Owns the pace at which a reason is repeated in a log. Counting for metrics is the caller's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from typing import Final

EVERY_S: Final = 60.0
_REASONS_MAX: Final = 1000


class Throttle:
    """Counts how often each reason came since it was said last: due at once when it is new, then once in `every_s`."""

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._reasons: dict[Hashable, tuple[float, int]] = {}

    def due(self, reason: Hashable, count: int = 1) -> int:
        """It came `count` times: how often since it was said last, if it is to be said now; else 0."""
        now = self._clock()
        at, waiting = self._reasons.get(reason, (float("-inf"), 0))
        waiting += count
        if now - at < self._every_s:
            self._reasons[reason] = at, waiting
            return 0
        if len(self._reasons) >= _REASONS_MAX:
            self._reasons.clear()
        self._reasons[reason] = now, 0
        return waiting


class ThrottledLog:
    """Says each reason at once when it is new, and then once in `every_s` with how often it came meanwhile."""

    def __init__(
        self, logger: logging.Logger, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._throttle = Throttle(every_s, clock)

    def say(
        self,
        reason: Hashable,
        words: str,
        *,
        level: int = logging.WARNING,
        count: int = 1,
        error: BaseException | None = None,
    ) -> None:
        """It happened `count` times, the last time as `words` say. `error`: one of ours, said with its traceback."""
        if times := self._throttle.due(reason, count):
            self._logger.log(level, "%s%s", words, times_text(times), exc_info=error)


def times_text(times: int) -> str:
    """What is said behind words that stand for several."""
    return f" ({times} times)" if times > 1 else ""
