"""How many updates were merged into later ones for clients, for those who ask for figures.

Owns that asking holds nobody up: the sum is a walk over all channels of each subscriber of a view, so it is made some
milliseconds at a time, once for all who ask meanwhile, and not again for some time after one that took long. Leaves the
count of each subscriber to `feed.channels.subscriber`.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from feed.channels.distributor import Distributor
    from feed.channels.subscriber import Subscriber

_SLICE_SECONDS: Final = 0.002
_REST_TIMES: Final = 20
"""So many times what a walk took there is none."""


class Merged:
    """The sum over all clients, also those that are gone. It never falls."""

    def __init__(self, distributor: Distributor, clock: Callable[[], float] = perf_counter) -> None:
        self._distributor = distributor
        self._clock = clock
        self._total = 0
        self._left: list[Subscriber] = []
        self._sum = 0
        self._took = 0.0
        self._rests_until = 0.0
        self._walking: asyncio.Event | None = None

    def read(self) -> int:
        """As of the last walk, and has another one begin: who cannot wait is told the newer sum the next time."""
        self._begin()
        return self._total

    async def told(self) -> None:
        """Returns when a walk has ended; at once where the last one is no long time ago."""
        walking = self._begin()
        if walking is not None:
            await walking.wait()

    def _begin(self) -> asyncio.Event | None:
        if self._walking is None and self._clock() >= self._rests_until:
            self._walking, self._took = asyncio.Event(), 0.0
            # of who goes meanwhile the part is missing until the next walk, and nobody's is there twice
            self._sum = self._distributor.hub.counts.merged
            self._left = [subscriber for view in self._distributor.views for subscriber in view.subscribers]
            asyncio.get_running_loop().call_soon(self._walk)
        return self._walking

    def _walk(self) -> None:
        began = self._clock()
        while self._left:
            subscriber = self._left.pop()
            if not subscriber.closed:
                self._sum += subscriber.merged
            if self._left and self._clock() - began > _SLICE_SECONDS:
                self._took += self._clock() - began
                asyncio.get_running_loop().call_soon(self._walk)
                return
        self._took += self._clock() - began
        self._rests_until = self._clock() + _REST_TIMES * self._took
        self._total = max(self._total, self._sum)
        walking, self._walking = self._walking, None
        assert walking is not None
        walking.set()
