"""Coinbase Advanced Trade: frames with a channel and events."""

from __future__ import annotations

from typing import Any

import pytest

from feed.wire.model import Quote
from tests.feed.venues.coinbase_examples import ISO_NS, NAME, advanced, l2_event, match, product, traded


def test_book_of_advanced_trade() -> None:
    feed = product()(
        advanced("l2_data", l2_event("update", ("bid", "7", "7"))),
        advanced("l2_data", l2_event("snapshot", ("bid", "1.0", "1"), ("offer", "2", "3"))),
        advanced("l2_data", l2_event("update"), l2_event("update", ("bid", "9", "9"), name="ETH-USD")),
        advanced("l2_data", l2_event("update", ("bid", "1.0", "0")), l2_event("update", ("offer", "2.0", "5"))),
    )
    assert feed.played.bad == []
    assert feed.book() == ({}, {"2": "5"})
    assert feed.folded.updates["book"] == 3


def test_trades_of_a_frame_come_in_the_order_in_which_they_were_made() -> None:
    old = {"type": "snapshot", "trades": [traded(3), traded(2), traded(1)]}
    feed = product()(advanced("market_trades", old))
    assert feed.folded.trades == []
    assert [trade.trade_id for trade in feed.played.snapshot(NAME, "trades")] == ["1", "2", "3"]
    feed(
        advanced(
            "market_trades", {"type": "update", "trades": [traded(6), traded(9, name="A-B"), traded(4), traded(5)]}
        )
    )
    assert [trade.trade_id for trade in feed.folded.trades] == ["4", "5", "6"]
    assert feed.folded.gaps == []


def test_a_batched_ticker_without_best_prices_is_no_quote() -> None:
    def ticker(channel: str, **best: Any) -> dict[str, Any]:
        return advanced(channel, {"type": "update", "tickers": [{"product_id": NAME, "price": "10.05", **best}]})

    known = {"best_bid": "10.00", "best_bid_quantity": "1.5", "best_ask": "10.10", "best_ask_quantity": "2"}
    feed = product()(ticker("ticker", **known), ticker("ticker_batch"))
    assert [quote for quote, _ in feed.folded.quotes] == [Quote("10", "1.5", "10.1", "2")]
    # left out, none and a price are three things
    feed(ticker("ticker", best_bid="9"), ticker("ticker", best_ask=None), ticker("ticker", best_bid="0", best_ask="11"))
    assert [quote for quote, _ in feed.folded.quotes[1:]] == [
        Quote("9", None, "10.1", "2"),
        Quote("9", None, None, None),
        Quote(None, None, "11", None),
    ]
    both = [{"product_id": NAME, "best_bid": "8"}, {"product_id": NAME}, {"product_id": NAME, "best_ask": "12"}]
    feed(advanced("ticker", {"type": "update", "tickers": both}))
    assert feed.folded.quotes[-1][0] == Quote("8", None, "12", None)
    exchange = {"type": "ticker", "product_id": NAME, "sequence": 5, "price": "10"}
    feed = product()(
        exchange, {**exchange, "sequence": 6, "best_bid": "1"}, {**exchange, "sequence": 6, "best_bid": "2"}
    )
    assert [quote for quote, _ in feed.folded.quotes] == [Quote("1", None, None, None)]


@pytest.mark.parametrize(
    "frame",
    [
        {"channel": "l2_data"},
        {"channel": "l2_data", "timestamp": ISO_NS, "products": []},
        {"channel": "market_trades", "events": [{"type": "update"}]},
        {"channel": "market_trades", "events": [{"type": "update", "tickers": []}]},
        {"channel": "ticker", "events": [{"type": "update", "trades": []}]},
        {"channel": "ticker_batch", "events": [{}]},
        {"channel": "status", "events": [{"type": "update"}]},
        {"type": "status", "currencies": []},
    ],
)
def test_a_frame_whose_list_is_left_out_is_bad(frame: dict[str, Any]) -> None:
    feed = product()(match(1), frame)
    assert len(feed.played.bad) == 1
