"""Follows the feed logs into a hub, a gateway's or a recorder's: from each log's floor to its end, and on.

Owns when reading starts and starts again, and that one log's trouble is that one's. Where it starts is `floors`', what
a record says, and what is to be thought of its source, `followed`'s, Kafka `feed.kafka`'s. Reads a little further back
than the floor, as far as clients may resume, so that a restart of this gateway costs them nothing.

A log that cannot be followed on (its records are gone, its topic is another) is started at its floor again: the hub
is told that the source goes on from there, and tells readers what they miss. Where no floor leads on, it is looked at
again until one does.

(Over 400 lines: finding logs, reading them and judging how they stand are one loop over the same table.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from feed.errors import FeedError, NotLetIn
from feed.follow.floors import EARLIEST, Floors
from feed.follow.followed import FollowedLog, LogStanding, Patience, Sink, Unreadable
from feed.kafka.access import Entrance
from feed.kafka.cluster import Cluster, OutOfRange
from feed.kafka.fetch import Fetcher
from feed.kafka.rights import Right
from feed.runtime.tasks import end
from feed.runtime.throttle import ThrottledLog
from feed.wire.log_reader import HoleInLog, valid_source
from feed.wire.record import known_records

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

    from feed.follow.floors import Wanted

_LOOK_S: Final = 0.25
_WATCH_S: Final = 0.025
"""So seldom is looked at what is to be thought of all sources, however often something comes."""
_NEW_PARTITIONS_S: Final = 2.0
_RETRY_S: Final = 0.5
_DOUBT_S: Final = 2.0
"""After so long with void records and no other: a writer tells something each second."""
_PIECE_BYTES: Final = 64 * 1024
STALLED_S: Final = 2.0
"""A tick or a record that has waited for so long makes its source `stalled`."""
log: Final = logging.getLogger("feed.follower")


class Watcher(Protocol):
    """What is told how following goes: the gateway's health."""

    def kafka_answered(self) -> None:
        """A fetch was answered."""

    def kafka_failed(self, reason: str) -> None:
        """A fetch failed."""

    def caught_up(self) -> None:
        """All logs were read to the end that they had at the start."""


class Followed(NamedTuple):
    """A feed topic that is followed. `silent_s`: after so long without a tick its sources are silent.

    `named`: it was asked for by name; else it counts only where it is there. `venue`: whose log it is.
    """

    silent_s: float
    named: bool = True
    venue: str = ""


class Follower:
    """Follows the feed logs of some topics, until it is cancelled."""

    def __init__(
        self,
        broker: Entrance | str,
        topics: Mapping[str, Followed],
        *,
        sink: Sink,
        watcher: Watcher,
        notify: Callable[[], None],
        resume_window_s: float,
        fetch_wait_ms: int = 100,
        disconnected_after_s: float = 2.0,
        client_id: str = "feed-serve",
        starts: Callable[[TopicPartition, int, int], Wanted] = lambda partition, begin, end: None,
        passed: Callable[[str, int], None] | None = None,
        between: Callable[[], Awaitable[None]] | None = None,
        room: Callable[[], Awaitable[None]] | None = None,
        lenient: bool = False,
    ) -> None:
        """`lenient`: a log that is missing or cannot be read keeps it from nothing; it replaces one that served others.

        `starts`: given a log's begin and end, where its state must be known.

        `passed`: is told each record's source and offset before the sink hears of it. `between`: awaited before records
        are taken; while it waits, nothing is taken, and little is fetched. `room`: where it is given, records are taken
        in pieces, and it is awaited after each: what came is to be sent before there is too much of it.
        """
        self._topics = topics
        self._absent = dict.fromkeys(topics, time.monotonic())
        """Topics that are not there, and since when."""
        self._sink = sink
        self._watcher = watcher
        self._notify = notify
        self._disconnected_after_s = disconnected_after_s
        self._starts = starts
        self._passed = passed
        self._between = between
        self._room = room
        self._lenient = lenient
        self._told = ThrottledLog(log)
        self._cluster = Cluster(broker, client_id=client_id)
        self._floors = Floors(self._cluster, resume_window_s)
        self._fetcher = Fetcher(self._cluster, wait_ms=fetch_wait_ms)
        self._logs: dict[TopicPartition, FollowedLog] = {}
        self._unfollowed: dict[TopicPartition, Unreadable] = {}
        self._partitions: dict[str, int] = {}
        """How many partitions of each topic were seen when it was last looked."""
        self._added: set[TopicPartition] = set()
        """Partitions that came since it is followed, and are not followed yet."""
        self._looked_at = self._seen_at = 0.0
        self._caught_up = False
        self._refused = ""
        """Why we are not let in any more."""

    @property
    def positions(self) -> dict[str, tuple[int, int]]:
        """For each source that is followed: the last tick covered, and the log offset from which the next ones come.

        Whoever has everything up to the tick goes on from the offset.
        """
        return {log_.source: (log_.reader.pos, log_.taken) for log_ in self._logs.values() if log_.source}

    @property
    def venues(self) -> list[str]:
        """Whose logs are followed where they are there."""
        return [how.venue for how in self._topics.values()]

    @property
    def standings(self) -> list[LogStanding]:
        """How each partition stands that is there, or was."""
        now = time.monotonic()
        found = [one.standing(self._venue(where), where.partition, now) for where, one in self._logs.items()]
        for where, (why, since, _) in self._unfollowed.items():
            told = f"cannot be read on: {why}"
            found.append(LogStanding(self._venue(where), where.partition, "", "unreadable", since, told, now - since))
        return found

    def absent(self, venues: Iterable[str] = ()) -> dict[str, float]:
        """Venues without a topic, and since when, by the monotonic clock: those that were named, or are among these."""
        if not self._looked_at:
            return {}
        how = self._topics
        return {
            how[topic].venue: since
            for topic, since in self._absent.items()
            if how[topic].named or how[topic].venue in venues
        }

    @property
    def foreign(self) -> dict[tuple[str, str], int]:
        """Records that were none of ours, by venue and partition."""
        return {
            (self._venue(where), str(where.partition)): one.foreign + one.stream.foreign
            for where, one in self._logs.items()
        }

    @property
    def delay_s(self) -> float:
        """For how long the oldest record has waited that was not taken."""
        now = time.monotonic()
        return max((one.stream.waits.waited(one.stream.taken, now) for one in self._logs.values()), default=0.0)

    async def run(self) -> None:
        """Follows.

        Raises:
            Unreachable: no broker answered at the start; NotLetIn where we are not let in, or may not read what was
                named.
        """
        await self._cluster.start()
        looking = asyncio.create_task(self._look_for_partitions(), name="feed partitions")
        watched_at = 0.0
        try:
            if not self._lenient:
                named = [topic for topic, how in self._topics.items() if how.named]
                await self._cluster.must_have(Right("READ", "topic", topic) for topic in named)
            while True:
                await self._wait()
                if self._between is not None:
                    await self._between()
                changed = False
                for partition, followed in list(self._logs.items()):
                    stream = followed.stream
                    while not followed.lost and (stream.waiting or stream.failed is not None or stream.vanished):
                        changed = self._take(partition, followed) or changed
                        if self._room is not None:
                            await self._room()
                now = time.monotonic()
                if not self._caught_up or now - watched_at >= _WATCH_S:
                    watched_at = now
                    changed = self._watch() or changed
                if changed:
                    self._notify()
                if looking.done():
                    looking.result()
        finally:
            await end([looking])
            await self._fetcher.stop()
            await self._cluster.stop()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._fetcher.arrived.wait()
        except TimeoutError:
            pass
        self._fetcher.arrived.clear()

    # ---- which logs there are

    async def _look_for_partitions(self) -> None:
        """Follows partitions that are new, and anew those that were lost."""
        while True:
            missing = True
            try:
                missing = await self._look()
                self._looked_at = time.monotonic()
                self._refused = ""
            except (FeedError, KafkaError, OSError) as error:
                self._refused = str(error) if isinstance(error, NotLetIn) else ""
                if self._refused:
                    self._told.say("refused", f"feed logs cannot be looked up: {error}")
                self._watcher.kafka_failed(str(error))
            await asyncio.sleep(_RETRY_S if missing or not self._logs else _NEW_PARTITIONS_S)

    async def _look(self) -> bool:
        """Whether any was not followed."""
        known = await self._cluster.topics()
        now = time.monotonic()
        denied = {where.topic for where, followed in self._logs.items() if followed.stream.denied}
        absent = [topic for topic in self._topics if not known.get(topic) and topic not in denied]
        self._absent = {topic: self._absent.get(topic, now) for topic in absent}
        self._unfollowed = {at: why for at, why in self._unfollowed.items() if at.partition < known.get(at.topic, 0)}
        missing = self._misses
        for topic, count in self._partitions.items():
            self._added |= {TopicPartition(topic, number) for number in range(count, known.get(topic, 0)) if count}
        self._partitions = {topic: known.get(topic, 0) for topic in self._topics}
        for topic in self._topics:
            for number in range(known.get(topic, 0)):
                partition = TopicPartition(topic, number)
                before = self._logs.get(partition)
                if before is not None and before.doubted and not before.settled:
                    await self._try(partition, before, self._settle(partition, before))
                if before is None or before.lost:
                    missing = True
                    await self._try(partition, before, self._follow(partition, before))
        for partition, followed in self._logs.items():
            if partition.partition >= known.get(partition.topic, 0) and not followed.stream.denied:
                self._cannot(partition, followed, f"there is no partition {_name(partition)}", -1)
        return missing

    async def _try(
        self, partition: TopicPartition, followed: FollowedLog | None, work: Coroutine[None, None, None]
    ) -> None:
        try:
            await work
        except (KafkaError, OSError):
            raise
        except FeedError as error:
            self._cannot(partition, followed, str(error), -1)
        except Exception as error:
            words = f"{_name(partition)} cannot be followed"
            self._told.say(("failed", partition), words, level=logging.ERROR, error=error)
            self._cannot(partition, followed, repr(error), -1)
        else:
            self._unfollowed.pop(partition, None)
            self._added.discard(partition)
            self._fetcher.arrived.set()

    def _cannot(self, partition: TopicPartition, followed: FollowedLog | None, why: str, offset: int) -> None:
        """A log cannot be read on."""
        now = time.monotonic()
        self._told.say(("unreadable", partition), f"{_name(partition)} cannot be read on: {why}")
        if followed is not None:
            before = followed.unreadable
            followed.unreadable = Unreadable(why, now if before is None else before.since, offset)
        else:
            known = self._unfollowed.get(partition)
            self._unfollowed[partition] = Unreadable(why, now if known is None else known.since, offset)

    # ---- where reading starts

    async def _follow(self, partition: TopicPartition, before: FollowedLog | None) -> None:
        begin, end = await self._cluster.offsets(partition)
        start = await self._start(partition, before, begin, end)
        if before is not None and before.unreadable is not None and start <= before.unreadable.offset:
            return  # it would lead to where it led before: a later floor will do
        stream = self._fetcher.follow(partition, start)
        stream.waits.saw(end, time.monotonic())
        patience = Patience(self._disconnected_after_s, self._topics[partition.topic].silent_s, STALLED_S)
        followed = FollowedLog(_name(partition), stream, start, end, patience, time.monotonic())
        if before is not None:
            followed.go_on_from(before)
            if before.unreadable is not None and before.unreadable.offset < 0:
                followed.unreadable = None
        self._logs[partition] = followed

    async def _start(self, partition: TopicPartition, before: FollowedLog | None, begin: int, end: int) -> int:
        wanted = self._starts(partition, begin, end)
        if before is not None and before.floor is not None:
            start = before.floor
        else:
            if wanted is None and partition in self._added:
                wanted = EARLIEST  # symbols move to it, whose first updates there lie before any floor
            start = await self._floors.of(partition, wanted, begin, end)
        return min(max(start, begin), end)

    async def _settle(self, partition: TopicPartition, followed: FollowedLog) -> None:
        """Looks why only void records come. The log is read once, to know which source is valid: where it is ours,
        nothing has happened; else reading had begun with a void record, or another log lies there: then it is followed
        from its begin.
        """
        begin, end = await self._cluster.offsets(partition)
        valid = ""
        async for page in self._cluster.read(partition, begin, end):
            valid = valid_source(known_records(page), valid)
        followed.settled = True
        if valid != followed.reader.source and followed.doubted and not followed.lost:
            followed.lose(begin)
            self._fetcher.leave(followed.stream)

    # ---- what comes

    def _take(self, partition: TopicPartition, followed: FollowedLog) -> bool:
        """Takes what has arrived; whether the hub has heard anything."""
        stream = followed.stream
        confirmed = stream.confirmed
        try:
            if stream.vanished:
                raise OutOfRange(f"{partition.topic} was away")
            raws = stream.take(None if self._room is None else _PIECE_BYTES)
            heard = followed.read(raws, self._sink, time.monotonic(), self._tell, self._passed, self._told)
        except HoleInLog as hole:
            followed.lose(hole.floor, go_on=True)
            if (hole.floor, hole.offset) in followed.holes:
                followed.floor = None
                self._cannot(partition, followed, f"no floor leads beyond it: {hole}", hole.offset)
            followed.holes.add((hole.floor, hole.offset))
        except OutOfRange as error:
            self._told.say(("range", partition), f"{_name(partition)}: {error}; starting at its floor again")
            followed.lose(None)
        except FeedError as error:
            followed.lose(None)
            self._cannot(partition, followed, str(error), stream.position)
        else:
            if stream.confirmed != confirmed and followed.source:
                self._sink.confirmed(followed.source)
            if followed.unreadable is not None and stream.taken > followed.unreadable.offset:
                followed.unreadable = None
                followed.holes.clear()
            if not self._caught_up and stream.position >= followed.goal:
                self._fetcher.arrived.set()
            return heard
        self._fetcher.leave(stream)
        return True

    def _watch(self) -> bool:
        """Tells health how we stand, and readers what is to be thought of sources; whether they were told anything."""
        now = time.monotonic()
        # of several brokers one may be away: whose partitions it led are stalled, the others are served
        seen_at = max([self._looked_at, *(log_.stream.seen_at for log_ in self._logs.values())])
        if seen_at > self._seen_at:
            self._seen_at = seen_at
            self._watcher.kafka_answered()
        elif not self._fetcher.reachable or self._fetcher.overdue:
            self._watcher.kafka_failed(self._refused or "fetches are not answered")
        # not while the first look goes on: the logs that it has not come to yet are not read at all
        if not self._caught_up and self._looked_at and self._all_read:
            self._caught_up = True
            self._watcher.caught_up()
        told = False
        for partition, followed in self._logs.items():
            if followed.stream.denied:
                self._cannot(partition, followed, followed.stream.denied, -1)
            # who is served while another log is still being read hears of this one, too
            if self._caught_up or followed.caught_up:
                told = self._tell(followed, now) or told
                self._doubt(followed, now)
        return told

    @property
    def _all_read(self) -> bool:
        """Whether there is nothing that should be followed and was not read to its end."""
        if not self._logs:
            return False
        if self._lenient:
            return all(log_.caught_up or log_.unreadable is not None for log_ in self._logs.values())
        if self._misses or self._unfollowed:
            return False
        return all(log_.caught_up and log_.unreadable is None for log_ in self._logs.values())

    @property
    def _misses(self) -> bool:
        """Whether a topic is missing that was named."""
        return any(self._topics[topic].named for topic in self._absent)

    def _venue(self, partition: TopicPartition) -> str:
        return self._topics[partition.topic].venue

    def _doubt(self, followed: FollowedLog, now: float) -> None:
        """Whether all that comes is void."""
        if followed.reader.void and not followed.lost and now - followed.record_at > _DOUBT_S:
            followed.doubted = True

    def _tell(self, followed: FollowedLog, now: float) -> bool:
        """Tells readers what is to be thought of a source, where that has changed."""
        if not followed.source:
            return False
        reason, since = followed.verdict(now)
        if reason == followed.told:
            return False
        followed.told = reason
        since_ns = time.time_ns() - int((now - since) * 1e9)
        self._sink.source_state(followed.source, "stale" if reason else "ok", reason, since_ns)
        return True


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}/{partition.partition}"
