"""The task that keeps connections honest: heartbeats with marks, pings, and the end of those who do not answer.

Owns when; one queue in the order of their turns serves all connections, so none has a timer of its own. Leaves what a
heartbeat says to the session, and who is dropped to the connection.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

_TICK_SECONDS: Final = 0.05
_TURNS_BETWEEN_YIELDS: Final = 100


class Beating(Protocol):
    """A connection, as far as the pulse knows it."""

    ended: bool

    def beat(self) -> None:
        """Sends a heartbeat."""
        ...

    def check(self) -> None:
        """Drops the connection when it did not answer; else pings it."""
        ...


class Pulse:
    """Turns of all connections: each has one every `heartbeat_seconds`, and a ping every so many of them."""

    def __init__(
        self, *, heartbeat_seconds: float, ping_seconds: float, when_idle: Callable[[Callable[[], None]], None]
    ) -> None:
        self._interval = heartbeat_seconds
        self._beats_between_pings = max(1, round(ping_seconds / heartbeat_seconds))
        self._turns: deque[tuple[float, int, weakref.ref[Beating]]] = deque()
        self._when_idle = when_idle

    def add(self, peer: Beating, now: float) -> None:
        """A connection begins; its first turn comes in one interval. `now` is the loop's time."""
        # weakly: who is gone need not wait for its turn to be forgotten
        self._turns.append((now + self._interval, 1, weakref.ref(peer)))

    async def run(self) -> None:
        """Gives turns until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            given = 0
            while self._turns and self._turns[0][0] <= loop.time():
                due, beats, known = self._turns.popleft()
                peer = known()
                if peer is None or peer.ended:
                    continue
                self._when_idle(_turn(peer, ping=beats % self._beats_between_pings == 0))
                now = loop.time()
                again = due + self._interval
                # turns that were missed while the loop was busy are not made up for
                self._turns.append((again if again > now else now + self._interval, beats + 1, known))
                given += 1
                del peer
                if given % _TURNS_BETWEEN_YIELDS == 0:
                    await asyncio.sleep(0)
            await asyncio.sleep(_TICK_SECONDS)


def _turn(peer: Beating, *, ping: bool) -> Callable[[], None]:
    def act() -> None:
        if peer.ended:
            return
        peer.beat()
        if ping:
            peer.check()

    return act
