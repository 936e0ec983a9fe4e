"""Fetch loops that die are heard of by those whose logs they read, and nodes that stand still: on a scripted node."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from feed.errors import CorruptLog, NotLetIn, Unreachable
from feed.kafka import fetch
from feed.kafka.batches import FetchPage
from feed.kafka.cluster import OutOfRange
from feed.kafka.fetch import Fetcher, Stream

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
        return SimpleNamespace(topics=[])


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


class Pair(Node):
    """Two nodes, of which `away` do not answer; `leads`: which of them leads a partition."""

    def __init__(self) -> None:
        super().__init__()
        self.away: set[int] = set()
        self.leads = {ONE: 1, TWO: 2}
        self.answers.set()
        self.answered = {1: 0, 2: 0}

    def leader_for_partition(self, partition: TopicPartition) -> int:
        return self.leads[partition]

    async def leader(self, partition: TopicPartition, *, tries: int) -> int:
        return self.leads[partition]

    def force_metadata_update(self) -> None:
        pass

    async def send(self, node: int, request: Any) -> Any:
        await asyncio.sleep(0.001)
        if node in self.away:
            raise Unreachable("planted")
        self.answered[node] += 1
        return await super().send(node, request)

    async def has_answered(self, node: int, times: int) -> None:
        wanted = self.answered[node] + times
        async with asyncio.timeout(5):
            while self.answered[node] < wanted:
                await asyncio.sleep(0.001)


async def test_kafka_is_reachable_when_each_node_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_RETRY_S", 0.02)
    monkeypatch.setattr(fetch, "_LOOK_S", 0.02)
    pair = Pair()
    fetcher = Fetcher(pair, wait_ms=1)  # type: ignore[arg-type]  # a cluster, as far as it is asked
    for partition in (ONE, TWO):
        fetcher.follow(partition, 0)
    async with asyncio.timeout(5):
        await pair.has_answered(2, 1)
        assert fetcher.reachable
        pair.away.add(2)
        while fetcher.reachable:
            await asyncio.sleep(0.001)
        for _ in range(20):  # the other one answers all the while
            await pair.has_answered(1, 1)
            assert not fetcher.reachable
        pair.leads[TWO] = 1
        while not fetcher.reachable:
            await asyncio.sleep(0.001)
        pair.leads[TWO] = 2
        while fetcher.reachable:
            await asyncio.sleep(0.001)
        pair.away.clear()
        while not fetcher.reachable:
            await asyncio.sleep(0.001)
    await fetcher.stop()


async def test_a_partition_goes_on_whose_leader_changed_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As metadata that is renewed by itself shows it."""
    monkeypatch.setattr(fetch, "_LOOK_S", 0.02)
    pair = Pair()
    pair.leads = {ONE: 1, TWO: 1}
    fetcher = Fetcher(pair, wait_ms=1)  # type: ignore[arg-type]  # a cluster, as far as it is asked
    for partition in (ONE, TWO):
        fetcher.follow(partition, 0)
    await pair.has_answered(1, 2)
    pair.leads[TWO] = 2  # a node that there was no loop for
    await pair.has_answered(2, 2)
    pair.leads[TWO] = 1
    await pair.has_answered(1, 2)
    pair.leads = {ONE: 2, TWO: 2}
    await pair.has_answered(2, 2)
    await fetcher.stop()


class Told:
    """What an answer says of one partition: an error's code, or records; `broken`: they cannot be read."""

    def __init__(self, number: int, *, ticks: bool) -> None:
        self.number, self.begin, self.end, self.written_end, self.size = number, 0, 3, 3, 10
        self.code = 1 if number == 2 else 0

    def pages(self, position: int, *, ticks: bool) -> list[FetchPage]:
        if self.number == 0:
            raise CorruptLog("planted")
        return [FetchPage([], 3, 0, foreign=1)]


async def test_what_cannot_be_read_of_one_partition_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "Answer", Told)
    node = Node()
    node.answers.set()
    three = TopicPartition("log", 2)
    fetcher = Fetcher(node, wait_ms=1)  # type: ignore[arg-type]  # a cluster, as far as it is asked
    streams = [fetcher.follow(partition, 0) for partition in (ONE, TWO, three)]
    monkeypatch.setattr(node, "send", lambda *_: answered(SimpleNamespace(topics=[("log", list(range(3)))])))
    for stream in streams:
        assert await stream.wait(5)
    with pytest.raises(CorruptLog, match="planted"):
        streams[0].take()
    assert streams[1].take() == []
    assert streams[1].taken == 3
    with pytest.raises(OutOfRange):
        streams[2].take()
    monkeypatch.undo()
    await fetcher.stop()


async def answered(answer: Any) -> Any:
    await asyncio.sleep(0.001)
    return answer


def test_what_is_taken_in_pieces_comes_once_and_in_order() -> None:
    stream = Stream(ONE, 0, asyncio.Event())
    raws: list[Any] = [SimpleNamespace(offset=number, value=b"x" * 10) for number in range(0, 20, 2)]
    for first in (0, 5):
        told = SimpleNamespace(begin=0, end=20, written_end=20, size=50)
        stream.answered(told, [FetchPage(raws[first : first + 5], raws[first].offset + 10, 3)], 1.0)  # type: ignore[arg-type]
    found, at = [], []
    while stream.waiting:
        found.append([raw.offset for raw in stream.take(25)])
        at.append(stream.taken)
    assert found == [[0, 2, 4], [6, 8], [10, 12, 14], [16, 18]]
    assert at == [6, 10, 16, 20]
    assert stream.confirmed == 1
    assert stream.take(25) == []


async def test_what_may_not_be_known_of_is_denied_until_it_is_answered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_RETRY_S", 0.001)
    refuses = [True]

    class Guarded(Node):
        async def leader(self, _: TopicPartition, *, tries: int) -> int:
            if refuses:
                raise NotLetIn("no right to DESCRIBE on the topic log")
            return 7

    fetcher = Fetcher(Guarded())  # type: ignore[arg-type]  # a cluster, as far as it is asked
    stream = fetcher.follow(ONE, 0)
    async with asyncio.timeout(5):
        while not stream.denied:
            await asyncio.sleep(0.001)
    assert stream.denied == "no right to READ on the topic log"
    assert stream.failed is None
    refuses.clear()
    stream.answered(SimpleNamespace(end=0, begin=0, written_end=0, size=0), [], 1.0)  # type: ignore[arg-type]  # as far
    assert not stream.denied
    await fetcher.stop()
