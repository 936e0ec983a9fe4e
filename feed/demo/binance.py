"""Binance spot, simulated: combined streams of trades, best prices and depth diffs, and REST depth snapshots.

Source of the format: Binance's documentation of web socket streams. As there, diffs begin before the snapshot
that they must be joined to, and the snapshot is the answer to a request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from feed.demo.market import LevelChange, Market, Side
from feed.demo.venue import Captured, number

_DEPTH_EVERY: Final = 2
_MS: Final = 1_000_000
_URL: Final = "https://api.binance.com/api/v3/depth?symbol={}&limit=1000"
_FIRST_ID: Final = 1_000_000


class _Symbol:
    """A market with the sequences that the venue counts for it."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.update_id = _FIRST_ID
        self.sent_id = _FIRST_ID
        self.trade_id = _FIRST_ID
        self.gathered: dict[tuple[Side, int], int] = {}
        self.best: tuple[int, int, int, int] | None = None

    def price(self, ticks: int) -> str:
        return number(ticks, self.market.product.price_digits) + "0" * (8 - self.market.product.price_digits)

    def size(self, lots: int) -> str:
        return number(lots, self.market.product.size_digits) + "0" * (8 - self.market.product.size_digits)

    def level(self, price: int, size: int) -> list[str]:
        return [self.price(price), self.size(size)]

    def gather(self, change: LevelChange) -> None:
        self.gathered[change.side, change.price] = change.size
        self.update_id += 1


class SimulatedBinance:
    """All symbols on one connection."""

    name = "binance"

    def __init__(self, markets: list[Market]) -> None:
        self.markets = markets
        self._symbols = [_Symbol(market) for market in markets]
        self._steps = 0

    def hello(self, now: int) -> Iterator[Captured]:
        """A first diff of each symbol, then the snapshots that were asked for meanwhile."""
        for symbol in self._symbols:
            for change in symbol.market.step().changes:
                symbol.gather(change)
            yield from self._depth(symbol, now)
        for symbol in self._symbols:
            yield self._snapshot(symbol, now)

    def step(self, now: int) -> Iterator[Captured]:
        """Trades and best prices at once, depth diffs every other step."""
        self._steps += 1
        for symbol in self._symbols:
            step = symbol.market.step()
            for change in step.changes:
                symbol.gather(change)
            for deal in step.deals:
                symbol.trade_id += 1
                yield self._frame(symbol, "trade", now, self._trade(symbol, deal.price, deal.size, deal.side, now))
            yield from self._best(symbol, now)
            if self._steps % _DEPTH_EVERY == 0:
                yield from self._depth(symbol, now)

    def _trade(self, symbol: _Symbol, price: int, size: int, side: Side, now: int) -> dict[str, object]:
        return {
            "e": "trade",
            "E": now // _MS,
            "s": symbol.market.product.symbol,
            "t": symbol.trade_id,
            "p": symbol.price(price),
            "q": symbol.size(size),
            "T": now // _MS,
            "m": side == "sell",
            "M": True,
        }

    def _best(self, symbol: _Symbol, now: int) -> Iterator[Captured]:
        bid, ask = symbol.market.best
        best = bid, symbol.market.bids[bid], ask, symbol.market.asks[ask]
        if best == symbol.best:
            return
        symbol.best = best
        data: dict[str, object] = {"u": symbol.update_id, "s": symbol.market.product.symbol}
        data |= {"b": symbol.price(bid), "B": symbol.size(best[1]), "a": symbol.price(ask), "A": symbol.size(best[3])}
        yield self._frame(symbol, "bookTicker", now, data)

    def _depth(self, symbol: _Symbol, now: int) -> Iterator[Captured]:
        if not symbol.gathered:
            return
        data: dict[str, object] = {"e": "depthUpdate", "E": now // _MS, "s": symbol.market.product.symbol}
        data |= {"U": symbol.sent_id + 1, "u": symbol.update_id}
        for key, side in (("b", "buy"), ("a", "sell")):
            data[key] = [symbol.level(price, size) for (of, price), size in symbol.gathered.items() if of == side]
        symbol.sent_id = symbol.update_id
        symbol.gathered.clear()
        yield self._frame(symbol, "depth@100ms", now, data)

    def _snapshot(self, symbol: _Symbol, now: int) -> Captured:
        market = symbol.market
        body = {
            "lastUpdateId": symbol.sent_id,
            "bids": [symbol.level(price, market.bids[price]) for price in sorted(market.bids, reverse=True)],
            "asks": [symbol.level(price, market.asks[price]) for price in sorted(market.asks)],
        }
        name = market.product.symbol
        return Captured(now, _compact(body), _URL.format(name), name)

    def _frame(self, symbol: _Symbol, stream: str, now: int, data: dict[str, object]) -> Captured:
        return Captured(now, _compact({"stream": f"{symbol.market.product.symbol.lower()}@{stream}", "data": data}))


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
