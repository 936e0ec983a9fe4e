"""The simulated venues: believable books, and frames that hold what the books hold."""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from decimal import Decimal
from random import Random

import pytest

from feed.demo.collect import Exchanges
from feed.demo.kraken import checksum
from feed.demo.market import DemoProduct, Fair, Market
from feed.demo.venue import iso, number

LISTING = DemoProduct("BTC/USD", "BTC", "USD", 1, 8, 25, 9_000_000, 12)
Books = dict[tuple[str, str], dict[str, dict[Decimal, Decimal]]]


def _market(seed: int) -> tuple[Fair, Market]:
    random = Random(seed)
    fair = Fair(97_000.0, random)
    return fair, Market(LISTING, fair, random)


@pytest.mark.parametrize("seed", range(5))
def test_a_book_is_never_crossed_keeps_its_depth_and_changes_say_what_changed(seed: int) -> None:
    fair, market = _market(seed)
    bids, asks = dict(market.bids), dict(market.asks)
    for _ in range(2_000):
        fair.step(0.05)
        for change in market.step().changes:
            book = bids if change.side == "buy" else asks
            book.pop(change.price, None)
            if change.size:
                book[change.price] = change.size
        assert market.best[0] < market.best[1]
        assert len(market.bids) == len(market.asks) == LISTING.levels
        assert (bids, asks) == (market.bids, market.asks)


def test_the_price_wanders_but_not_away_and_both_sides_trade() -> None:
    fair, market = _market(1)
    sides: dict[str, int] = defaultdict(int)
    for _ in range(10_000):
        fair.step(0.05)
        for deal in market.step().deals:
            sides[deal.side] += 1
            assert deal.size > 0
    assert 90_000 < fair.price < 104_000
    assert min(sides["buy"], sides["sell"]) > 500


def test_the_same_seed_makes_the_same_frames() -> None:
    one, other = Exchanges(7), Exchanges(7)
    assert one.hello(1) == other.hello(1)
    assert [one.step(now) for now in range(50)] == [other.step(now) for now in range(50)]
    assert Exchanges(8).hello(1) != one.hello(1)


def test_numbers_and_times_are_written_as_venues_do() -> None:
    assert [number(50, 3), number(123_456, 2), number(7, 0)] == ["0.050", "1234.56", "7"]
    assert iso(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"


def test_frames_put_together_by_the_venues_rules_give_the_markets_books() -> None:
    exchanges = Exchanges(3)
    frames = exchanges.hello(0)
    for now in range(1, 201):
        frames += exchanges.step(now * 50_000_000)
    books: Books = defaultdict(lambda: {"buy": {}, "sell": {}})
    waiting: dict[str, list[dict[str, object]]] = defaultdict(list)
    ids: dict[str, int] = {}
    for venue, captured in frames:
        message = json.loads(captured.frame, parse_float=Decimal, parse_int=int)
        if venue == "binance":
            _binance(message, captured.symbol, books, waiting, ids)
        elif venue == "kraken" and message["channel"] == "book":
            for side, key in (("buy", "bids"), ("sell", "asks")):
                levels = message["data"][0][key]
                _put(books, "kraken", message["data"][0]["symbol"], side, [(e["price"], e["qty"]) for e in levels])
        elif venue == "coinbase" and message["type"] == "snapshot":
            for side, key in (("buy", "bids"), ("sell", "asks")):
                _put(books, "coinbase", message["product_id"], side, message[key])
        elif venue == "coinbase" and message["type"] == "l2update":
            for side, price, size in message["changes"]:
                _put(books, "coinbase", message["product_id"], side, [(price, size)])
    for simulated in exchanges.venues:
        for market in simulated.markets:
            scale = Decimal(10) ** -market.product.price_digits, Decimal(10) ** -market.product.size_digits
            found = books[simulated.name, market.product.symbol]
            for side, book in (("buy", market.bids), ("sell", market.asks)):
                assert found[side] == {price * scale[0]: size * scale[1] for price, size in book.items()}


def test_krakens_checksum_is_over_the_digits_as_sent() -> None:
    # The guide's own example, cut to one level a side, computed by hand: digits without point and leading zeros.
    _, market = _market(0)
    market.bids, market.asks = {452_834: 10_000_000}, {452_835: 1}
    assert checksum(market) == zlib.crc32(b"4528351" + b"45283410000000")


def _put(books: Books, venue: str, symbol: str, side: str, levels: list[tuple[object, object]]) -> None:
    for price, size in levels:
        books[venue, symbol][side].pop(Decimal(str(price)), None)
        if Decimal(str(size)):
            books[venue, symbol][side][Decimal(str(price))] = Decimal(str(size))


def _binance(
    message: dict, symbol: str | None, books: Books, waiting: dict[str, list[dict[str, object]]], ids: dict[str, int]
) -> None:
    if symbol is not None:
        for side, key in (("buy", "bids"), ("sell", "asks")):
            _put(books, "binance", symbol, side, message[key])
        ids[symbol] = message["lastUpdateId"]
        late, waiting[symbol] = waiting[symbol], []
        for data in late:
            _binance({"data": data}, None, books, waiting, ids)
        return
    data = message["data"]
    if data.get("e") != "depthUpdate":
        return
    name = data["s"]
    if name not in ids:
        waiting[name].append(data)
    elif data["u"] > ids[name]:
        assert data["U"] == ids[name] + 1
        ids[name] = data["u"]
        for side, key in (("buy", "b"), ("sell", "a")):
            _put(books, "binance", name, side, data[key])
