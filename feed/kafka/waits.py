"""How long what lies in a log has waited to be taken, by a clock that is only this process' own.

Owns that question and no clock. Whoever follows a log sees its end rise; what was below an end when it was first seen
has waited at least since then. No clock of another machine comes into it, and none that can be set.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SAMPLES_MAX: Final = 64


class Waits:
    """The ends of one log, as they were seen. Times are seconds of any clock that only goes on."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: deque[tuple[int, float]] = deque()

    def saw(self, end: int, now: float) -> None:
        """The log ends here now."""
        seen = self._seen
        if seen and end <= seen[-1][0]:
            return
        if len(seen) < _SAMPLES_MAX:
            seen.append((end, now))
        else:
            # too far behind for it to matter which of the newest came first
            seen[-1] = end, seen[-1][1]

    def waited_before(self, seconds: float) -> None:
        """What lay there at the first look had waited for so long already, as far as that can be told."""
        if self._seen and seconds > 0:
            end, at = self._seen[0]
            self._seen[0] = end, at - seconds

    def since(self, position: int) -> float | None:
        """Since when the oldest has waited that is not below `position`; None where nothing waits.

        What is below `position` is forgotten: it never falls.
        """
        seen = self._seen
        while seen and seen[0][0] <= position:
            seen.popleft()
        return seen[0][1] if seen else None

    def waited(self, position: int, now: float) -> float:
        """For how many seconds the oldest has waited that is not below `position`; 0 where nothing waits."""
        since = self.since(position)
        return 0.0 if since is None else max(0.0, now - since)
