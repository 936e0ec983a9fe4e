"""The trade ids of a symbol that were seen: what makes a trade that was sent twice known.

Owns one question: is this id new? Ids are texts. Those that are whole numbers as they are written ("7", not "007") are
kept as runs of consecutive ones, so a venue that counts its trades costs one pair however many there were; other ids
are kept as they are, the last `runs_max` of them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII).fullmatch
_NUMBER_CHARS_MAX: Final = 18
_NUMBER_MAX: Final = 10**_NUMBER_CHARS_MAX - 2


class TradeIds:
    """The ids seen, at most `runs_max` runs of numbers (the lowest is forgotten first) and as many texts (the
    oldest)."""

    __slots__ = ("_next", "_runs", "_runs_max", "_texts")

    def __init__(self, runs_max: int) -> None:
        self._runs: list[tuple[int, int]] = []
        self._texts: dict[str, None] = {}
        self._runs_max = runs_max
        self._next: str | None = None  # the number after the highest: mostly it is the one that comes

    def add(self, trade_id: str) -> bool:
        """Whether the id is new; it is known afterwards."""
        if trade_id == self._next:
            low, high = self._runs[-1]
            self._runs[-1] = low, high + 1
            self._next = str(high + 2) if high < _NUMBER_MAX else None
            return True
        if _NUMBER(trade_id) is not None:
            return self._add_number(int(trade_id))
        if trade_id in self._texts:
            return False
        self._texts[trade_id] = None
        if len(self._texts) > self._runs_max:
            del self._texts[next(iter(self._texts))]
        return True

    def clear(self) -> None:
        """Forgets all of them."""
        self.load([], [])

    def save(self) -> tuple[list[tuple[int, int]], list[str]]:
        """The runs and the texts, as `load` takes them."""
        return list(self._runs), list(self._texts)

    def load(self, runs: list[tuple[int, int]], texts: list[str]) -> None:
        """Takes up what `save` gave."""
        self._runs = list(runs)
        self._texts = dict.fromkeys(texts)
        self._next = _after(runs[-1][1]) if runs else None

    def _add_number(self, number: int) -> bool:
        runs = self._runs
        at = bisect_right(runs, (number, 2**63))
        if at and runs[at - 1][0] <= number <= runs[at - 1][1]:
            return False
        low = high = number
        if at < len(runs) and runs[at][0] == number + 1:
            high = runs.pop(at)[1]
        if at and runs[at - 1][1] == number - 1:
            at -= 1
            low = runs.pop(at)[0]
        runs.insert(at, (low, high))
        if len(runs) > self._runs_max:
            del runs[0]
        self._next = _after(runs[-1][1])
        return True


def _after(number: int) -> str | None:
    return str(number + 1) if number <= _NUMBER_MAX else None
