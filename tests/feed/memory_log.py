"""A feed log in memory and workers that write it: the whole of writing and restoring without a broker.

Owns nothing of the rules: it only keeps records in a list, gives them offsets, and lets a worker die between any two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from feed.errors import BadTick
from feed.feedlog.writer import Ahead, Opening, Restored, Round, Step, Writer
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.venue import Venue
from feed.wire.log_reader import HoleInLog, LogReader
from feed.wire.record import Record


class SecondWriter(Exception):
    """Somebody else has written since our last batch: take up again from the log."""


class Died(Exception):
    """The worker was killed before it wrote its next record."""


class Worker:
    """A normalizer of one partition over a log and ticks that are lists."""

    def __init__(
        self,
        venue: Venue,
        log: list[Record],
        ticks: Sequence[Tick],
        *,
        source: str = "toy/0@a",
        ratio: float = 1.0,
        rules: Rules = Rules(),
    ) -> None:
        self.venue, self.log, self.ticks = venue, log, ticks
        self.next_offset = len(log)
        self.restored = restore(log)
        last = self.restored.last
        self.machine = Source(venue, source, rules)
        pos, crc = -1, -1
        if last is not None:
            pos, crc = self.restored.reader.pos, last.crc
            self.machine.restore(self.restored.checkpoints())
            for tick in ticks:
                if last.since < tick.seq <= pos:
                    try:
                        self.machine.apply(tick)
                    except BadTick:
                        continue
            self.machine.wake_all()
            self.machine.take()
        self.writer = Writer(
            self.machine,
            source=source,
            pos=pos,
            crc=crc,
            version="1.x",
            partitions=1,
            anchor=0 if last is None else last.offset,
            keyframe_ratio=ratio,
            round_=Round(),
        )
        if last is not None:
            self.writer.take_up(self.restored.ages(0), last.floor, 0)
        else:
            self._write(Step([], [self.writer.open(Opening(), 0)]), None)

    def run(self, pages: Iterable[int], die_after: int | None = None) -> None:
        """Does the ticks after its position in pages of these sizes; dies after so many records."""
        budget = None if die_after is None else itertools.count(die_after, -1)
        left = [tick for tick in self.ticks if tick.seq > self.writer.pos]
        for size in pages:
            page, left = left[:size], left[size:]
            if page:
                self._write(self.writer.step(page, Ahead(len(self.ticks), page[-1].seq + 1), 0), budget)

    def _write(self, step: Step, budget: itertools.count[int] | None) -> None:
        offsets = []
        for record in step.records:
            if budget is not None and next(budget) <= 0:
                raise Died
            offsets.append(len(self.log))
            self.log.append(replace(record, offset=len(self.log)))
        self.writer.acked(offsets)
        expected, self.next_offset = self.next_offset, len(self.log)
        if offsets and offsets[0] != expected:
            raise SecondWriter


def restore(log: Sequence[Record]) -> Restored:
    """Reads the log as a new writer does: from the last record's floor; where that leaves a hole, from that floor."""
    start = log[-1].floor if log else 0
    tried: set[int] = set()
    while True:
        assert start not in tried, f"floor {start} leads back to itself"
        tried.add(start)
        restored = Restored()
        try:
            for record in log[start:]:
                restored.read(record, 0)
        except HoleInLog as hole:
            start = hole.floor
        else:
            return restored


def updates_of(log: Iterable[Record]) -> list[bytes]:
    """The messages of the log that a reader takes, each once, as bytes, in order."""
    reader = LogReader()
    taken: list[bytes] = []
    seen: dict[tuple[str, str], int] = {}
    for record in log:
        before = reader.take(record)
        if before is None or record.kind != "data":
            continue
        gap: list[bytes] = []
        for raw in msgspec.json.decode(record.value, type=list[msgspec.Raw]):
            message = msgspec.json.decode(raw)
            if message["type"] == "gap":
                gap = [bytes(raw)]  # it belongs to the update after it
                continue
            key = message["channel"] + message["type"], message["symbol"] + str(message.get("part", ""))
            if message["seq"] > max(before, seen.get(key, -1)):
                taken += [*gap, bytes(raw)]
                seen[key] = message["seq"]
            gap = []
    return taken
