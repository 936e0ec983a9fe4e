"""The demo's collector: lets the simulated venues trade as time passes, and hands on what they send.

Owns which venues and symbols there are and how fast they trade. Leaves where frames go to its caller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from feed.demo.binance import SimulatedBinance
from feed.demo.coinbase import SimulatedCoinbase
from feed.demo.kraken import SimulatedKraken
from feed.demo.market import DemoProduct, Fair, Market
from feed.demo.venue import Captured, SimulatedVenue

STEP_S: Final = 0.05
_ASSETS: Final = {"BTC": 97_250.0, "ETH": 3_410.0, "SOL": 214.0}
_BINANCE: Final = (
    ("BTC", DemoProduct("BTCUSDT", "BTC", "USDT", 2, 5, 200, 12_000, 90)),
    ("ETH", DemoProduct("ETHUSDT", "ETH", "USDT", 2, 4, 200, 18_000, 12)),
    ("SOL", DemoProduct("SOLUSDT", "SOL", "USDT", 2, 3, 100, 22_000, 2)),
)
_KRAKEN: Final = (
    ("BTC", DemoProduct("BTC/USD", "BTC", "USD", 1, 8, 25, 9_000_000, 12)),
    ("ETH", DemoProduct("ETH/USD", "ETH", "USD", 2, 8, 25, 160_000_000, 15)),
)
_COINBASE: Final = (
    ("BTC", DemoProduct("BTC-USD", "BTC", "USD", 2, 8, 150, 11_000_000, 100)),
    ("ETH", DemoProduct("ETH-USD", "ETH", "USD", 2, 8, 150, 170_000_000, 14)),
    ("SOL", DemoProduct("SOL-USD", "SOL", "USD", 2, 3, 100, 20_000, 2)),
)


class Exchanges:
    """All simulated venues; assets cost about the same everywhere. Pure: `now` and `seed` decide everything."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)  # noqa: S311  # a simulation, no secret
        self._fair = {name: Fair(price, random) for name, price in _ASSETS.items()}

        def markets(products: tuple[tuple[str, DemoProduct], ...]) -> list[Market]:
            return [Market(product, self._fair[asset], random) for asset, product in products]

        self.venues: tuple[SimulatedVenue, ...] = (
            SimulatedBinance(markets(_BINANCE)),
            SimulatedKraken(markets(_KRAKEN)),
            SimulatedCoinbase(markets(_COINBASE), random),
        )

    def hello(self, now: int) -> list[tuple[str, Captured]]:
        """What the venues send when one has subscribed, each with its venue's name."""
        return [(venue.name, captured) for venue in self.venues for captured in venue.hello(now)]

    def step(self, now: int) -> list[tuple[str, Captured]]:
        """What they send after another moment of trading."""
        for fair in self._fair.values():
            fair.step(STEP_S)
        return [(venue.name, captured) for venue in self.venues for captured in venue.step(now)]


async def collect(
    exchanges: Exchanges, send: Callable[[list[tuple[str, Captured]]], Awaitable[None]], *, speed: float = 1.0
) -> None:
    """Runs until it is cancelled; a step that `send` holds up makes the next one later, never a burst."""
    await send(exchanges.hello(time.time_ns()))
    while True:
        began = time.monotonic()
        await send(exchanges.step(time.time_ns()))
        await asyncio.sleep(max(0.0, STEP_S / speed - (time.monotonic() - began)))
