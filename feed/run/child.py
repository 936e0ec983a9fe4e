"""A child process of this command: how it is started, told its task, heard and ended, and the child's side of that.

Owns what parent and child agree on, for every kind of child. The parent writes the task as one line of JSON to the
child's stdin and keeps stdin open. The child ends when stdin ends, so also where its parent was killed. It tells lines
on stdout; its words for a person go to the parent's stderr. Leaves to `recorder_process` and `workers`, which have
children, what a task and a line say, and when a child is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from typing import Final, TypeVar

import msgspec

Task = TypeVar("Task")
_LINE_BYTES_MAX: Final = 1 << 20
COMMAND: Final = (sys.executable, "-c", "from feed.cli import main; main()")


# ---- the parent's side


@contextlib.asynccontextmanager
async def started(role: str, task: object, *, end_s: float) -> AsyncIterator[Process]:
    """A child that runs `feed ROLE --child` and was told its task; at the end of the block it is ended (`end_child`).

    What it tells are the lines of its `stdout`.
    """
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        role,
        "--child",
        stdin=PIPE,
        stdout=PIPE,
        limit=_LINE_BYTES_MAX,
        start_new_session=True,  # Ctrl-C is the parent's, who ends its children in its own time
    )
    assert process.stdin is not None
    try:
        with contextlib.suppress(ConnectionError):  # it has ended already: who waits for it hears how
            process.stdin.write(msgspec.json.encode(task) + b"\n")
            await process.stdin.drain()
        yield process
    finally:
        await end_child(process, end_s)


async def end_child(process: Process, end_s: float) -> None:
    """Closes its stdin, by which it ends well; kills it where that takes longer than `end_s`."""
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(end_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


# ---- the child's side


def given_task(kind: type[Task]) -> Task:
    """What this child is told on its stdin."""
    return msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)


def tell(line: bytes) -> None:
    """A line for the parent."""
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()


async def until_parent_ends() -> None:
    """Returns when stdin ends: the parent wants it so, or is gone."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
