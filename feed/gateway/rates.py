"""How fast a client may send: bytes and frames of one connection, on a clock that is given.

Owns the arithmetic of being held back. Who is over a rate owes time; the socket's owner does not read on before it is
paid. Leaves sockets and timers to `ws`.
"""

from __future__ import annotations

from feed.gateway.limits import LimitSettings
from feed.protocol.line import error_of
from feed.wire.frames import message_frame


class Rates:
    """What one client may still send."""

    __slots__ = ("_bytes", "_filled_at", "_frames", "_limits", "held_back_seconds")

    def __init__(self, limits: LimitSettings, now: float) -> None:
        self._limits = limits
        self._bytes = limits.bytes_per_second * limits.burst_seconds
        self._frames = limits.frames_per_second * limits.burst_seconds
        self._filled_at = now
        self.held_back_seconds = 0.0
        """For how long it was held back since it last had all of both rates."""

    def use(self, size: int, frames: int) -> None:
        """The client has sent so much; it may end in debt by one slice."""
        self._bytes -= size
        self._frames -= frames

    def owed_seconds(self, now: float) -> float:
        """For how long it has to wait now; 0: not at all."""
        limits = self._limits
        passed, self._filled_at = now - self._filled_at, now
        bytes_max = limits.bytes_per_second * limits.burst_seconds
        frames_max = limits.frames_per_second * limits.burst_seconds
        self._bytes = min(self._bytes + passed * limits.bytes_per_second, bytes_max)
        self._frames = min(self._frames + passed * limits.frames_per_second, frames_max)
        if self._bytes == bytes_max and self._frames == frames_max:
            self.held_back_seconds = 0.0
        return max(0.0, -self._bytes / limits.bytes_per_second, -self._frames / limits.frames_per_second)

    @property
    def overloaded(self) -> bool:
        """Whether it was held back for too long."""
        return self.held_back_seconds > self._limits.overload_seconds


def rate_limited(delay: float) -> bytes:
    """The error that names the rates."""
    return message_frame(
        error_of(
            "rate_limited",
            "more bytes or frames than the limits in welcome",
            retry_after_ms=max(1, round(delay * 1000)),
        )
    )
