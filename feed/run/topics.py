"""The topics that roles need: made where they are missing, before a normalizer starts and while it runs.

Owns which topics those are, what has to be allowed with them, and how many partitions they get; their settings are the
settings' (`topic_settings`, `log_settings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from feed.errors import FeedError
from feed.kafka.access import entrance_of
from feed.kafka.cluster import Cluster
from feed.kafka.rights import Right
from feed.runtime.settings import Settings

_DEAD_PARTITIONS: Final = 1


async def make_topics(settings: Settings) -> list[str]:
    """Makes the topics of all venues that are missing; says which. A feed log gets as many partitions as its ticks.

    Where no venue was named: of those whose ticks are there; of all that are known where none is.

    Raises:
        Unreachable: no broker answers; NotLetIn where we are not let in, or lack a right that a normalizer needs.
        FeedError: some are missing, and none is made (`kafka.create_topics`).
    """
    async with Cluster(entrance_of(settings.kafka)) as cluster:
        known = await cluster.topics()
        venues = _there(settings, known) or settings.normalized.names
        await cluster.must_have(rights(settings, venues))
        return await _make(settings, cluster, known, venues)


async def remake_topics(settings: Settings) -> list[str]:
    """Makes what has gone while normalizers run, and what has become missing: a venue that nobody named may go.

    Raises:
        Unreachable: no broker answers.
        FeedError: some are missing, and none is made.
    """
    async with Cluster(entrance_of(settings.kafka)) as cluster:
        known = await cluster.topics()
        return await _make(settings, cluster, known, _there(settings, known))


class Topic(NamedTuple):
    """A topic that a normalizer needs. `is_log`: it writes there; else there are ticks, which it reads."""

    name: str
    partitions: int
    is_log: bool


def needed(settings: Settings, venues: Iterable[str], known: Mapping[str, int]) -> list[Topic]:
    """The topics of these venues: ticks, then dead letters and feed logs. A feed log has as many partitions as the
    ticks, where these are among the `known` ones (name to partitions)."""
    kafka = settings.kafka
    ticks, logs = [], [Topic(kafka.dead_topic, _DEAD_PARTITIONS, is_log=True)]
    for venue in venues:
        topic = settings.ticks_topic(venue)
        count = known.get(topic) or kafka.partitions
        ticks.append(Topic(topic, count, is_log=False))
        logs.append(Topic(settings.feed_topic(venue), count, is_log=True))
    return ticks + logs


def rights(settings: Settings, venues: Iterable[str]) -> list[Right]:
    """What a normalizer of these venues has to be allowed."""
    kafka = settings.kafka
    found = [Right("READ", "group", kafka.group)] if kafka.assign == "group" else []
    for venue in venues:
        ticks, log = settings.ticks_topic(venue), settings.feed_topic(venue)
        found += [Right("READ", "topic", ticks), Right("READ", "topic", log), Right("WRITE", "topic", log)]
    return [*found, Right("WRITE", "topic", kafka.dead_topic)]


def _there(settings: Settings, known: Mapping[str, int]) -> Sequence[str]:
    """The venues that were named, else those whose ticks are there."""
    names, named = settings.normalized
    return names if named else [name for name in names if settings.ticks_topic(name) in known]


async def _make(settings: Settings, cluster: Cluster, known: Mapping[str, int], venues: Iterable[str]) -> list[str]:
    topics = needed(settings, venues, known)
    absent = [topic.name for topic in topics if topic.name not in known]
    if absent and not settings.creates_topics:
        raise FeedError(
            f"no topic {', '.join(absent)}, and none is made on brokers elsewhere (kafka.create_topics); `feed topics "
            f"--commands` prints how they are made"
        )
    made: list[str] = []
    for logs in (False, True):
        some = {topic.name: topic.partitions for topic in topics if topic.is_log is logs}
        own = settings.log_settings if logs else settings.topic_settings
        made += await cluster.make_topics(some, own, replication=settings.kafka.replication)
    return made
