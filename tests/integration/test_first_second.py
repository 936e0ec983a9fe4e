"""Clients that are cut within their first second, again and again, while symbols appear: nothing is lost.

Regular heartbeats come too late for them: what they resume from is the heartbeat that follows a subscribe.
"""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from feed.channels.hub import Hub, HubSettings
from feed.channels.state import FoldRules
from feed.runtime.settings import ServeSettings
from tests.gateways import Running
from tests.integration.stage import seeded
from tests.reference_client import Client
from tests.truth import TrueSource, some_data

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SETTINGS = ServeSettings(port=0, heartbeat_ms=5_000, ping_interval_ms=60_000)
CUTS = 8
TRADES_KEPT = 2
"""Less than what a symbol trades while a client is away: a snapshot would not make up for it."""


class Market:
    """Two partitions of X, of which one is silent at first; symbols appear all the time."""

    def __init__(self, running: Running, chance: Random) -> None:
        self.sources = [TrueSource("x/0@a"), TrueSource("x/1@a")]
        self._running = running
        self._chance = chance
        self._number = 0
        for source in self.sources:
            running.do(lambda name=source.source: running.gateway.hub.opened(name, "", False))  # type: ignore[misc]

    def truth(self) -> dict[tuple[str, str], list[bytes]]:
        """Each update that there was, by channel."""
        return {
            key: [message for update in truth.updates for message in update[2]]
            for source in self.sources
            for key, truth in source.truths.items()
        }

    def tick(self, *, silent: bool = False) -> None:
        """Trades of some symbols, every now and then of a new one."""
        for index, source in enumerate(self.sources[: 1 if silent else 2]):
            self._number += 1
            count = max(1, len(source.truths))
            symbol = f"X:{index}-{self._chance.randrange(max(0, count - 3), count + (self._number % 7 == 0))}"
            source.tick([("trades", symbol, some_data("trades", self._number))])
            pos, last, value = source.record()
            hub, fanout = self._running.gateway.hub, self._running.gateway.fanout
            hub.data(source.source, pos, last, value, last + 1)
            fanout.notify()

    async def run(self) -> None:
        """Until it is cancelled."""
        silent = asyncio.get_running_loop().time() + 2
        while True:
            quiet = asyncio.get_running_loop().time() < silent
            await asyncio.to_thread(self._running.do, lambda quiet=quiet: self.tick(silent=quiet))
            await asyncio.sleep(0.004)


class Unlucky:
    """A client of all trades of X that is cut at random moments."""

    def __init__(self, url: str, chance: Random) -> None:
        self.client = Client()
        self._url = url
        self._chance = chance

    async def run(self, done: asyncio.Event) -> None:
        """So many short connections, and one that stays."""
        for _ in range(CUTS):
            async with connect(self._url, compression=None, proxy=None) as socket:
                await self._ask(socket)
                stay = 0.15 + 0.85 * self._chance.random()
                await self._receive(socket, stay)
                socket.transport.abort()
            await asyncio.sleep(self._chance.random() * 0.3)
        async with connect(self._url, compression=None, proxy=None) as socket:
            await self._ask(socket)
            while not done.is_set():
                await self._receive(socket, 0.1)

    async def _receive(self, socket: ClientConnection, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                async for payload in socket:
                    self.client.receive(payload if isinstance(payload, bytes) else payload.encode())
                    assert not self.client.holes
        except (TimeoutError, ConnectionClosed):
            pass

    async def _ask(self, socket: ClientConnection) -> None:
        """As the page says: the pattern from the marks, then by name what they do not speak of."""
        client = self.client
        starts: dict[str, list[str]] = {}
        for channel in client.channels.values():
            start = json.dumps(client.start_of(channel))
            if start != json.dumps({"marks": client.marks}):
                starts.setdefault(start, []).append(channel.symbol)
        marks = dict(client.marks)
        client.connect()
        request: dict[str, Any] = {"op": "subscribe", "channels": ["trades"], "symbols": ["X:*"]}
        await socket.send(client.ask(request | ({"from": {"marks": marks}} if marks else {})).decode())
        for start, symbols in starts.items():
            own = {"op": "subscribe", "channels": ["trades"], "symbols": symbols, "from": json.loads(start)}
            await socket.send(client.ask(own).decode())


async def test_whoever_is_cut_in_the_first_second_loses_nothing() -> None:
    chance = seeded(19)
    with Running(SETTINGS, hub=Hub(HubSettings(rules=FoldRules(trades_kept=TRADES_KEPT)))) as running:
        market = Market(running, chance)
        for _ in range(20):
            running.do(lambda: market.tick(silent=True))
        first = market.truth()
        done = asyncio.Event()
        clients = [Unlucky(f"ws://127.0.0.1:{running.port}/v1/stream", Random(chance.random())) for _ in range(4)]
        watching = [asyncio.create_task(client.run(done)) for client in clients]
        async with asyncio.timeout(10):
            while any(len(client.client.channels) < len(first) for client in clients):
                await asyncio.sleep(0.01)
        ticking = asyncio.create_task(market.run())
        await asyncio.sleep(CUTS * 0.75 + 1)
        ticking.cancel()
        await asyncio.wait([ticking])
        truth = market.truth()
        async with asyncio.timeout(30):
            while not all(_at_end(client.client, truth) for client in clients):
                assert not any(task.done() for task in watching), [task.exception() for task in watching if task.done()]
                await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*watching)
    assert len(truth) > len(first) + 50
    for client in clients:
        for key, updates in truth.items():
            channel = client.client.channels[key]
            assert not channel.gaps
            assert channel.applied == updates[len(first.get(key, ())) :], (key, len(channel.applied), len(updates))


def _at_end(client: Client, truth: dict[tuple[str, str], list[bytes]]) -> bool:
    ends = {key: json.loads(updates[-1])["seq"] for key, updates in truth.items()}
    return all(key in client.channels and client.channels[key].pos >= seq for key, seq in ends.items())


async def test_heartbeats_after_subscribes_are_prompt_and_few() -> None:
    """Within 100 ms of being in step; of many subscribes in a row at most ten a second."""
    with Running(SETTINGS) as running:
        market = Market(running, Random(1))
        running.do(lambda: market.tick(silent=True))
        loop = asyncio.get_running_loop()
        url = f"ws://127.0.0.1:{running.port}/v1/stream"
        async with connect(url, compression=None, proxy=None) as socket:
            await socket.recv()
            beats: list[float] = []
            asked = loop.time()

            async def listen() -> None:
                async for frame in socket:
                    beats.extend(loop.time() for message in json.loads(frame) if message["type"] == "heartbeat")

            listening = asyncio.create_task(listen())
            for number in range(60):
                request = {"op": "subscribe", "id": number, "channels": ["trades"], "symbols": ["X:*"]}
                await socket.send(json.dumps(request))
                await asyncio.sleep(0.02)
            last = loop.time()
            await asyncio.sleep(0.3)
            listening.cancel()
    assert beats[0] - asked < 0.1
    assert 0 < beats[-1] - last + 0.02 < 0.12
    assert min(later - one for one, later in pairwise(beats)) > 0.09
    assert len(beats) >= 8
