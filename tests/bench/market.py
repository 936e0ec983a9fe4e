"""A market of a benchmark: quotes of many symbols in our own tick format, and the feed log that is made of them.

The log is built by the normalizer's own writer and state machines, so it is what a normalizer would have written:
source records, keyframes and checkpoints between the data, headers and all. Only the two times of each update are
filled in when it is appended (`stamped`), so that one corpus can be played often, at any rate.

A quote's update has 215 to 230 bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

import google_crc32c

from feed.feedlog.writer import Ahead, Opening, Round, Writer
from feed.normalizer.settings import version_of
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.table import venue as venue_named
from feed.wire.record import Record, headers_of

VENUE: Final = "bench"
PREFIX: Final = "BENCH"
PARTITIONS: Final = 4
DUE: Final = 1_000_000_000_000_000_001
"""Stands for the time at which an update was to be appended (`ts_event`)."""
APPENDED: Final = 1_000_000_000_000_000_002
"""Stands for the time at which it was (`ts_recv`)."""
_DUE: Final = b"%d" % DUE
_APPENDED: Final = b"%d" % APPENDED
_SEED: Final = 11
_ROUNDS_SHUFFLED: Final = 4

Entry = tuple[bytes | None, bytes, list[tuple[str, bytes]]]


class Lot(NamedTuple):
    """What is appended to one partition at once, and how many updates it holds."""

    partition: int
    entries: list[Entry]
    updates: int


def symbol_names(count: int) -> list[str]:
    """The venue's names of the symbols."""
    return [f"S{number:03}" for number in range(count)]


def quote(number: int, ts_event: int) -> bytes:
    """A tick of one quote."""
    price = 60 + number % 37
    return (
        b'{"channel":"quotes","ts_event":"%d","data":{"bid_price":"%d.%d","bid_size":"%d",'
        b'"ask_price":"%d.%d","ask_size":"%d"}}'
        % (ts_event, price, number % 9 + 1, number % 8 + 1, price + 1, number % 7 + 1, number % 6 + 1)
    )


def trade(number: int, ts_event: int) -> bytes:
    """A tick of one trade."""
    price = 60 + number % 37
    return (
        b'{"channel":"trades","ts_event":"%d","data":[{"price":"%d.%d","size":"1","side":"buy","trade_id":"%d","ts_event":null}]}'
        % (ts_event, price, number % 9 + 1, number)
    )


def ladder(number: int, levels: int, ts_event: int) -> bytes:
    """A tick of a whole book of so many levels a side."""
    middle = 6_000 + number % 997
    bids = ",".join(f'["{middle - at}.5","{at + number % 9 + 1}"]' for at in range(levels))
    asks = ",".join(f'["{middle + at + 1}.5","{at + number % 7 + 1}"]' for at in range(levels))
    data = f'{{"bids":[{bids}],"asks":[{asks}]}}'
    return f'{{"channel":"book","ts_event":"{ts_event}","snapshot":true,"data":{data}}}'.encode()


def stamped(value: bytes, due_ns: int, appended_ns: int) -> bytes:
    """A record's value with its times filled in."""
    return value.replace(_DUE, b"%d" % due_ns).replace(_APPENDED, b"%d" % appended_ns)


def stamped_entry(entry: Entry, due_ns: int, appended_ns: int) -> Entry:
    """A record with its times filled in, and the checksum of what it then holds."""
    key, value, headers = entry
    filled = stamped(value, due_ns, appended_ns)
    checksum = b"%d" % google_crc32c.value(filled)
    return key, filled, [(name, checksum if name == "checksum" else text) for name, text in headers]


class Partition:
    """The log of one partition as a normalizer writes it."""

    def __init__(self, number: int, venue: str = VENUE, rules: Rules = Rules()) -> None:
        source = f"{venue}/{number}@bench{number}"
        self._number = number
        self._offset = self._seq = self._now_ms = 0
        self._writer = Writer(
            Source(venue_named(venue), source, rules),
            source=source,
            pos=-1,
            crc=-1,
            version=version_of(rules),
            partitions=PARTITIONS,
            anchor=0,
            keyframe_ratio=1.0,
            round_=Round(least_ms=1000),
        )

    def open(self) -> Lot:
        """The record that opens the log."""
        return self._lot([self._writer.open(Opening(), 0)], 0)

    def lot(self, ticks: Iterable[tuple[str, bytes]]) -> Lot:
        """What these ticks (symbol, value) did, and the keyframes that are due."""
        return self.made_of((symbol, value, APPENDED, None) for symbol, value in ticks)

    def made_of(self, ticks: Iterable[tuple[str, bytes, int, str | None]]) -> Lot:
        """The same of ticks with the time at which each was received, and the URL of an answer."""
        made = []
        for symbol, value, ts_recv, request in ticks:
            made.append(Tick(self._seq, symbol, value, ts_recv, ts_recv, request))
            self._seq += 1
        self._now_ms += 10
        step = self._writer.step(made, Ahead(self._seq, self._seq), self._now_ms)
        assert not step.dead, step.dead[0].reason
        return self._lot(step.records, len(made))

    def _lot(self, records: list[Record], updates: int) -> Lot:
        self._writer.acked(range(self._offset, self._offset + len(records)))
        self._offset += len(records)
        return Lot(self._number, [(None, record.value, headers_of(record)) for record in records], updates)


class Corpus:
    """The log of all partitions: `opening`, then lots of `record_updates` quotes of random symbols, one partition after
    the other, made as far as somebody asks for them."""

    def __init__(self, symbols: int, record_updates: int, *, every_kind: bool = False) -> None:
        """`every_kind`: each symbol begins with a trade (and so with bars), a quote and a book of five levels."""
        self.record_updates = record_updates
        self._chooser = random.Random(_SEED)
        names = [symbol_names(symbols)[number::PARTITIONS] for number in range(PARTITIONS)]
        self._turns = [self._shuffled(own) for own in names]
        self._partitions = [Partition(number) for number in range(PARTITIONS)]
        self._number = 0
        self._lots: list[Lot] = []
        self.opening: list[Lot] = []
        for partition, own in zip(self._partitions, names, strict=True):
            self.opening += [partition.open(), partition.lot((name, self._quote()) for name in own)]
            if every_kind:
                self.opening.append(partition.lot((name, trade(at, DUE)) for at, name in enumerate(own)))
                self.opening.append(partition.lot((name, ladder(at, 5, DUE)) for at, name in enumerate(own)))

    def lots(self, updates: int) -> list[Lot]:
        """The first lots, which hold so many updates or a few more."""
        wanted = -(-updates // self.record_updates)
        while len(self._lots) < wanted:
            number = len(self._lots) % PARTITIONS
            names = islice(self._turns[number], self.record_updates)
            self._lots.append(self._partitions[number].lot((name, self._quote()) for name in names))
        return list(islice(self._lots, wanted))

    def _shuffled(self, names: list[str]) -> Iterator[str]:
        """Random symbols, but all of them equally often in a while: so the load of few symbols is what it should be."""
        while True:
            block = names * _ROUNDS_SHUFFLED
            self._chooser.shuffle(block)
            yield from block

    def _quote(self) -> bytes:
        self._number += 1
        return quote(self._number, DUE)
