"""Who may come in: TCP connections, all of them and those of one address, and how often an address may ask over HTTP.

Owns the counts and the arithmetic, on a clock that is given. Leaves sockets and answers to `http`. What a client does
on a stream is limited there (`ws`, `feed.protocol.line`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from feed.runtime.settings import LimitSettings

_REFUSED_MAX: Final = 256
_ADDRESSES_MAX: Final = 4096


class Doors:
    """Who may come in: TCP connections, all of them and those of one address."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._inside: dict[asyncio.BaseTransport, str] = {}
        self._of_address: Counter[str] = Counter()
        self._refused: set[asyncio.BaseTransport] = set()
        self.visits = Visits(limits)
        self.probes = Visits(limits)
        """By themselves, so that who asks too often is not taken for dead."""
        # after a restart all clients behind one address come back at once
        of_address = limits.connections_per_address_max
        self.handshakes = Visits(limits, burst=max(limits.http_burst, of_address) if of_address > 0 else 0)

    def __len__(self) -> int:
        return len(self._inside)

    @property
    def crowded(self) -> bool:
        """Whether there are too many who only wait to be told why not."""
        return len(self._refused) > _REFUSED_MAX

    def enter(self, transport: asyncio.BaseTransport, peer: tuple[str, int] | None) -> tuple[int, str] | None:
        """Lets a connection in, or says with which HTTP status and words it is refused; `leave` in both cases."""
        limits = self._limits
        address = peer[0] if peer else ""
        if len(self._inside) >= limits.connections_max + limits.http_connections_max:
            self._refused.add(transport)
            return 503, "this gateway is full"
        if 0 < limits.connections_per_address_max <= self._of_address[address]:
            self._refused.add(transport)
            return 429, f"{limits.connections_per_address_max} connections of one address are allowed"
        self._inside[transport] = address
        self._of_address[address] += 1
        return None

    def leave(self, transport: asyncio.BaseTransport) -> None:
        """The connection is gone."""
        self._refused.discard(transport)
        address = self._inside.pop(transport, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]


class Visits:
    """How often each address may ask: a burst, and what comes back to it each second.

    Addresses that have all of their burst are not remembered, and no more than some thousands of others.
    """

    def __init__(self, limits: LimitSettings, *, burst: int | None = None) -> None:
        """`burst`: another one than `http_burst`; 0: no limit."""
        self.per_second = limits.http_per_second
        self.burst = limits.http_burst if burst is None else burst
        self._known: dict[str, tuple[float, float]] = {}
        """What is left to an address, and when that was so; the one that asked last comes last."""

    def __len__(self) -> int:
        return len(self._known)

    def owed_seconds(self, address: str, now: float) -> float:
        """It asks: in how many seconds it may; 0: now, and that is counted. What is refused costs it nothing more."""
        if self.per_second <= 0 or self.burst <= 0:
            return 0.0
        left, at = self._known.pop(address, (float(self.burst), now))
        left = min(left + (now - at) * self.per_second, self.burst)
        may = left >= 1
        self._known[address] = left - may, now
        if len(self._known) > _ADDRESSES_MAX:
            self._forget(now)
        return 0.0 if may else (1 - left) / self.per_second

    def _forget(self, now: float) -> None:
        whole = now - self.burst / self.per_second
        for address, (_, at) in list(self._known.items()):
            if at > whole and len(self._known) <= _ADDRESSES_MAX:
                return
            del self._known[address]
