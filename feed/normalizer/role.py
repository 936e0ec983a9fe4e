"""All partitions of some venues that are ours at the moment, a task each."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from aiokafka.structs import TopicPartition

from feed.collector import settle
from feed.errors import Unreachable
from feed.kafka.append import Compression
from feed.kafka.cluster import Cluster
from feed.kafka.fetch import Fetcher
from feed.normalizer.partition import Appenders, Counters, PartitionNormalizer
from feed.normalizer.settings import NormalizerSettings
from feed.tasks import end
from feed.venues.venue import Venue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Normalizer:
    """All partitions of some venues that are ours at the moment."""

    def __init__(
        self, bootstrap: str, venues: dict[Venue, NormalizerSettings], *, fetch_wait_ms: int, compression: Compression
    ) -> None:
        self.counters = Counters()
        self._by_topic = {settings.ticks_topic: (venue, settings) for venue, settings in venues.items()}
        self._cluster = Cluster(bootstrap, client_id="feed-normalize")
        self._fetcher = Fetcher(self._cluster, wait_ms=fetch_wait_ms)
        self._appenders = Appenders(bootstrap, compression)
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None

    async def run(self, member: Callable[[Normalizer], Awaitable[None]]) -> None:
        """Connects, then lets `member` tell by `own` which partitions are ours, until it ends or a task fails."""
        await self._cluster.start()
        settle()
        self._failed = asyncio.get_running_loop().create_future()
        membership = asyncio.ensure_future(member(self))
        # a stack: who loses patience cancels once more, and what that interrupts must not keep the rest open
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(self._cluster.stop)
            ending.push_async_callback(self._appenders.stop)
            ending.push_async_callback(self._fetcher.stop)
            ending.push_async_callback(self.own, set())
            ending.push_async_callback(end, [membership])
            await asyncio.wait([membership, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            self._failed.result()
        if not membership.cancelled():
            membership.result()

    async def own(self, partitions: set[TopicPartition]) -> None:
        """These partitions are ours now, and no others."""
        await end([self._tasks.pop(partition) for partition in set(self._tasks) - partitions])
        for partition in partitions - set(self._tasks):
            venue, settings = self._by_topic[partition.topic]
            worker = PartitionNormalizer(
                venue, partition.partition, settings, self._cluster, self._fetcher, self._appenders, self.counters
            )
            task = asyncio.create_task(worker.run(), name=f"normalize {partition.topic}/{partition.partition}")
            task.add_done_callback(self._ended)
            self._tasks[partition] = task

    @property
    def topics(self) -> list[str]:
        """The tick topics of all venues."""
        return list(self._by_topic)

    async def all_partitions(self) -> set[TopicPartition]:
        """Every partition of every tick topic that is there."""
        topics = await self._cluster.topics()
        return {TopicPartition(topic, p) for topic in self.topics for p in range(topics.get(topic, 0))}

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and self._failed is not None and not self._failed.done():
            error = task.exception()
            self._failed.set_exception(error or Unreachable("a partition's task ended"))
