"""The highest rate that a server carries, found by trying few of them."""

from __future__ import annotations

from typing import Final

_CLOSE: Final = 1.12
_LEAP_MAX: Final = 4.0
_LEAP_MIN: Final = 1.1
_FULL: Final = 0.95
_STEP_BACK: Final = 0.9


class TopRate:
    """Which rate to try next: ask `next`, try it, tell how it went, until `next` is None.

    A server that carried a rate at a part of its core is tried at what the whole core may carry; one that did not is
    tried a little below what came out of it; between a rate that was carried and one that was not lies their mean.
    """

    def __init__(self, first: float, *, tries: int) -> None:
        self._next: float | None = first
        self._tries = tries
        self._failed: float | None = None
        self.best: float | None = None

    @property
    def next(self) -> float | None:
        """The rate to try; None when more tries would tell nothing new, or are used up."""
        return self._next if self._tries > 0 else None

    def told(self, rate: float, *, carried: bool, share: float, delivered: float) -> None:
        """How a try went: the server's share of its core, and what part of the load came through."""
        self._tries -= 1
        if carried:
            self.best = max(rate, self.best or 0.0)
        elif self._failed is None or rate < self._failed:
            self._failed = rate
        if self.best is not None and self._failed is not None and self._failed <= self.best:
            self._next = None  # it does not do what it did before: the machine is not quiet
        elif self.best is None:
            self._next = rate * min(delivered, 1.0) * _STEP_BACK
        elif self._failed is None:
            self._next = self.best * min(max(_FULL / max(share, 0.01), _LEAP_MIN), _LEAP_MAX)
        elif self._failed / self.best < _CLOSE:
            self._next = None
        else:
            self._next = (self.best * self._failed) ** 0.5
