"""What goes wrong again and again, said once a minute with how often.

Owns the pace at which a reason is repeated in a log. Counting for metrics is the caller's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from typing import Final

EVERY_S: Final = 60.0
_REASONS_MAX: Final = 1000


class Told:
    """Says each reason at once when it is new, and then once in `every_s` with how often it came meanwhile."""

    def __init__(
        self, logger: logging.Logger, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._every_s = every_s
        self._clock = clock
        self._said: dict[Hashable, tuple[float, int]] = {}

    def say(self, reason: Hashable, words: str, *, level: int = logging.WARNING, count: int = 1) -> None:
        """It happened `count` times, the last time as `words` say."""
        now = self._clock()
        at, waiting = self._said.get(reason, (float("-inf"), 0))
        waiting += count
        if now - at < self._every_s:
            self._said[reason] = at, waiting
            return
        if len(self._said) >= _REASONS_MAX:
            self._said.clear()
        self._said[reason] = now, 0
        more = f" ({waiting} times)" if waiting > 1 else ""
        self._logger.log(level, "%s%s", words, more)
