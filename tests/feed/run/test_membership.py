"""Which partitions a normalizer has: all that there are, and those that are added; or its share as a group's member."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import TopicPartition

from feed.errors import NotLetIn
from feed.run import membership
from feed.run.membership import AllPartitions, GroupMember

pytestmark = pytest.mark.anyio


class Normalizer:
    """What a membership sees of a normalizer; each look at the partitions brings the next of `found`."""

    def __init__(self, *found: set[int] | Exception) -> None:
        self.changed = asyncio.Event()
        self.owned: list[set[int]] = []
        self.seen_all = asyncio.Event()
        self._found = list(found)

    async def all_partitions(self) -> set[TopicPartition]:
        found = self._found.pop(0) if len(self._found) > 1 else self._found[0]
        if isinstance(found, Exception):
            raise found
        return {TopicPartition("ticks.x", number) for number in found}

    async def own(self, partitions: set[TopicPartition]) -> None:
        self.owned.append({one.partition for one in partitions})
        if self.owned[-1] == self._found[-1]:
            self.seen_all.set()


async def run(normalizer: Normalizer) -> None:
    running = asyncio.create_task(AllPartitions()(normalizer))  # type: ignore[arg-type]  # as far as it is asked
    async with asyncio.timeout(5):
        await normalizer.seen_all.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_partitions_that_are_added_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_LOOK_AGAIN_S", 0)
    normalizer = Normalizer({0}, {0, 1}, {0, 1, 2})
    await run(normalizer)
    assert normalizer.owned[:3] == [{0}, {0, 1}, {0, 1, 2}]


async def test_while_no_broker_answers_those_known_stay(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(membership, "_LOOK_AGAIN_S", 0)
    normalizer = Normalizer({0}, KafkaConnectionError("gone"), OSError("gone"), {0, 1})
    await run(normalizer)
    assert normalizer.owned[:2] == [{0}, {0, 1}]
    # once a minute, not at each look
    assert [record.getMessage()[:30] for record in caplog.records] == ["partitions cannot be looked up"]


async def test_what_changes_is_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_LOOK_AGAIN_S", 3_600)
    normalizer = Normalizer({0}, {0, 1})
    running = asyncio.create_task(AllPartitions()(normalizer))  # type: ignore[arg-type]  # as far as it is asked
    while not normalizer.owned:
        await asyncio.sleep(0)
    normalizer.changed.set()
    while len(normalizer.owned) < 2:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


class Consumer:
    """A member of a group: what each life of one meets, in order."""

    lives: ClassVar[list[Exception | None]] = []
    """An error of its start, None: it is a member, until the group refuses it."""
    made = 0

    def __init__(self, **options: Any) -> None:
        assert options["bootstrap_servers"] == "nowhere:1"
        Consumer.made += 1
        self.met = Consumer.lives.pop(0)

    def subscribe(self, topics: list[str], listener: object) -> None: ...

    async def start(self) -> None:
        if self.met is not None:
            raise self.met

    async def getmany(self) -> None:
        raise GroupAuthorizationFailedError("group")

    async def stop(self) -> None: ...


class Grouped:
    """What a member sees of a normalizer."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.topics = ["ticks.x"]
        self.positions: dict[TopicPartition, int] = {}
        self.heard: list[str] = []

    @property
    def left_out(self) -> str:
        return self.heard[-1] if self.heard else ""

    @left_out.setter
    def left_out(self, words: str) -> None:
        self.heard.append(words)


@pytest.fixture
def _consumers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "AIOKafkaConsumer", Consumer)
    monkeypatch.setattr(membership, "_LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(Consumer, "made", 0)


def member() -> GroupMember:
    return GroupMember("nowhere:1", "group", session_timeout_ms=6000, heartbeat_interval_ms=500)


@pytest.mark.usefixtures("_consumers")
async def test_a_group_that_refuses_us_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Consumer, "lives", [GroupAuthorizationFailedError("group")])
    with pytest.raises(NotLetIn, match=r"^no right to READ on the group group$"):
        await member()(Grouped())  # type: ignore[arg-type]  # as far as it is asked
    monkeypatch.setattr(Consumer, "lives", [TopicAuthorizationFailedError("ticks.x")])
    with pytest.raises(NotLetIn, match=r"^no right to READ on the topic ticks.x$"):
        await member()(Grouped())  # type: ignore[arg-type]  # as above


@pytest.mark.usefixtures("_consumers")
async def test_a_group_that_refuses_us_later_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    again = GroupAuthorizationFailedError("group")
    monkeypatch.setattr(Consumer, "lives", [None, again, None, *[again] * 1000])
    normalizer = Grouped()
    running = asyncio.create_task(member()(normalizer))  # type: ignore[arg-type]  # as above
    async with asyncio.timeout(5):
        while Consumer.made < 4:
            await asyncio.sleep(0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    refused = "no right to READ on the group group"
    assert normalizer.heard[:5] == ["", refused, refused, "", refused]
    assert [record.getMessage() for record in caplog.records] == [f"no member of the group group: {refused}"]


class Sharing:
    """A member that has two partitions, and what is committed by it; `errors` are met first."""

    def __init__(self, *errors: Exception) -> None:
        self.committed: list[dict[TopicPartition, int]] = []
        self.errors = list(errors)
        self.ours = {TopicPartition("ticks.x", number) for number in (0, 1)}

    def assignment(self) -> set[TopicPartition]:
        return self.ours

    async def commit(self, positions: dict[TopicPartition, int]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.committed.append(positions)


async def test_positions_are_shown_of_partitions_that_are_ours_and_when_they_move() -> None:
    zero, one, other = (TopicPartition("ticks.x", number) for number in range(3))
    normalizer, sharing, ours = Grouped(), Sharing(), member()
    normalizer.positions = {zero: 5, other: 7}
    for _ in range(2):
        await ours._show(sharing, normalizer)  # type: ignore[arg-type]  # as far as it is asked
    normalizer.positions = {zero: 5, one: 2, other: 8}
    await ours._show(sharing, normalizer)  # type: ignore[arg-type]  # as above
    assert sharing.committed == [{zero: 5}, {one: 2}]
    sharing.ours = {one}
    await ours._show(sharing, normalizer)  # type: ignore[arg-type]  # as above
    sharing.ours = {zero, one}
    await ours._show(sharing, normalizer)  # type: ignore[arg-type]  # as above
    assert sharing.committed[2:] == [{zero: 5}]


async def test_positions_that_cannot_be_shown_end_nothing_and_are_shown_later(caplog: pytest.LogCaptureFixture) -> None:
    zero = TopicPartition("ticks.x", 0)
    normalizer, ours = Grouped(), member()
    normalizer.positions = {zero: 5}
    sharing = Sharing(CommitFailedError("shared out anew"), KafkaConnectionError("gone"))
    for _ in range(3):
        await ours._show(sharing, normalizer)  # type: ignore[arg-type]  # as far as it is asked
    assert sharing.committed == [{zero: 5}]
    assert len(caplog.records) == 2
