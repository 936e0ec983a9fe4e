"""Clients that drop and resume by marks at random moments, on the same gateway and on a second one.

What they have applied in the end is byte for byte what a client has that never dropped, and what an undisturbed
machine makes of the ticks. That these checks see what they are there for is shown in `test_stage`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.feed.venues.playing import CAPTURES
from tests.integration.stage import Stage, Viewer, check_exact, said, seeded

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
