"""Clients that drop and resume by marks at random moments, on the same gateway and on a second one.

What they have applied in the end is byte for byte what a client has that never dropped, and what an undisturbed
machine makes of the ticks. That these checks see what they are there for is shown in `test_stage`.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

import pytest

from tests.feed.venues.playing import CAPTURES
from tests.integration.stage import Stage, Viewer, check_exact, said, seeded
from tests.integration.test_kills import desk_ticks

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CAPTURES_USED = (
    "coinbase/exchange_5products_20210417",
    "kraken/v1_5pairs_20210417.book",
    "binance/usdm_multi_20210722",
)
VENUES = ("coinbase", "kraken", "binance-usdm")
DROPS = 12


async def publish(stage: Stage, data_dir: Path, names: tuple[str, ...], speed: str) -> None:
    """Captures, all at once, to their ends."""
    await asyncio.gather(
        *(
            stage.publish(CAPTURES[name].venue, *(data_dir / file for file in CAPTURES[name].files), speed=speed)
            for name in names
        )
    )


async def drop_at_random(chance: Random, viewer: Viewer, times: int) -> None:
    """Breaks a client's connection off again and again; sometimes before it has caught up."""
    for _ in range(times):
        await asyncio.sleep(chance.random() * 0.8 if chance.random() < 0.8 else 0.02)
        viewer.drop()


async def test_dropped_clients_end_with_the_bytes_of_one_that_never_dropped(
    kafka: str, data_dir: Path, tmp_path: Path
) -> None:
    chance = seeded(51)
    async with (
        Stage(kafka, tmp_path, VENUES) as stage,
        stage.running("normalize"),
        stage.running("serve", "--port", "0") as one,
        stage.running("serve", "--port", "0") as other,
    ):
        urls = [await said(one, r"ws://\S+"), await said(other, r"ws://\S+")]
        async with (
            Viewer(lambda: urls[0]) as steady,
            Viewer(lambda: urls[0]) as same,
            Viewer(lambda: chance.choice(urls)) as either,
        ):
            viewers = (steady, same, either)
            for viewer in viewers:
                await viewer.answered()
            published = asyncio.create_task(publish(stage, data_dir, CAPTURES_USED, "3"))
            for viewer in viewers:
                await viewer.has_marks(len(VENUES))
            await asyncio.gather(drop_at_random(chance, same, DROPS), drop_at_random(chance, either, DROPS))
            await published
            truth = await stage.truth()
            for viewer in viewers:
                await viewer.has(truth)
                check_exact(viewer.client, truth)
            assert steady.connections == 1
            assert same.connections > DROPS // 2
            assert either.connections > DROPS // 2
            for key, channel in steady.channels.items():
                for viewer in (same, either):
                    assert viewer.channels[key].applied == channel.applied
                    assert viewer.channels[key].holds() == channel.holds()


async def test_a_client_that_was_away_while_much_happened(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    names = ("kraken/v1_5pairs_20210417.book",)
    async with Stage(kafka, tmp_path, ["kraken"]) as stage, stage.up() as url:
        address = [url]
        async with Viewer(lambda: address[0]) as viewer:
            await viewer.answered()
            published = asyncio.create_task(publish(stage, data_dir, names, "10"))
            await viewer.has_marks(1)
            address[0] = "ws://127.0.0.1:9/"
            viewer.drop()
            await published
            truth = await stage.truth()
            address[0] = url
            await viewer.has(truth)
            check_exact(viewer.client, truth)


async def test_positions_of_another_log_are_moved_and_lose_nothing_from_then_on(kafka: str, tmp_path: Path) -> None:
    """As of a Kafka that was restored from a backup: the client has been further than the log is."""
    async with Stage(kafka, tmp_path, ["desk"]) as stage, stage.up() as url, Viewer(lambda: url) as viewer:
        await viewer.answered()
        await stage.send("desk", desk_ticks(0, 50))
        await viewer.has(await stage.truth())
        await viewer.has_marks(1)
        viewer.marks = {source: mark + 1_000_000 for source, mark in viewer.marks.items()}
        for channel in viewer.channels.values():
            channel.pos += 1_000_000
        viewer.drop()
        asked = time.monotonic()
        await viewer.until(lambda: len(viewer.client.caught_up) == 1, "an answer, and all that follows it")
        assert time.monotonic() - asked < 5.0
        held = {kind: viewer.client.channel(kind, "DESK:A") for kind in ("trades", "book")}
        for kind, channel in held.items():
            assert [(gap["reason"], gap["lost"]) for gap in channel.gaps] == [("seek", kind == "trades")]
            assert channel.pos < 200
        await viewer.until(
            lambda: any(0 <= mark < 200 for mark in viewer.client.marks.values()), "marks of what was sent"
        )
        await stage.send("desk", desk_ticks(50, 80))
        await viewer.until(lambda: held["book"].book()[0].get("79") == "80", "the last change")
        assert held["book"].book()[0] == {str(price): str(price + 1) for price in range(1, 80)}
        ids = [int(trade["trade_id"]) for trade in held["trades"].holds()]
        assert ids[-30:] == list(range(50, 80))
