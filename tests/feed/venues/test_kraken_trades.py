"""Trades of a Kraken pair, as two sockets tell them."""

from __future__ import annotations

from feed.venues.kraken_trades import PairTrades
from feed.wire.model import Trade
from tests.feed.venues.alone import T0, Alone
from tests.feed.venues.kraken_examples import V1, V2, trade_v2, v1, v2
from tests.feed.venues.playing import Feeder


def test_v1_trades_are_not_taken_beside_those_of_v2() -> None:
    own = v2("trade", trade_v2(3, V1))
    copy = v1([["10.50", "2.0", "1783247859.090964", "b", "l", ""]], channel="trade")
    feed = Feeder("kraken", V1)(copy, own, copy, v2("trade", trade_v2(4, V1)))
    assert [trade.trade_id for trade in feed.folded.trades] == [None, "3", "4"]


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


def made(number: int | None, second: int) -> Trade:
    return Trade("1", "1", "buy", None if number is None else str(number), str(T0 + second * 1_000_000_000))


def test_trades_of_v1_before_the_subscription_are_history_and_subscribing_again_is_a_hole() -> None:
    alone = Alone()
    trades = PairTrades(alone.symbol)
    trades.subscribed(T0 + 5_000_000_000)
    trades.apply_without_ids([made(None, 4), made(None, 5)])
    assert alone.said() == [("Update", [made(None, 5)])]
    assert trades.save().since is None
    trades.subscribed(T0 + 9_000_000_000)
    trades.apply_without_ids([made(None, 8)])
    assert alone.said() == [], "all of them are history"
    trades.apply_without_ids([made(None, 10)])
    assert [kind for kind, *_ in alone.said()] == ["Gap", "Update"]


def test_v2s_ids_are_followed_and_end_v1s_trades() -> None:
    alone = Alone()
    trades = PairTrades(alone.symbol)
    trades.apply_history([])
    trades.apply_history([made(6, 0)])
    trades.apply_with_ids([])
    trades.apply_with_ids([made(7, 1), made(9, 2)])
    assert [kind for kind, *_ in alone.said()] == ["Gap", "Update"]
    trades.apply_without_ids([made(None, 3)])
    assert alone.said() == []
    again = PairTrades(alone.symbol)
    again.load(trades.save())
    again.apply_with_ids([made(10, 4)])
    assert alone.said() == [("Update", [made(10, 4)])]
    again.apply_with_ids([made(10, 9)])
    assert [kind for kind, *_ in alone.said()] == ["Gap", "Update"], "a known id that is later begins anew"
