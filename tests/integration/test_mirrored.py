"""A feed log that was copied to other offsets is told as what it is by whoever reads it, until it is taken over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiokafka.structs import TopicPartition
from broker import free_port

from tests.integration.stage import Stage, Viewer, said
from tests.integration.test_standstill import trade
from tests.integration.watching import Watch

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
VENUE: Final = "desk"
LAST: Final = 10
OTHER: Final = "well"
WORDS: Final = "these records were written at other offsets, as those of a mirror are"


@asynccontextmanager
async def mirrored(kafka: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage whose log of one venue has the end of another stage's, as a mirror writes it; its ticks are the same."""
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    async with Stage(kafka, tmp_path / "from", [VENUE]) as one, Stage(kafka, tmp_path / "to", [VENUE, OTHER]) as other:
        async with one.up() as url, Viewer(lambda: url, ["trades"]) as viewer:
            for number in range(40):
                await one.send(VENUE, [("A", trade(number))])
                await asyncio.sleep(0.05)
            await viewer.has(await one.truth())
        [raws] = await one.records(one.settings.feed_topic(VENUE))
        floor = int(dict(raws[-1].headers)["floor"])
        assert floor > LAST, "its floors lie beyond its end"
        where = TopicPartition(other.settings.feed_topic(VENUE), 0)
        await other.appender.append(where, [(raw.key, raw.value, list(raw.headers)) for raw in raws[-LAST:]])
        [ticks] = await one.records(one.settings.ticks_topic(VENUE))
        await other.appender.append(
            TopicPartition(other.settings.ticks_topic(VENUE), 0),
            [(raw.key, raw.value, list(raw.headers)) for raw in ticks],
        )
        yield other


async def test_everybody_who_reads_it_says_what_it_is(kafka: str, tmp_path: Path) -> None:
    ports = [int(free_port()) for _ in range(3)]
    async with (
        mirrored(kafka, tmp_path) as stage,
        stage.running("normalize", "--admin-port", str(ports[0])) as normalizing,
        stage.running("serve", "--port", "0", "--admin-port", str(ports[1])) as serving,
        stage.running("record", "--to", "recordings", "--admin-port", str(ports[2])) as recording,
    ):
        normalizer, gateway, recorder = map(Watch.at, ports)
        clients = Watch.of_stream(await said(serving, r"ws://\S+"))
        # the other venue is written, and the gateway knows its log
        await normalizer.ready()
        await clients.until("/v1/status", lambda _, text: f"{OTHER}/0@" in text, "the other venue's source")
        # before its first 200 a gateway must have read all logs that were named
        await clients.flows(flows=False)
        assert (VENUE, None, "unreadable") in await clients.faults()
        assert await clients.faults(f"?venue={OTHER}") == []
        status, lines = await gateway.verbose()
        assert status == 503
        assert "[-] caught_up: not all logs were read yet" in lines
        assert any(line.startswith(f"[!] {VENUE}/0: unreadable: cannot be read on") and WORDS in line for line in lines)
        _, body = await clients.health(f"?venue={VENUE}")
        assert WORDS in body["reasons"][0]["found"]
        assert body["reasons"][0]["partition"] == 0
        found = await clients.samples()
        assert found["feed_source_state"][("partition", "0"), ("state", "stalled"), ("venue", VENUE)] == 1
        for watch in (normalizer, recorder):
            await watch.ready()
            await watch.until("/readyz?verbose", lambda _, text: f"[!] {VENUE}/0" in text, "it is named")
        for command in (normalizing, serving, recording):
            await said(command, WORDS)
            assert sum(WORDS in line for line in command.err) == 1, command.err  # once a minute
            assert command.process.poll() is None
        # what is to be done: its log begins anew
        async with stage.running("takeover", VENUE, "--yes") as taking:
            assert await asyncio.to_thread(taking.wait) == 0, taking.err
        await gateway.ready()
        await clients.flows()
        url = clients.http.replace("http", "ws") + "/v1/stream"
        async with Viewer(lambda: url, ["trades"]) as viewer:
            await stage.send(VENUE, [("A", trade(100))])
            await viewer.until(
                lambda: any(channel.applied for channel in viewer.channels.values()), "a trade of the new source"
            )
        for watch in (normalizer, recorder):
            await watch.until("/readyz?verbose", lambda _, text: "[!]" not in text, "nothing against it")
