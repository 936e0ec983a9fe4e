"""Trades of a Kraken pair, as two sockets tell them."""

from __future__ import annotations

from feed.wire.model import Trade
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
