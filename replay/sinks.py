"""Where played ticks go: the topic `ticks.<venue>` of a Kafka cluster.

Owns which key, partition and headers a frame gets, and batching. Leaves reading to `captures`, pace to `pacing`, and
sending to `feed.kafka`.

A frame that speaks of one symbol goes to that symbol's key. One that speaks of several goes once to each partition
that has some of them, without a key: the header `symbols` says which. A frame that speaks of the venue as a whole goes
to every partition, without key and header; and one that nobody can read to the first partition, so that it ends among
the dead letters instead of here. Ticks of a partition keep their order: one batch of it is in flight at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
from aiokafka.structs import TopicPartition

from feed.errors import BadTick
from feed.kafka.append import Appender
from feed.kafka.partitioner import partition_of

BATCH_TICKS_MAX: Final = 4_000
BATCH_BYTES_MAX: Final = 1 << 20

Headers = list[tuple[str, bytes]]
Entry = tuple[bytes | None, bytes, Headers]


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
        # what says nothing of when it came comes now: Kafka's own time may be missing
        ts_recv = time.time_ns() if captured.ts_recv is None else captured.ts_recv
        headers: Headers = [("ts_recv", b"%d" % ts_recv)]
        if captured.request is not None:
            headers.append(("request", captured.request.encode()))
        self.frames += 1
        ticks = self.ticks
        frame = captured.frame
        for key, partition, symbols in self._where(captured):
            self._waiting[partition].append((key, frame, headers + symbols))
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

    def _where(self, captured: Captured) -> list[tuple[bytes | None, int, Headers]]:
        symbol = captured.symbol or (self._symbol if captured.request is not None else None)
        if symbol is not None:
            return [(*self._place(symbol), [])]
        try:
            keys = self._keys(captured.frame)
        except BadTick:
            if self._symbol is not None:
                return [(*self._place(self._symbol), [])]
            self.unreadable += 1
            return [(None, 0, [])]
        if len(keys) == 1:
            return [(*self._place(keys[0]), [])]
        if not keys and self._symbol is not None:
            return [(*self._place(self._symbol), [])]
        if not keys:
            return [(None, partition.partition, []) for partition in self._partitions]
        symbols: dict[int, list[str]] = {}
        for key in keys:
            symbols.setdefault(self._place(key)[1], []).append(key)
        return [(None, partition, [("symbols", msgspec.json.encode(own))]) for partition, own in symbols.items()]

    def _place(self, symbol: str) -> tuple[bytes, int]:
        place = self._places.get(symbol)
        if place is None:
            key = symbol.encode()
            place = self._places[symbol] = key, partition_of(key, len(self._partitions))
        return place
