"""Taking a venue's logs over by an operator's word: back to a lower version, or sooner than the rule would.

Owns that each partition's log gets an incarnation of this version, marked as appointed. Who goes on with it is the
normalizer that has this version and these settings; what others then do is `rivals`'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from aiokafka.structs import TopicPartition

from feed.errors import ConfigError
from feed.kafka.access import Entrance
from feed.kafka.cluster import Cluster
from feed.kafka.fetch import Fetcher
from feed.kafka.rights import Right
from feed.normalizer.dead import DeadLetters
from feed.normalizer.numbers import Numbers
from feed.normalizer.partition import Appenders, PartitionNormalizer
from feed.normalizer.rivals import Rivals
from feed.normalizer.settings import NormalizerSettings
from feed.venues.venue import Venue
from feed.wire.record import known_records

_LAST_RECORDS: Final = 64


class Written(NamedTuple):
    """Who wrote a partition's log last: empty where nobody has, or where it cannot be read."""

    partition: int
    source: str
    version: str


async def written(broker: Entrance | str, settings: NormalizerSettings) -> list[Written]:
    """By whom each partition of a venue's logs was written last.

    Raises:
        Unreachable: no broker answers; NotLetIn where we are not let in, or lack a right.
        ConfigError: there are no ticks of this venue, or no feed log to take over.
    """
    async with Cluster(broker, client_id="feed-takeover") as cluster:
        read = [Right("READ", "topic", topic) for topic in (settings.ticks_topic, settings.feed_topic)]
        await cluster.must_have([*read, Right("WRITE", "topic", settings.feed_topic)])
        topics = await cluster.topics()
        for topic in (settings.ticks_topic, settings.feed_topic):
            if topic not in topics:
                raise ConfigError(f"there is no topic {topic}: nothing to take over")
        return [await _written(cluster, TopicPartition(settings.feed_topic, n)) for n in range(topics[topic])]


async def _written(cluster: Cluster, partition: TopicPartition) -> Written:
    begin, end = await cluster.offsets(partition)
    found = Written(partition.partition, "", "")
    async for page in cluster.read(partition, max(begin, end - _LAST_RECORDS), end):
        for record in known_records(page):
            found = Written(partition.partition, record.source, record.version)
    return found


async def take_over(
    broker: Entrance | str,
    venue: Venue,
    settings: NormalizerSettings,
    tell: Callable[[str], object] = lambda source: None,
) -> list[str]:
    """Opens an incarnation of this version in each partition of a venue's logs; gives their sources, and tells each.

    Raises:
        Unreachable: no broker answers.
        FeedError: a log cannot be opened; those that were told are.
    """
    appenders = Appenders(broker, settings.compression)
    async with Cluster(broker, client_id="feed-takeover") as cluster:
        try:
            sources: list[str] = []
            for number in range(await cluster.partitions(settings.ticks_topic)):
                normalizer = PartitionNormalizer(
                    venue,
                    number,
                    settings,
                    cluster=cluster,
                    fetcher=Fetcher(cluster, ticks=True),
                    appenders=appenders,
                    dead=DeadLetters(broker, settings.dead_topic, _no_letters),
                    rivals=Rivals(settings, cluster),
                    numbers=Numbers().of(venue.name, number),
                    make_topics=_no_topics,
                )
                sources.append(await normalizer.take_over())
                tell(sources[-1])
            return sources
        finally:
            await appenders.stop()


async def _no_letters() -> None:
    """Nothing is normalized here."""


async def _no_topics() -> None:
    """Where a topic is missing, that is for the operator to see."""
