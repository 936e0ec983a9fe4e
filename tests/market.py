"""A market of two symbols, fed into a gateway's hub as its follower would."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from feed.wire.model import Data, Kind, Quote, Snapshot, Status, Trade, Update
from tests.gateways import Running

SOURCE: Final = "kraken/0@test"
SYMBOL: Final = "KRAKEN:XBT/USD"
OTHER: Final = "KRAKEN:ETH/USD"


class Market:
    """The source of both; positions count from `seq`."""

    def __init__(self, running: Running, seq: int = 0) -> None:
        self.running = running
        self.seq = seq
        self.prev: dict[tuple[Kind, str], int] = {}

    def open(self) -> None:
        """The source, and a keyframe of two symbols."""
        hub = self.running.gateway.hub

        def act() -> None:
            hub.opened(SOURCE, "", False)
            for symbol in (SYMBOL, OTHER):
                hub.keyframe(SOURCE, symbol, self._snapshots(symbol))
            hub.data(SOURCE, self.seq, self.seq, b"[]", self.seq + 1)
            self.running.gateway.fanout.notify()

        self.running.do(act)

    def tick(self, kind: Kind, symbol: str, data: Data) -> None:
        """One update, in a record of its own."""
        gateway = self.running.gateway
        before, self.seq = self.seq, self.seq + 1
        prev = self.prev.get((kind, symbol), 0)
        self.prev[kind, symbol] = self.seq
        value = msgspec.json.encode([Update(kind, symbol, prev, self.seq, None, str(time.time_ns()), data)])

        def act() -> None:
            gateway.hub.data(SOURCE, before, self.seq, value, self.seq + 1)
            gateway.fanout.notify()

        self.running.do(act)

    def keyframe(self) -> None:
        """Keyframes of both symbols as of now."""
        gateway = self.running.gateway
        before, self.seq = self.seq, self.seq + 1

        def act() -> None:
            for symbol in (SYMBOL, OTHER):
                gateway.hub.keyframe(SOURCE, symbol, self._snapshots(symbol))
            gateway.hub.data(SOURCE, before, self.seq, b"[]", self.seq + 1)
            gateway.fanout.notify()

        self.running.do(act)

    def source_state(self, reason: str | None) -> None:
        """What the follower tells of a source."""
        gateway = self.running.gateway

        def act() -> None:
            gateway.hub.source_state(SOURCE, "stale" if reason else "ok", reason, time.time_ns())  # type: ignore[arg-type]
            gateway.fanout.notify()

        self.running.do(act)

    def _snapshots(self, symbol: str) -> bytes:
        now = str(time.time_ns())
        states: dict[Kind, Data] = {
            "trades": [Trade("60000.5", "0.1", "buy", "1", None)],
            "quotes": Quote("60000.1", "1.5", "60000.3", "2"),
            "status": Status("trading", None),
        }
        return msgspec.json.encode(
            [
                Snapshot(kind, symbol, SOURCE, self.prev.get((kind, symbol), 0), None, now, data)
                for kind, data in states.items()
            ]
        )
