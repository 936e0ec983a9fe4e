"""The task that keeps connections honest: heartbeats with marks, pings, and the end of those who do not answer.

Owns when; one queue in the order of their turns serves all connections, so none has a timer of its own. Leaves what a
heartbeat says to the session, and who is dropped to the connection.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

_TICK_SECONDS: Final = 0.05
_SLICE_SECONDS: Final = 0.002


class Beating(Protocol):
    """A connection, as far as the pulse knows it."""

    ended: bool

    def beat(self) -> None:
        """Sends a heartbeat."""
        ...

    def check(self) -> None:
        """Drops the connection when it did not answer; else pings it."""
        ...


class Heartbeats:
    """Turns of all connections: each has one every `heartbeat_seconds`, and a ping every so many of them.

    Many may be due at once, as clients come at once: they are served some milliseconds at a time.
    """

    def __init__(
        self,
        *,
        heartbeat_seconds: float,
        ping_seconds: float,
        when_idle: Callable[[Callable[[], None]], None],
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._interval = heartbeat_seconds
        self._beats_between_pings = max(1, round(ping_seconds / heartbeat_seconds))
        self._turns: deque[tuple[float, int, weakref.ref[Beating]]] = deque()
        self._soon: deque[weakref.ref[Beating]] = deque()
        self._when_idle = when_idle
        self._clock = clock
        self._rung = False

    def add(self, peer: Beating, now: float) -> None:
        """A connection begins; its first turn comes in one interval. `now` is the loop's time."""
        # weakly: who is gone need not wait for its turn to be forgotten
        self._turns.append((now + self._interval, 1, weakref.ref(peer)))

    def beat_soon(self, peer: Beating) -> None:
        """A heartbeat between its turns, as soon as no flush is under way."""
        self._soon.append(weakref.ref(peer))
        self._ring()

    async def run(self) -> None:
        """Gives turns until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if self._turns and self._turns[0][0] <= loop.time():
                self._ring()
            await asyncio.sleep(_TICK_SECONDS)

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._when_idle(self._serve)

    def _serve(self) -> None:
        """Turns that are due, as long as a slice of time allows."""
        loop = asyncio.get_running_loop()
        self._rung = False
        until = self._clock() + _SLICE_SECONDS
        while self._soon or (self._turns and self._turns[0][0] <= loop.time()):
            if self._clock() > until:
                self._rung = True
                loop.call_soon(self._when_idle, self._serve)
                return
            if self._soon:
                peer = self._soon.popleft()()
                if peer is not None and not peer.ended:
                    peer.beat()
            else:
                self._turn(loop.time())

    def _turn(self, now: float) -> None:
        due, beats, known = self._turns.popleft()
        peer = known()
        if peer is None or peer.ended:
            return
        again = due + self._interval
        # turns that were missed while the loop was busy are not made up for
        self._turns.append((again if again > now else now + self._interval, beats + 1, known))
        peer.beat()
        if beats % self._beats_between_pings == 0:
            peer.check()
