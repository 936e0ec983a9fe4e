"""Coinbase Exchange: frames with a type."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.feed.venues.coinbase_examples import EXCHANGE, ISO, NAME, changed, match, product
from tests.feed.venues.playing import CAPTURES, Played, captured, ticks


def test_book_of_exchange() -> None:
    feed = product()({"type": "l2update", "product_id": NAME, "changes": [["buy", "1", "1"]], "time": ISO})
    assert feed.book() is None
    snapshot = {"type": "snapshot", "product_id": NAME, "bids": [["1.50", "1"]], "asks": [["2.0", "3"], ["3", "0"]]}
    change = {
        "type": "l2update",
        "product_id": NAME,
        "time": ISO,
        "changes": [["buy", "1.5", "0.00"], ["sell", "2", "4"]],
    }
    feed(snapshot, change)
    assert feed.book() == ({}, {"2": "4"})
    feed(snapshot)  # a new connection: only the difference goes out
    assert feed.folded.updates["book"] == 3
    assert feed.book() == ({"1.5": "1"}, {"2": "3"})
    assert dict(feed.folded.asks) == {2: "3"}


def test_batched_and_single_changes_of_one_product_end_right() -> None:
    """Nothing in a frame tells them apart; both are whole."""
    feed = product()({"type": "snapshot", "product_id": NAME, "bids": [["1", "1"]], "asks": []})
    feed(changed(["buy", "2", "5"]), changed(["buy", "2", "0"]), changed(["buy", "2", "5"]), changed(["buy", "3", "1"]))
    feed(changed(["buy", "2", "0"], ["buy", "3", "1"]))
    assert feed.book() == ({"3": "1", "1": "1"}, {})
    assert feed.folded.states == []


def test_last_match_is_history_and_tells_what_was_missed() -> None:
    feed = product()(match(7, "last_match"))
    assert feed.folded.trades == []
    assert [trade.trade_id for trade in feed.played.snapshot(NAME, "trades")] == ["7"]
    feed(match(8), match(8, "last_match"), match(9))
    assert [trade.trade_id for trade in feed.folded.trades] == ["8", "9"]
    assert feed.folded.gaps == []
    feed(match(11, "last_match"), match(12))
    assert [trade.trade_id for trade in feed.folded.trades] == ["8", "9", "12"]
    assert len(feed.folded.gaps) == 1


def test_levels_with_more_elements_than_known() -> None:
    snapshot = {"type": "snapshot", "product_id": NAME, "bids": [["1", "1", "x"]], "asks": [["2", "1", 7, 8]]}
    feed = product()(snapshot, changed(["buy", "1", "2", "x"]))
    assert feed.played.bad == []
    assert feed.book() == ({"1": "2"}, {"2": "1"})


def test_history_stands_in_the_snapshot_before_the_first_live_trade(data_dir: Path) -> None:
    facts = msgspec.json.decode((data_dir / "facts.json").read_bytes())[EXCHANGE]["symbols"]
    played = Played(CAPTURES[EXCHANGE].venue)
    seen = set()
    for tick in ticks(EXCHANGE, captured(data_dir, EXCHANGE)):
        played.play([tick])
        if b'"last_match"' in tick.value:
            (trade,) = played.snapshot(tick.key, "trades")
            wanted = facts[tick.key]["trades_history_replayed_on_subscribe"]["last"]
            found = {"id": trade.trade_id, "price": trade.price, "side": trade.side, "size": trade.size}
            assert {**found, "ts_ns": trade.ts_event} == wanted
            seen.add(tick.key)
    assert seen == set(facts)


def test_matches_name_the_makers_side_and_tickers_count_by_sequence() -> None:
    feed = product()(match(1, side="sell"), match(2, side="buy"))
    assert [trade.side for trade in feed.folded.trades] == ["buy", "sell"]
    ticker = {"type": "ticker", "product_id": NAME, "sequence": 5, "best_bid": "1.0", "best_bid_size": "2"}
    feed(ticker, ticker, ticker | {"sequence": 6, "best_bid": None}, {"type": "ticker", "product_id": NAME})
    assert [quote.bid_price for quote, _ in feed.folded.quotes] == ["1", None]
    feed.wait(61)(ticker | {"sequence": 1})
    assert (len(feed.folded.quotes), feed.played.source.counts.epochs) == (3, 1)


def test_a_status_frame_is_taken_apart_where_one_product_is_odd() -> None:
    feed = product()({"type": "status", "products": [{"id": "A", "status": 1}, {"id": NAME, "status": "online"}]})
    assert feed.played.bad == []
    assert [update.data.action for update in feed.folded.other if update.channel == "status"] == ["trading"]  # type: ignore[union-attr]
