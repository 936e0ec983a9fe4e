"""Kraken v1: arrays and events."""

from __future__ import annotations

from typing import Any

from feed.wire.model import Trade
from tests.feed.venues.kraken_examples import BEGIN, V1, at, crc, level, v1
from tests.feed.venues.playing import Feeder


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
