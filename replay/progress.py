"""How far long work is: a bar with rate and time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from feed.runtime.command import say

PLAIN_EVERY_S: Final = 5.0
_MEBIBYTE: Final = 1 << 20


@contextmanager
def told(what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """Gives what is to be called with the bytes done so far."""
    if not sys.stderr.isatty():
        yield _lines(what, total_bytes)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total_bytes)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def counted(what: str, things: str) -> Iterator[Callable[[int], None]]:
    """The same where nobody knows how many there are: gives what is to be called with how many are done so far."""
    if not sys.stderr.isatty():
        yield _counts(what, things)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} {task.fields[things]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, things=things)
        yield lambda done: bar.update(task, completed=done)


def _counts(what: str, things: str) -> Callable[[int], None]:
    began = said = time.monotonic()

    def tell(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= PLAIN_EVERY_S:
            said = now
            say(f"{what}: {done:,} {things}, {done / (now - began):,.0f}/s")

    return tell


def _lines(what: str, total: int) -> Callable[[int], None]:
    began = said = time.monotonic()

    def tell(done: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= PLAIN_EVERY_S and done:
            said = now
            rate = done / (now - began)
            left = max(0, total - done) / rate
            say(
                f"{what}: {done / _MEBIBYTE:,.0f} of {total / _MEBIBYTE:,.0f} MiB, {rate / _MEBIBYTE:,.1f} MiB/s, "
                f"{left:,.0f} s left"
            )

    return tell
