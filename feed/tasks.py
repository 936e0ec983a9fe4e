"""Ending tasks for sure.

Libraries below us can swallow a cancellation (`asyncio.wait_for` of Python 3.11 does when its time is just up), and a
task that goes on after it would be waited for for ever: so it is cancelled again until it has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

_AGAIN_S: Final = 10.0


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancels tasks and returns when all have ended, however they did."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
