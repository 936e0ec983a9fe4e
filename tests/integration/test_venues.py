"""Which venues are served: those that were named, else the known ones whose topics are there, now or later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import msgspec
import pytest

from feed.kafka.cluster import Cluster
from feed.runtime.settings import KNOWN_VENUES
from tests.feed.venues.playing import CAPTURES
from tests.integration.commands import FEED, REPLAY, running
from tests.integration.stage import Stage, Viewer, check_exact, said

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KRAKEN: Final = "kraken/v1_5pairs_20210417.book"
COINBASE: Final = "coinbase/exchange_5products_20210417"
DEADLINE_S: Final = 20.0


@pytest.mark.parametrize("assign", ["all", "group"])
async def test_venues_that_nobody_named_are_those_whose_topics_are_there_also_later(
    kafka: str, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, assign: str
) -> None:
    monkeypatch.setenv("FEED_KAFKA__ASSIGN", assign)
    stage = Stage(kafka, tmp_path, [])
    settings = stage.settings
    async with Cluster(kafka) as cluster:
        await cluster.make_topics({settings.ticks_topic("kraken"): 1}, settings.topic_settings)
    async with stage:
        made = set(await stage.cluster.topics())
        assert settings.feed_topic("kraken") in made
        assert not {settings.feed_topic(name) for name in KNOWN_VENUES if name != "kraken"} & made
        async with stage.running("normalize") as normalizer, stage.running("serve", "--port", "0") as gateway:
            await said(normalizer, "normalizing those of binance, .* whose topics are there")
            url = await said(gateway, r"ws://\S+")
            async with Viewer(lambda: url) as viewer:
                await stage.publish_capture(KRAKEN, data_dir)
                stage.venues = ("kraken",)
                await viewer.has(await stage.truth())
                # a collector of another venue begins
                await stage.publish_capture(COINBASE, data_dir)
                stage.venues = ("kraken", "coinbase")
                truth = await stage.truth()
                await viewer.has(truth)
                check_exact(viewer.client, truth)
        assert set(await stage.cluster.topics()) - made == {
            settings.ticks_topic("coinbase"),
            settings.feed_topic("coinbase"),
        }


async def test_a_venue_has_the_topics_and_the_format_that_its_settings_say(
    kafka: str, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"TOPIC": f"mkt.{tmp_path.name}.v1", "FEED_TOPIC": f"out.{tmp_path.name}", "FORMAT": "kraken"}
    for name, value in own.items():
        monkeypatch.setenv(f"FEED_VENUES__DESK__{name}", value)
    monkeypatch.setenv("FEED_KAFKA__REPLICATION", "1")
    async with Stage(kafka, tmp_path, ["desk"]) as stage:
        capture = CAPTURES[KRAKEN]
        await stage.publish("desk", *(data_dir / file for file in capture.files))
        truth = await stage.truth()
        assert truth
        assert all(symbol.startswith("DESK:") for _, symbol in truth)
        async with stage.up() as url, Viewer(lambda: url) as viewer:
            await viewer.has(truth)
            check_exact(viewer.client, truth)
        assert {own["TOPIC"], own["FEED_TOPIC"]} <= set(await stage.cluster.topics())


async def test_a_feed_log_that_is_compacted_is_refused_with_the_reason(kafka: str, tmp_path: Path) -> None:
    stage = Stage(kafka, tmp_path, ["desk"])
    topic = stage.settings.feed_topic("desk")
    async with Cluster(kafka) as cluster:
        await cluster.make_topics({topic: 1}, {"cleanup.policy": "compact"})
    async with stage, stage.running("normalize") as normalizer:
        await said(
            normalizer, f"{topic} is compacted: records that readers need would go, wanted cleanup.policy=delete"
        )
        assert await stage.records(topic) == [[]]


async def test_what_a_configuration_needs_is_printed_and_is_what_a_normalizer_makes(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, ["desk"], partitions=2) as stage:
        with running(*FEED, "topics", "--json", cwd=tmp_path) as command:
            assert await asyncio.to_thread(command.wait) == 0
            needs = msgspec.json.decode("".join(command.out))
        there = await stage.cluster.topics()
        assert {name: wanted["partitions"] for name, wanted in needs["topics"].items()} == {
            name: there[name] for name in needs["topics"]
        }
        for name, wanted in needs["topics"].items():
            found = await stage.cluster.settings(name)
            assert {key: found[key] for key in wanted["settings"]} == wanted["settings"]


async def test_where_nothing_is_there_all_known_venues_get_their_topics(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, []) as stage:
        topics = await stage.cluster.topics()
        for name in KNOWN_VENUES:
            assert topics[stage.settings.ticks_topic(name)] == topics[stage.settings.feed_topic(name)] == 1


async def test_a_venue_that_is_all_but_a_known_one_is_doubted_at_the_start(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, ["krakn"]) as stage:
        words = "warning: normalize.venues has krakn, a venue of your own; did you mean kraken"
        for arguments in (["normalize"], ["serve", "--port", "0"], ["up", "--port", "0"], ["record", "--to", "r"]):
            async with stage.running(*arguments) as command:
                await said(command, words)
        async with stage.running("config", "check") as command:
            assert await asyncio.to_thread(command.wait) == 0
            assert any(words in line for line in command.err)
        (tmp_path / "ticks.ndjson").write_text("{}\n")
        with running(*REPLAY, "publish", "ticks.ndjson", "--venue", "krakn", cwd=tmp_path) as publishing:
            assert await asyncio.to_thread(publishing.wait) == 0
            assert "warning: krakn is a venue of your own, with JSON ticks; did you mean kraken?" in publishing.err
