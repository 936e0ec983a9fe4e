"""What a client has unsent is bounded, however much lies in the log at once: from the follower to the sockets."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import pytest

from feed.kafka.batches import FetchPage
from feed.kafka.fetch import Stream
from feed.run.up import follower
from feed.runtime.settings import ServeSettings, Settings
from feed.wire.model import Trade, Update
from feed.wire.record import Record, headers_of
from tests.gateways import Running
from tests.integration.test_gateway import subscribe, until
from tests.raw_client import RawClient

SOURCE: Final = "toy/0@a"
BIG: Final = [Trade("1", "2", "buy", "x" * 500, None)] * 14
"""8 KiB"""
TICKS: Final = 1000
CLIENTS: Final = 10


class Kafka:
    """A cluster and its fetcher, of one partition, to which a test gives pages."""

    reachable, overdue = True, False

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.stream: Stream | None = None
        self.offset = 0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def must_have(self, _: Any) -> None: ...

    async def topics(self) -> dict[str, int]:
        return {"feed.toy": 1}

    async def offsets(self, _: Any) -> tuple[int, int]:
        return 0, 0

    def follow(self, partition: Any, start: int) -> Stream:
        self.stream = Stream(partition, start, asyncio.Event())
        return self.stream

    def leave(self, _: Stream) -> None: ...

    def answer(self, records: list[Record]) -> None:
        """All of them in one page."""
        assert self.stream is not None
        raws: list[Any] = []
        for record in records:
            raws.append(SimpleNamespace(offset=self.offset, value=record.value, headers=headers_of(record)))
            self.offset += 1
        told = SimpleNamespace(begin=0, end=self.offset, written_end=self.offset, size=sum(len(r.value) for r in raws))
        if self.stream.answered(told, [FetchPage(raws, self.offset, 0)], time.monotonic()):  # type: ignore[arg-type]
            self.arrived.set()


def record(kind: Any, after: int, last: int, value: bytes = b"[]") -> Record:
    how: dict[str, Any] = {"partitions": 1, "version": "1.x", "floor": 0, "since": 0, "end": last + 1}
    return Record(source=SOURCE, kind=kind, after=after, first=last, last=last, value=value, **how)


def tick(seq: int) -> Record:
    update = Update("trades", "TOY:A", seq - 1, seq, None, str(time.time_ns()), BIG)
    return record("data", seq - 1, seq, msgspec.json.encode([update]))


@pytest.mark.slow
def test_what_a_client_has_unsent_is_bounded_however_much_comes_at_once() -> None:
    settings = ServeSettings(port=0, heartbeat_ms=60_000, ping_interval_ms=60_000)
    with Running(settings) as running:
        kafka: Kafka = running.do(Kafka)

        def follow() -> asyncio.Task[None]:
            wanted = Settings.model_validate({"serve": {"venues": ["toy"]}})
            found = follower(wanted, running.gateway)
            found._cluster = found._floors._cluster = kafka  # type: ignore[assignment]
            found._fetcher = kafka  # type: ignore[assignment]
            return asyncio.ensure_future(found.run())

        task = running.do(follow)
        assert running.wait_until(lambda: kafka.stream is not None)
        running.do(lambda: kafka.answer([record("source", -1, -1), tick(0)]))
        assert running.wait_until(lambda: "TOY:A" in running.gateway.hub.names)
        clients = [RawClient(running.port, receive_buffer=4096).open() for _ in range(CLIENTS)]
        for client in clients:
            subscribe(client, ["trades"], ["TOY:A"])
            until(client, "snapshot")
        running.do(lambda: kafka.answer([tick(seq) for seq in range(1, TICKS + 1)]))
        assert running.wait_until(lambda: running.gateway.hub.sources[SOURCE].pos == TICKS, 10)
        running.shown()
        assert running.do(lambda: running.gateway.distributor.behind) == CLIENTS
        held = running.do(lambda: max(one.transport.get_write_buffer_size() for one in running.gateway.connections))
        running.do(task.cancel)
        for client in clients:
            client.socket.close()
    print(f"at most {held / 1024:.0f} KiB unsent, of {TICKS * 8} KiB")
    assert held < 512 * 1024
