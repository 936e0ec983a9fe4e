"""The recorder beside other roles: a child process.

Owns when it is started again, and how it stands as its parent tells it. It has its own process because writing files
costs what would be latency in the gateway's loop: folding all books for the keyframes of a new file takes a second. How
a child is started, told and ended is `child`'s; it tells a `RecorderStatus` a line.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from feed.errors import FeedError
from feed.recorder.health import RecorderStatus, register
from feed.run.child import started
from feed.runtime.checks import Check
from feed.runtime.metrics import Metrics
from feed.runtime.settings import Settings, given

_AGAIN_S: Final = 1.0
_END_S: Final = 60.0
"""It seals its files."""
log: Final = logging.getLogger("feed.record")


class RecorderProcess:
    """A recorder as a child process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self.begun = asyncio.Event()
        """Set once nothing passes it by: it has caught up with all logs (or its disk takes nothing, and it will)."""
        self.status = RecorderStatus(False, "it has not begun")
        register(metrics, lambda: self.status)

    def check(self) -> Check:
        """What readiness says of it."""
        return Check("recording", self.status.ok, self.status.found)

    async def run(self) -> None:
        """Runs it, again where it ends, until it is cancelled; then it ends well.

        Raises:
            FeedError: it ended before it had recorded anything.
        """
        while True:
            code = await self._once()
            if not self.status.commits and not self.status.pauses:
                raise FeedError(f"the recorder ended with {code}; what it said stands above")
            self.status = RecorderStatus(False, f"the recorder ended with {code} and is started again")
            log.error("the recorder ended with %d; it is started again", code)
            await asyncio.sleep(_AGAIN_S)

    async def _once(self) -> int:
        async with started("record", given(self._settings), end_s=_END_S) as process:
            assert process.stdout is not None
            async for line in process.stdout:
                self.status = msgspec.json.decode(line, type=RecorderStatus)
                if self.status.caught_up or self.status.pauses:
                    self.begun.set()
            return await process.wait()
