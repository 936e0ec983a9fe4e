"""Which partitions a normalizer has that is the only one: all that there are, and those that are added."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from aiokafka.structs import TopicPartition

from feed.run import membership
from feed.run.membership import AllPartitions

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
