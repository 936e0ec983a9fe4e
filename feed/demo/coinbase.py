"""Coinbase Exchange, simulated: level 2 snapshots and changes, matches, heartbeats.

Source of the format: Coinbase's documentation of its Exchange web socket feed. As there, the side of a match
is the maker's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Final
from uuid import UUID

from feed.demo.market import Deal, Market
from feed.demo.venue import Captured, iso, number

_FIRST_SEQUENCE: Final = 50_000_000


class SimulatedCoinbase:
    """All products on one connection."""

    name = "coinbase"

    def __init__(self, markets: list[Market], random: Random) -> None:
        self.markets = markets
        self._random = random
        self._sequence = _FIRST_SEQUENCE
        self._trade_ids = {market.product.symbol: _FIRST_SEQUENCE for market in markets}

    def hello(self, now: int) -> Iterator[Captured]:
        """The answer to the subscription, then a snapshot of each product."""
        names = [market.product.symbol for market in self.markets]
        channels = [{"name": name, "product_ids": names} for name in ("level2", "matches")]
        yield Captured(now, _compact({"type": "subscriptions", "channels": channels}))
        for market in self.markets:
            bids = [self._level(market, price, market.bids[price]) for price in sorted(market.bids, reverse=True)]
            asks = [self._level(market, price, market.asks[price]) for price in sorted(market.asks)]
            body = {"type": "snapshot", "product_id": market.product.symbol, "asks": asks, "bids": bids}
            yield Captured(now, _compact(body))

    def step(self, now: int) -> Iterator[Captured]:
        """Matches, then the levels that they and other orders changed."""
        for market in self.markets:
            step = market.step()
            for deal in step.deals:
                yield Captured(now, _compact(self._match(market, deal, now)))
            if step.changes:
                changes = [[c.side, *self._level(market, c.price, c.size)] for c in step.changes]
                body = {"type": "l2update", "product_id": market.product.symbol, "changes": changes, "time": iso(now)}
                yield Captured(now, _compact(body))

    def _level(self, market: Market, price: int, size: int) -> list[str]:
        return [number(price, market.product.price_digits), number(size, market.product.size_digits)]

    def _match(self, market: Market, deal: Deal, now: int) -> dict[str, object]:
        symbol = market.product.symbol
        self._trade_ids[symbol] += 1
        self._sequence += 1
        price, size = self._level(market, deal.price, deal.size)
        return {
            "type": "match",
            "trade_id": self._trade_ids[symbol],
            "maker_order_id": self._order_id(),
            "taker_order_id": self._order_id(),
            "side": "sell" if deal.side == "buy" else "buy",
            "size": size,
            "price": price,
            "product_id": symbol,
            "sequence": self._sequence,
            "time": iso(now),
        }

    def _order_id(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
