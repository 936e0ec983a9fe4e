"""Tasks that end for sure, one by one and together."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from feed.runtime import tasks
from feed.runtime.tasks import end, ending_signals, first_cause, together, unbroken, until_signal

pytestmark = pytest.mark.anyio


async def stubborn(swallows: int, cancelled: list[int]) -> None:
    """Swallows so many cancellations."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            if len(cancelled) > swallows:
                raise


async def test_who_swallows_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_AGAIN_S", 0.01)
    cancelled: list[int] = []
    task = asyncio.create_task(stubborn(2, cancelled))
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    await end([task, done])
    assert task.cancelled()
    assert not done.cancelled()
    assert len(cancelled) == 3


async def test_ending_nothing_returns() -> None:
    await end([])


async def test_unbroken_work_comes_to_its_end_before_it_is_cancelled() -> None:
    steps: list[str] = []
    may = asyncio.Event()

    async def work() -> int:
        await may.wait()
        steps.append("worked")
        return 7

    task = asyncio.create_task(unbroken(work()))
    await asyncio.sleep(0)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    may.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["worked"]
    assert await unbroken(work()) == 7


async def test_a_failure_of_cancelled_work_is_the_cause() -> None:
    may = asyncio.Event()

    async def work() -> None:
        await may.wait()
        raise OSError("the disk is full")

    task = asyncio.create_task(unbroken(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    may.set()
    with pytest.raises(asyncio.CancelledError) as found:
        await task
    assert isinstance(found.value.__cause__, OSError)
    with pytest.raises(OSError, match="the disk is full"):
        await unbroken(work())


async def test_work_that_was_cancelled_itself_has_no_cause() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await unbroken(work())


async def test_the_first_to_end_ends_all() -> None:
    ended: list[str] = []

    async def stays() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("stays")

    async def goes() -> None:
        ended.append("goes")

    await together([stays(), goes()])
    assert sorted(ended) == ["goes", "stays"]


async def test_what_went_wrong_is_raised_as_its_first_cause() -> None:
    async def fails() -> None:
        raise ExceptionGroup("all", [ExceptionGroup("some", [OSError("first")]), ValueError("second")])

    with pytest.raises(OSError, match="first"):
        await together([asyncio.sleep(10), fails()])
    error = ValueError("alone")
    assert first_cause(error) is error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_it_waits_for_a_signal(number: signal.Signals) -> None:
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(until_signal())
    try:
        await asyncio.sleep(0)
        assert not waiting.done()
        os.kill(os.getpid(), number)
        await waiting
    finally:
        for one in ending_signals():
            loop.remove_signal_handler(one)


def test_who_was_started_to_outlive_its_terminal_does() -> None:
    """As `nohup` starts it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ending_signals() == [signal.SIGTERM, signal.SIGINT]
    finally:
        signal.signal(signal.SIGHUP, before)
