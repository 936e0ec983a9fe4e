"""The normalizer on a real broker: restarts, second owners, and everything that opens a new incarnation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from feed.kafka.append import Appender
from feed.kafka.cluster import Cluster
from feed.normalizer.role import Normalizer
from feed.normalizer.settings import NormalizerSettings
from feed.normalizer.takeover import take_over
from feed.run.membership import AllPartitions, GroupMember
from feed.runtime.settings import NormalizeSettings
from feed.runtime.tasks import end
from feed.venues.symbol import Rules, Tick
from feed.wire.record import Record, headers_of, record_of
from tests.feed.feedlog.test_writer import make_ticks
from tests.feed.memory_log import Worker, updates_of
from tests.feed.toy import TOY
from tests.reference import without_source

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
Fresh = Callable[[str], str]
DEADLINE_S = 30.0


class Lab:
    """A tick topic, its feed topic and normalizers over them."""

    def __init__(self, kafka: str, stem: str, partitions: int = 1) -> None:
        self.kafka = kafka
        self.partitions = partitions
        self.settings = NormalizerSettings(
            ticks_topic=f"ticks.{stem}",
            feed_topic=f"feed.{stem}",
            dead_topic=f"feed.dead.{stem}",
            normalize=NormalizeSettings(alive_ms=100, rival_silence_ms=3000),
        )
        self.cluster = Cluster(kafka)
        self.appender = Appender(kafka)

    async def __aenter__(self) -> Lab:
        await self.cluster.start()
        await self.make_topics({})
        await self.appender.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.appender.stop()
        await self.cluster.stop()

    async def make_topics(self, settings: dict[str, str]) -> None:
        topics = {self.settings.ticks_topic: self.partitions, self.settings.feed_topic: self.partitions}
        await self.cluster.make_topics(
            topics | {self.settings.dead_topic: 1}, {"max.message.bytes": str(16 << 20)} | settings
        )

    async def delete(self, topic: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        await admin.delete_topics([topic])
        await admin.close()
        async with asyncio.timeout(DEADLINE_S):
            while topic in await self.cluster.topics():
                await asyncio.sleep(0.05)

    async def publish(self, ticks: list[Tick], partition: int = 0) -> None:
        await self.appender.append(
            TopicPartition(self.settings.ticks_topic, partition),
            [(tick.key.encode() or None, tick.value, [("ts_recv", b"%d" % tick.ts_recv)]) for tick in ticks],
        )

    @contextlib.asynccontextmanager
    async def normalizer(self, group: str = "", **changes: object) -> AsyncIterator[asyncio.Task[None]]:
        settings = replace(self.settings, **changes)
        normalizer = Normalizer(self.kafka, {TOY: settings}, fetch_wait_ms=50, compression="none")
        member = (
            GroupMember(self.kafka, group, session_timeout_ms=6000, heartbeat_interval_ms=100)
            if group
            else AllPartitions()
        )
        task = asyncio.create_task(normalizer.run(member))
        try:
            yield task
        finally:
            await end([task])

    async def log(self, partition: int = 0) -> list[Record]:
        where = TopicPartition(self.settings.feed_topic, partition)
        begin, end = await self.cluster.offsets(where)
        return [
            record_of(raw.headers, raw.value, raw.offset)
            async for page in self.cluster.read(where, begin, end)
            for raw in page
        ]

    async def until(self, pos: int, partition: int = 0, source: str = "") -> list[Record]:
        """The log, once a record of a source other than `source` covers tick `pos`."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                log = await self.log(partition)
                if any(record.last >= pos and record.source != source for record in log):
                    return log
                await asyncio.sleep(0.05)


def as_published(ticks: list[Tick]) -> list[Tick]:
    """The ticks with the offsets that they get in an empty topic; junk keys become what Kafka holds."""
    return [replace(tick, seq=seq) for seq, tick in enumerate(ticks)]


def expected(ticks: list[Tick]) -> list[bytes]:
    log: list[Record] = []
    Worker(TOY, log, as_published(ticks)).run([len(ticks)])
    return [without_source(message) for message in updates_of(log)]


def found(log: list[Record]) -> list[bytes]:
    return [without_source(message) for message in updates_of(log)]


async def test_ticks_come_out_as_updates_and_bad_ones_as_dead_letters(kafka: str, fresh: Fresh) -> None:
    ticks = make_ticks(400, seed=11)
    async with Lab(kafka, fresh("toy")) as lab, lab.normalizer():
        await lab.publish(ticks)
        log = await lab.until(len(ticks) - 1)
        assert found(log) == expected(ticks)
        dead = TopicPartition(lab.settings.dead_topic, 0)
        letters = [raw async for page in lab.cluster.read(dead, *await lab.cluster.offsets(dead)) for raw in page]
        assert {bytes(letter.value) for letter in letters} == {b"junk", b"\xff"}
        headers = dict(letters[0].headers)
        assert headers["reason"] and int(headers["length"]) == len(letters[0].value)
        assert ticks[int(headers["offset"])].value == letters[0].value


async def test_restarts_at_random_moments_lose_and_repeat_nothing(kafka: str, fresh: Fresh) -> None:
    rng = random.Random(5)
    ticks = make_ticks(3000, seed=12)
    async with Lab(kafka, fresh("toy")) as lab:
        left = list(ticks)
        while left:
            async with lab.normalizer():
                for _ in range(rng.randrange(1, 6)):
                    page, left = left[:60], left[60:]
                    if page:
                        await lab.publish(page)
                    await asyncio.sleep(rng.random() * 0.05)
        async with lab.normalizer():
            log = await lab.until(len(ticks) - 1)
        assert found(log) == expected(ticks)
        assert len({record.source for record in log}) == 1


async def test_two_owners_at_once_and_workers_that_come_and_go(kafka: str, fresh: Fresh) -> None:
    rng = random.Random(6)
    ticks = make_ticks(2000, seed=13)
    async with Lab(kafka, fresh("toy")) as lab, lab.normalizer(), lab.normalizer():
        group = fresh("group")
        for start in range(0, len(ticks), 200):
            async with lab.normalizer(group), lab.normalizer(group):
                await lab.publish(ticks[start : start + 200])
                await asyncio.sleep(rng.random() * 0.3)
        log = await lab.until(len(ticks) - 1)
        assert found(log) == expected(ticks)


async def test_workers_of_a_group_share_partitions_and_take_over(kafka: str, fresh: Fresh) -> None:
    halves = [make_ticks(300, seed=14), make_ticks(300, seed=15)]
    group = fresh("group")
    async with Lab(kafka, fresh("toy"), partitions=2) as lab, lab.normalizer(group):
        async with lab.normalizer(group):
            for partition, ticks in enumerate(halves):
                await lab.publish(ticks[:150], partition)
            for partition in range(2):
                await lab.until(149, partition)
        for partition, ticks in enumerate(halves):
            await lab.publish(ticks[150:], partition)
        for partition, ticks in enumerate(halves):
            log = await lab.until(299, partition)
            assert found(log) == expected(ticks)


async def test_added_partitions_are_a_new_incarnation_that_keeps_the_state(kafka: str, fresh: Fresh) -> None:
    ticks = make_ticks(400, seed=16)
    async with Lab(kafka, fresh("toy")) as lab, lab.normalizer():
        await lab.publish(ticks[:200])
        before = await lab.until(199)
        await lab.cluster.grow(lab.settings.ticks_topic, 3)
        async with asyncio.timeout(DEADLINE_S):
            while len({record.source for record in await lab.log()}) < 2:
                await asyncio.sleep(0.1)
        await lab.publish(ticks[200:])
        log = await lab.until(399)
        assert found(log) == expected(ticks)
        opening = next(record for record in log if record.kind == "source" and record.ends)
        assert opening.carries and opening.ends == before[-1].source and opening.last == 199
        await lab.publish(ticks[:10], 2)
        assert found(await lab.until(9, 2)) == expected(ticks[:10])


async def test_a_topic_made_anew_is_a_new_incarnation_without_state(kafka: str, fresh: Fresh) -> None:
    old, new = make_ticks(300, seed=17), make_ticks(350, seed=18)
    async with Lab(kafka, fresh("toy")) as lab, lab.normalizer():
        await lab.publish(old)
        before = await lab.until(299)
        await lab.delete(lab.settings.ticks_topic)
        await lab.make_topics({})
        await lab.publish(new)
        log = await lab.until(349, source=before[-1].source)
        opening = next(record for record in log if record.kind == "source" and record.ends)
        assert not opening.carries and opening.ends == before[-1].source and opening.last == -1
        assert found([record for record in log if record.source == log[-1].source]) == expected(new)


async def test_an_idle_source_survives_a_restart_past_the_retention_of_both_topics(kafka: str, fresh: Fresh) -> None:
    ticks = make_ticks(400, seed=19)
    async with Lab(kafka, fresh("toy")) as lab:
        rounds = lab.settings.normalize.model_copy(update={"keyframe_round_max_s": 1})
        async with lab.normalizer(normalize=rounds):
            await lab.publish(ticks[:200])
            await lab.until(199)
            await asyncio.sleep(1.5)  # a round of keyframes goes by, without a tick
            where = TopicPartition(lab.settings.feed_topic, 0)
        floor = (await lab.log())[-1].floor
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.delete_records(
            {
                TopicPartition(lab.settings.ticks_topic, 0): RecordsToDelete(200),
                where: RecordsToDelete(floor),
            }
        )
        await admin.close()
        kept = await lab.log()
        assert kept[0].offset == floor > 0
        async with lab.normalizer():
            await lab.publish(ticks[200:])
            log = await lab.until(399)
        assert len({record.source for record in log}) == 1
        tail = found(log)
        assert tail == expected(ticks)[-len(tail) :]
        assert len(tail) > 150


async def test_ticks_that_are_gone_are_a_new_incarnation(kafka: str, fresh: Fresh) -> None:
    ticks = make_ticks(300, seed=20)
    async with Lab(kafka, fresh("toy")) as lab:
        async with lab.normalizer():
            await lab.publish(ticks[:100])
            await lab.until(99)
        await lab.publish(ticks[100:])
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.delete_records({TopicPartition(lab.settings.ticks_topic, 0): RecordsToDelete(150)})
        await admin.close()
        async with lab.normalizer():
            log = await lab.until(299)
        opening = next(record for record in log if record.kind == "source" and record.ends)
        # what was told goes on, and no book of it is trusted
        assert (opening.carries, opening.missing, opening.last) == (True, True, 149)
        books = [
            message
            for record in log
            if record.source == opening.source and record.kind == "keyframe" and record.offset < opening.offset + 20
            for message in json.loads(record.value)
        ]
        stale = {message["symbol"] for message in books if message["type"] == "state"}
        assert {m["symbol"] for m in books if m["type"] == "snapshot" and m["channel"] == "book"} == stale != set()
        assert all(message["seq"] <= 149 for message in books)


async def test_other_settings_are_a_new_incarnation(kafka: str, fresh: Fresh) -> None:
    ticks = make_ticks(200, seed=21)
    async with Lab(kafka, fresh("toy")) as lab:
        async with lab.normalizer():
            await lab.publish(ticks[:100])
            await lab.until(99)
        async with lab.normalizer(rules=Rules(trades_kept=7)):
            await lab.publish(ticks[100:])
            log = await lab.until(199)
        assert found(log) == expected(ticks)
        opening = next(record for record in log if record.kind == "source" and record.ends)
        assert opening.carries and not opening.missing
        assert '"trades_kept":7' in opening.settings


async def test_of_other_settings_whoever_is_at_work_stays(kafka: str, fresh: Fresh, caplog: Any) -> None:
    ticks = make_ticks(200, seed=22)
    async with Lab(kafka, fresh("toy"), partitions=2) as lab:
        async with lab.normalizer(owner="first:1"):
            await lab.publish(ticks[:100])
            await lab.until(99)
            async with lab.normalizer(rules=Rules(trades_kept=7)) as other:
                await asyncio.sleep(3)
                assert not other.done()
                await lab.publish(ticks[100:])
                log = await lab.until(199)
                assert len({record.source for record in log}) == 1
                said = [record.getMessage() for record in caplog.records if "stands by" in record.getMessage()]
                assert "first:1" in said[0] and "normalize.trades_in_snapshot 100 there and 7 here" in said[0]
        # nobody is at work any more: after a while others take over
        async with lab.normalizer(rules=Rules(trades_kept=7)):
            async with asyncio.timeout(DEADLINE_S):
                while len({record.version for record in await lab.log()}) < 2:
                    await asyncio.sleep(0.1)
        assert found(await lab.log()) == expected(ticks)


async def test_a_member_of_the_group_with_other_settings_leaves_the_partitions_to_the_others(
    kafka: str, fresh: Fresh
) -> None:
    halves = [make_ticks(200, seed=23), make_ticks(200, seed=24)]
    group = fresh("group")
    async with Lab(kafka, fresh("toy"), partitions=2) as lab, lab.normalizer(group):
        for partition, ticks in enumerate(halves):
            await lab.publish(ticks[:100], partition)
            await lab.until(99, partition)
        async with lab.normalizer(group, rules=Rules(trades_kept=7)) as other:
            await asyncio.sleep(3)
            for partition, ticks in enumerate(halves):
                await lab.publish(ticks[100:], partition)
            for partition in range(2):
                log = await lab.until(199, partition)
                assert len({record.version for record in log}) == 1
            assert not other.done()


async def test_a_lower_version_stands_by_and_a_takeover_brings_it_back(kafka: str, fresh: Fresh) -> None:
    ticks = make_ticks(200, seed=25)
    async with Lab(kafka, fresh("toy")) as lab:
        async with lab.normalizer():
            await lab.publish(ticks[:100])
            log = await lab.until(99)
        last = log[-1].last
        newer = replace(log[-1], version="999.abc", offset=-1, after=last, first=last, value=b"[]")
        await lab.appender.append(TopicPartition(lab.settings.feed_topic, 0), [(None, newer.value, headers_of(newer))])
        async with lab.normalizer() as task:
            await lab.publish(ticks[100:])
            await asyncio.sleep(2)
            assert not task.done()
            assert max(record.last for record in await lab.log()) == 99
            (source,) = await take_over(kafka, TOY, lab.settings)
            log = await lab.until(199, source=log[0].source)
            assert found(log) == expected(ticks)
            assert {record.source for record in log if record.last > 99} == {source}
            assert all(record.appointed for record in log if record.source == source)
