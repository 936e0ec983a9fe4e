"""What is relied on below aiokafka's documented API, and the door's own promises, on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.structs import TopicPartition

from feed.errors import Unreachable
from feed.kafka.append import Appender
from feed.kafka.cluster import Cluster, OutOfRange
from feed.kafka.fetch import Fetcher

pytestmark = pytest.mark.anyio
Fresh = Callable[[str], str]


async def test_records_come_back_as_they_were_appended(kafka: str, fresh: Fresh) -> None:
    topic = fresh("door")
    partition = TopicPartition(topic, 0)
    async with Cluster(kafka) as cluster:
        assert await cluster.make_topics({topic: 2}, {"max.message.bytes": str(16 << 20)}) == [topic]
        assert await cluster.make_topics({topic: 2}, {}) == []
        assert await cluster.partitions(topic) == 2
        appender = Appender(kafka)
        await appender.start()
        sent = [(b"k", b"v" * size, [("a", b"1"), ("b", b"")]) for size in (0, 10, 3 << 20, 900_000, 900_000, 5)]
        assert await appender.append(partition, sent) == list(range(6))
        assert await cluster.offsets(partition) == (0, 6)
        read = [record async for page in cluster.read(partition, 2, 5) for record in page]
        assert [record.offset for record in read] == [2, 3, 4]
        assert [(record.key, record.value, list(record.headers)) for record in read] == sent[2:5]
        with pytest.raises(OutOfRange):
            [page async for page in cluster.read(partition, 7, 9)]
        assert await cluster.offset_at(partition, 0) == 0
        assert await cluster.offset_at(partition, 2**42) is None
        assert (await cluster.settings(topic))["max.message.bytes"] == str(16 << 20)
        await appender.stop()


async def test_a_stream_wakes_at_once_and_follows_added_partitions(kafka: str, fresh: Fresh) -> None:
    topic = fresh("door")
    async with Cluster(kafka) as cluster:
        await cluster.make_topics({topic: 1}, {})
        fetcher = Fetcher(cluster, wait_ms=5_000)
        stream = fetcher.follow(TopicPartition(topic, 0), 0)
        appender = Appender(kafka)
        await appender.start()
        await asyncio.sleep(0.2)
        await appender.append(TopicPartition(topic, 0), [(None, b"x", [])])
        assert await stream.wait(2.0)
        assert [record.value for record in stream.take()] == [b"x"]
        await cluster.grow(topic, 3)
        assert await cluster.partitions(topic) == 3
        other = fetcher.follow(TopicPartition(topic, 2), 5)
        assert await other.wait(8.0)
        with pytest.raises(OutOfRange):
            other.take()
        await fetcher.stop()
        await appender.stop()


async def test_a_broker_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        await Cluster("127.0.0.1:1").start()
    with pytest.raises(Unreachable):
        await Appender("127.0.0.1:1").start()
