"""Kraken v1: arrays and events."""

from __future__ import annotations

from typing import Any

import pytest

from feed.errors import BadTick
from feed.venues import kraken_v1
from feed.venues.kraken_frames import head_of
from feed.wire.model import Quote, Trade
from tests.feed.venues.kraken_examples import BEGIN, V1, at, crc, encode, level, v1
from tests.feed.venues.playing import Feeder, doubts


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


def test_v1_trades_from_before_the_subscription_are_history() -> None:
    subscribed = {"event": "subscriptionStatus", "pair": V1, "status": "subscribed", "subscription": {"name": "trade"}}

    def sent(*times: int) -> list[Any]:
        return v1([["10.50", "2.0", f"{BEGIN + time}.5", "s", "l", ""] for time in times], channel="trade")

    def half(*seconds: int) -> list[str]:
        return [f"{BEGIN + second}500000000" for second in seconds]

    feed = Feeder("kraken", V1)
    feed.play(at(100, subscribed, 0))
    feed.play(at(101, sent(97, 98, 99), 1))
    assert feed.folded.trades == []
    assert [trade.ts_event for trade in feed.played.snapshot(V1, "trades")] == half(97, 98, 99)
    feed.play(at(103, sent(102), 2))
    feed.play(at(104, sent(99, 103), 3))
    assert [trade.ts_event for trade in feed.folded.trades] == half(102, 99, 103)
    assert feed.folded.trades[0] == Trade("10.5", "2", "sell", None, half(102)[0])
    assert feed.folded.gaps == []
    # a second subscription: trades may have been missed
    feed.play(at(200, subscribed, 4))
    feed.play(at(201, sent(150, 200), 5))
    assert [trade.ts_event for trade in feed.folded.trades[3:]] == half(200)
    assert [gap.reason for gap in feed.folded.gaps] == ["venue"]


@pytest.mark.parametrize(
    ("frame", "doubt"),
    [
        (v1({"as": [level("1", "1")]}), "book"),
        (v1({"a": [["1", "1"]]}), "book"),
        (v1({"a": [level("1", "1")], "c": "12x"}), "book"),
        (v1({"a": [level("1", "1")]}, channel="book-x"), None),  # of no stream that has a book
        (v1([["1", "1", "1618678142.5", "x", "l", ""]], channel="trade"), "trades"),
        (v1([["1", "1"]], channel="trade"), "trades"),
        (v1({"b": [1, 2, 3]}, channel="ticker"), None),
        (v1({"b": ["1"]}, channel="ticker"), None),
    ],
)
def test_an_odd_array_puts_its_own_channel_in_doubt(frame: Any, doubt: str | None) -> None:
    feed = Feeder("kraken", V1)(v1({"as": [], "bs": []}), frame)
    assert len(feed.played.bad) == 1
    assert doubts(feed.played.source, V1) == ([doubt] if doubt else [])


def test_an_array_of_another_pair_is_refused_and_one_of_an_accounts_own_means_nothing() -> None:
    feed = Feeder("kraken", V1)(v1({"as": [], "bs": []}), v1({"a": []}, pair="ETH/USD"))
    assert "frame of 'ETH/USD', wanted XBT/USD" in feed.played.bad[0][1]
    feed([[{}], "ownTrades", {"sequence": 1}], v1({}, channel="spread"), v1({}, channel="ohlc-5"))
    assert len(feed.played.bad) == 1


def test_a_ticker_is_a_quote_and_what_it_leaves_out_stays() -> None:
    feed = Feeder("kraken", V1)(v1({"a": ["2.0", 1, "1.5"], "b": ["1.0", 1, "0.5"]}, channel="ticker"))
    feed(v1({"a": ["3.0", 1, "1.0"]}, channel="ticker"), v1({"v": []}, channel="ticker"))
    assert [quote for quote, _ in feed.folded.quotes] == [Quote("1", "0.5", "2", "1.5"), Quote("1", "0.5", "3", "1")]


def test_a_book_that_was_left_gives_way_to_another_stream() -> None:
    feed = Feeder("kraken", V1)
    for depth in (10, 100):
        feed(v1({"as": [level("2", "1")], "bs": []}, channel=f"book-{depth}"))
    event = {"event": "subscriptionStatus", "pair": V1, "status": "unsubscribed", "subscription": {"name": "book"}}
    feed(event | {"channelName": "book-100"}, v1({"a": [level("3", "1")]}, channel="book-10"))
    assert feed.book() == ({}, {"2": "1", "3": "1"})
    feed(event | {"event": "pong"}, event | {"subscription": {"name": "ticker"}})
    assert feed.played.bad == []


def test_the_channel_of_a_spoiled_array_stands_at_its_end() -> None:
    assert kraken_v1.legible_channel(b'[1,{"a":[["1,"book-10","XBT/USD"]') == "book-10"
    assert kraken_v1.legible_channel(b'[1,{"a":[["1,"book-10","XBT/US') is None
    assert kraken_v1.legible_channel(b'[[],"ownTrades",{}]') == ""
    assert kraken_v1.legible_channel(encode(v1({}, channel="trade"))) == "trade"
    with pytest.raises(BadTick, match="array of 3"):
        kraken_v1.entry_of(b"[1,2,3]")


def test_events_say_what_they_speak_of() -> None:
    def head(**members: Any) -> Any:
        return head_of(encode(members))

    assert kraken_v1.pairs_of(head(event="subscriptionStatus", pair=V1, status="subscribed")) == [V1]
    assert kraken_v1.pairs_of(head(event="subscriptionStatus", pair=V1, status="error")) == []
    assert kraken_v1.pairs_of(head(event="heartbeat")) == []
    assert kraken_v1.system_status(head(event="systemStatus", status="online")) == ("trading", None)
    assert kraken_v1.system_status(head(event="systemStatus")) is None
    assert kraken_v1.system_status(head(event="heartbeat", status="online")) is None
