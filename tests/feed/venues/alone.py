"""One symbol without a source: what a machine, or a part of one, tells it comes out as messages."""

from __future__ import annotations

from typing import Any

from feed.venues.now import Message, Now
from feed.venues.symbol import Symbol
from feed.venues.tick import Rules

T0 = 1_700_000_000_000_000_000


class Alone:
    """`symbol` is told things; `messages` ends the tick, and the next one begins a second later."""

    def __init__(self, name: str = "X", rules: Rules | None = None) -> None:
        self.now = Now("v/0@a")
        self.symbol = Symbol(f"V:{name}", name, self.now, rules or Rules())
        self._begin()

    def messages(self) -> list[Message]:
        self.symbol.end_tick()
        out, self.now.out = self.now.out, []
        self._begin()
        return out

    def said(self) -> list[tuple[Any, ...]]:
        """Of each message its type, and what it is about: data, or state and reason."""
        return [
            (type(message).__name__, message.data)
            if hasattr(message, "data")
            else (type(message).__name__, getattr(message, "state", None), message.reason)
            for message in self.messages()
        ]

    def book(self) -> tuple[dict[str, str], dict[str, str]] | None:
        """The book of the snapshot."""
        for message in self.symbol.snapshots():
            if hasattr(message, "data") and message.channel == "book":
                return dict(message.data.bids), dict(message.data.asks)  # type: ignore[union-attr]
        return None

    def _begin(self) -> None:
        self.now.seq += 1
        self.now.clock = T0 + self.now.seq * 1_000_000_000
        self.now.ts_recv = str(self.now.clock)
