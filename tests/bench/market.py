"""A market of a benchmark: trades of many symbols in our own tick format, and the feed log that is made of them.

The log is built by the normalizer's own writer and state machines, so it is byte for byte what a normalizer would have
written: source records, keyframes and checkpoints between the data, headers and all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from feed.channels.record import Record, headers_of
from feed.feedlog import Round, Step, Writer
from feed.normalizer.settings import version_of
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue as venue_named

VENUE: Final = "bench"
PREFIX: Final = "BENCH"
_NS_PER_S: Final = 1_000_000_000

Entry = tuple[bytes | None, bytes, list[tuple[str, bytes]]]


class Due(NamedTuple):
    """What is to be appended to one partition so many seconds after the start, and how many updates it holds."""

    after_s: float
    partition: int
    entries: list[Entry]
    updates: int


def symbol_names(count: int) -> list[str]:
    """The venue's names of the symbols."""
    return [f"SYM{number:03}USDT" for number in range(count)]


def trade(number: int, ts_event: int) -> bytes:
    """A tick of one trade, about 190 bytes; its update has about 270."""
    price = b"%d.%02d" % (61_000 + number % 977, number % 99 + 1)
    return (
        b'{"channel":"trades","ts_event":"%d","data":[{"price":"%s","size":"0.%03d","side":"%s",'
        b'"trade_id":"%d","ts_event":"%d"}]}'
        % (
            ts_event,
            price,
            number % 998 + 1,
            b"buy" if number % 3 else b"sell",
            5_266_583_935 + number,
            ts_event,
        )
    )


class _Partition:
    """The log of one partition as it would be written."""

    def __init__(self, number: int, partitions: int) -> None:
        rules = Rules()
        source = f"{VENUE}/{number}@bench{number}"
        self._offset = 0
        self._seq = 0
        self.writer = Writer(
            Source(venue_named(VENUE), source, rules),
            source=source,
            pos=-1,
            crc=-1,
            version=version_of(rules),
            partitions=partitions,
            anchor=0,
            keyframe_ratio=1.0,
            round_=Round(),
        )

    def open(self) -> list[Entry]:
        return self._entries([self.writer.open("", carries=False, end=0)])

    def step(self, trades: list[tuple[str, bytes, int]], now_ms: int) -> list[Entry]:
        ticks = []
        for symbol, value, ts_recv in trades:
            ticks.append(Tick(self._seq, symbol, value, ts_recv, ts_recv, None))
            self._seq += 1
        made: Step = self.writer.step(ticks, self._seq, now_ms)
        assert not made.dead, made.dead[0].reason
        return self._entries(made.records)

    def _entries(self, records: list[Record]) -> list[Entry]:
        self.writer.acked(range(self._offset, self._offset + len(records)))
        self._offset += len(records)
        return [(None, record.value, headers_of(record)) for record in records]


def built_log(
    *, symbols: int, updates_a_second: int, seconds: float, step_ms: int, partitions: int, start_ns: int
) -> Iterator[Due]:
    """All that is to be appended: first what opens the logs and every symbol (due at once), then the load.

    A symbol has one partition, as by its key. The partitions take turns within a step: normalizers are not in step
    with each other.
    """
    chooser = random.Random(11)
    names = symbol_names(symbols)
    logs = [_Partition(number, partitions) for number in range(partitions)]
    number = 0
    for partition, log in enumerate(logs):
        opening = log.open()
        first = []
        for name in names[partition::partitions]:
            first.append((name, trade(number, start_ns), start_ns))
            number += 1
        yield Due(0.0, partition, opening + log.step(first, start_ns // 1_000_000), len(first))
    owed = 0.0
    for step in range(round(seconds * 1000 / step_ms)):
        for partition, log in enumerate(logs):
            after_s = (step + partition / partitions) * step_ms / 1000
            now_ns = start_ns + int(after_s * _NS_PER_S)
            own = names[partition::partitions]
            owed += updates_a_second * step_ms / 1000 / partitions
            count, owed = int(owed), owed % 1
            trades = []
            for _ in range(count):
                trades.append((chooser.choice(own), trade(number, now_ns), now_ns))
                number += 1
            yield Due(after_s, partition, log.step(trades, now_ns // 1_000_000), count)
