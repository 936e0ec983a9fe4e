"""What an operator does, and what can go wrong with Kafka: at each moment `/livez`, `/readyz` and `/v1/health` say so.

The roles run as processes of their own, or as `feed up`; what is asked is asked over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from broker import free_port

from tests.conftest import BrokerMaker
from tests.integration.commands import Command
from tests.integration.stage import Stage, Viewer, dispose, said
from tests.integration.test_standstill import trade
from tests.integration.watching import Watch, samples_of
from tests.reference_client import Channel

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
VENUE: Final = "desk"
OTHER: Final = "shop"
SOON_S: Final = 10.0
"""Two seconds until a source is given up, and the machine's other work."""
LINES_MAX: Final = 60


class Service(NamedTuple):
    """Roles that run, and how they are asked; in one process both are the same."""

    commands: list[Command]
    normalizer: Watch
    gateway: Watch
    url: str

    async def lives(self) -> None:
        """Whatever is wrong, nobody is to restart anything."""
        assert await self.gateway.status("/livez") == 200
        assert await self.normalizer.status("/livez") == 200
        assert all(command.process.poll() is None for command in self.commands)

    async def well(self) -> None:
        """Everything is as it should be."""
        await self.gateway.ready()
        await self.gateway.flows()
        await self.normalizer.ready()
        await self.lives()


@asynccontextmanager
async def service(stage: Stage, *, one_process: bool) -> AsyncIterator[Service]:
    """Normalizer and gateway, well."""
    ports = [int(free_port()), int(free_port())]
    roles = [["up", "--port", "0"]] if one_process else [["normalize"], ["serve", "--port", "0"]]
    commands: list[Command] = []
    async with contextlib.AsyncExitStack() as stack:
        for role, port in zip(roles, ports, strict=False):
            commands.append(await stack.enter_async_context(stage.running(*role, "--admin-port", str(port))))
        url = await said(commands[-1], r"ws://\S+")
        found = Service(commands, Watch.at(ports[0]), Watch.of_stream(url), url)
        try:
            await found.well()
            yield found
            for command in commands:
                assert await asyncio.to_thread(command.end, signal.SIGTERM) == 0
        finally:
            for command in commands:
                print(*command.err, sep="\n")
    for command in commands:
        assert not any("Traceback" in line for line in command.err)


async def delete(kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def trades_flow(stage: Stage, viewer: Viewer, number: int, venue: str = VENUE) -> None:
    """A trade that is sent reaches a client."""
    await stage.send(venue, [("A", trade(number))])
    wanted = b'"trade_id":"t%d"' % number

    def there() -> bool:
        channel = viewer.channels.get(("trades", f"{venue.upper()}:A"))
        if channel is None:
            return False
        return any(wanted in one for one in channel.applied) or f"t{number}" in str(channel.holds())

    await viewer.until(there, f"trade {number}")


def states_in(text: str) -> set[str]:
    """The states that hold, as the numbers say."""
    return {dict(labels)["state"] for labels, value in samples_of(text)["feed_source_state"].items() if value}


async def test_a_venue_that_is_misspelt(kafka: str, tmp_path: Path) -> None:
    async with (
        Stage(kafka, tmp_path, [VENUE]) as stage,
        stage.running("normalize"),
        stage.running("serve", "--venues", "desk,krakn", "--port", "0") as serving,
    ):
        gateway = Watch.of_stream(await said(serving, r"ws://\S+"))
        await said(serving, "warning: normalize.venues has krakn, a venue of your own; did you mean kraken?")
        await gateway.until("/v1/status", lambda _, text: f"{VENUE}/0@" in text, "the good venue's source")
        await gateway.flows(flows=False)
        assert await gateway.faults() == [("krakn", None, "no_topic")]
        assert await gateway.faults("?venue=desk") == []
        status, lines = await gateway.verbose()
        assert status == 503
        assert {"[-] caught_up: not all logs were read yet", "[!] krakn: no_topic: it has no feed log"} <= {*lines}
        assert await gateway.status("/livez") == 200
        # that the topic comes later is as good
        async with stage.running("normalize", "--venues", "krakn"):
            await gateway.ready()
            await gateway.flows()
            assert (await gateway.health()) == (200, {"ok": True, "reasons": [], "silent": []})


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_all_normalizers_are_dead_and_come_again(kafka: str, tmp_path: Path, workers: str) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage:
        normalizer = stage.start("normalize")
        async with stage.running("serve", "--port", "0", "--workers", workers) as serving:
            gateway = Watch.of_stream(await said(serving, r"ws://\S+"))
            await gateway.ready()
            await gateway.flows()
            await dispose(normalizer)
            assert await gateway.flows(flows=False, timeout_s=SOON_S) < SOON_S
            [(venue, source, reason)] = await gateway.faults()
            assert (venue, reason) == (VENUE, "disconnected")
            assert source is not None
            assert source.startswith("desk/0@")
            # nobody can be served by anybody: the gateway is not ready
            await gateway.ready(ready=False, timeout_s=SOON_S)
            status, body = await gateway.ask("/readyz")
            assert status == 503
            assert ("[-] sources: 0 of 1 can be served" if workers == "1" else "sources: 0 of 1 can be served") in body
            assert await gateway.status("/livez") == 200
            await gateway.until("/metrics", lambda _, text: states_in(text) == {"disconnected"}, "disconnected", SOON_S)
            async with stage.running("normalize"):
                await gateway.flows()
                await gateway.ready()
                await gateway.until("/metrics", lambda _, text: states_in(text) == {"ok"}, "ok", SOON_S)


async def test_one_venue_of_two_stands_still(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE, OTHER]) as stage, stage.running("normalize", "--venues", OTHER):
        normalizer = stage.start("normalize", "--venues", VENUE)
        async with stage.running("serve", "--port", "0") as serving:
            gateway = Watch.of_stream(await said(serving, r"ws://\S+"))
            await gateway.ready()
            await dispose(normalizer)
            await gateway.flows(flows=False, timeout_s=SOON_S)
            assert [(venue, reason) for venue, _, reason in await gateway.faults()] == [(VENUE, "disconnected")]
            assert await gateway.faults(f"?venue={OTHER}") == []
            status, lines = await gateway.verbose()
            assert status == 200
            assert "[+] sources: 1 of 2 can be served" in lines
            assert any(
                line.startswith("[!] desk/0: disconnected: its normalizer has said nothing for") for line in lines
            )


async def test_a_worker_that_dies_while_a_venue_is_gone_is_replaced(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, [VENUE, OTHER]) as stage:
        other = stage.start("normalize", "--venues", OTHER)
        async with (
            stage.running("normalize", "--venues", VENUE),
            stage.running("serve", "--port", "0", "--workers", "2") as serving,
        ):
            gateway = Watch.of_stream(await said(serving, r"ws://\S+"))
            await gateway.ready()
            await dispose(other)
            await delete(kafka, stage.settings.feed_topic(OTHER))
            await gateway.until("/v1/health", lambda _, text: '"no_topic"' in text, "a topic that is gone")
            status = json.loads((await gateway.ask("/v1/status"))[1])
            os.kill(status["workers"][0]["pid"], signal.SIGKILL)
            # it would wait for ever for what nobody writes, and the next one, too
            await said(serving, "worker 1 is ready again")
            await gateway.ready()
            status = json.loads((await gateway.ask("/v1/status"))[1])
            assert [worker["listens"] for worker in status["workers"]] == [True, True]
            assert (OTHER, None, "no_topic") in await gateway.faults()


@pytest.mark.parametrize("one_process", [True, False])
async def test_the_feed_topic_is_deleted(kafka: str, tmp_path: Path, one_process: bool) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage, service(stage, one_process=one_process) as roles:
        async with Viewer(lambda: roles.url, ["trades"]) as viewer:
            await trades_flow(stage, viewer, 1)
            before = viewer.channels["trades", "DESK:A"].source
            await delete(kafka, stage.settings.feed_topic(VENUE))
            # the normalizer makes it again, and the gateway goes on with the new source
            await viewer.until(lambda: viewer.channels["trades", "DESK:A"].source != before, "the new source")
            await trades_flow(stage, viewer, 2)
        await roles.well()
        assert [source for _, source, _ in await roles.gateway.faults()] == []


async def test_the_feed_topic_is_deleted_while_much_comes_and_nothing(kafka: str, tmp_path: Path) -> None:
    """One partition has ticks at once, more than a snapshot holds, the other one has none for long."""
    async with Stage(kafka, tmp_path, [VENUE], partitions=3) as stage, service(stage, one_process=False) as roles:
        async with Viewer(lambda: roles.url, ["trades"]) as viewer:
            await stage.send(VENUE, [("A", trade(1))], partition=0)
            await stage.send(VENUE, [("B", trade(2))], partition=1)
            await viewer.until(lambda: len(viewer.channels) == 2, "both symbols")
            before = {channel.source for channel in viewer.channels.values()}
            await delete(kafka, stage.settings.feed_topic(VENUE))
            await stage.send(VENUE, [("A", trade(number)) for number in range(1000, 1400)], partition=0)
            channel = viewer.channels["trades", "DESK:A"]
            wanted = {f"t{number}" for number in range(1000, 1400)}
            await viewer.until(lambda: wanted <= {*applied_ids(channel), *held_ids(channel)}, "all trades", 60)
            # where they were on their way, the source went on in the new log
            assert [gap["lost"] for gap in channel.gaps] in ([True], [])
            assert wanted <= set(applied_ids(channel))
            idle = viewer.channels["trades", "DESK:B"]
            await viewer.until(lambda: idle.source not in before, "the new source of the other one", 60)
            await stage.send(VENUE, [("B", trade(3))], partition=1)
            await viewer.until(lambda: "t3" in applied_ids(idle), "its trade", 30)
            # and of a partition that never had any
            await stage.send(VENUE, [("C", trade(4))], partition=2)
            await viewer.until(lambda: ("trades", "DESK:C") in viewer.channels, "the first trade of the third", 60)
        await roles.well()


def applied_ids(channel: Channel) -> list[str]:
    return [one["trade_id"] for update in channel.applied for one in json.loads(update)["data"]]


def held_ids(channel: Channel) -> list[str]:
    return [one["trade_id"] for one in channel.holds()]


@pytest.mark.parametrize("one_process", [True, False])
async def test_the_tick_topic_is_deleted(kafka: str, tmp_path: Path, one_process: bool) -> None:
    async with Stage(kafka, tmp_path, [VENUE]) as stage, service(stage, one_process=one_process) as roles:
        async with Viewer(lambda: roles.url, ["trades"]) as viewer:
            await trades_flow(stage, viewer, 1)
            before = viewer.channels["trades", "DESK:A"].source
            await delete(kafka, stage.settings.ticks_topic(VENUE))
            await viewer.until(lambda: viewer.channels["trades", "DESK:A"].source != before, "the new source")
            await trades_flow(stage, viewer, 2)
        await roles.well()


@pytest.mark.parametrize("one_process", [True, False])
async def test_the_broker_is_killed_and_comes_again(own_broker: BrokerMaker, tmp_path: Path, one_process: bool) -> None:
    broker = own_broker()
    (tmp_path / "stage").mkdir()
    async with (
        Stage(broker.address, tmp_path / "stage", [VENUE]) as stage,
        service(stage, one_process=one_process) as roles,
        Viewer(lambda: roles.url, ["trades"]) as viewer,
    ):
        await trades_flow(stage, viewer, 1)
        source = viewer.channels["trades", "DESK:A"].source
        lines = sum(len(command.err) for command in roles.commands)
        broker.kill()
        await roles.gateway.flows(flows=False, timeout_s=SOON_S)
        assert await roles.gateway.faults() == [(VENUE, source, "disconnected")]
        await roles.gateway.ready(ready=False, timeout_s=SOON_S)
        await roles.gateway.until("/readyz", lambda _, text: "[-] kafka" in text, "no Kafka", SOON_S)
        await roles.normalizer.ready(ready=False, timeout_s=SOON_S)
        await asyncio.sleep(3)
        await roles.lives()
        broker.start()
        await roles.well()
        await trades_flow(stage, viewer, 2)
        assert viewer.channels["trades", "DESK:A"].source == source
        assert not viewer.channels["trades", "DESK:A"].gaps
        told = [line for command in roles.commands for line in command.err]
        assert len(told) - lines < LINES_MAX, told[lines:]
