"""Coinbase, both sockets: which products a frame speaks of, what is odd, and what means nothing."""

from __future__ import annotations

from typing import Any

import pytest

from feed.venues import coinbase
from feed.wire.model import Status, Trade
from tests.feed.venues.coinbase_examples import (
    ISO,
    NAME,
    NS,
    advanced,
    changed,
    encode,
    l2_event,
    match,
    product,
    traded,
)
from tests.feed.venues.playing import Feeder, doubts, without_doubts


def test_side_is_the_takers() -> None:
    feed = product()(match(1), match(2, side="buy"))
    assert feed.folded.trades == [
        Trade("14.7775", "0.04", "buy", "1", NS),
        Trade("14.7775", "0.04", "sell", "2", NS),
    ]
    feed = product()(advanced("market_trades", {"type": "update", "trades": [traded(1), traded(2, "SELL")]}))
    assert [trade.side for trade in feed.folded.trades] == ["sell", "buy"]
    assert feed.folded.trades[0].ts_event == "1787610853793075885"


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (match(1), [NAME]),
        ({"type": "heartbeat", "product_id": NAME}, [NAME]),
        ({"type": "subscriptions", "channels": []}, []),
        ({"type": "error", "message": "no"}, []),
        ({"type": "status", "products": [{"id": "A"}, {"id": "B"}]}, ["A", "B"]),
        (advanced("l2_data", l2_event("update"), l2_event("update", name="B")), [NAME, "B"]),
        (
            advanced("market_trades", {"type": "update", "trades": [traded(1), traded(2, name="B"), traded(3)]}),
            [NAME, "B"],
        ),
        (advanced("ticker", {"type": "update", "tickers": [{"product_id": "B"}]}), ["B"]),
        (advanced("heartbeats", {"current_time": "", "heartbeat_counter": "1"}), []),
        (advanced("subscriptions", {"subscriptions": {"level2": [NAME]}}), []),
    ],
)
def test_keys(frame: dict[str, Any], wanted: list[str]) -> None:
    value = encode(frame)
    assert coinbase.keys(value) == wanted
    assert coinbase.venue_status(value) is None


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (match(3, product_id="A-B"), ["trades"]),
        ({"channel": "", "type": ""}, ["book", "trades"]),
        (match(3, price="-1"), ["trades"]),
        (match(3, size="0"), ["trades"]),
        (match(3, size="1e5"), ["trades"]),
        (match(3, side="hold"), ["trades"]),
        (match(3, time="2021-04-17 16:43:30"), ["trades"]),
        (match(3, time="2021-02-30T16:43:30Z"), ["trades"]),
        (match(3, time="1989-12-31T23:59:59Z"), ["trades"]),
        (match(3, trade_id="3"), ["trades"]),
        (changed(["buy", "2", "1"], ["buy", "1", "-1"]), ["book"]),
        (changed(["bid", "1", "1"]), ["book"]),
        (changed(["buy", "0", "1"]), ["book"]),
        (changed(["buy", "1"]), ["book"]),
        (changed(["buy", "1", "1"], time=5), ["book"]),
        ({"type": "l2update", "product_id": NAME, "time": ISO}, ["book"]),
        ({"type": "snapshot", "product_id": NAME, "bids": [["1", "NaN"]], "asks": []}, ["book"]),
        ({"type": "ticker", "product_id": NAME, "sequence": 9, "best_bid": "x", "best_ask": "1"}, []),
        (advanced("l2_data", l2_event("update", ("bid", "5", "1")), l2_event("update", ("bid", "1", "x"))), ["book"]),
        (advanced("l2_data", l2_event("upsert")), ["book"]),
        (
            advanced("market_trades", {"type": "update", "trades": [traded(9), {**traded(8), "trade_id": "x"}]}),
            ["trades"],
        ),
        (advanced("market_trades", {"type": "odd", "trades": [traded(9)]}), ["trades"]),
        (advanced("ticker", {"type": "update", "tickers": [{"product_id": NAME, "best_bid": 5}]}), []),
        ({"type": "status", "products": [{"id": NAME, "status": "online", "post_only": None}]}, []),
    ],
)
def test_odd_entry_is_refused_and_only_puts_its_channel_in_doubt(frame: dict[str, Any], wanted: list[str]) -> None:
    feed = product()(match(1), {"type": "snapshot", "product_id": NAME, "bids": [["1", "1"]], "asks": []})
    before = without_doubts(feed.played.source, NAME)
    feed(frame)
    assert len(feed.played.bad) == 1
    assert without_doubts(feed.played.source, NAME) == before
    assert doubts(feed.played.source, NAME) == wanted


def test_an_odd_entry_before_there_is_a_book_makes_nothing_stale() -> None:
    feed = product()(match(1), changed(["buy", "1", "x"]))
    assert len(feed.played.bad) == 1
    assert feed.folded.states == []


def test_what_stands_at_another_product_does_not_matter() -> None:
    products = [{"id": NAME, "status": "online"}, {"id": "NEW-USD", "status": "online", "post_only": None}]
    trades = [traded(1), {**traded(1, name="NEW-USD"), "side": "UNKNOWN_ORDER_SIDE"}]
    frames = (
        {"type": "status", "products": products, "currencies": []},
        advanced("market_trades", {"type": "update", "trades": trades}),
        advanced(
            "l2_data", l2_event("snapshot", ("bid", "1", "1")), l2_event("upsert", ("bid", "1", "1"), name="NEW-USD")
        ),
        advanced("ticker", {"type": "update", "tickers": [{"product_id": "NEW-USD", "best_bid": 5}]}),
    )
    feed = product()(*frames)
    assert feed.played.bad == []
    assert feed.played.snapshot(NAME, "status") == Status("trading", None)
    assert [trade.trade_id for trade in feed.folded.trades] == ["1"]
    assert feed.book() == ({"1": "1"}, {})
    other = Feeder("coinbase", "NEW-USD")(match(1, product_id="NEW-USD"), *frames)
    assert len(other.played.bad) == 4
    assert all(reason.startswith("entry of NEW-USD: ") for _, reason in other.played.bad)


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        ({"type": "status", "products": [{"id": NAME}, {"id": 5}]}, []),
        ({"type": "status", "products": [{"id": NAME}, {}]}, []),
        ({"type": "status", "products": [{"id": NAME}, []]}, []),
        (
            advanced("market_trades", {"type": "update", "trades": [traded(1), {**traded(2), "product_id": None}]}),
            ["trades"],
        ),
        (advanced("l2_data", l2_event("update"), {"type": "update", "updates": []}), ["book"]),
    ],
)
def test_a_frame_with_an_entry_of_no_product_is_bad_as_a_whole(frame: dict[str, Any], wanted: list[str]) -> None:
    snapshot = {"type": "snapshot", "product_id": NAME, "bids": [["1", "1"]], "asks": []}
    feed = product()(snapshot, match(1), frame)
    assert len(feed.played.bad) == 1
    assert not feed.played.bad[0][1].startswith("entry of")
    assert doubts(feed.played.source, NAME) == wanted


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "heartbeat", "sequence": 90, "last_trade_id": 20, "product_id": NAME, "time": ISO},
        {"type": "subscriptions", "channels": [{"name": "level2", "product_ids": [NAME]}]},
        {"type": "error", "message": "Failed to subscribe", "reason": "x"},
        *(
            {"type": type_, "product_id": NAME, "order_id": "x", "price": "1", "side": "buy", "time": ISO}
            for type_ in ("received", "open", "done", "change", "activate", "auction", "rfq_match", "block_match")
        ),
        {"type": "balance", "account_id": "x", "currency": "USD"},
        advanced("heartbeats", {"current_time": "x", "heartbeat_counter": 5}),
        advanced("subscriptions", {"subscriptions": {"level2": [NAME]}}),
        advanced("candles", {"type": "snapshot", "candles": [{"start": "1", "open": "1", "product_id": NAME}]}),
        advanced("user", {"type": "snapshot", "orders": [{"product_id": NAME}]}),
        advanced("futures_balance_summary", {"type": "snapshot", "fcm_balance_summary": {}}),
    ],
)
@pytest.mark.parametrize("key", [NAME, ""])
def test_frames_of_other_kinds_mean_nothing(frame: dict[str, Any], key: str) -> None:
    feed = Feeder("coinbase", key)(frame)
    assert feed.played.bad == []
    assert feed.played.symbols == {}
    coinbase.keys(encode(frame))


def test_times_that_the_venue_does_not_know_are_null() -> None:
    feed = product()(match(1, time="0001-01-01T00:00:00Z"), match(2, time=None), match(3))
    assert [trade.ts_event for trade in feed.folded.trades] == [None, None, NS]
    event = l2_event("snapshot", ("bid", "1", "1"))
    feed({**advanced("l2_data", event), "timestamp": "1970-01-01T00:00:00Z"}, {"channel": "l2_data", "events": [event]})
    assert feed.played.bad == []
    assert feed.played.source.keyframe(NAME)[1].ts_event is None  # type: ignore[union-attr]
