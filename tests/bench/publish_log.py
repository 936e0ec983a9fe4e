"""A process that plays a feed log at a steady rate, whatever anybody else does (open loop): into Kafka, or into NATS.

    echo '{"symbols": 100, "record_updates": 256}' | python -m tests.bench.publish_log

Then for each run three lines and their answers:

    {"kafka": "127.0.0.1:9092", "topic": "…", "rate": 100000, "seconds": 8}   →  the log is open: {"open": …}
    {"start_ns": …}                                                            →  at the end: {"late_ms": …, …}

(`{"nats": PORT, …}` publishes each update on the subject of its symbol instead.) `ts_event` of an update is the time at
which it was due and `ts_recv` the time at which it was given away, so a client that takes the first is not fooled by a
publisher that was held up: no coordinated omission.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections import deque
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import uvloop
from aiokafka.structs import TopicPartition

from feed.kafka.append import Appender
from tests.bench.market import PARTITIONS, Corpus, Entry, Lot, stamped

_DATA: Final = ("kind", b"data")
_SYMBOL: Final = b'"symbol":"'
_messages: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Sink(Protocol):
    """Where a log is played to."""

    async def append(self, partition: int, entries: list[Entry]) -> None:
        """Gives these away, in order; returns when they are taken."""

    async def stop(self) -> None:
        """Closes it."""


class Kafka:
    """A topic, one batch in flight a partition, as a normalizer has it."""

    def __init__(self, appender: Appender, topic: str) -> None:
        self._appender = appender
        self._partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]

    async def append(self, partition: int, entries: list[Entry]) -> None:
        """Appends, and waits for the broker."""
        await self._appender.append(self._partitions[partition], entries)

    async def stop(self) -> None:
        """Closes the producer."""
        await self._appender.stop()


class Nats:
    """A publisher's connection; keyframes have no meaning there and are left out."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def append(self, partition: int, entries: list[Entry]) -> None:
        """Publishes each update by itself, and waits until the socket has taken most of it."""
        for _, value, headers in entries:
            if _DATA in headers:
                self._writer.write(b"".join(map(_publication, _messages(value))))
        await self._writer.drain()

    async def stop(self) -> None:
        """Closes the connection."""
        self._writer.close()


class _Due(NamedTuple):
    after_s: float
    lot: Lot


def _publication(raw: msgspec.Raw) -> bytes:
    message = bytes(raw)
    begin = message.index(_SYMBOL) + len(_SYMBOL)
    symbol = message[begin : message.index(b'"', begin)]
    return b"PUB %s %d\r\n%s\r\n" % (symbol, len(message), message)


def _stamped(lot: Lot, due_ns: int, appended_ns: int) -> list[Entry]:
    return [(key, stamped(value, due_ns, appended_ns), headers) for key, value, headers in lot.entries]


async def _sink(told: dict[str, Any]) -> Sink:
    if "nats" in told:
        _, writer = await asyncio.open_connection("127.0.0.1", told["nats"])
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
        return Nats(writer)
    appender = Appender(told["kafka"])
    await appender.start()
    return Kafka(appender, told["topic"])


async def _play(sink: Sink, dues: deque[_Due], start: float) -> tuple[float, int]:
    """Gives away what is due; what became due meanwhile goes with the next batch. Returns the worst lateness."""
    late_s, updates = 0.0, 0
    wall_ns = time.time_ns() - int(time.monotonic() * 1e9)
    while dues:
        wait = start + dues[0].after_s - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        now = time.monotonic()
        late_s = max(late_s, now - start - dues[0].after_s)
        entries: list[Entry] = []
        while dues and dues[0].after_s <= now - start:
            due = dues.popleft()
            due_ns = wall_ns + int((start + due.after_s) * 1e9)
            entries += _stamped(due.lot, due_ns, wall_ns + int(now * 1e9))
            updates += due.lot.updates
            partition = due.lot.partition
        if entries:
            await sink.append(partition, entries)
    return late_s, updates


async def _run(corpus: Corpus, told: dict[str, Any]) -> None:
    lots = corpus.lots(int(told["rate"] * told["seconds"]))
    gc.collect()
    gc.freeze()
    sink = await _sink(told)
    try:
        for lot in corpus.opening:
            await sink.append(lot.partition, _stamped(lot, time.time_ns(), time.time_ns()))
        step_s = corpus.record_updates / told["rate"]
        queues: list[deque[_Due]] = [deque() for _ in range(PARTITIONS)]
        for number, lot in enumerate(lots):
            queues[lot.partition].append(_Due(number * step_s, lot))
        print(json.dumps({"open": len(lots)}), flush=True)
        start_ns = json.loads(await asyncio.to_thread(sys.stdin.readline))["start_ns"]
        start = time.monotonic() + (start_ns - time.time_ns()) / 1e9
        cpu = time.process_time()
        done = await asyncio.gather(*(_play(sink, queue, start) for queue in queues))
        cpu = time.process_time() - cpu
    finally:
        await sink.stop()
    late_ms = round(max(late for late, _ in done) * 1000, 1)
    print(json.dumps({"late_ms": late_ms, "updates": sum(updates for _, updates in done), "cpu_s": cpu}), flush=True)


async def main() -> None:
    """Makes the corpus, then plays it as often as it is told to, until its input ends."""
    gc.set_threshold(50_000, 20, 20)
    told = json.loads(sys.stdin.readline())
    corpus = Corpus(told["symbols"], told["record_updates"])
    while line := await asyncio.to_thread(sys.stdin.readline):
        await _run(corpus, json.loads(line))


if __name__ == "__main__":
    uvloop.run(main())
