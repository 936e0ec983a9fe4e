"""Tasks that end for sure: one by one, with the first of several, at a signal.

Libraries below us can swallow a cancellation (`asyncio.wait_for` of Python 3.11 does when its time is just up), and a
task that goes on after it would be waited for for ever: so it is cancelled again until it has ended.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

Result = TypeVar("Result")
_AGAIN_S: Final = 10.0
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancels tasks and returns when all have ended, however they did."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)


async def unbroken(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs it to its end, and only then passes a cancellation on: a thread that writes cannot be cancelled.

    Raises:
        CancelledError: it was cancelled meanwhile; what went wrong in the work is its cause.
    """
    task, cancelled = asyncio.ensure_future(work), None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


def ending_signals() -> list[signal.Signals]:
    """Those that end a process well; a terminal that goes away (SIGHUP) is one, not for who was started by `nohup`."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in _ENDING if number != signal.SIGHUP or not ignored]


async def until_signal() -> None:
    """Returns at a signal that ends a process, for one without uvicorn."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in ending_signals():
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


async def together(working: list[Coroutine[Any, Any, object]]) -> None:
    """Runs all until the first ends, however; cancels the others and raises what went wrong, the first cause of it."""
    tasks = [asyncio.ensure_future(work) for work in working]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
    for task in ended:
        if (error := task.exception()) is not None:
            raise first_cause(error)


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first, out of a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
