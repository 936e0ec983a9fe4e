"""A believable market, made up: an order book around a price that wanders, and trades against it.

Owns prices, sizes and who trades; all numbers are whole ticks and lots. Leaves digits, sequences and frames to the
venues (`binance`, `kraken`, `coinbase`). Pure and seeded: the same seed and the same steps make the same market.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Final, Literal, NamedTuple

Side = Literal["buy", "sell"]
_NOISE: Final = 0.00004
_REVERSION: Final = 0.002
_ORDERS_A_STEP: Final = 3
_SWEPT_LEVELS_MAX: Final = 4


class Fair:
    """What an asset is worth, to all of its venues: a random walk, drawn gently towards where it began."""

    def __init__(self, price: float, random: Random) -> None:
        self.price = price
        self._anchor = math.log(price)
        self._random = random

    def step(self, seconds: float) -> None:
        """Lets time pass."""
        here = math.log(self.price)
        drawn = _REVERSION * (self._anchor - here) * seconds
        self.price = math.exp(here + drawn + self._random.gauss(0, _NOISE * math.sqrt(seconds)))


class DemoProduct(NamedTuple):
    """How a venue lists an asset. `levels` are kept a side, `gap_ticks` apart or so; an order is about `order_lots`."""

    symbol: str
    base: str
    quote: str
    price_digits: int
    size_digits: int
    levels: int
    order_lots: int
    gap_ticks: int


class LevelChange(NamedTuple):
    """A level's new size in lots; 0 when it is gone."""

    side: Side
    price: int
    size: int


class Deal(NamedTuple):
    """A trade; `side` is the taker's."""

    price: int
    size: int
    side: Side


class Step(NamedTuple):
    """What happened: levels that changed, each once, and trades in their order."""

    changes: list[LevelChange]
    deals: list[Deal]


class Market:
    """One book of one venue. Bids are always below asks, both sides always have levels."""

    def __init__(self, product: DemoProduct, fair: Fair, random: Random) -> None:
        self.product = product
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self._fair = fair
        self._random = random
        self._changed: dict[tuple[Side, int], int] = {}
        self._fill()
        self._changed.clear()

    @property
    def best(self) -> tuple[int, int]:
        """The best bid and ask, in ticks."""
        return max(self.bids), min(self.asks)

    def step(self) -> Step:
        """A moment of trading."""
        deals = list(self._arbitrage())
        for _ in range(self._random.randint(0, _ORDERS_A_STEP)):
            self._order(deals)
        self._fill()
        changes = [LevelChange(side, price, size) for (side, price), size in self._changed.items()]
        self._changed.clear()
        return Step(changes, deals)

    @property
    def _middle(self) -> int:
        return round(self._fair.price * math.pow(10, self.product.price_digits))

    def _size(self) -> int:
        return max(1, round(self.product.order_lots * self._random.lognormvariate(0, 1.1)))

    def _set(self, side: Side, price: int, size: int) -> None:
        book = self.bids if side == "buy" else self.asks
        if size:
            book[price] = size
        else:
            book.pop(price, None)
        self._changed[side, price] = size

    def _arbitrage(self) -> Iterator[Deal]:
        """Someone who knows the fair price takes what is offered too cheap."""
        for side, book in (("buy", self.asks), ("sell", self.bids)):
            for _ in range(_SWEPT_LEVELS_MAX):
                price = min(book) if side == "buy" else max(book)
                wrong = price < self._middle if side == "buy" else price > self._middle
                if not wrong or len(book) == 1:
                    break
                yield self._take("buy" if side == "buy" else "sell", price, book[price])

    def _take(self, side: Side, price: int, size: int) -> Deal:
        resting: Side = "sell" if side == "buy" else "buy"
        book = self.asks if side == "buy" else self.bids
        size = min(size, book[price])
        self._set(resting, price, book[price] - size)
        return Deal(price, size, side)

    def _order(self, deals: list[Deal]) -> None:
        side: Side = self._random.choice(("buy", "sell"))
        chance = self._random.random()
        bid, ask = self.best
        if chance < 0.12:
            opposite = self.asks if side == "buy" else self.bids
            if len(opposite) > 1:
                deals.append(self._take(side, ask if side == "buy" else bid, self._size()))
        elif chance < 0.45:
            book = self.bids if side == "buy" else self.asks
            if len(book) > self.product.levels // 2:
                self._set(side, self._random.choice(list(book)), 0)
        else:
            away = round(self._random.expovariate(1 / (self.product.gap_ticks * 6)))
            price = min(self._middle, ask) - 1 - away if side == "buy" else max(self._middle, bid) + 1 + away
            self._set(side, price, self._size())

    def _fill(self) -> None:
        """Keeps about as many levels as are wanted, near the fair price."""
        gap, wanted = self.product.gap_ticks, self.product.levels
        for side, book, away in (("buy", self.bids, -1), ("sell", self.asks, 1)):
            named: Side = "buy" if side == "buy" else "sell"
            while len(book) > wanted:
                self._set(named, min(book) if away < 0 else max(book), 0)
            inside = max(self.bids, default=0) if away > 0 else min(self.asks, default=self._middle * 2)
            price = self._middle + away
            while len(book) < wanted:
                if price not in book and (price - inside) * away > 0 and price > 0:
                    self._set(named, price, self._size())
                price += away * self._random.randint(1, gap * 2)
