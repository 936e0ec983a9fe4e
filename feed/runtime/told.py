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


class Repeats:
    """How often each reason came since it was said last; it is due at once when it is new, then once in `every_s`."""

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._said: dict[Hashable, tuple[float, int]] = {}

    def due(self, reason: Hashable, count: int = 1) -> int:
        """It came `count` times: how often since it was said last, if it is to be said now; else 0."""
        now = self._clock()
        at, waiting = self._said.get(reason, (float("-inf"), 0))
        waiting += count
        if now - at < self._every_s:
            self._said[reason] = at, waiting
            return 0
        if len(self._said) >= _REASONS_MAX:
            self._said.clear()
        self._said[reason] = now, 0
        return waiting


class ToldReasons:
    """Says each reason at once when it is new, and then once in `every_s` with how often it came meanwhile."""

    def __init__(
        self, logger: logging.Logger, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._repeats = Repeats(every_s, clock)

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
        if times := self._repeats.due(reason, count):
            self._logger.log(level, "%s%s", words, often(times), exc_info=error)


def often(times: int) -> str:
    """What is said behind words that stand for several."""
    return f" ({times} times)" if times > 1 else ""
