"""What a demo is set to, and what it tells while it runs: a line of figures each second, kept in place on a terminal.

Owns the settings that the broker in memory asks for, and the figures' form. Leaves what is counted to its caller.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from feed.runtime.command import say

_EVERY_S: Final = 1.0
_BEHIND_SAID: Final = 100

SETTINGS: Final[dict[str, object]] = {
    "normalize.venues": "binance,kraken,coinbase",
    # The broker does not wake a waiting fetch, has groups of one member, and keeps 5 MiB of a partition.
    "kafka.fetch_max_wait_ms": 10,
    "kafka.assign": "all",
    "kafka.compression": "zstd",
    "normalize.keyframe_round_max_s": 5,
    # Two of the venues have no stream of best prices here.
    "venues.kraken.quotes_from": "book",
    "venues.coinbase.quotes_from": "book",
    "log.level": "warning",
}


class Figures(NamedTuple):
    """Totals since the start; clients, symbols and ticks behind are of the moment."""

    ticks: int
    updates: int
    delivered: int
    clients: int
    symbols: int
    behind: int


async def tell(read: Callable[[], Figures], seconds: float | None) -> None:
    """A line each second; returns after `seconds`, None is never."""
    began = time.monotonic()
    before = read()
    line = _Line()
    with line:
        while seconds is None or time.monotonic() - began < seconds:
            left = _EVERY_S if seconds is None else min(_EVERY_S, began + seconds - time.monotonic())
            asleep = time.monotonic()
            await asyncio.sleep(max(0.0, left))
            now, took = read(), time.monotonic() - asleep
            line.show(_words(now, before, took, time.monotonic() - began))
            before = now


def _words(now: Figures, before: Figures, took: float, age: float) -> str:
    per = max(took, 1e-9)
    return (
        f"{age:5.0f} s {(now.ticks - before.ticks) / per:6,.0f} ticks/s "
        f"{(now.updates - before.updates) / per:6,.0f} updates/s  {now.symbols} symbols  "
        f"{now.clients} clients {(now.delivered - before.delivered) / per / 1024:7,.1f} KiB/s"
        + (f"  {now.behind:,} ticks behind" if now.behind > _BEHIND_SAID else "")
    )


class _Line:
    """A line that stays in its place on a terminal, and is one of many elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __enter__(self) -> _Line:
        if self._live:
            from rich.console import Console
            from rich.live import Live

            self._shown = Live(console=Console(stderr=True), refresh_per_second=2)
            self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._shown.stop()

    def show(self, words: str) -> None:
        if self._live:
            self._shown.update(words, refresh=True)
        else:
            say(words)
