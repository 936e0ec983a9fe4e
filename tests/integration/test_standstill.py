"""A feed that stands still says so: to clients by `stalled` and `lag_ms`, for the partition concerned and no other."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from tests.integration.stage import Stage, Viewer, check_exact

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
Fresh = Callable[[str], str]
NS = 1_000_000_000


def trade(number: int, price: str = "10") -> bytes:
    """A tick of one trade; ids are given so that none counts twice."""
    body = {"price": price, "size": "1", "side": None, "trade_id": f"t{number}", "ts_event": str(time.time_ns())}
    return json.dumps({"channel": "trades", "data": [body]}).encode()


@asynccontextmanager
async def admin_of(kafka: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def set_topic(kafka: str, topic: str, **settings: str) -> None:
    """Changes a topic's settings."""
    configs = {name.replace("_", "."): value for name, value in settings.items()}
    async with admin_of(kafka) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])


def source_of(viewer: Viewer, symbol: str) -> str:
    return viewer.channels["trades", symbol].source or ""


def state_of(viewer: Viewer, symbol: str) -> tuple[str, str | None]:
    """What the client was told of a symbol's source."""
    told = viewer.client.sources.get(source_of(viewer, symbol), {"state": "ok", "reason": None})
    return told["state"], told["reason"]


@asynccontextmanager
async def two_partitions(kafka: str, tmp_path: Path, name: str, more: str = "") -> AsyncIterator[tuple[Stage, Viewer]]:
    """A venue of our own with a symbol in each of two partitions, everything that serves it, and a client."""
    async with Stage(kafka, tmp_path, [name], partitions=2, serve=more) as stage:
        await stage.send(name, [("A", trade(1))], partition=0)
        await stage.send(name, [("B", trade(2))], partition=1)
        async with stage.up() as url, Viewer(lambda: url, ["trades"]) as viewer:
            await viewer.until(lambda: len(viewer.channels) == 2, "both symbols")
            yield stage, viewer


async def stalls_and_goes_on(stage: Stage, viewer: Viewer, name: str, mend: Callable[[], object]) -> None:
    """A bad tick in partition 0, of which the letter cannot be written, until it can."""
    prefix = name.upper()
    before = viewer.channels["trades", f"{prefix}:A"].pos
    await stage.send(name, [("A", b"junk"), ("A", trade(3))], partition=0)
    await stage.send(name, [("B", trade(4))], partition=1)
    await viewer.until(lambda: state_of(viewer, f"{prefix}:A") == ("stale", "stalled"), "stalled", 20)
    await viewer.until(lambda: viewer.client.lag_ms > 2000, "a lag that says so")
    assert viewer.channels["trades", f"{prefix}:A"].pos == before
    # the other partition is as it was
    await stage.send(name, [("B", trade(5))], partition=1)
    await viewer.until(lambda: len(viewer.channels["trades", f"{prefix}:B"].applied) >= 2, "the other symbol's trades")
    assert state_of(viewer, f"{prefix}:B") == ("ok", None)
    await mend()  # type: ignore[misc]  # a coroutine
    await viewer.until(lambda: state_of(viewer, f"{prefix}:A") == ("ok", None), "ok again")
    await viewer.has(await stage.truth())
    await viewer.until(lambda: viewer.client.lag_ms < 1000, "no lag any more")
    letters = (await stage.records(stage.settings.kafka.dead_topic))[0]
    assert {(bytes(raw.value or b""), dict(raw.headers)["offset"]) for raw in letters} == {(b"junk", b"1")}
    check_exact(viewer.client, {key: updates for key, updates in (await stage.truth()).items() if key[0] == "trades"})


async def test_a_dead_letter_that_cannot_be_written_stalls_its_partition_alone(
    kafka: str, tmp_path: Path, fresh: Fresh
) -> None:
    name = fresh("desk")
    async with two_partitions(kafka, tmp_path, name) as (stage, viewer):
        topic = stage.settings.kafka.dead_topic
        await set_topic(kafka, topic, max_message_bytes="1")
        await stalls_and_goes_on(stage, viewer, name, lambda: set_topic(kafka, topic, max_message_bytes="1048576"))


async def test_a_topic_of_dead_letters_that_was_deleted_is_made_again(kafka: str, tmp_path: Path, fresh: Fresh) -> None:
    name = fresh("desk")
    async with two_partitions(kafka, tmp_path, name) as (stage, viewer):
        topic = stage.settings.kafka.dead_topic
        async with admin_of(kafka) as admin:
            await admin.delete_topics([topic])
        await stage.send(name, [("A", b"junk"), ("A", trade(3))], partition=0)
        await viewer.has(await stage.truth())
        letters = (await stage.records(topic))[0]
        assert {bytes(raw.value or b"") for raw in letters} == {b"junk"}


async def test_what_an_open_transaction_holds_is_told_and_what_is_aborted_is_never_seen(
    kafka: str, tmp_path: Path, fresh: Fresh
) -> None:
    name = fresh("desk")
    prefix = name.upper()
    async with Stage(kafka, tmp_path, [name]) as stage:
        (tmp_path / "feed.toml").write_text(
            (tmp_path / "feed.toml").read_text().replace("[normalize]", "[normalize]\nopen_transaction_max_ms = 1500")
        )
        topic = stage.settings.ticks_topic(name)
        collector = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=fresh("collector"))
        await collector.start()
        try:
            async with collector.transaction():
                await collector.send_and_wait(topic, trade(1, "10"), key=b"A", partition=0)
            async with stage.up() as url, Viewer(lambda: url, ["trades"]) as viewer:
                await viewer.until(lambda: len(viewer.channels) == 1, "the symbol")
                await collector.begin_transaction()
                for number in (2, 3):
                    await collector.send_and_wait(topic, trade(number, "66.6"), key=b"A", partition=0)
                await viewer.until(lambda: state_of(viewer, f"{prefix}:A") == ("stale", "stalled"), "stalled", 20)
                await collector.abort_transaction()
                await viewer.until(lambda: state_of(viewer, f"{prefix}:A") == ("ok", None), "ok again", 20)
                async with collector.transaction():
                    await collector.send_and_wait(topic, trade(4, "12"), key=b"A", partition=0)
                await viewer.has(await stage.truth())
                await viewer.until(lambda: viewer.client.lag_ms == 0, "nothing that waits")
                held = viewer.channels["trades", f"{prefix}:A"].holds()
                assert [trade["price"] for trade in held] == ["10", "12"]
                # nor by who reads the log again from its begin, or joins now
                (tail,) = await stage.records(stage.settings.feed_topic(name))
                assert not any(b"66.6" in (raw.value or b"") for raw in tail)
        finally:
            await collector.stop()


async def test_a_normalizer_that_stands_still_is_disconnected(kafka: str, tmp_path: Path, fresh: Fresh) -> None:
    name = fresh("desk")
    async with Stage(kafka, tmp_path, [name]) as stage:
        await stage.send(name, [("A", trade(1))])
        async with (
            stage.running("normalize") as normalizer,
            stage.running("serve", "--port", "0") as gateway,
        ):
            url = (await asyncio.to_thread(gateway.said, r"ws://\S+", timeout_s=60.0))[0]
            async with Viewer(lambda: url, ["trades"]) as viewer:
                symbol = f"{name.upper()}:A"
                await viewer.until(lambda: len(viewer.channels) == 1, "the symbol")
                began = time.monotonic()
                normalizer.process.send_signal(19)
                await viewer.until(lambda: state_of(viewer, symbol) == ("stale", "disconnected"), "disconnected", 20)
                assert time.monotonic() - began < 4
                normalizer.process.send_signal(18)
                await viewer.until(lambda: state_of(viewer, symbol) == ("ok", None), "ok again", 20)


async def test_ticks_that_lay_there_for_long_are_told_to_be_old(kafka: str, tmp_path: Path, fresh: Fresh) -> None:
    """What was written before anybody normalized it does not look live while it is made up for."""
    name = fresh("desk")
    async with Stage(kafka, tmp_path, [name]) as stage:
        old = [("A", trade(number)) for number in range(20_000)]
        for start in range(0, len(old), 2000):
            await stage.send(name, old[start : start + 2000])
        await asyncio.sleep(3)
        async with stage.up():
            await asyncio.sleep(0)
            where = TopicPartition(stage.settings.feed_topic(name), 0)
            async with asyncio.timeout(60):
                while True:
                    (records,) = await stage.records(where.topic)
                    found = [headers for raw in records if (headers := dict(raw.headers))["kind"] == b"data"]
                    if found and int(found[-1]["last"]) >= len(old) - 1 and int(found[-1]["waits_ms"]) == 0:
                        break
                    await asyncio.sleep(0.1)
        data = [headers for headers in found if int(headers["last"]) > int(headers["after"])]
        assert len(data) > 5
        behind = [headers for headers in data if int(headers["position"]) < len(old)]
        assert behind
        waits = [int(headers["waits_ms"]) for headers in behind]
        assert min(waits) > 2000, waits
