"""Kraken, both sockets: which pairs a frame speaks of, what is odd, and what means nothing."""

from __future__ import annotations

from typing import Any

import pytest

from feed.venues import kraken
from feed.wire.model import Quote, Status
from tests.feed.venues.kraken_examples import (
    BEGIN,
    ISO,
    ODD_SNAPSHOTS,
    V1,
    V2,
    best,
    book_v2,
    encode,
    level,
    pairs,
    raw,
    trade_v2,
    v1,
    v2,
)
from tests.feed.venues.playing import Feeder, doubts, without_doubts


def test_what_stands_at_another_pair_does_not_matter() -> None:
    feed = Feeder("kraken", V2)(
        v2("trade", {**trade_v2(1, "ETH/USD"), "side": "odd"}, trade_v2(1)),
        pairs({"symbol": "X/Y", "price_precision": 99}, {"symbol": V2, "status": "online"}),
        v2("ticker", {"symbol": "X/Y", "bid": raw("1"), "timestamp": 5}, {"symbol": V2, "bid": raw("1")}),
    )
    assert feed.played.bad == []
    assert [trade.trade_id for trade in feed.folded.trades] == ["1"]
    assert feed.played.snapshot(V2, "status") == Status("trading", None)
    assert feed.folded.quotes == [(Quote("1", None, None, None), None)]


@pytest.mark.parametrize(
    "frame",
    [
        {"event": "heartbeat"},
        {"event": "pong", "reqid": 1},
        {"event": "error", "errorMessage": "no"},
        {
            "event": "subscriptionStatus",
            "status": "error",
            "pair": V1,
            "errorMessage": "no",
            "subscription": {"name": "book"},
        },
        {"channel": "heartbeat"},
        {"method": "pong", "time_in": ISO, "time_out": ISO},
        {"method": "subscribe", "success": False, "error": "Currency pair not supported", "symbol": "A/B"},
        {"error": "Unknown", "method": "x", "success": False},
        v1([["1.0", "2.0", "1783247859.1", "1.0", "2.0"]], channel="spread"),
        v1(["1542057314.748456", "1542057360.435743", "3586.7", "3586.7", "1", "1", "1", "1", 2], channel="ohlc-5"),
        [[{"OID": {"status": "open"}}], "openOrders", {"sequence": 1}],
        [[{"TID": {"pair": V1}}], "ownTrades", {"sequence": 1}],
        {"channel": "ohlc", "type": "snapshot", "data": [{"symbol": V1, "open": 1.0}]},
        {"channel": "level3", "type": "update", "data": [{"symbol": V1, "bids": [{"event": "add"}]}]},
        {"channel": "executions", "type": "snapshot", "data": [{"order_id": "x"}], "sequence": 1},
        {"channel": "balances", "type": "snapshot", "data": [{"asset": "USD"}], "sequence": 1},
        {"channel": "something", "type": "update", "data": {"new": 1}},
        {"channel": "instrument", "type": "update", "data": {"assets": [{"id": "USD"}], "pairs": []}},
    ],
)
@pytest.mark.parametrize("key", [V1, ""])
def test_frames_of_other_kinds_mean_nothing(frame: Any, key: str) -> None:
    feed = Feeder("kraken", key)(frame)
    assert feed.played.bad == []
    assert feed.played.symbols == {}
    kraken.keys(encode(frame))


def test_times_that_the_venue_does_not_know_are_null() -> None:
    feed = Feeder("kraken", V2)(
        v2("trade", {**trade_v2(1), "timestamp": None}), v2("trade", {**trade_v2(2), "timestamp": ""})
    )
    assert [trade.ts_event for trade in feed.folded.trades] == [None, None]
    old = Feeder("kraken", V1)(v1([["10.50", "2.0", "0.0000", "s", "l", ""]], channel="trade"))
    old(v1({"as": [["2.0", "2.0", "0.0"]], "bs": []}))
    assert old.folded.trades[0].ts_event is None
    assert old.played.source.keyframe(V1)[1].ts_event is None  # type: ignore[union-attr]


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
    assert kraken.venue_status(encode(frame)) is None


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        ({"event": "systemStatus", "status": "online"}, ("trading", None)),
        ({"event": "systemStatus", "status": "maintenance"}, ("halt", "maintenance")),
        ({"channel": "status", "type": "update", "data": [{"system": "post_only"}]}, ("pre-open", "post_only")),
        ({"channel": "status", "type": "update", "data": [{"system": "odd"}]}, ("unknown", "odd")),
        ({"event": "systemStatus", "version": "1.9.0"}, None),
        ({"event": "systemStatus", "status": ""}, None),
        ({"channel": "status", "type": "update", "data": [{"version": "2.0.0"}]}, None),
        ({"channel": "status", "data": [{"system": "maintenance"}, {"version": "2"}]}, ("halt", "maintenance")),
        ({"event": "heartbeat"}, None),
        ({"channel": "heartbeat"}, None),
    ],
)
def test_wide(frame: Any, wanted: Any) -> None:
    assert kraken.venue_status(encode(frame)) == wanted


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (v1({"a": [level("1.0", "-1.0")], "c": "1"}), ["book"]),
        (v1({"a": [["1.0", "1.0"]], "c": "1"}), ["book"]),
        (v1({"a": [level("1e5", "1.0")], "c": "1"}), ["book"]),
        (v1({"a": [level("0.0", "1.0")], "c": "1"}), ["book"]),
        (v1({"a": [level("1.0", "1.0")], "c": "x"}), ["book"]),
        (v1({"a": [["1.0", "1.0", "yesterday"]], "c": "1"}), ["book"]),
        (v1({"a": [["1.0", "1.0", "1618678142557"]], "c": "1"}), ["book"]),
        (v1({"a": [level("1.0", "1.0")], "c": "1"}, channel="book-x"), []),
        (v1({"a": [level("1.0", "1.0")], "c": "1"}, pair="A/B"), ["book"]),
        (v1([["1.0", "1.0", "5.5", "x", "l", ""]], channel="trade"), ["trades"]),
        (v1([["1.0", "1.0"]], channel="trade"), ["trades"]),
        (v1({"a": ["1", 1], "b": ["1", 1, "1"]}, channel="ticker"), []),
        ([1, 2, 3], ["book", "trades"]),
        ({"foo": 1}, ["book", "trades"]),
        (v2("trade", {**trade_v2(1, V1), "side": "odd"}), ["trades"]),
        (v2("ticker", {"symbol": V1, "bid": raw("-1")}), []),
        (v2("trade", trade_v2(1, V1), {**trade_v2(1), "symbol": 5}), ["trades"]),
        (v2("trade", trade_v2(1, V1), {"side": "buy"}), ["trades"]),
    ],
)
def test_odd_entry_is_refused_and_only_puts_its_channel_in_doubt(frame: Any, wanted: list[str]) -> None:
    feed = Feeder("kraken", V1)(v1({"as": [level("2.0", "2.0")], "bs": [level("1.0", "2.0")]}))
    before = without_doubts(feed.played.source, V1)
    feed(frame)
    assert len(feed.played.bad) == 1
    after = without_doubts(feed.played.source, V1)
    for state in (before, after):
        state[1].pop("machine")
    assert after == before
    assert doubts(feed.played.source, V1) == wanted


@pytest.mark.parametrize(("pair", "frame"), ODD_SNAPSHOTS)
def test_side_or_type_of_a_book_that_is_left_out_is_not_an_empty_one(pair: str, frame: Any) -> None:
    whole = {
        V1: v1({"as": [level("100.0", "1.0")], "bs": [level("99.0", "1.0")]}),
        V2: book_v2({"99.0": "1.0"}, {"100.0": "1.0"}, best({"100.0": "1.0"}, {"99.0": "1.0"}), "snapshot"),
    }[pair]
    feed = Feeder("kraken", pair)(whole, frame if isinstance(frame, bytes) else encode(frame))
    assert len(feed.played.bad) == 1
    assert feed.book() == ({"99": "1"}, {"100": "1"})
    assert [state.state for state in feed.folded.states] == ["stale"]


def test_a_collector_may_change_from_one_socket_to_the_other() -> None:
    """One pair that both sockets call alike: its book goes on with the next snapshot, its trades with v2's."""
    name = "ETH/BTC"
    feed = Feeder("kraken", name)(v1({"as": [level("2.0", "1")], "bs": []}, pair=name))
    event = {"event": "subscriptionStatus", "pair": name, "status": "subscribed", "subscription": {"name": "trade"}}
    trade = v1([["1", "1", f"{BEGIN + 5}.5", "b", "l", ""]], channel="trade", pair=name)
    feed(event, trade, event, trade)
    assert len(feed.folded.gaps) == len(feed.folded.trades) - 1 == 1
    feed(v2("trade", trade_v2(7, name)), trade)
    assert [found.trade_id for found in feed.folded.trades] == [None, None, "7"]
    feed(v2("book", {"symbol": name, "bids": [], "asks": [{"price": raw("3.0"), "qty": raw("1")}]}, type_="snapshot"))
    assert feed.book() == ({}, {"3": "1"})
    feed(v1({"as": [level("4.0", "1")], "bs": []}, channel="book-100", pair=name))
    assert feed.book() == ({}, {"4": "1"})
    assert feed.played.bad == []
