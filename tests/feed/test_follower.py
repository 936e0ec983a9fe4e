"""What a follower tells those who look after it, over logs that stand as a test says."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from feed.errors import CorruptLog
from feed.floors import EARLIEST
from feed.follower import Followed, Follower
from feed.kafka.fetch import Stream

pytestmark = pytest.mark.anyio


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def kafka_answered(self) -> None:
        self.told.append("answered")

    def kafka_failed(self, reason: str) -> None:
        self.told.append(reason)

    def caught_up(self) -> None:
        self.told.append("caught up")


class Kafka:
    """A cluster and its fetcher: topics with so many partitions, their logs empty, or with an end."""

    def __init__(self, **topics: int) -> None:
        self.there = {name.replace("_", "."): count for name, count in topics.items()}
        self.broken: set[str] = set()
        self.ends: dict[str, int] = {}
        self.reachable, self.overdue = True, False

    async def topics(self) -> dict[str, int]:
        return dict(self.there)

    async def offsets(self, partition: Any) -> tuple[int, int]:
        if partition.topic in self.broken:
            raise CorruptLog("floor 9 of the record at offset 4 lies beyond it")
        return 0, self.ends.get(partition.topic, 0)

    def follow(self, partition: Any, start: int) -> Any:
        return Stream(partition, start, asyncio.Event())


def follower(kafka: Kafka, watcher: Watcher, *, lenient: bool = False, **named: bool) -> Follower:
    topics = {f"feed.{venue}": Followed(10.0, is_named, venue) for venue, is_named in named.items()}
    made = Follower(
        "nowhere:1",
        topics,
        sink=SimpleNamespace(source_state=lambda *_: None),  # type: ignore[arg-type]  # nothing comes
        watcher=watcher,
        notify=lambda: None,
        resume_window_s=60,
        lenient=lenient,
    )
    made._cluster = kafka  # type: ignore[assignment]
    made._floors._cluster = kafka  # type: ignore[assignment]
    made._fetcher = SimpleNamespace(  # type: ignore[assignment]
        follow=kafka.follow, arrived=SimpleNamespace(set=lambda: None), reachable=True, overdue=False
    )
    return made


async def look(found: Follower) -> None:
    """As its task does once in a while."""
    await found._look()
    found._looked_at = time.monotonic()


async def test_kafka_is_there_while_any_broker_answers() -> None:
    kafka, watcher = Kafka(feed_kraken=2), Watcher()
    found = follower(kafka, watcher, kraken=True)
    await look(found)
    found._watch()
    assert watcher.told[0] == "answered"
    # one broker of two is away, and with it a partition
    found._fetcher.reachable = False  # type: ignore[misc]
    one, _ = found._logs.values()
    for _ in range(3):
        watcher.told.clear()
        one.stream.seen_at = time.monotonic()
        found._watch()
        assert watcher.told == ["answered"]
    watcher.told.clear()
    found._watch()
    assert watcher.told == ["fetches are not answered"]


async def test_what_is_missing_is_told_of_those_that_were_named_or_asked_for() -> None:
    kafka = Kafka(feed_kraken=1)
    found = follower(kafka, Watcher(), kraken=True, krakn=True, coinbase=False)
    assert found.absent() == {}  # nobody has looked yet
    await look(found)
    since = found.absent()
    assert since.keys() == {"krakn"}
    assert found.absent(["coinbase", "kraken"]).keys() == {"krakn", "coinbase"}
    await look(found)
    assert found.absent() == since
    kafka.there["feed.krakn"] = 1
    await look(found)
    assert found.absent() == {}
    assert [(one.venue, one.partition, one.source) for one in found.standings] == [("kraken", 0, ""), ("krakn", 0, "")]
    del kafka.there["feed.krakn"]
    await look(found)
    assert found.absent().keys() == {"krakn"}


async def test_a_log_that_cannot_be_read_is_told_until_its_topic_is_gone() -> None:
    kafka, watcher = Kafka(feed_kraken=1, feed_coinbase=1), Watcher()
    kafka.broken = {"feed.kraken"}
    found = follower(kafka, watcher, kraken=False, coinbase=False)
    await look(found)
    assert {(one.venue, one.reason) for one in found.standings} == {("kraken", "unreadable"), ("coinbase", None)}
    found._watch()
    assert "caught up" not in watcher.told
    del kafka.there["feed.kraken"]
    await look(found)
    assert [one.venue for one in found.standings] == ["coinbase"]
    found._watch()
    assert watcher.told[-1] == "caught up"


@pytest.mark.parametrize("lenient", [True, False])
async def test_who_replaces_another_waits_for_no_log_that_cannot_be_read(lenient: bool) -> None:
    kafka, watcher = Kafka(feed_kraken=1, feed_coinbase=1), Watcher()
    kafka.broken = {"feed.kraken"}
    found = follower(kafka, watcher, lenient=lenient, kraken=True, coinbase=True, krakn=True)
    await look(found)
    found._watch()
    assert ("caught up" in watcher.told) is lenient


async def test_who_is_served_while_another_log_is_read_hears_of_a_source_that_has_stopped() -> None:
    kafka, watcher = Kafka(feed_kraken=1, feed_coinbase=1), Watcher()
    kafka.ends["feed.coinbase"] = 5
    found = follower(kafka, watcher, kraken=True, coinbase=True)
    told: list[tuple[object, ...]] = []
    found._sink = SimpleNamespace(source_state=lambda *state: told.append(state[:3]))  # type: ignore[assignment]
    found._floors = SimpleNamespace(of=at_the_begin)  # type: ignore[assignment]
    await look(found)
    for followed in found._logs.values():
        followed.source = f"{followed.name}@x"
        followed.record_at -= 3
    assert found._watch()
    assert told == [("feed.kraken/0@x", "stale", "disconnected")]
    assert "caught up" not in watcher.told


async def at_the_begin(*_: object) -> int:
    return 0


async def test_a_partition_that_is_added_is_read_from_its_begin() -> None:
    kafka = Kafka(feed_kraken=1)
    found = follower(kafka, Watcher(), kraken=True)
    asked: list[tuple[int, object]] = []

    async def of(partition: Any, wanted: object, begin: int, end: int) -> int:
        asked.append((partition.partition, wanted))
        return begin

    found._floors = SimpleNamespace(of=of)  # type: ignore[assignment]
    await look(found)
    kafka.there["feed.kraken"], kafka.ends["feed.kraken"] = 2, 50
    await look(found)
    await look(found)
    assert asked == [(0, None), (1, EARLIEST)]
    assert not found._added
