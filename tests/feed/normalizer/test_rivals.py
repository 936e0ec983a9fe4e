"""Who may write a venue's logs while others do: by version, by what they wrote last, and by an operator's word."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from feed.normalizer import rivals
from feed.normalizer.rivals import Rivals, StandsBy
from feed.normalizer.settings import CODE_VERSION, NormalizerSettings, settings_text, version_of
from feed.venues.symbol import Rules
from feed.wire.record import Record, headers_of

pytestmark = pytest.mark.anyio
OURS = NormalizerSettings(ticks_topic="t", feed_topic="f", dead_topic="d", owner="here 1")
OTHER = Rules(trades_kept=7)
RECORD = Record(
    source="toy/0@a", kind="data", after=5, first=5, last=5, crc=1, partitions=1, version="", floor=0, since=-1,
    end=6, value=b"[]", offset=0,
)  # fmt: skip


class Lying:
    """A record as it lies in Kafka."""

    def __init__(self, record: Record, offset: int, written_s: float) -> None:
        self.offset, self.timestamp, self.key, self.value = offset, int(written_s * 1000), None, record.value
        self.headers = headers_of(record)


class Logs:
    """The feed logs of a venue, as `Cluster` shows them."""

    def __init__(self, clock: Any, partitions: int = 1) -> None:
        self.logs: list[list[Lying]] = [[] for _ in range(partitions)]
        self._clock = clock

    def write(self, record: Record, partition: int = 0, age_s: float = 0.0) -> None:
        log = self.logs[partition]
        log.append(Lying(record, len(log), self._clock.wall - age_s))

    async def partitions(self, topic: str) -> int:
        return len(self.logs)

    async def offsets(self, partition: Any) -> tuple[int, int]:
        return 0, len(self.logs[partition.partition])

    async def read(self, partition: Any, start: int, end: int) -> Any:
        yield self.logs[partition.partition][start:end]


class Clock:
    """This process' clock, and the wall's."""

    def __init__(self) -> None:
        self.now, self.wall = 100.0, 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(rivals, "time", found)
    return found


def theirs(*, code: int = CODE_VERSION, rules: Rules = OTHER, **more: Any) -> Record:
    version = f"{code}.{version_of(rules).partition('.')[2]}"
    return replace(RECORD, version=version, owner="there 2", settings=settings_text(rules), **more)


async def refused(found: Rivals, partition: int = 0) -> StandsBy | None:
    await found.look()
    try:
        found.refuse(found.last(partition))
    except StandsBy as refusal:
        return refusal
    return None


async def test_nobody_refuses_our_own(clock: Clock) -> None:
    logs = Logs(clock)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]  # as `Cluster`
    assert await refused(found) is None
    logs.write(replace(RECORD, version=found.version))
    clock.pass_(1)
    assert await refused(found) is None


async def test_other_settings_at_work_stay_and_are_named(clock: Clock) -> None:
    logs = Logs(clock)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    for _ in range(30):
        logs.write(theirs())
        refusal = await refused(found)
        assert refusal is not None
        assert not refusal.for_good
        clock.pass_(1)
    assert "there 2" in str(refusal)
    assert "normalize.trades_in_snapshot 7 there and 100 here" in str(refusal)


async def test_they_are_taken_over_from_ten_seconds_after_their_last(clock: Clock) -> None:
    logs = Logs(clock)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    logs.write(theirs())
    assert await refused(found) is not None
    clock.pass_(9.5)
    assert await refused(found) is not None
    clock.pass_(0.6)
    assert await refused(found) is None


async def test_who_is_at_work_in_another_partition_is_at_work(clock: Clock) -> None:
    logs = Logs(clock, 2)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    logs.write(theirs(), 0)
    for _ in range(15):
        logs.write(theirs(), 1)
        assert await refused(found) is not None
        clock.pass_(1)


async def test_a_record_that_was_old_when_it_was_seen_is_waited_for_shortly(clock: Clock) -> None:
    """By Kafka's time, which may be wrong: long enough to see that none follows."""
    logs = Logs(clock)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    logs.write(theirs(), age_s=3600)
    assert await refused(found) is not None
    clock.pass_(2.6)
    assert await refused(found) is None


async def test_a_higher_code_takes_over_at_once_and_a_lower_one_never(clock: Clock) -> None:
    logs = Logs(clock)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    logs.write(theirs(code=CODE_VERSION - 1))
    assert await refused(found) is None
    logs.write(theirs(code=CODE_VERSION + 1))
    clock.pass_(3600)
    refusal = await refused(found)
    assert refusal is not None
    assert refusal.for_good
    assert "feed takeover" in str(refusal)


async def test_who_was_appointed_is_left_alone_while_at_work(clock: Clock) -> None:
    logs = Logs(clock)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    logs.write(theirs(code=CODE_VERSION - 1, appointed=True))
    refusal = await refused(found)
    assert refusal is not None
    assert "operator" in str(refusal)
    clock.pass_(10.1)
    assert await refused(found) is None


async def test_a_log_that_nobody_has_written_is_for_who_writes_the_first(clock: Clock) -> None:
    logs = Logs(clock, 2)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    logs.write(theirs(), 0)
    assert await refused(found, 1) is not None
    clock.pass_(1)
    logs.write(replace(RECORD, version=found.version), 0)
    assert await refused(found, 1) is None


def opening(source: str, ends: str = "", rules: Rules = OURS.rules, **more: Any) -> Record:
    """The record that opens an incarnation."""
    more = {"owner": f"of {source}", "settings": settings_text(rules), "carries": bool(ends), "missing": True} | more
    return replace(RECORD, kind="source", source=source, ends=ends, version=version_of(rules), **more)


def alive(of: Record) -> Record:
    return replace(of, kind="data", ends="", owner="")


@pytest.mark.parametrize("symbols", [0, 3, 200])
@pytest.mark.parametrize("looked_before", [True, False])
async def test_a_void_record_of_ours_behind_a_takeover_hides_nobody(
    clock: Clock, symbols: int, looked_before: bool
) -> None:
    """Whoever is taken over from has a last batch in flight, which lands behind the new incarnation's first records."""
    logs = Logs(clock)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    first = opening("toy/0@a")
    taken = opening("toy/0@b", "toy/0@a", OTHER, appointed=True)
    for record in (first, alive(first)):
        logs.write(record)
    if looked_before:
        await found.look()
    clock.pass_(1)
    keyframes = [replace(alive(taken), kind="checkpoint", symbol=f"TOY:{n}", at=5) for n in range(symbols)]
    for record in (taken, *keyframes, alive(first)):
        logs.write(record)
    for _ in range(5):
        refusal = await refused(found)
        assert refusal is not None
        assert "of toy/0@b writes the venue's logs by an operator's word" in str(refusal)
        clock.pass_(2)
        logs.write(alive(first))  # it says nothing of who is at work
    clock.pass_(1)
    assert await refused(found) is None


async def test_what_was_just_read_is_looked_at_though_a_look_was_a_moment_ago(clock: Clock) -> None:
    logs = Logs(clock)
    found = Rivals(OURS, logs)  # type: ignore[arg-type]
    logs.write(opening("toy/0@a"))
    await found.look()
    clock.pass_(0.1)
    taken = opening("toy/0@b", "toy/0@a", OTHER, appointed=True)
    logs.write(taken)
    await found.look()
    assert found.last(0) != taken
    await found.look(0)
    with pytest.raises(StandsBy):
        found.refuse(taken)
