"""A fetch loop that dies is heard of by those whose logs it reads: on a scripted node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from feed.kafka.fetch import Fetcher

pytestmark = pytest.mark.anyio
ONE, TWO = (TopicPartition("log", number) for number in range(2))


class Node:
    """A cluster whose only node answers nothing; `dies`: the part of it that fails of something nobody thought of."""

    def __init__(self, dies: str) -> None:
        self.client = self.cluster = self
        self._dies = dies

    def leader_for_partition(self, _: TopicPartition) -> int:
        return 7

    async def leader(self, _: TopicPartition, *, tries: int) -> int:
        if self._dies == "leader":
            raise KeyError("planted")
        return 7

    async def send(self, _: int, request: Any) -> Any:
        if self._dies == "send":
            raise KeyError("planted")
        await asyncio.Event().wait()


@pytest.mark.parametrize("dies", ["leader", "send"])
async def test_who_follows_hears_that_nobody_fetches_any_more(dies: str) -> None:
    fetcher = Fetcher(Node(dies))  # type: ignore[arg-type]  # a cluster, as far as it is asked
    streams = [fetcher.follow(partition, 0) for partition in (ONE, TWO)]
    async with asyncio.timeout(2):
        await fetcher.arrived.wait()
    for stream in streams:
        assert await stream.wait(1.0)
        with pytest.raises(KeyError, match="planted"):
            stream.take()
    late = fetcher.follow(TopicPartition("log", 2), 0)
    with pytest.raises(KeyError, match="planted"):
        late.take()
    await fetcher.stop()
