"""Processes and brokers killed, sources that begin anew, books of 8 MB: as a connected WebSocket client sees it.

Normalizer, gateway and broker are killed with SIGKILL at random moments while captures are published. A client that
resumes by marks must in the end have applied exactly the updates that an undisturbed machine makes of the same ticks:
byte for byte, none lost, none twice. Where a source begins anew it must be told, and then be right.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from broker import Broker

from tests.feed.venues.playing import CAPTURES
from tests.integration.commands import Command
from tests.integration.stage import (
    DEADLINE_S,
    MARKET,
    Stage,
    Viewer,
    check_exact,
    dispose,
    joined,
    port_of_a_gateway,
    said,
    seeded,
)
from tests.reference_client import Broken, Client

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CAPTURES_USED = (
    "coinbase/exchange_5products_20210417",
    "kraken/v1_5pairs_20210417.book",
    "binance/usdm_multi_20210722",
)
VENUES = ("coinbase", "kraken", "binance-usdm")
PREFIXES = {venue.upper() for venue in VENUES}


class Victim:
    """A command that is killed now and then, and started again."""

    def __init__(self, stage: Stage, *arguments: str, ready: str) -> None:
        self.stage = stage
        self.arguments = arguments
        self.ready = ready
        self.kills = 0
        self._running: list[Command] = []

    async def start(self) -> None:
        """One more of it; returns when it works."""
        command = self.stage.start(*self.arguments)
        self._running.append(command)
        await said(command, self.ready)

    async def kill(self) -> None:
        """Ends the oldest one with SIGKILL."""
        self.kills += 1
        await self._dispose()

    async def end(self) -> None:
        """Ends them all."""
        while self._running:
            await self._dispose()

    async def _dispose(self) -> None:
        command = self._running.pop(0)
        await dispose(command)
        print(f"{self.arguments[0]} said", *command.err, sep="\n")  # seen where the test fails


@asynccontextmanager
async def victims(stage: Stage) -> AsyncIterator[tuple[Victim, Victim, str]]:
    """A normalizer and a gateway, each a process, and the stream's address, which stays."""
    port = port_of_a_gateway()
    normalizer = Victim(stage, "normalize", ready="normalizing")
    gateway = Victim(stage, "serve", "--port", str(port), ready=r"ws://\S+")
    try:
        await asyncio.gather(normalizer.start(), gateway.start())
        yield normalizer, gateway, f"ws://127.0.0.1:{port}/v1/stream"
    finally:
        await normalizer.end()
        await gateway.end()


def publishing(stage: Stage, data_dir: Path, speed: str) -> list[asyncio.Task[None]]:
    """Captures of three venues on their way."""
    return [
        asyncio.create_task(
            stage.publish(
                CAPTURES[name].venue,
                *(data_dir / file for file in CAPTURES[name].files),
                speed=speed,
                symbol=CAPTURES[name].symbol,
            )
        )
        for name in CAPTURES_USED
    ]


async def kill_at_random(
    chance: Random, victim: Victim, times: int, *, overlap: bool = False, viewer: Viewer | None = None
) -> None:
    """Kills and starts it again; with `overlap` sometimes there are two of it for a while, with a `viewer` not before
    that one is back."""
    for _ in range(times):
        await asyncio.sleep(chance.random() * 1.5)
        if overlap and chance.random() < 0.5:
            await victim.start()
            await asyncio.sleep(chance.random())
            await victim.kill()
        else:
            await victim.kill()
            await asyncio.sleep(chance.random() * 0.5)
            connections = viewer.connections if viewer is not None else 0
            await victim.start()
            if viewer is not None:
                await viewer.until(lambda before=connections: viewer.connections > before, "a connection")


def prefixes(viewer: Viewer) -> set[str]:
    """Of which venues it has symbols: of these it is told how their sources are."""
    return {symbol.partition(":")[0] for _, symbol in viewer.channels}


@pytest.mark.parametrize("seed", [41, 42])
async def test_normalizer_and_gateway_killed_at_random_moments(
    kafka: str, data_dir: Path, tmp_path: Path, seed: int
) -> None:
    chance = seeded(seed)
    async with (
        Stage(kafka, tmp_path, VENUES) as stage,
        victims(stage) as (normalizer, gateway, url),
        Viewer(lambda: url) as viewer,
    ):
        await viewer.answered()
        published = publishing(stage, data_dir, "3")
        await viewer.has_marks(len(VENUES))
        await asyncio.gather(
            kill_at_random(chance, normalizer, 3, overlap=True), kill_at_random(chance, gateway, 2, viewer=viewer)
        )
        await asyncio.gather(*published)
        truth = await stage.truth()
        await viewer.has(truth)
        check_exact(viewer.client, truth)
        assert (normalizer.kills, gateway.kills) == (3, 2)
        assert viewer.connections >= 3
        late = await joined(url, MARKET)
        check_same_state(late, viewer.client)


async def test_the_broker_killed_and_started_again(
    own_broker: Callable[..., Broker], data_dir: Path, tmp_path: Path
) -> None:
    broker = own_broker()
    async with (
        Stage(broker.address, tmp_path, VENUES) as stage,
        victims(stage) as (_, _, url),
        Viewer(lambda: url) as viewer,
    ):
        await viewer.answered()
        published = publishing(stage, data_dir, "3")
        await viewer.until(lambda: prefixes(viewer) == PREFIXES, "symbols of every venue")
        broker.kill()
        await viewer.until(lambda: any(told["state"] == "stale" for told in viewer.client.sources.values()), "stale")
        await asyncio.to_thread(broker.start)
        await asyncio.gather(*published)
        truth = await stage.truth()
        await viewer.has(truth)
        check_exact(viewer.client, truth)
        assert viewer.connections == 1
        await viewer.until(lambda: all(told["state"] == "ok" for told in viewer.client.sources.values()), "ok again")


# ---- large books


def book_tick(levels: list[tuple[str, str]], *, snapshot: bool) -> bytes:
    """A canonical tick of a book's bids."""
    book = {"bids": levels, "asks": []}
    return json.dumps({"channel": "book", "data": book} | ({"snapshot": True} if snapshot else {})).encode()


async def test_a_book_of_8_mb_goes_through_everything(kafka: str, tmp_path: Path) -> None:
    levels = [(f"{price}.123456", "1234.123456789") for price in range(100_000, 330_000)]
    snapshot = book_tick(levels, snapshot=True)
    assert len(snapshot) > 8 << 20
    changes = [book_tick([levels[number * 7]], snapshot=False) for number in range(50)]
    changes += [book_tick([(levels[number][0], "0")], snapshot=False) for number in range(0, 1000, 10)]
    async with (
        Stage(kafka, tmp_path, ["desk"]) as stage,
        victims(stage) as (normalizer, gateway, url),
        Viewer(lambda: url) as viewer,
    ):
        await viewer.answered()
        await stage.send("desk", [("BIG", snapshot), *(("BIG", tick) for tick in changes[:50])])
        await viewer.has(await stage.truth())
        await normalizer.kill()
        await gateway.kill()
        await asyncio.gather(normalizer.start(), gateway.start())
        await stage.send("desk", [("BIG", tick) for tick in changes[50:]])
        truth = await stage.truth()
        await viewer.has(truth)
        check_exact(viewer.client, truth)
        late = await joined(url, ["book"])
        check_same_state(late, viewer.client)
        bids, _ = late.channel("book", "DESK:BIG").book()
        deleted = {levels[number][0] for number in range(0, 1000, 10)}
        assert bids == {price: size for price, size in levels if price not in deleted}


# ---- sources that begin anew


def trade_tick(number: int) -> bytes:
    """A canonical tick of one trade."""
    trade = {"price": "10.5", "size": str(number), "side": "buy", "trade_id": str(number), "ts_event": None}
    return json.dumps({"channel": "trades", "data": [trade]}).encode()


def desk_ticks(start: int, stop: int) -> list[tuple[str, bytes]]:
    """Trades and a book that changes with them; at 0 begins the book."""
    ticks = [("A", book_tick([(str(price), "1") for price in range(1, 50)], snapshot=True))] if not start else []
    for number in range(max(1, start), stop):
        ticks += [("A", trade_tick(number)), ("A", book_tick([(str(number), str(number + 1))], snapshot=False))]
    return ticks


def check_told(client: Client, kind: str, before: str, *, lost: bool = False) -> None:
    """A channel was told by a gap that its source is another one now, and has left the old one; `lost`: what is missing
    of it does not come again."""
    channel = client.channel(kind, "DESK:A")
    told = [gap for gap in channel.gaps if gap["reason"] == "source"]
    assert told, f"{channel} was told nothing"
    assert channel.source != before
    assert told[-1]["source"] == channel.source
    assert all(gap["lost"] is lost and gap["count"] is None for gap in told)
    assert not channel.waiting


async def test_added_partitions_are_told_and_the_state_goes_on(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, ["desk"]) as stage, stage.up() as url, Viewer(lambda: url) as viewer:
        await viewer.answered()
        await stage.send("desk", desk_ticks(0, 100))
        await viewer.has(await stage.truth())
        held = {kind: viewer.client.channel(kind, "DESK:A") for kind in ("trades", "book")}
        before = held["book"].source
        assert before is not None
        await stage.cluster.grow(stage.settings.ticks_topic("desk"), 2)
        await viewer.until(lambda: all(channel.source != before for channel in held.values()), "a new source")
        await stage.send("desk", desk_ticks(100, 200))
        await viewer.until(lambda: held["book"].book()[0].get("199") == "200", "the last change")
        for kind in held:
            check_told(viewer.client, kind, before)
        assert held["book"].book()[0] == {str(number): str(number + 1) for number in range(1, 200)}
        assert [trade["trade_id"] for trade in held["trades"].holds()] == [str(number) for number in range(100, 200)]
        late = await joined(url, MARKET)
        check_same_state(late, viewer.client)


async def test_a_topic_made_anew_is_told_and_starts_from_nothing(kafka: str, tmp_path: Path) -> None:
    async with Stage(kafka, tmp_path, ["desk"]) as stage, stage.up() as url, Viewer(lambda: url) as viewer:
        await viewer.answered()
        await stage.send("desk", desk_ticks(0, 100))
        await viewer.has(await stage.truth())
        held = {kind: viewer.client.channel(kind, "DESK:A") for kind in ("trades", "book")}
        before = held["book"].source
        assert before is not None
        topic = stage.settings.ticks_topic("desk")
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.delete_topics([topic])
        await admin.close()
        async with asyncio.timeout(DEADLINE_S):
            while topic in await stage.cluster.topics():
                await asyncio.sleep(0.05)
        await stage.cluster.make_topics({topic: 1}, {"max.message.bytes": str(16 << 20)})
        other = [("A", book_tick([("7", "70"), ("8", "80")], snapshot=True)), ("A", trade_tick(7))]
        await stage.send("desk", other)
        await viewer.until(lambda: held["book"].book()[0] == {"7": "70", "8": "80"}, "the new book")
        await viewer.until(lambda: held["trades"].data[-1]["trade_id"] == "7", "the new trade")
        check_told(viewer.client, "book", before)
        check_told(viewer.client, "trades", before, lost=True)
        late = await joined(url, MARKET)
        assert late.channel("book", "DESK:A").holds() == held["book"].holds()
        assert [trade["trade_id"] for trade in late.channel("trades", "DESK:A").holds()] == ["7"]


def check_same_state(late: Client, first: Client) -> None:
    """Two clients at the same positions hold the same."""
    for key, channel in late.channels.items():
        other = first.channels[key]
        if (channel.source, channel.pos) != (other.source, other.pos):
            raise Broken(f"{channel} of {channel.source}, wanted {other} of {other.source}")
        if channel.holds() != other.holds():
            raise Broken(f"{channel} holds something else than the client before it")
