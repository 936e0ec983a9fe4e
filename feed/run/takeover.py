"""`feed takeover` put together: what is about to happen, whether somebody wants it, and what has happened.

Owns the words and the question. What a takeover does is `feed.normalizer.takeover`'s.
"""

from __future__ import annotations

import asyncio
import difflib
import sys
from typing import TYPE_CHECKING

import msgspec

from feed.errors import ConfigError, FeedError
from feed.kafka.access import entrance_of
from feed.kafka.cluster import Cluster
from feed.normalizer.settings import version_of
from feed.normalizer.takeover import take_over, written
from feed.run.up import normalizer_settings
from feed.run.venues import venue_of
from feed.runtime.command import say

if TYPE_CHECKING:
    from feed.runtime.settings import Settings


async def run(settings: Settings, name: str, *, asks: bool, as_json: bool) -> None:
    """Takes the logs of a venue over, in words on stderr and with the new sources on stdout.

    Raises:
        ConfigError: there is no such venue.
        Unreachable: no broker answers.
        FeedError: nobody wanted it, or a log could not be opened.
    """
    venue = venue_of(settings, name)
    broker, own = entrance_of(settings.kafka), normalizer_settings(settings, venue)
    try:
        before = await written(broker, own)
    except ConfigError as error:
        raise ConfigError(f"{error}{await _near(settings, name)}") from error
    version = version_of(own.rules)
    for one in before:
        by = f"{one.source}, version {one.version}" if one.source else "nobody"
        say(f"partition {one.partition} of {own.feed_topic} was written last by {by}")
    say(
        f"all of them begin anew in version {version}: clients of {name} are told a gap and get snapshots. Where no "
        f"normalizer with these settings goes on within {own.normalize.rival_silence_ms / 1000:g} s, the others do"
    )
    if asks and not await asyncio.to_thread(_wanted):
        raise FeedError("nothing was done")
    ends = {one.partition: one.source for one in before}

    def tell(source: str) -> None:
        partition = int(source.partition("@")[0].rpartition("/")[2])
        told = {"partition": partition, "source": source, "ends": ends.get(partition) or None}
        sys.stdout.write(f"{msgspec.json.encode(told).decode() if as_json else source}\n")
        sys.stdout.flush()

    await take_over(broker, venue, own, tell)


def _wanted() -> bool:
    sys.stderr.write("go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _near(settings: Settings, name: str) -> str:
    """What may have been meant."""
    async with Cluster(entrance_of(settings.kafka)) as cluster:
        topics = await cluster.topics()
    prefix = settings.kafka.feed_prefix
    there = [topic.removeprefix(prefix) for topic in topics if topic.startswith(prefix)]
    near = difflib.get_close_matches(name, there, n=1)
    return f"; did you mean {near[0]}?" if near else ""
