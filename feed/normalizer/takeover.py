"""Taking a venue's logs over by an operator's word: back to a lower version, or sooner than the rule would.

Owns that each partition's log gets an incarnation of this version, marked as appointed. Who goes on with it is the
normalizer that has this version and these settings; what others then do is `rivals`'.
"""

from __future__ import annotations

from feed.kafka.cluster import Cluster
from feed.kafka.fetch import Fetcher
from feed.normalizer.dead import DeadLetters
from feed.normalizer.numbers import Numbers
from feed.normalizer.partition import Appenders, PartitionNormalizer
from feed.normalizer.rivals import Rivals
from feed.normalizer.settings import NormalizerSettings
from feed.venues.venue import Venue


async def take_over(bootstrap: str, venue: Venue, settings: NormalizerSettings) -> list[str]:
    """Opens an incarnation of this version in each partition of a venue's logs; gives their sources.

    Raises:
        Unreachable: no broker answers.
        FeedError: a log cannot be opened.
    """
    appenders = Appenders(bootstrap, settings.compression)
    async with Cluster(bootstrap, client_id="feed-takeover") as cluster:
        try:
            partitions = await cluster.partitions(settings.ticks_topic)
            return [
                await PartitionNormalizer(
                    venue,
                    number,
                    settings,
                    cluster=cluster,
                    fetcher=Fetcher(cluster, ticks=True),
                    appenders=appenders,
                    dead=DeadLetters(bootstrap, settings.dead_topic, _no_letters),
                    rivals=Rivals(settings, cluster),
                    numbers=Numbers().of(venue.name, number),
                    make_topics=_no_topics,
                ).take_over()
                for number in range(partitions)
            ]
        finally:
            await appenders.stop()


async def _no_letters(words: str) -> None:
    """Nothing is normalized here."""


async def _no_topics() -> None:
    """Where a topic is missing, that is for the operator to see."""
