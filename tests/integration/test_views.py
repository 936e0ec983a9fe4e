"""Views through everything: real ticks in Kafka, the commands as processes, clients that see channels less often.

In the end a client of a view holds what a client of the raw channels holds, cut to its depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection

from tests.integration.stage import MARKET, Stage, Viewer, said
from tests.reference_client import Channel, Json

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CAPTURE = "coinbase/exchange_5products_20210417"
KINDS = tuple(kind for kind in MARKET if kind != "status")


class Watcher(Viewer):
    """A viewer of a view; it counts updates and those merged into them."""

    def __init__(self, url: Callable[[], str], kinds: Sequence[str] = KINDS, **view: int) -> None:
        super().__init__(url, kinds)
        self.view = view

    async def _ask(self, socket: ClientConnection) -> None:
        request: Json = {"op": "subscribe", "channels": self._kinds, "symbols": self._symbols, **self.view}
        if self.connections:
            self.client.connect()
            self._resumes = f"resume {self.connections}"
            request |= {"id": self._resumes, "from": {"marks": self.marks}}
        self.connections += 1
        await socket.send(self.client.ask(request).decode())

    def like(self, raw: Viewer) -> Callable[[], bool]:
        """Tells whether it holds what a viewer of the raw channels holds, cut to its depth."""
        depth = self.view.get("depth")

        def holds() -> bool:
            wanted = {key: best(channel, depth) for key, channel in raw.channels.items() if key[0] in self._kinds}
            return bool(wanted) and {key: best(found, depth) for key, found in self.channels.items()} == wanted

        return holds

    @property
    def counts(self) -> list[int]:
        """Of every update applied how many it stood for."""
        found = [raw for channel in self.channels.values() for raw in channel.applied]
        return [msgspec.json.decode(raw).get("count", 1) for raw in found]


def best(channel: Channel, depth: int | None) -> Any:
    """A book's best levels; of anything else all."""
    if channel.kind != "book":
        return channel.holds()
    bids, asks = channel.book()
    return (
        {price: bids[price] for price in sorted(bids, key=Decimal, reverse=True)[:depth]},
        {price: asks[price] for price in sorted(asks, key=Decimal)[:depth]},
    )


async def test_views_end_where_the_raw_channels_end(kafka: str, data_dir: Path, tmp_path: Path) -> None:
    async with (
        Stage(kafka, tmp_path, ["coinbase"]) as stage,
        stage.running("normalize"),
        stage.running("serve", "--port", "0") as one,
        stage.running("serve", "--port", "0") as other,
    ):
        urls = [await said(one, r"ws://\S+"), await said(other, r"ws://\S+")]
        address = [urls[0]]
        async with (
            Viewer(lambda: urls[0], KINDS) as raw,
            Watcher(lambda: urls[0], every_ms=250) as slow,
            Watcher(lambda: urls[0], ("book",), depth=10) as cut,
            Watcher(lambda: urls[1], every_ms=50, depth=1) as both,
            Watcher(lambda: address[0], every_ms=100) as goes,
        ):
            watchers = (slow, cut, both, goes)
            for viewer in (raw, *watchers):
                await viewer.answered()
            await stage.publish_capture(CAPTURE, data_dir, speed="20")
            await goes.has_marks(1)
            address[0] = urls[1]
            goes.drop()
            truth = await stage.truth()
            await raw.has(truth)
            await goes.caught_up(1)
            for viewer in watchers:
                await viewer.until(viewer.like(raw), f"{viewer.view} holds what the raw channels hold")
            for channel in cut.channels.values():
                assert max(map(len, channel.book())) <= 10
            for channel in both.channels.values():
                assert channel.kind != "book" or max(map(len, channel.book())) <= 1
            trades = {key: updates for key, updates in truth.items() if key[0] == "trades"}
            assert trades
            assert {key: slow.channels[key].applied for key in trades} == trades
            assert max(slow.counts) > 1
            assert sum(map(len, truth.values())) > 2 * len(slow.counts)
