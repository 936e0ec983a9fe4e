"""Feed logs of trades whose symbols move from partition to partition, with times as a venue has them."""

from __future__ import annotations

from typing import Any

import msgspec

from feed.wire.model import Trade, Update
from feed.wire.record import Record
from tests.feed.recorder.made_up import START_NS
from tests.feed.recorder.tape import Log

SECOND = 1_000_000_000


class Partition:
    """One partition's log: each tick is a trade of a symbol, received so many seconds after the start."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = f"{name}@a"
        self.records: list[Record] = []
        self.log = Log(name, self.records)
        self.told: dict[str, list[bytes]] = {}
        self.seq = -1
        self._lasts: dict[str, int] = {}
        self._add("source", b"[]", after=-1)

    def trade(self, symbol: str, at_s: float) -> None:
        """A tick, in a record of its own."""
        self.seq += 1
        received = str(START_NS + int(at_s * SECOND))
        data = [Trade("1", "2", None, f"{self.name}-{self.seq}", None)]
        prev = self._lasts.get(symbol, -1)
        update = msgspec.json.encode(Update("trades", symbol, prev, self.seq, None, received, data))
        self._lasts[symbol] = self.seq
        self.told.setdefault(symbol, []).append(update)
        self._add("data", b"[" + update + b"]", after=self.seq - 1)

    def _add(self, kind: Any, value: bytes, *, after: int) -> None:
        self.records.append(
            Record(
                source=self.source,
                kind=kind,
                after=after,
                first=min(after + 1, self.seq),
                last=self.seq,
                partitions=1,
                version="1.x",
                floor=0,
                since=-1,
                end=self.seq + 1,
                at=self.seq,
                value=value,
                offset=len(self.records),
                ends="",
                carries=False,
            )
        )
