"""The recorder beside other roles: a process of its own.

Owns how it is started, watched and ended. It has its own process because writing files costs what would be latency in
the gateway's loop: folding all books for the keyframes of a new file takes a second. A child is told its settings by a
line on its stdin, ends when that ends (so also when its parent was killed), and tells how it stands by lines on its
stdout.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Final

import msgspec

from feed.errors import FeedError
from feed.recorder.health import RecorderStatus, register
from feed.runtime.checks import Check
from feed.runtime.metrics import Metrics
from feed.runtime.settings import Settings, leaves

_AGAIN_S: Final = 1.0
_END_S: Final = 60.0
_LINE_BYTES_MAX: Final = 1 << 20
_CHILD: Final = "from feed.cli import main; main()"
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
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _CHILD, "record", "--child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES_MAX,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(dict(leaves(self._settings))) + b"\n")
            while line := await process.stdout.readline():
                self.status = msgspec.json.decode(line, type=RecorderStatus)
                if self.status.caught_up or self.status.pauses:
                    self.begun.set()
            return await process.wait()
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Lets it seal its files; kills it where that takes for ever."""
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
