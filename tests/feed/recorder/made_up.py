"""Feed logs of made-up sources, with everything that a log can hold, and the truth about each channel."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from feed.wire.model import KINDS, Trade
from feed.wire.record import Record
from tests.feed.recorder.tape import Log
from tests.truth import TrueSource, some_data

START_NS = 1_795_467_600_000_000_000
RECV = b'"ts_recv":"'


class MadeUp:
    """One partition's log as it grows: ticks of some symbols, holes of the venue, stale books, keyframes, sources."""

    def __init__(self, name: str, symbols: list[str], chooser: random.Random) -> None:
        self.name = name
        self.symbols = symbols
        self.records: list[Record] = []
        self.sources = [TrueSource(f"{name}@a")]
        self.log = Log(name, self.records)
        self._chooser = chooser
        self._floor = 0
        self._keyframes: dict[str, int] = {}
        self._open("", carries=False)

    @property
    def source(self) -> TrueSource:
        """The source that writes."""
        return self.sources[-1]

    def grow(self, steps: int) -> None:
        """So many things happen."""
        for _ in range(steps):
            self._step()

    def new_source(self) -> None:
        """A new incarnation, with the state of the old one."""
        self.record()
        old = self.source
        new = TrueSource(f"{self.name}@{chr(ord('a') + len(self.sources))}", old.seq)
        new.carry(old)
        self.sources.append(new)
        self._open(old.source, carries=True)
        for symbol in self.symbols:
            self.keyframe(symbol)

    def keyframe(self, symbol: str) -> None:
        """A keyframe of one symbol."""
        value = self.source.keyframe(symbol)
        if value != b"[]":
            self._add("keyframe", value, symbol=symbol)
            self._keyframes[symbol] = len(self.records) - 1
            self._floor = min(self._keyframes.get(symbol, 0) for symbol in self.symbols)

    def record(self) -> None:
        """A data record with what has happened."""
        after = self._pos
        for _, last, value in self.source.records() if self._chooser.random() < 0.1 else [self.source.record()]:
            self._add("data", value, after=after, last=last)
            after = self._pos

    def _step(self) -> None:
        chooser, source = self._chooser, self.source
        roll = chooser.random()
        symbol = chooser.choice(self.symbols)
        if roll < 0.03:
            source.history(symbol, [Trade("1", "2", None, str(n), None) for n in range(3)]) if (
                not source.truth("trades", symbol).begun
            ) else None
        elif roll < 0.07:
            reason: Any = chooser.choice(["gap", "checksum", None])
            source.stale(symbol, reason)
        elif roll < 0.3:
            self.record()
            if chooser.random() < 0.5:
                self.keyframe(symbol)
        else:
            kinds = chooser.sample(KINDS, chooser.randrange(1, 3))
            number = chooser.randrange(1000)
            changes = [(kind, symbol, some_data(kind, number)) for kind in kinds]
            source.tick(changes, skip=chooser.randrange(1, 3), hole=chooser.random() < 0.1)

    def _open(self, ends: str, *, carries: bool) -> None:
        self._pos = self.source.seq
        self._add("source", b"[]", ends=ends, carries=carries)

    def _add(self, kind: Any, value: bytes, **more: Any) -> None:
        after = more.pop("after", self._pos)
        last = more.pop("last", self._pos)
        self._pos = last
        self.records.append(
            Record(
                source=self.source.source,
                kind=kind,
                after=after,
                first=min(after + 1, last),
                last=last,
                partitions=1,
                version="1.x",
                floor=self._floor,
                since=-1,
                end=last + 1,
                at=self._pos,
                value=value,
                offset=len(self.records),
                **more,
            )
        )


def truth_of(logs: list[MadeUp]) -> dict[tuple[str, str], list[bytes]]:
    """All updates of each channel, whole, over all sources."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for log in logs:
        for source in log.sources:
            for key, truth in source.truths.items():
                for _, _, messages in truth.updates:
                    found.setdefault(key, []).extend(messages)
    return found


def head(message: bytes) -> dict[str, Any]:
    """A message as a dict."""
    read: dict[str, Any] = msgspec.json.decode(message)
    return read
