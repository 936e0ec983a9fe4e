"""The topics that roles need: made where they are missing, before a normalizer starts and while it runs.

Owns which topics those are, what has to be allowed with them, and how many partitions they get; their settings are the
settings' (`topic_settings`, `log_settings`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

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
    """
    async with Cluster(entrance_of(settings.kafka)) as cluster:
        known = await cluster.topics()
        return await _make(settings, cluster, known, _there(settings, known))


def rights(settings: Settings, venues: Iterable[str]) -> list[Right]:
    """What a normalizer of these venues has to be allowed."""
    kafka = settings.kafka
    needed = [Right("READ", "group", kafka.group)] if kafka.assign == "group" else []
    for venue in venues:
        ticks, log = settings.ticks_topic(venue), settings.feed_topic(venue)
        needed += [Right("READ", "topic", ticks), Right("READ", "topic", log), Right("WRITE", "topic", log)]
    return [*needed, Right("WRITE", "topic", kafka.dead_topic)]


def _there(settings: Settings, known: Mapping[str, int]) -> Sequence[str]:
    """The venues that were named, else those whose ticks are there."""
    names, named = settings.normalized
    return names if named else [name for name in names if settings.ticks_topic(name) in known]


async def _make(settings: Settings, cluster: Cluster, known: Mapping[str, int], venues: Iterable[str]) -> list[str]:
    kafka = settings.kafka
    ticks: dict[str, int] = {}
    logs = {kafka.dead_topic: _DEAD_PARTITIONS}
    for venue in venues:
        topic = settings.ticks_topic(venue)
        ticks[topic] = known.get(topic) or kafka.partitions
        logs[settings.feed_topic(venue)] = ticks[topic]
    made = await cluster.make_topics(ticks, settings.topic_settings)
    return made + await cluster.make_topics(logs, settings.log_settings)
