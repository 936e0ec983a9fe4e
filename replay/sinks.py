"""Where played ticks go: the topic `ticks.<venue>` of a Kafka cluster.

Owns which key and partition a frame gets, and batching. Leaves reading to `captures`, pace to `pacing`, and sending to
`feed.kafka`.

A frame goes to the symbols that it speaks of, once to each symbol's key; a frame that speaks of the venue as a whole to
every partition, without a key; and one that nobody can read to the first partition, without a key, so that it ends
among the dead letters instead of here. Ticks of a partition keep their order: one batch of it is in flight at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from aiokafka.partitioner import murmur2
from aiokafka.structs import TopicPartition

from feed.errors import BadTick
from feed.kafka.append import Appender

BATCH_TICKS_MAX: Final = 4_000
BATCH_BYTES_MAX: Final = 1 << 20
_WIDE: Final = b""
_POSITIVE: Final = 0x7FFFFFFF

Entry = tuple[bytes | None, bytes, list[tuple[str, bytes]]]


class Captured(Protocol):
    """One line of a capture: `ts_recv` in ns, the URL of an answer, the symbol if the file knows it; else None."""

    @property
    def ts_recv(self) -> int | None: ...
    @property
    def frame(self) -> bytes: ...
    @property
    def request(self) -> str | None: ...
    @property
    def symbol(self) -> str | None: ...


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's own clients choose for a key."""
    return int(murmur2(key) & _POSITIVE) % partitions


class TickTopic:
    """Takes captured frames; `flush` returns when all of them are in the log. Counts what it took.

    Raises (from `flush`):
        AppendFailed: it is not known what of the last batches lies in the log; nothing more was sent.
    """

    def __init__(
        self,
        appender: Appender,
        topic: str,
        partitions: int,
        keys: Callable[[bytes], list[str]],
        symbol: str | None = None,
    ) -> None:
        self.frames = 0
        self.ticks = 0
        self.bytes = 0
        self.unreadable = 0
        self._appender = appender
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._keys = keys
        self._symbol = symbol
        self._places: dict[str, tuple[bytes, int]] = {}
        self._waiting: list[list[Entry]] = [[] for _ in range(partitions)]
        self._waiting_bytes = 0
        self._in_flight: set[asyncio.Task[list[int]]] = set()

    def add(self, captured: Captured) -> bool:
        """Takes one frame; True when enough has been gathered to send it."""
        headers: list[tuple[str, bytes]] = []
        # what says nothing of when it came comes now: Kafka's own time may be missing
        ts_recv = time.time_ns() if captured.ts_recv is None else captured.ts_recv
        headers.append(("ts_recv", b"%d" % ts_recv))
        if captured.request is not None:
            headers.append(("request", captured.request.encode()))
        self.frames += 1
        ticks = self.ticks
        frame = captured.frame
        for key, partition in self._where(captured):
            self._waiting[partition].append((key, frame, headers))
            self.ticks += 1
        self.bytes += len(frame)
        self._waiting_bytes += len(frame) * (self.ticks - ticks)
        return self._waiting_bytes >= BATCH_BYTES_MAX or self.ticks % BATCH_TICKS_MAX < self.ticks - ticks

    async def send(self) -> None:
        """Sends what was gathered, after what is in flight; returns when it is on its way."""
        await self._landed()
        for number, entries in enumerate(self._waiting):
            if entries:
                self._in_flight.add(asyncio.create_task(self._appender.append(self._partitions[number], entries)))
                self._waiting[number] = []
        self._waiting_bytes = 0
        await asyncio.sleep(0)

    async def flush(self) -> None:
        """Sends everything and waits until it is in the log."""
        await self.send()
        await self._landed()

    async def _landed(self) -> None:
        in_flight, self._in_flight = self._in_flight, set()
        if in_flight:
            await asyncio.gather(*in_flight)

    def _where(self, captured: Captured) -> list[tuple[bytes | None, int]]:
        symbol = captured.symbol or (self._symbol if captured.request is not None else None)
        if symbol is not None:
            return [self._place(symbol)]
        try:
            keys = self._keys(captured.frame)
        except BadTick:
            if self._symbol is not None:
                return [self._place(self._symbol)]
            self.unreadable += 1
            return [(None, 0)]
        if not keys:
            return [(None, partition.partition) for partition in self._partitions]
        return [self._place(key) for key in keys]

    def _place(self, symbol: str) -> tuple[bytes, int]:
        place = self._places.get(symbol)
        if place is None:
            key = symbol.encode()
            place = self._places[symbol] = key, partition_of(key, len(self._partitions))
        return place
