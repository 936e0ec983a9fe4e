"""Who may write a venue's logs, as their newest records say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from feed.channels.record import Record, headers_of
from feed.normalizer import rivals as module
from feed.normalizer.rivals import Rivals, StandsBy
from feed.normalizer.settings import NormalizerSettings, version_of
from feed.venues.symbol import Rules

pytestmark = pytest.mark.anyio
OURS = NormalizerSettings(ticks_topic="ticks.toy", feed_topic="feed.toy", dead_topic="feed.dead", owner="us:1")
OWN = version_of(OURS.rules)
OTHER = version_of(Rules(trades_kept=7))


class Clock:
    """Monotonic and wall time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now


class Log:
    """A cluster with one partition of a feed log."""

    def __init__(self, clock: Clock) -> None:
        self.records: list[Any] = []
        self.looks = 0
        self._clock = clock

    def add(self, *records: Record) -> None:
        for record in records:
            stamp = int(self._clock.time() * 1000)
            offset = len(self.records)
            self.records.append(
                SimpleNamespace(offset=offset, timestamp=stamp, headers=headers_of(record), value=record.value)
            )

    async def partitions(self, topic: str) -> int:
        return 1

    async def offsets(self, partition: TopicPartition) -> tuple[int, int]:
        self.looks += 1
        return 0, len(self.records)

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[list[Any]]:
        yield self.records[start:end]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def opening(source: str, ends: str = "", version: str = OWN, floor: int = 0, **more: Any) -> Record:
    return Record(
        source=source,
        kind="source",
        after=-1,
        first=-1,
        last=-1,
        partitions=1,
        version=version,
        floor=floor,
        since=-1,
        end=0,
        ends=ends,
        carries=bool(ends),
        owner=f"{source}:1",
        **more,
    )


def alive(of: Record) -> Record:
    return replace(of, kind="data", position=0, ends="", owner="")


def keyframes(of: Record, count: int) -> list[Record]:
    return [replace(alive(of), kind="checkpoint", symbol=f"TOY:{n}", at=-1) for n in range(count)]


@pytest.mark.parametrize("symbols", [0, 3, 200])
@pytest.mark.parametrize("looked_before", [True, False])
async def test_a_void_record_of_ours_behind_a_takeover_hides_nobody(
    clock: Clock, symbols: int, looked_before: bool
) -> None:
    log = Log(clock)
    rivals = Rivals(OURS, log)  # type: ignore[arg-type]
    first = opening("toy/0@a")
    log.add(first, alive(first))
    if looked_before:
        await rivals.look()
    clock.now += 1.0
    taken = opening("toy/0@b", "toy/0@a", OTHER, appointed=True)
    log.add(taken, *keyframes(taken, symbols), alive(first))
    await rivals.look(0)
    last = rivals.last(0)
    assert last is not None
    assert last.source == "toy/0@b"
    with pytest.raises(StandsBy, match="toy/0@b:1 writes the venue's logs by an operator's word"):
        rivals.refuse(last)
    # what is void says nothing of who is at work
    for _ in range(4):
        clock.now += 2.4
        log.add(alive(first))
        await rivals.look()
        with pytest.raises(StandsBy):
            rivals.refuse(rivals.last(0))
    clock.now += 1.0
    log.add(alive(first))
    await rivals.look()
    rivals.refuse(rivals.last(0))


async def test_what_was_just_read_is_looked_at_though_a_look_was_a_moment_ago(clock: Clock) -> None:
    log = Log(clock)
    rivals = Rivals(OURS, log)  # type: ignore[arg-type]
    first = opening("toy/0@a")
    log.add(first)
    await rivals.look()
    clock.now += 0.1
    taken = opening("toy/0@b", "toy/0@a", OTHER, appointed=True)
    log.add(taken)
    looks = log.looks
    await rivals.look()
    assert log.looks == looks
    await rivals.look(0)
    with pytest.raises(StandsBy):
        rivals.refuse(taken)


async def test_whoever_is_at_work_is_waited_for_and_no_longer(clock: Clock) -> None:
    log = Log(clock)
    rivals = Rivals(OURS, log)  # type: ignore[arg-type]
    other = opening("toy/0@a", version=OTHER)
    log.add(other)
    for _ in range(30):
        log.add(alive(other))
        await rivals.look()
        with pytest.raises(StandsBy, match="toy/0@a:1 writes"):
            rivals.refuse(rivals.last(0))
        clock.now += 1.0
    clock.now += 9.5
    await rivals.look()
    rivals.refuse(rivals.last(0))
