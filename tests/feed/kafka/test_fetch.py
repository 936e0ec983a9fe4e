"""Fetch loops that die are heard of by those whose logs they read, and nodes that stand still: on a scripted node."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from feed.kafka import fetch
from feed.kafka.fetch import Fetcher

pytestmark = pytest.mark.anyio
ONE, TWO = (TopicPartition("log", number) for number in range(2))


class Node:
    """A cluster whose only node answers nothing until `answers` is set; `dies`: the part of it that fails of something
    nobody thought of."""

    def __init__(self, dies: str = "") -> None:
        self.client = self.cluster = self
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
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
        self.asked.set()
        await self.answers.wait()
        return SimpleNamespace(API_VERSION=4, topics=[])


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


async def test_a_fetch_that_is_kept_waiting_is_overdue_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_OVERDUE_S", 0.05)
    node = Node()
    fetcher = Fetcher(node, wait_ms=10)  # type: ignore[arg-type]  # a cluster, as far as it is asked
    fetcher.follow(ONE, 0)
    async with asyncio.timeout(5):
        await node.asked.wait()
        assert not fetcher.overdue
        while not fetcher.overdue:
            await asyncio.sleep(0.005)
        assert fetcher.reachable  # the request has not failed yet
        node.answers.set()
        while fetcher.overdue:
            await asyncio.sleep(0.005)
    await fetcher.stop()
