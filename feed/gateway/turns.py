"""Turns: requests of all clients, one after the other, within a share of the loop's time.

Owns when a client's requests may be worked on. While there is time to spare and nobody waits, at once; else in a line,
a few milliseconds each, with rests between them that keep the share. So what some ask for delays the others' requests,
and nobody's data. Where the loop has little else to do, clients that have just come get more than that share for their
first request: when thousands join at once nobody gains by rests. Leaves what is done in a turn to the connections, and
how much of a request a turn does to `feed.protocol.line`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Final, Protocol

_SLICE_SECONDS: Final = 0.002
_SAVED_SECONDS_MAX: Final = 0.005
"""So much of the share may be used at once after a pause."""
_TOGETHER: Final = 0.75
"""What first requests and all else may take together before these are held to the share, too."""
_LOOK_SECONDS: Final = 0.005
_LOOKS_KEPT: Final = 0.9
"""How much of what was found before counts at each look at what all else takes: about 50 ms of it."""


class Asker(Protocol):
    """A connection, as far as turns know it."""

    new: bool
    """Whether its first request is still to be done."""

    def take_turn(self) -> None:
        """Works on its requests for a while; lines up again while there is more."""
        ...


class Turns:
    """Whose turn it is. `when_idle` calls back as soon as no flush is under way."""

    def __init__(
        self,
        share: float,
        when_idle: Callable[[Callable[[], None]], None],
        clock: Callable[[], float] = perf_counter,
        cpu: Callable[[], float] = thread_time,
    ) -> None:
        """`cpu`: what the loop has done so far, in seconds; what it did besides requests is others' work."""
        self._share = share
        self._when_idle = when_idle
        self._clock = clock
        self._cpu = cpu
        self._others = 1.0
        """What all else takes of the time; all of it until it is known."""
        self._looked_at, self._looked_cpu, self._asked = clock(), cpu(), 0.0
        self._line: deque[Asker] = deque()
        self._lined: set[int] = set()
        self._saved = _SAVED_SECONDS_MAX
        self._saved_at = clock()
        self._taking: Asker | None = None
        self._until = 0.0
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._line)

    def open_to(self, asker: Asker) -> bool:
        """Whether its next request may be worked on now."""
        now = self._clock()
        if self._taking is not None:
            return self._taking is asker and now < self._until
        return not self._line and self._fill(now, asker) > 0

    def spent(self, seconds: float) -> None:
        """Requests have taken so much of the loop's time."""
        self._saved -= seconds
        self._asked += seconds

    def line_up(self, asker: Asker) -> None:
        """It is to have a turn, after those who wait already."""
        if id(asker) not in self._lined:
            self._lined.add(id(asker))
            self._line.append(asker)
            self._set_timer()

    def leave(self, asker: Asker) -> None:
        """It is gone."""
        if id(asker) in self._lined:
            self._lined.discard(id(asker))
            self._line.remove(asker)

    def _rate(self, asker: Asker) -> float:
        """What requests may take of the time, when it is this one's turn."""
        return max(self._share, _TOGETHER - self._others) if asker.new else self._share

    def _look(self, now: float) -> None:
        passed = now - self._looked_at
        if passed < _LOOK_SECONDS:
            return
        cpu = self._cpu()
        others = min(max(cpu - self._looked_cpu - self._asked, 0.0) / passed, 1.0)
        kept = _LOOKS_KEPT ** (passed / _LOOK_SECONDS)
        self._others = self._others * kept + others * (1 - kept)
        self._looked_at, self._looked_cpu, self._asked = now, cpu, 0.0

    def _fill(self, now: float, asker: Asker) -> float:
        self._look(now)
        self._saved = min(self._saved + (now - self._saved_at) * self._rate(asker), _SAVED_SECONDS_MAX)
        self._saved_at = now
        return self._saved

    def _set_timer(self) -> None:
        if self._line and self._timer is None and self._taking is None:
            first = self._line[0]
            owed = -self._fill(self._clock(), first)
            loop = asyncio.get_running_loop()
            if owed < 0:
                self._timer = loop.call_soon(self._ring)
            else:
                self._timer = loop.call_later(owed / self._rate(first), self._ring)

    def _ring(self) -> None:
        self._when_idle(self._serve)

    def _serve(self) -> None:
        """Turns for those who wait, as long as a slice of time allows."""
        self._timer = None
        self._until = self._clock() + _SLICE_SECONDS
        try:
            while self._line:
                now = self._clock()
                if now >= self._until or self._fill(now, self._line[0]) <= 0:
                    break
                self._taking = self._line.popleft()
                self._lined.discard(id(self._taking))
                self._taking.take_turn()
        finally:
            self._taking = None
            self._set_timer()
