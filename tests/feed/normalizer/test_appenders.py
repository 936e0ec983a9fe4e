"""The producer that partitions share: one whose log takes nothing costs the others nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from feed.kafka import produce
from feed.kafka.append import AppendFailed
from feed.normalizer.partition import Appenders

pytestmark = pytest.mark.anyio
GOOD, REFUSING = TopicPartition("feed.good", 0), TopicPartition("feed.refusing", 0)


class Client:
    """A cluster of one node that lets nobody write into one topic."""

    open = 0

    def __init__(self, **_: Any) -> None:
        self.cluster = self

    async def bootstrap(self) -> None:
        Client.open += 1

    async def close(self) -> None:
        Client.open -= 1

    def partitions_for_topic(self, _: str) -> set[int]:
        return {0}

    def leader_for_partition(self, _: TopicPartition) -> int:
        return 1

    def get_random_node(self) -> int:
        return 1

    def force_metadata_update(self) -> asyncio.Future[None]:
        return asyncio.ensure_future(asyncio.sleep(0))

    async def send(self, _: int, request: Any) -> Any:
        await asyncio.sleep(0.001)
        if isinstance(request, InitProducerIdRequest):
            return SimpleNamespace(error_code=0, producer_id=7, producer_epoch=0)
        code = {REFUSING.topic: TopicAuthorizationFailedError.errno}
        topics = [(topic, [(n, code.get(topic, 0), 5) for n, _ in found]) for topic, found in request.topics]
        return SimpleNamespace(topics=topics)


async def test_a_log_that_refuses_restarts_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce, "AIOKafkaClient", Client)
    monkeypatch.setattr(Client, "open", 0)
    appenders = Appenders("nowhere", "none")
    ended = False

    async def well() -> int:
        written = 0
        appender = await appenders.get()
        while not ended:
            written += len(await appender.append(GOOD, [(None, b"[]", [])]))
        await appenders.leave(appender)
        return written

    task = asyncio.ensure_future(well())
    for _ in range(5):
        appender = await appenders.get()
        with pytest.raises(AppendFailed, match="refusing"):
            await appender.append(REFUSING, [(None, b"[]", [])])
        appenders.drop(appender)
        await appenders.leave(appender)
        assert Client.open == 1  # that of the other one; what only this one used is closed
        assert not task.done()
    ended = True
    assert await task > 5
    assert Client.open == 0
    appender = await appenders.get()
    await appenders.stop()
    await appenders.leave(appender)
    assert Client.open == 0
