"""What a follower tells those who look after it, over logs that stand as a test says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from feed.errors import CorruptLog, NotLetIn
from feed.follow import follower as module
from feed.follow.floors import EARLIEST
from feed.follow.follower import Followed, Follower
from feed.kafka.fetch import Stream
from feed.runtime.tasks import end
from feed.runtime.throttle import ThrottledLog
from feed.wire.record import Record, headers_of

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
        self.log: list[Any] = []
        self.read_times = 0
        self.reachable, self.overdue = True, False

    async def topics(self) -> dict[str, int]:
        return dict(self.there)

    async def offsets(self, partition: Any) -> tuple[int, int]:
        if partition.topic in self.broken:
            raise CorruptLog("floor 9 of the record at offset 4 lies beyond it")
        return 0, self.ends.get(partition.topic, 0)

    async def read(self, *_: Any) -> AsyncIterator[list[Any]]:
        self.read_times += 1
        yield self.log

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


def lying(source: str, kind: str = "data", *, ends: str = "") -> Any:
    """A record as it lies in a log."""
    fields = {"after": 0, "first": 0, "last": 0, "partitions": 1, "version": "2.x", "floor": 0, "since": -1, "end": 1}
    record = Record(source=source, kind=kind, ends=ends, **fields)  # type: ignore[arg-type]
    return SimpleNamespace(offset=0, value=record.value, headers=headers_of(record))


A, B = "kraken/0@a", "kraken/0@b"


@pytest.mark.parametrize(
    ("log", "anew"),
    [
        ([lying(A, "source"), lying(A), lying(B)], False),  # somebody else writes, void
        ([lying(A, "source"), lying(B, "source", ends="kraken/0@z"), lying(B)], False),
        ([lying(B, "source"), lying(B)], True),  # made anew
        ([lying("kraken/0@z", "source"), lying(B, "source", ends="kraken/0@z"), lying(B)], True),
    ],
)
async def test_where_only_void_records_come_the_log_says_why(log: list[Any], anew: bool) -> None:
    kafka = Kafka(feed_kraken=1)
    found = follower(kafka, Watcher(), kraken=True)
    await look(found)
    (where, followed), *_ = found._logs.items()
    stream = followed.stream
    left: list[Stream] = []
    found._fetcher.leave = left.append  # type: ignore[method-assign]
    followed.reader.source, followed.source, followed.reader.void, followed.reader.pos = A, A, 1, 0
    kafka.log = log
    found._watch()
    assert not followed.doubted  # not before a writer would have said something
    followed.record_at -= 3
    found._watch()
    assert followed.doubted
    await look(found)
    now = found._logs[where]
    assert (now is not followed, left) == ((True, [stream]) if anew else (False, []))
    told = SimpleNamespace(opened=lambda *how: opened.append(how), data=lambda *_: None, stands=lambda *_: None)
    opened: list[tuple[object, ...]] = []
    now.read(log, told, time.monotonic(), lambda *_: None, None, ThrottledLog(logging.getLogger()))  # type: ignore[arg-type]
    if anew:  # what was there before is replaced, and nobody knows what is missing
        assert opened[0] == (log[0].headers[0][1].decode(), A, False, True)
    else:
        await look(found)
        assert kafka.read_times == 1  # once, until a valid record comes


async def test_a_log_that_ends_before_where_it_was_read_is_another_one() -> None:
    kafka = Kafka(feed_kraken=1)
    found = follower(kafka, Watcher(), kraken=True)
    await look(found)
    (where, followed), *_ = found._logs.items()
    followed.source, followed.stream.position = A, 7
    followed.lose(None)
    await look(found)
    opened: list[tuple[object, ...]] = []
    told = SimpleNamespace(opened=lambda *how: opened.append(how))
    log = [lying(B, "source")]
    found._logs[where].read(log, told, time.monotonic(), lambda *_: None, None, ThrottledLog(logging.getLogger()))  # type: ignore[arg-type]
    assert opened == [(B, A, False, True)]


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


async def test_a_right_that_is_missing_is_told_at_once_and_is_no_missing_topic() -> None:
    kafka, watcher = Kafka(feed_kraken=1), Watcher()
    found = follower(kafka, watcher, kraken=True)
    await look(found)
    (followed,) = found._logs.values()
    followed.source, followed.stream.denied = A, "no right to READ on the topic feed.kraken"
    del kafka.there["feed.kraken"]  # who may not read it does not see it
    await look(found)
    found._watch()
    assert found.absent() == {}
    (standing,) = found.standings
    assert (standing.reason, standing.found) == (
        "stalled",
        "cannot be read on: no right to READ on the topic feed.kraken",
    )


async def test_that_we_are_not_let_in_any_more_is_told_until_we_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NEW_PARTITIONS_S", 0.001)
    kafka, watcher = Kafka(feed_kraken=1), Watcher()
    found = follower(kafka, watcher, kraken=True)
    await look(found)
    found._watch()
    found._fetcher.reachable = False  # type: ignore[misc]
    there = kafka.topics

    async def refused() -> dict[str, int]:
        raise NotLetIn("a wrong password")

    monkeypatch.setattr(kafka, "topics", refused)
    looking = asyncio.create_task(found._look_for_partitions())
    async with asyncio.timeout(5):
        while "a wrong password" not in watcher.told:
            await asyncio.sleep(0.001)
        watcher.told.clear()
        found._watch()
        assert watcher.told == ["a wrong password"]
        monkeypatch.setattr(kafka, "topics", there)
        while found._refused:
            await asyncio.sleep(0.001)
    await end([looking])
