"""Kraken v1 and v2: checksums, the cut to the depth, history, and what its answers tell."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.errors import BadTick
from feed.model import Instrument, Quote, Status, Trade
from feed.venues import kraken
from feed.venues.symbol import Tick
from tests.feed.venues.playing import Feeder, Played, captured, numbered, play, state_of, ticks

V1, V2 = "XBT/USD", "BTC/USD"
BOOK_V1, BOOK_V2 = "kraken/v1_5pairs_20210417.book", "kraken/v2_btcusd_d10_20260705"
ISO = "2026-07-05T10:37:39.090964Z"
encode = msgspec.json.encode


def v1(*payloads: Any, channel: str = "book-10", pair: str = V1) -> list[Any]:
    return [336, *payloads, channel, pair]


def crc(asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> int:
    """The venue's own words: without the point and leading zeros, asks then bids, price then volume."""
    digits = [number.replace(".", "").lstrip("0") for level in [*asks[:10], *bids[:10]] for number in level]
    return zlib.crc32("".join(digits).encode())


def level(price: str, size: str) -> list[str]:
    return [price, size, "1618678142.557535"]


def v2(channel: str, *data: dict[str, Any], type_: str = "update") -> bytes:
    """An object whose numbers are written as the texts that stand for them."""
    text = encode({"channel": channel, "type": type_, "data": data})
    return text.replace(b'"#', b"").replace(b'#"', b"")


def raw(number: str) -> str:
    return f"#{number}#"


def book_v2(bids: dict[str, str], asks: dict[str, str], checksum: int, type_: str = "update") -> bytes:
    sides = {
        side: [{"price": raw(price), "qty": raw(size)} for price, size in levels.items()]
        for side, levels in (("bids", bids), ("asks", asks))
    }
    return v2("book", {"symbol": V2, **sides, "checksum": checksum, "timestamp": ISO}, type_=type_)


def test_v1_book() -> None:
    asks, bids = [("5541.30000", "2.50700000")], [("5541.20000", "1.52900000")]
    feed = Feeder("kraken", V1)(v1({"as": [level(*asks[0])], "bs": [level(*bids[0])]}))
    assert feed.book() == ({"5541.2": "1.529"}, {"5541.3": "2.507"})
    asks.append(("5542.00000", "0.10000000"))
    feed(v1({"a": [level(*asks[1])], "c": str(crc(asks, bids))}))
    # two objects in one frame are one update
    feed(
        v1(
            {"a": [level("5541.30000", "0.00000000")]},
            {"b": [level("5541.20000", "2.00000000")], "c": str(crc(asks[1:], [("5541.20000", "2.00000000")]))},
        )
    )
    assert feed.book() == ({"5541.2": "2"}, {"5542": "0.1"})
    assert feed.folded.updates["book"] == 3
    assert feed.folded.states == []
    assert feed.played.source.keyframe(V1)[0].ts_event == "1618678142557535000"  # type: ignore[union-attr]


def test_sides_are_cut_to_the_depth_of_the_channel() -> None:
    asks = [(f"{price}.0", "1.0") for price in range(100, 110)]
    feed = Feeder("kraken", V1)(v1({"as": [level(*ask) for ask in asks], "bs": []}))
    better = [("99.0", "1.0"), *asks]
    feed(v1({"a": [level("99.0", "1.0")], "c": str(crc(better, []))}))
    assert list(feed.book()[1]) == ["99", *(str(price) for price in range(100, 109))]
    assert len(feed.folded.asks) == 10  # the cut went out as a delete
    # the venue fills the place of a deleted level itself
    feed(
        v1(
            {
                "a": [level("99.0", "0.0"), [*level("109.0", "2.0"), "r"]],
                "c": str(crc([*asks[:9], ("109.0", "2.0")], [])),
            }
        )
    )
    assert feed.book()[1]["109"] == "2"
    assert feed.folded.states == []


@pytest.mark.parametrize("name", [BOOK_V1, BOOK_V2])
def test_wrong_checksum_makes_the_book_stale_until_the_next_snapshot(data_dir: Path, name: str) -> None:
    all_ticks = ticks(name, captured(data_dir, name))
    key = next(tick.key for tick in all_ticks if tick.key and b"subscriptionStatus" not in tick.value)
    mine = [i for i, tick in enumerate(all_ticks) if tick.key == key and b"subscriptionStatus" not in tick.value]
    snapshot, bad = mine[0], mine[5]
    good = all_ticks[bad]
    spoiled = re.sub(rb'("c":"|checksum":)[0-9]+', rb"\g<1>1", good.value)
    assert spoiled != good.value
    again = [*all_ticks[:bad], msgspec.structs.replace(good, value=spoiled), *all_ticks[bad + 1 :]]
    played = play(name, numbered(again))
    assert [(state.state, state.reason, state.seq) for state in played.symbols[key].states] == [
        ("stale", "checksum", bad)
    ]
    assert played.symbols[key].updates["book"] == 5  # what cannot be trusted is not told
    for other, folded in played.symbols.items():
        assert other == key or folded.states == []
    # a new connection: everything again, and the book is what it would have been
    whole = play(name, all_ticks)
    played.play(msgspec.structs.replace(tick, seq=len(again) + i) for i, tick in enumerate(all_ticks) if i >= snapshot)
    assert [state.state for state in played.symbols[key].states] == ["stale", "ok"]
    assert played.symbols[key].sides() == whole.symbols[key].sides()


def test_left_out_update_is_seen_by_the_checksum(data_dir: Path) -> None:
    all_ticks = ticks(BOOK_V2, captured(data_dir, BOOK_V2))
    played = play(BOOK_V2, numbered(all_ticks[:3] + all_ticks[4:]))
    assert [state.reason for state in played.symbols[V2].states] == ["checksum"]


def test_v2_digits_count_as_they_were_sent() -> None:
    feed = Feeder("kraken", V2)
    bids, asks = {"62622.30": "0.00923840"}, {"62627.0": "5"}
    feed(book_v2(bids, asks, crc(list(asks.items()), list(bids.items())), "snapshot"))
    assert feed.book() == ({"62622.3": "0.0092384"}, {"62627": "5"})
    assert feed.folded.states == []
    feed(book_v2({}, {"62627.00": "6.0"}, crc([("62627.00", "6.0")], list(bids.items()))))
    assert feed.book()[1] == {"62627": "6"}
    feed(book_v2({}, {"62627.0": "7.0"}, crc([("62627", "7")], list(bids.items()))))
    assert [state.reason for state in feed.folded.states] == ["checksum"]


def test_v2_snapshot_with_a_wrong_checksum_is_no_book() -> None:
    feed = Feeder("kraken", V2)(book_v2({"1.0": "1"}, {}, 5, "snapshot"), book_v2({"2.0": "1"}, {}, 5))
    assert feed.book() is None
    feed(book_v2({"1.0": "1"}, {}, crc([], [("1.0", "1")]), "snapshot"))
    assert feed.book() == ({"1": "1"}, {})
    feed(book_v2({"1.0": "1"}, {}, 5, "snapshot"))
    assert [state.reason for state in feed.folded.states] == ["checksum"]


def test_v2_depth_is_told_by_the_answer() -> None:
    bids = {f"{price}.0": "1" for price in range(20, 10, -1)}
    snapshot = book_v2(bids, {}, crc([], list(bids.items())), "snapshot")
    more = book_v2({"10.0": "1"}, {}, crc([], list(bids.items())))
    answer = {"method": "subscribe", "success": True, "result": {"channel": "book", "symbol": V2, "depth": 25}}
    assert len(Feeder("kraken", V2)(snapshot, more).book()[0]) == 10
    assert len(Feeder("kraken", V2)(answer, snapshot, more).book()[0]) == 11


def test_v1_trades_from_before_the_subscription_are_history() -> None:
    subscribed = {"event": "subscriptionStatus", "pair": V1, "status": "subscribed", "subscription": {"name": "trade"}}

    def sent(*times: int) -> list[Any]:
        return v1([["10.50", "2.0", f"{time}.5", "s", "l", ""] for time in times], channel="trade")

    def at(seconds: int, frame: Any, seq: int) -> Tick:
        return Tick(seq, V1, encode(frame), seconds * 10**9, seconds * 10**9)

    feed = Played("kraken")
    feed.play([at(100, subscribed, 0), at(101, sent(97, 98, 99), 1)])
    assert feed.symbols == {}
    assert [trade.ts_event for trade in feed.snapshot(V1, "trades")] == ["97500000000", "98500000000", "99500000000"]
    feed.play([at(103, sent(102), 2), at(104, sent(99, 103), 3)])
    assert [trade.ts_event for trade in feed.symbols[V1].trades] == ["102500000000", "99500000000", "103500000000"]
    assert feed.symbols[V1].trades[0] == Trade("10.5", "2", "sell", None, "102500000000")
    assert feed.symbols[V1].gaps == []
    # a second subscription: trades may have been missed
    feed.play([at(200, subscribed, 4), at(201, sent(150, 200), 5)])
    assert [trade.ts_event for trade in feed.symbols[V1].trades[3:]] == ["200500000000"]
    assert [gap.reason for gap in feed.symbols[V1].gaps] == ["venue"]


def trade_v2(number: int, symbol: str = V2) -> dict[str, Any]:
    numbers = {"price": raw("10.50"), "qty": raw("2"), "trade_id": number}
    return {"symbol": symbol, "side": "buy", **numbers, "ord_type": "limit", "timestamp": ISO}


def test_v2_trades() -> None:
    feed = Feeder("kraken", V2)(v2("trade", trade_v2(1), trade_v2(2), type_="snapshot"))
    assert feed.folded.trades == []
    assert [trade.trade_id for trade in feed.played.snapshot(V2, "trades")] == ["1", "2"]
    feed(v2("trade", trade_v2(3), trade_v2(9, "ETH/USD"), trade_v2(4)), v2("trade", trade_v2(4)))
    assert [trade.trade_id for trade in feed.folded.trades] == ["3", "4"]
    assert feed.folded.trades[0] == Trade("10.5", "2", "buy", "3", "1783247859090964000")
    assert feed.folded.gaps == []
    feed(v2("trade", trade_v2(6)))
    assert len(feed.folded.gaps) == 1
    feed(v2("trade", trade_v2(6), trade_v2(8), type_="snapshot"), v2("trade", trade_v2(9)))
    assert [trade.trade_id for trade in feed.folded.trades] == ["3", "4", "6", "9"]
    assert len(feed.folded.gaps) == 2  # 7 and 8 were only told as history


def test_v2_quotes_instruments_and_status() -> None:
    feed = Feeder("kraken", V2)
    top = {"symbol": V2, "bid": raw("1.10"), "bid_qty": raw("2.0"), "ask": raw("1.2"), "ask_qty": raw("3"), "last": 1}
    feed(v2("ticker", top), v2("ticker", {**top, "bid": None, "timestamp": ISO}))
    assert feed.folded.quotes == [
        (Quote("1.1", "2", "1.2", "3"), None),
        (Quote(None, None, "1.2", "3"), "1783247859090964000"),
    ]
    pair = {"symbol": V2, "base": "BTC", "quote": "USD", "price_precision": 1, "qty_precision": 8}
    feed({"channel": "instrument", "type": "snapshot", "data": {"pairs": [{"symbol": "X/Y"}, pair]}})
    wanted = Instrument("kraken", V2, "spot", "BTC", "USD", "0.1", "0.00000001", [])
    assert feed.played.snapshot(V2, "instruments") == wanted
    exact = v2("instrument").replace(
        b"[]", b'{"pairs":[{"symbol":"BTC/USD","price_increment":0.50,"status":"cancel_only"}]}'
    )
    feed(exact)
    assert feed.played.snapshot(V2, "instruments") == Instrument("kraken", V2, "spot", None, None, "0.5", None, [])
    assert feed.played.snapshot(V2, "status") == Status("halt", "cancel_only")


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (v1({}, channel="book-10"), [V1]),
        (v1({}, {}, channel="ticker", pair="A/B"), ["A/B"]),
        ({"event": "subscriptionStatus", "pair": V1, "status": "subscribed"}, [V1]),
        ({"event": "subscriptionStatus", "pair": V1, "status": "error"}, []),
        ({"event": "heartbeat"}, []),
        ({"channel": "heartbeat"}, []),
        ({"channel": "trade", "data": [{"symbol": "A/B"}, {"symbol": V2}, {"symbol": "A/B"}]}, ["A/B", V2]),
        ({"channel": "instrument", "data": {"assets": [], "pairs": [{"symbol": V2}]}}, [V2]),
        ({"method": "subscribe", "result": {"symbol": V2, "channel": "book"}}, [V2]),
        ({"method": "pong"}, []),
        ({"error": "Currency pair not supported", "method": "subscribe"}, []),
    ],
)
def test_keys(frame: Any, wanted: list[str]) -> None:
    assert kraken.keys(encode(frame)) == wanted
    if wanted:
        with pytest.raises(BadTick):
            kraken.wide(encode(frame))


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        ({"event": "systemStatus", "status": "online"}, ("trading", None)),
        ({"event": "systemStatus", "status": "maintenance"}, ("halt", "maintenance")),
        ({"channel": "status", "type": "update", "data": [{"system": "post_only"}]}, ("pre-open", "post_only")),
        ({"channel": "status", "type": "update", "data": [{"system": "odd"}]}, ("unknown", "odd")),
        ({"event": "heartbeat"}, None),
        ({"channel": "heartbeat"}, None),
    ],
)
def test_wide(frame: Any, wanted: Any) -> None:
    assert kraken.wide(encode(frame)) == wanted


@pytest.mark.parametrize(
    "frame",
    [
        v1({"a": [level("1.0", "-1.0")], "c": "1"}),
        v1({"a": [["1.0", "1.0"]], "c": "1"}),
        v1({"a": [level("1e5", "1.0")], "c": "1"}),
        v1({"a": [level("0.0", "1.0")], "c": "1"}),
        v1({"a": [level("1.0", "1.0")], "c": "x"}),
        v1({"a": [["1.0", "1.0", "yesterday"]], "c": "1"}),
        v1({"a": [level("1.0", "1.0")], "c": "1"}, channel="book-x"),
        v1({"a": [level("1.0", "1.0")], "c": "1"}, pair="A/B"),
        v1([["1.0", "1.0", "5.5", "x", "l", ""]], channel="trade"),
        v1([["1.0", "1.0"]], channel="trade"),
        v1({"a": ["1", 1], "b": ["1", 1, "1"]}, channel="ticker"),
        [1, 2, 3],
        {"foo": 1},
    ],
)
def test_bad_frame_is_refused_and_changes_nothing(frame: Any) -> None:
    feed = Feeder("kraken", V1)(v1({"as": [level("2.0", "2.0")], "bs": [level("1.0", "2.0")]}))
    before = state_of(feed.played.source, V1)
    feed(frame)
    assert len(feed.played.bad) == 1
    assert state_of(feed.played.source, V1) == before


@pytest.mark.parametrize("number", ["1e5", "-1", "NaN", "true", '"1.0"', "null", "[1]", "1E-7"])
def test_v2_numbers_are_plain_numbers(number: str) -> None:
    feed = Feeder("kraken", V2)(book_v2({"1.0": "1"}, {}, crc([], [("1.0", "1")]), "snapshot"))
    feed(book_v2({"2.0": number}, {}, 1), v2("trade", {**trade_v2(1), "qty": raw(number)}))
    assert len(feed.played.bad) == 2
    assert feed.folded.states == []
