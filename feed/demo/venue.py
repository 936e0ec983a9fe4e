"""What every simulated venue is: markets in, frames out, as a collector would have received them.

Owns the form of a captured frame and the writing of numbers with a venue's digits. A venue's format is its own file's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from feed.demo.market import Market

_NS_PER_S = 1_000_000_000


class Captured(NamedTuple):
    """A received frame: when (ns), its bytes, the URL where it answers a request, the symbol where it does not say."""

    ts_recv: int
    frame: bytes
    request: str | None = None
    symbol: str | None = None


class SimulatedVenue(Protocol):
    """A venue that is connected to: `hello` once, then `step` as time passes. `now` is ns since 1970 UTC."""

    name: str
    markets: list[Market]

    def hello(self, now: int) -> Iterator[Captured]:
        """What it sends when one has subscribed."""

    def step(self, now: int) -> Iterator[Captured]:
        """What it sends after another moment of trading."""


def number(units: int, digits: int) -> str:
    """Whole ticks or lots as the decimal text that they stand for, with all digits: `number(50, 3)` is `0.050`."""
    if not digits:
        return str(units)
    text = str(units).rjust(digits + 1, "0")
    return f"{text[:-digits]}.{text[-digits:]}"


def iso(now: int) -> str:
    """A time as venues write it: `2026-11-23T21:43:30.244075Z`."""
    return (
        datetime.fromtimestamp(now // _NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{now % _NS_PER_S // 1000:06d}Z"
    )
