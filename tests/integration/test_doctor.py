"""`feed doctor` beside a real Kafka: nothing to say where all is well, a remedy for what is not, and no change made."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.conftest import BrokerMaker
from tests.integration.commands import FEED, running
from tests.integration.stage import Stage
from tests.integration.test_standstill import trade

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
VENUE = "desk"


async def asked(stage: Stage, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and what was found."""
    with running(*FEED, "doctor", "--json", *arguments, cwd=stage.folder) as command:
        code = await asyncio.to_thread(command.wait)
        told = json.loads("\n".join(command.out))
        assert told["ok"] is (code == 0)
        return code, told["findings"]


def bad(findings: list[dict[str, Any]]) -> dict[str, str]:
    """What is not well of Kafka, by name."""
    mine = {"recordings", "open files"}  # of the machine that this runs on
    return {one["name"]: one["found"] for one in findings if one["state"] != "ok" and one["name"] not in mine}


async def test_it_says_what_is_not_well_and_changes_nothing(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE], partitions=2) as stage:
        feed_topic, ticks_topic = stage.settings.feed_topic(VENUE), stage.settings.ticks_topic(VENUE)
        await stage.send(VENUE, [("A", trade(1))])
        async with stage.running("normalize") as normalizer:
            while len((await stage.records(feed_topic))[1]) < 2:
                await asyncio.sleep(0.1)
            code, findings = await asked(stage)
            assert (code, bad(findings)) == (0, {})
            told = {one["name"]: one["found"] for one in findings}
            assert told[VENUE] == f"{ticks_topic} and {feed_topic} are there, with 2 partitions"
            assert told["clock"] == "as the brokers', to a few seconds"
            assert told["brokers"].startswith("1 of 1 answer; ")
            # settings of another version
            file = tmp_path / "feed.toml"
            text = file.read_text()
            file.write_text(text.replace("alive_ms = 250", "alive_ms = 250\n            bar_grace_ms = 1500"))
            code, findings = await asked(stage)
            assert code == 0
            assert bad(findings)[feed_topic].startswith("was written last by version ")
            file.write_text(text)
            assert normalizer.process.poll() is None
        topics = await stage.cluster.topics()
        code, findings = await asked(stage, "--venues", "dsek,krakn")
        assert code == 0
        found = bad(findings)
        assert found["settings"] == "normalize.venues has krakn, a venue of your own; did you mean kraken?"
        assert found[stage.settings.ticks_topic("dsek")] == "is not there: no ticks"
        assert await stage.cluster.topics() == topics
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        try:
            changed = {"cleanup.policy": "compact"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, feed_topic, changed)])
        finally:
            await admin.close()
        code, findings = await asked(stage)
        assert code == 1
        [fault] = [one for one in findings if one["state"] == "fault"]
        assert (fault["name"], fault["found"]) == (feed_topic, "is compacted: records that gateways need go")
        assert "cleanup.policy=delete" in fault["remedy"]


async def test_an_address_that_a_broker_tells_and_where_nobody_answers(own_broker: BrokerMaker, tmp_path: Path) -> None:
    told = own_broker(**{"advertised.listeners": "PLAINTEXT://127.0.0.1:1"})
    with running(*FEED, "doctor", "--json", "--kafka", told.address, cwd=tmp_path) as command:
        code = await asyncio.to_thread(command.wait, 60.0)
    found = bad(json.loads("\n".join(command.out))["findings"])
    assert code == 3
    assert found == {
        "broker 1": "does not answer at 127.0.0.1:1, which is the address that it tells",
        "brokers": f"none answers at the address that {told.address} tells",
    }
