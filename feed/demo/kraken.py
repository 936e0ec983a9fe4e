"""Kraken v2, simulated: status, instruments, books with checksums, trades.

Source of the format: Kraken's documentation of its web socket API v2, with the checksum of its guide to book
checksums: CRC32 over the ten best asks, then the ten best bids, each as the digits of price and quantity without point
and leading zeros. Numbers are JSON numbers whose trailing zeros count, so frames are put together as text.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from feed.demo.market import Deal, LevelChange, Market
from feed.demo.venue import Captured, iso, number

_CHECKED: Final = 10
_FIRST_TRADE_ID: Final = 70_000_000
_HEARTBEAT_STEPS: Final = 20
_HEARTBEAT: Final = b'{"channel":"heartbeat"}'
_STATUS: Final = (
    b'{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2",'
    b'"connection_id":1}]}'
)


class SimulatedKraken:
    """All symbols on one connection."""

    name = "kraken"

    def __init__(self, markets: list[Market]) -> None:
        self.markets = markets
        self._trade_ids = {market.product.symbol: _FIRST_TRADE_ID for market in markets}
        self._steps = 0

    def hello(self, now: int) -> Iterator[Captured]:
        """The venue's state, what it trades, and a book of each symbol."""
        yield Captured(now, _STATUS)
        pairs = ",".join(_pair(market) for market in self.markets)
        yield Captured(
            now, f'{{"channel":"instrument","type":"snapshot","data":{{"assets":[],"pairs":[{pairs}]}}}}'.encode()
        )
        for market in self.markets:
            changes = [LevelChange("buy", price, market.bids[price]) for price in sorted(market.bids, reverse=True)]
            changes += [LevelChange("sell", price, market.asks[price]) for price in sorted(market.asks)]
            yield Captured(now, _book(market, "snapshot", changes, ""))

    def step(self, now: int) -> Iterator[Captured]:
        """Trades and book changes at once, a heartbeat now and then."""
        self._steps += 1
        if self._steps % _HEARTBEAT_STEPS == 0:
            yield Captured(now, _HEARTBEAT)
        for market in self.markets:
            step = market.step()
            if step.deals:
                yield Captured(now, self._trades(market, step.deals, now))
            if step.changes:
                yield Captured(now, _book(market, "update", step.changes, f',"timestamp":"{iso(now)}"'))

    def _trades(self, market: Market, deals: list[Deal], now: int) -> bytes:
        product = market.product
        texts = []
        for deal in deals:
            self._trade_ids[product.symbol] += 1
            price, size = number(deal.price, product.price_digits), number(deal.size, product.size_digits)
            texts.append(
                f'{{"symbol":"{product.symbol}","side":"{deal.side}","price":{price},"qty":{size},'
                f'"ord_type":"market","trade_id":{self._trade_ids[product.symbol]},"timestamp":"{iso(now)}"}}'
            )
        return f'{{"channel":"trade","type":"update","data":[{",".join(texts)}]}}'.encode()


def checksum(market: Market) -> int:
    """CRC32 of the ten best asks and bids, as the venue computes it."""
    product = market.product
    best = [(price, market.asks[price]) for price in sorted(market.asks)[:_CHECKED]]
    best += [(price, market.bids[price]) for price in sorted(market.bids, reverse=True)[:_CHECKED]]
    digits = [
        number(price, product.price_digits).replace(".", "").lstrip("0")
        + number(size, product.size_digits).replace(".", "").lstrip("0")
        for price, size in best
    ]
    return zlib.crc32("".join(digits).encode())


def _book(market: Market, kind: str, changes: list[LevelChange], end: str) -> bytes:
    product = market.product
    sides = {
        side: ",".join(
            f'{{"price":{number(c.price, product.price_digits)},"qty":{number(c.size, product.size_digits)}}}'
            for c in changes
            if c.side == side
        )
        for side in ("buy", "sell")
    }
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{product.symbol}","bids":[{sides["buy"]}],'
        f'"asks":[{sides["sell"]}],"checksum":{checksum(market)}{end}}}]}}'
    ).encode()


def _pair(market: Market) -> str:
    product = market.product
    price_step, size_step = number(1, product.price_digits), number(1, product.size_digits)
    return (
        f'{{"symbol":"{product.symbol}","base":"{product.base}","quote":"{product.quote}","status":"online",'
        f'"qty_precision":{product.size_digits},"qty_increment":{size_step},"price_precision":{product.price_digits},'
        f'"price_increment":{price_step},"cost_precision":5,"marginable":false,"has_index":true,"cost_min":0.50,'
        f'"qty_min":{size_step}}}'
    )
