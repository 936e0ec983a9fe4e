"""All partitions of some venues that are ours at the moment, a task each.

Owns which venues this normalizer takes part in: one that somebody else writes (`rivals`) is left, looked at once a
second, and taken up again when it may be. No partition's trouble ends another one, nor the role.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.errors import FeedError, NotLetIn, Unreachable
from feed.kafka.access import Entrance
from feed.kafka.append import Compression
from feed.kafka.cluster import Cluster
from feed.kafka.fetch import Fetcher
from feed.normalizer.dead import DeadLetters
from feed.normalizer.numbers import Numbers
from feed.normalizer.partition import Appenders, PartitionNormalizer
from feed.normalizer.rivals import Rivals, StandsBy
from feed.normalizer.settings import NormalizerSettings
from feed.runtime.checks import Check, in_one_line, is_ready
from feed.runtime.gc_tuning import settle
from feed.runtime.tasks import end
from feed.venues.venue import Venue
from feed.wire.model import NO_SEQ

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_LOOK_S: Final = 1.0
_TOPICS_S: Final = 2.0
_SILENCE_S: Final = 5.0
_TOLD_MAX: Final = 20
_MAKE_EVERY_S: Final = 5.0
log: Final = logging.getLogger("feed.normalizer")


class Normalizer:
    """All partitions of some venues that are ours at the moment.

    `changed` is set when `topics` has become another list: a venue is left, or taken up again.
    """

    def __init__(
        self,
        broker: Entrance | str,
        venues: dict[Venue, NormalizerSettings],
        *,
        fetch_wait_ms: int,
        compression: Compression,
        named: bool = True,
        make_topics: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """`named`: somebody asked for these venues; else those count whose tick topics are there. `make_topics`: makes
        those topics that are missing."""
        self.numbers = Numbers()
        self.changed = asyncio.Event()
        self._by_topic = {settings.ticks_topic: (venue, settings) for venue, settings in venues.items()}
        self._cluster = Cluster(broker, client_id="feed-normalize")
        self._fetcher = Fetcher(self._cluster, wait_ms=fetch_wait_ms, ticks=True)
        self._appenders = Appenders(broker, compression)
        self._dead = {
            topic: DeadLetters(broker, topic, self._dead_failed)
            for topic in {settings.dead_topic for settings in venues.values()}
        }
        self._rivals = {topic: Rivals(settings, self._cluster) for topic, (_, settings) in self._by_topic.items()}
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._left: dict[str, asyncio.Task[None]] = {}
        self._named = named
        self._there: set[str] = set()
        self.left_out = ""
        """Why it is no member of its group any more; empty where it is, or needs none."""
        self._refused = ""
        self._standing_by: dict[str, str] = {}
        """Venues that somebody else writes, and who."""
        self._answered_at = time.monotonic()
        self._make = make_topics
        self._made_at = float("-inf")

    async def run(self, member: Callable[[Normalizer], Awaitable[None]]) -> None:
        """Connects, then lets `member` tell by `own` which partitions are ours, until it ends."""
        await self._cluster.start()
        await self._look_for_topics()
        settle()
        membership = asyncio.ensure_future(member(self))
        looking = asyncio.create_task(self._keep_looking(), name="tick topics")
        # a stack: who loses patience cancels once more, and what that interrupts must not keep the rest open
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(self._cluster.stop)
            for dead in self._dead.values():
                ending.push_async_callback(dead.stop)
            ending.push_async_callback(self._appenders.stop)
            ending.push_async_callback(self._fetcher.stop)
            ending.push_async_callback(self._end_looking)
            ending.push_async_callback(self.own, set())
            ending.push_async_callback(end, [membership, looking])
            await asyncio.wait([membership])
        if not membership.cancelled():
            membership.result()

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """Of each partition that is ours the offset before which all ticks are in its feed log, where one is known."""
        found: dict[TopicPartition, int] = {}
        for partition in self._tasks:
            venue, _ = self._by_topic[partition.topic]
            position = self.numbers.of(venue.name, partition.partition).position
            if position != NO_SEQ:
                found[partition] = position
        return found

    async def own(self, partitions: set[TopicPartition]) -> None:
        """These partitions are ours now, and no others."""
        partitions = {partition for partition in partitions if partition.topic not in self._left}
        if partitions != set(self._tasks):
            self.numbers.rebalances += 1
            self.numbers.told.say("rebalance", f"{len(partitions)} partitions are ours now", level=logging.INFO)
        await end([self._tasks.pop(partition) for partition in set(self._tasks) - partitions])
        for one in self.numbers.all():
            one.owned = False
        for partition in partitions:
            venue, settings = self._by_topic[partition.topic]
            numbers = self.numbers.of(venue.name, partition.partition)
            if partition in self._tasks:
                numbers.owned = True
                continue
            numbers.begins()
            worker = PartitionNormalizer(
                venue,
                partition.partition,
                settings,
                cluster=self._cluster,
                fetcher=self._fetcher,
                appenders=self._appenders,
                dead=self._dead[settings.dead_topic],
                rivals=self._rivals[partition.topic],
                numbers=numbers,
                make_topics=self.make_topics,
            )
            task = asyncio.create_task(worker.run(), name=f"normalize {partition.topic}/{partition.partition}")
            task.add_done_callback(self._ended)
            self._tasks[partition] = task

    @property
    def topics(self) -> list[str]:
        """The tick topics of all venues that this normalizer takes part in."""
        return [topic for topic in self._by_topic if topic not in self._left and topic in self._there]

    def check(self) -> Check:
        """The same in one line, for a process whose readiness does not hang on it."""
        checks = self.checks()
        told = [check for check in checks if not check.ok] or checks[1:2]
        return Check("normalizer", is_ready(checks), in_one_line(told), counts=False)

    async def all_partitions(self) -> set[TopicPartition]:
        """Every partition of every tick topic that is there."""
        topics = await self._cluster.topics()
        return {TopicPartition(topic, p) for topic in self.topics for p in range(topics.get(topic, 0))}

    async def _look_for_topics(self) -> None:
        """Takes note of which tick topics are there, where that decides, and that Kafka answers."""
        found = set(self._by_topic)
        there = (await self._cluster.topics()).keys()
        self._answered_at, self._refused = time.monotonic(), ""
        if not self._named:
            found &= there
        if found != self._there:
            self._there = found
            self.changed.set()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_TOPICS_S)
            try:
                await self._look_for_topics()
            except (FeedError, KafkaError, OSError) as error:
                self._refused = f": {error}" if isinstance(error, NotLetIn) else ""
                self.numbers.told.say(("topics", type(error)), f"tick topics cannot be looked up: {error!r}")

    async def make_topics(self) -> None:
        """Makes topics that are missing; not more often than is of use.

        Raises:
            FeedError: they cannot be made.
        """
        if self._make is None or time.monotonic() - self._made_at < _MAKE_EVERY_S:
            return
        self._made_at = time.monotonic()
        await self._make()

    def checks(self) -> list[Check]:
        """What has to be so for it to do its part, and what is wrong with single partitions."""
        now = time.monotonic()
        owned = [one for one in self.numbers.all() if one.owned]
        troubled = {one: words for one in owned if (words := one.trouble)}
        still = {one: words for one in owned if one not in troubled and (words := one.standstill)}
        written = len(owned) - len(troubled)
        silent = now - self._answered_at
        return [
            Check("kafka", silent <= _SILENCE_S, f"answered {silent * 1000:.0f} ms ago{self._refused}"),
            Check(
                "partitions",
                written > 0 or not owned,
                f"{written} of {len(owned)} are written" if owned else "none is ours",
            ),
            *([Check("group", False, self.left_out, counts=not owned)] if self.left_out else ()),
            *(
                Check(f"{one.venue}/{one.partition}", False, words, counts=False)
                for one, words in [*troubled.items(), *still.items()][:_TOLD_MAX]
            ),
            *(Check(venue, True, f"stands by: {why}") for venue, why in self._standing_by.items()),
        ]

    def _ended(self, task: asyncio.Task[None]) -> None:
        partition = next((partition for partition, one in self._tasks.items() if one is task), None)
        if task.cancelled() or partition is None:
            return
        error = task.exception() or Unreachable("a partition's task ended")
        if isinstance(error, StandsBy):
            self._leave(partition.topic, error)
            return
        # a partition's loop takes everything that goes wrong: this is a fault in it
        words = f"partition {partition.partition} of {partition.topic} ended"
        self.numbers.told.say(("ended", partition), words, level=logging.ERROR, error=error)
        del self._tasks[partition]
        self.changed.set()

    def _leave(self, topic: str, error: StandsBy) -> None:
        if topic in self._left:
            return
        self._left[topic] = asyncio.create_task(self._look(topic, error), name=f"stand by for {topic}")
        self.changed.set()

    async def _look(self, topic: str, error: StandsBy) -> None:
        """Leaves a venue, and takes it up again when that may be."""
        venue = self._by_topic[topic][0].name
        own = [partition for partition in self._tasks if partition.topic == topic]
        await end([self._tasks.pop(partition) for partition in own])
        for one in self.numbers.all():
            one.owned = one.owned and one.venue != venue
        rivals = self._rivals[topic]
        while True:
            self._standing_by[venue] = str(error)
            self.numbers.told.say(("stands by", venue), f"{venue}: stands by: {error}")
            await asyncio.sleep(_LOOK_S)
            try:
                await rivals.look()
                for number in range(await self._cluster.partitions(topic)):
                    rivals.refuse(rivals.last(number))
            except StandsBy as still:
                error = still
            except (FeedError, KafkaError, OSError) as failure:
                self.numbers.told.say(("looking", venue), f"{venue}: its logs cannot be looked at: {failure}")
            else:
                break
        log.info("%s: takes part again", venue)
        del self._standing_by[venue]
        del self._left[topic]
        self.changed.set()

    async def _end_looking(self) -> None:
        await end(list(self._left.values()))

    async def _dead_failed(self) -> None:
        with contextlib.suppress(FeedError, KafkaError, OSError):
            await self.make_topics()
