"""When a recorded tick is due: recorded time against a clock, at a factor or as fast as possible.

Owns the arithmetic only: `now` is an argument, sleeping is the player's. Steps back in recorded time are due at once.
"""

from __future__ import annotations

from typing import Final, Literal

Speed = float | Literal["max"]
SPEED_MAX: Final = 1_000_000.0
_NS: Final = 1_000_000_000


def speed_of(text: str) -> Speed:
    """`max`, or a factor above 0: `1` is the recorded pace, `10` ten times that.

    Raises:
        ValueError: neither.
    """
    if text == "max":
        return "max"
    try:
        factor = float(text)
    except ValueError:
        raise ValueError(f"speed {text!r} is neither max nor a number") from None
    if not 0 < factor <= SPEED_MAX:
        raise ValueError(f"speed {text} is not above 0 and at most {SPEED_MAX:.0f}")
    return factor


class Pacing:
    """Maps recorded times to the player's clock; the first tick is due when it is first asked for.

    Times in are integer nanoseconds, `now` of any steady clock, `ts` of the recording.
    """

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._began: tuple[int, int] | None = None

    def wait_ns(self, ts: int, now: int) -> int:
        """How long until a tick recorded at `ts` is due; 0 when it is."""
        if self.speed == "max":
            return 0
        if self._began is None:
            self._began = (ts, now)
            return 0
        first, began = self._began
        due = began + int((ts - first) / self.speed)
        return max(0, due - now)

    def reached_ns(self, now: int) -> int:
        """The recorded time up to which everything is due."""
        if self.speed == "max" or self._began is None:
            return 2**63 - 1
        first, began = self._began
        return first + int((now - began) * self.speed)

    def behind_ns(self, ts: int, now: int) -> int:
        """How late a tick recorded at `ts` is; 0 when it is on time."""
        if self.speed == "max" or self._began is None:
            return 0
        first, began = self._began
        return max(0, now - began - int((ts - first) / self.speed))


def seconds(ns: int) -> float:
    """Nanoseconds as seconds, for a sleep or a summary."""
    return ns / _NS
