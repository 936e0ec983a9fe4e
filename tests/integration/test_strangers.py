"""What others write into Kafka ends no role: foreign and damaged records, odd ticks, topics that come and go."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from feed.wire.record import EMPTY, Record, headers_of, record_of
from tests.integration.stage import Stage, Viewer, check_exact
from tests.integration.test_standstill import admin_of, state_of, trade

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
Fresh = Callable[[str], str]
Headers = Sequence[tuple[str, bytes | None]]


def strangers(last: Record) -> dict[str, tuple[Headers, bytes | None]]:
    """Records that somebody else may have written into a log whose newest record is this one."""
    good = headers_of(replace(last, kind="data", after=last.last, first=last.last, value=EMPTY))
    keyframe = headers_of(replace(last, kind="keyframe", symbol="X:A", at=last.last, value=EMPTY))

    def but(headers: Headers, **changed: bytes | None) -> Headers:
        return [(name, changed.get(name, text)) for name, text in headers]

    return {
        "without headers": ([], b"{}"),
        "of another program": ([("__TypeId__", b"com.example.Tick"), ("source", b"\xff\xfe")], b"\x00\x01"),
        "without a value": ([], None),
        "a header without a value": (but(good, floor=None), EMPTY),
        "a number of 5,000 digits": (but(good, last=b"9" * 5000), EMPTY),
        "no number": (but(good, after=b"soon"), EMPTY),
        "an unknown kind": (but(good, kind=b"gossip"), EMPTY),
        "broken JSON": (good, b'[{"type":"update","channel":'),
        "a keyframe with a bad seq": (
            keyframe,
            b'[{"type":"snapshot","channel":"trades","symbol":"X:A","source":"x","seq":"no"}]',
        ),
    }


async def newest(stage: Stage, name: str) -> Record:
    (raws, *_) = await stage.records(stage.settings.feed_topic(name))
    records = []
    for raw in raws:
        try:
            records.append(record_of(raw.headers, raw.value, raw.offset))
        except Exception:  # a stranger's
            continue
    return records[-1]


def status(url: str) -> Any:
    at = url.replace("ws://", "http://").replace("/v1/stream", "/v1/status")
    with urllib.request.urlopen(at, timeout=10) as answer:
        return json.load(answer)


async def test_records_of_strangers_end_nobody_and_lose_nothing(kafka: str, tmp_path: Path, fresh: Fresh) -> None:
    sick, well = fresh("sick"), fresh("well")
    async with (
        Stage(kafka, tmp_path, [sick, well]) as stage,
        stage.running("up", "--port", "0") as up,
        stage.running("record", "--to", str(tmp_path / "recording")) as recorder,
    ):
        url = (await asyncio.to_thread(up.said, r"ws://\S+", timeout_s=60.0))[0]
        async with Viewer(lambda: url, ["trades"]) as viewer:
            await viewer.answered()
            for name in (sick, well):
                await stage.send(name, [("A", trade(0))])
            await viewer.until(lambda: len(viewer.channels) == 2, "both venues")
            where = TopicPartition(stage.settings.feed_topic(sick), 0)
            number = 1
            writer = AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=fresh("stranger"))
            await writer.start()
            for what, (headers, value) in strangers(await newest(stage, sick)).items():
                await stage.appender.append(where, [(None, value, headers)])  # type: ignore[list-item,arg-type]  # a stranger's
                for name in (sick, well):
                    await stage.send(name, [("A", trade(number))])
                    number += 1
                await viewer.until(
                    lambda: all(len(viewer.channels["trades", f"{name.upper()}:A"].applied) for name in (sick, well)),
                    what,
                )
                await viewer.has(await stage.truth(), 20)
                assert up.process.poll() is None, what
                assert recorder.process.poll() is None, what
            async with writer.transaction():
                await writer.send_and_wait(where.topic, EMPTY, partition=0)
            await writer.stop()
            await stage.send(sick, [("A", trade(number))])
            truth = await stage.truth()
            await viewer.has(truth, 20)
            check_exact(viewer.client, {key: updates for key, updates in truth.items() if key[0] == "trades"})
            await viewer.until(lambda: state_of(viewer, f"{sick.upper()}:A")[0] == "ok", "ok again", 20)
            assert state_of(viewer, f"{well.upper()}:A")[0] == "ok"
        # and who comes now finds the same
        async with stage.up() as later, Viewer(lambda: later, ["trades"]) as other:
            await other.until(lambda: len(other.channels) == 2, "both venues")
            for key, channel in viewer.channels.items():
                assert other.channels[key].holds() == channel.holds()


async def test_a_damaged_record_makes_its_source_stalled_until_it_can_be_read_on(
    kafka: str, tmp_path: Path, fresh: Fresh
) -> None:
    """Nobody normalizes, so nothing mends it: what was covered by the record is lost, and is told to be."""
    name = fresh("desk")
    symbol = f"{name.upper()}:A"
    async with Stage(kafka, tmp_path, [name]) as stage:
        async with stage.running("normalize"):
            await stage.send(name, [("A", trade(0))])
            await _covers(stage, name, 0)
        async with stage.running("serve", "--port", "0") as gateway:
            url = (await asyncio.to_thread(gateway.said, r"ws://\S+", timeout_s=60.0))[0]
            async with Viewer(lambda: url, ["trades"]) as viewer:
                await viewer.until(lambda: len(viewer.channels) == 1, "the symbol")
                last = await newest(stage, name)
                where = TopicPartition(stage.settings.feed_topic(name), 0)
                lost = replace(last, kind="data", after=0, first=1, last=1, position=2, value=b"[]")
                await stage.appender.append(where, [(None, b"[junk]", headers_of(lost))])
                follows = replace(lost, after=1, first=2, last=2, position=3)
                for _ in range(8):
                    await stage.appender.append(where, [(None, b"[]", headers_of(follows))])
                    follows = replace(follows, after=2, first=2)
                    await asyncio.sleep(0.25)
                await viewer.until(lambda: state_of(viewer, symbol) == ("stale", "stalled"), "stalled", 10)
                # whoever normalizes now writes all states anew, behind the damage
                async with stage.running("normalize"):
                    await stage.send(name, [("A", trade(1)), ("A", trade(2)), ("A", trade(3))])
                    await viewer.until(lambda: state_of(viewer, symbol) == ("ok", None), "ok again", 30)
                    await viewer.until(lambda: viewer.channels["trades", symbol].pos == 3, "the newest trade")
                assert viewer.channels["trades", symbol].gaps


async def test_ticks_with_odd_keys_and_headers_are_dead_letters_at_most(
    kafka: str, tmp_path: Path, fresh: Fresh
) -> None:
    name = fresh("desk")
    async with Stage(kafka, tmp_path, [name]) as stage, stage.up() as url, Viewer(lambda: url, ["trades"]) as viewer:
        where = TopicPartition(stage.settings.ticks_topic(name), 0)
        odd: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = [
            (b"A", trade(1), [("request", None)]),
            (b"A", trade(2), [("ts_recv", None)]),
            (b"A", trade(3), [("ts_recv", b"9" * 5000)]),
            (b"A", None, []),
            (None, None, []),
            (b"\xff\xfe", trade(4), []),
            (b"A", trade(5), [("ts_recv", b"\xff"), ("ts_recv", b"7"), ("", None)]),
            (b"A", trade(6), []),
        ]
        for key, value, headers in odd:
            await stage.appender.append(where, [(key, value, headers)])  # type: ignore[list-item]  # a stranger's
        await viewer.has(await stage.truth(), 20)
        check_exact(
            viewer.client, {key: updates for key, updates in (await stage.truth()).items() if key[0] == "trades"}
        )
        assert viewer.channels["trades", f"{name.upper()}:A"].pos == len(odd) - 1


async def test_a_feed_log_that_was_deleted_is_taken_up_again_and_its_source_forgotten(
    kafka: str, tmp_path: Path, fresh: Fresh
) -> None:
    name = fresh("desk")
    symbol = f"{name.upper()}:A"
    async with Stage(kafka, tmp_path, [name]) as stage, stage.up() as url, Viewer(lambda: url, ["trades"]) as viewer:
        await stage.send(name, [("A", trade(0)), ("A", trade(1))])
        await viewer.has(await stage.truth())
        before = list(status(url)["sources"])
        async with admin_of(kafka) as admin:
            await admin.delete_topics([stage.settings.feed_topic(name)])
        await viewer.until(lambda: state_of(viewer, symbol)[0] == "stale", "stale", 20)
        await stage.send(name, [("A", trade(2))])
        await viewer.until(lambda: viewer.channels["trades", symbol].source not in before, "a new source", 60)
        await viewer.has(await stage.truth(), 30)
        gap = viewer.channels["trades", symbol].gaps[-1]
        assert (gap["reason"], gap["lost"]) == ("source", True)
        async with asyncio.timeout(20):
            while set(status(url)["sources"]) & set(before):
                await asyncio.sleep(0.2)
        assert len(status(url)["sources"]) == 1


async def _covers(stage: Stage, name: str, seq: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        (raws,) = await stage.records(stage.settings.feed_topic(name))
        if any(int(dict(raw.headers)["last"]) >= seq for raw in raws):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"tick {seq} is not covered")
