"""How fast a client may send: bytes and frames of one connection, on a clock that is given.

Owns the arithmetic of being held back. Who is over a rate owes time; the socket's owner does not read on before it is
paid. Leaves sockets and timers to `ws`.
"""

from __future__ import annotations

from feed.protocol.line import error_of
from feed.runtime.settings import LimitSettings
from feed.wire.frames import message_frame


class Rates:
    """What one client may still send."""

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_bytes_per_second",
        "_filled_at",
        "_frames",
        "_frames_max",
        "_frames_per_second",
        "_overload_seconds",
        "held_back_seconds",
    )

    def __init__(self, limits: LimitSettings, now: float) -> None:
        # copied: they are read at each slice that a client sends
        self._bytes_per_second = limits.bytes_per_second
        self._frames_per_second = limits.frames_per_second
        self._bytes = self._bytes_max = limits.bytes_per_second * limits.burst_seconds
        self._frames = self._frames_max = limits.frames_per_second * limits.burst_seconds
        self._overload_seconds = limits.overload_seconds
        self._filled_at = now
        self.held_back_seconds = 0.0
        """For how long it was held back since it last had all of both rates."""

    def use(self, size: int, frames: int) -> None:
        """The client has sent so much; it may end in debt by one slice."""
        self._bytes -= size
        self._frames -= frames

    def owed_seconds(self, now: float) -> float:
        """For how long it has to wait now; 0: not at all."""
        passed, self._filled_at = now - self._filled_at, now
        self._bytes = min(self._bytes + passed * self._bytes_per_second, self._bytes_max)
        self._frames = min(self._frames + passed * self._frames_per_second, self._frames_max)
        if self._bytes == self._bytes_max and self._frames == self._frames_max:
            self.held_back_seconds = 0.0
        return max(0.0, -self._bytes / self._bytes_per_second, -self._frames / self._frames_per_second)

    @property
    def overloaded(self) -> bool:
        """Whether it was held back for too long."""
        return self.held_back_seconds > self._overload_seconds


def rate_limited(delay: float) -> bytes:
    """The error that names the rates."""
    return message_frame(
        error_of(
            "rate_limited",
            "more bytes or frames than the limits in welcome",
            retry_after_ms=max(1, round(delay * 1000)),
        )
    )
