"""What is known of a Coinbase product, whichever socket told it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from feed.wire.model import Instrument, Quote, Status
from tests.feed.venues.coinbase_examples import ISO, NAME, NS, advanced, changed, l2_event, match, product


def test_a_change_without_a_snapshot_makes_the_book_stale() -> None:
    advanced_change = advanced("l2_data", l2_event("update", ("bid", "7", "7")))
    for change in (changed(["buy", "1", "1"]), advanced_change):
        feed = product()(change, change)
        assert [(state.state, state.reason, state.seq) for state in feed.folded.states] == [("stale", "gap", 0)]
        assert feed.played.source.counts.changes_lost == 2


def test_skipped_trade_id_is_a_hole() -> None:
    feed = product()(match(1), match(2), match(2), match(5))
    assert [trade.trade_id for trade in feed.folded.trades] == ["1", "2", "5"]
    assert [gap.reason for gap in feed.folded.gaps] == ["venue"]


def test_quotes() -> None:
    def ticker(sequence: int, bid: str, **more: Any) -> dict[str, Any]:
        return {"type": "ticker", "product_id": NAME, "sequence": sequence, "best_bid": bid, "best_ask": "2.0", **more}

    feed = product()(ticker(5, "1.0", time=ISO), ticker(5, "1.0"), ticker(4, "0.5"))
    feed(ticker(6, "1.1", best_bid_size="3.0", best_ask_size="0.10"), ticker(7, "0"))
    assert feed.folded.quotes == [
        (Quote("1", None, "2", None), NS),
        (Quote("1.1", "3", "2", "0.1"), None),
        (Quote(None, None, "2", None), None),
    ]
    best = {"best_bid": "1.0", "best_bid_quantity": "2.0", "best_ask": "", "best_ask_quantity": ""}
    feed = product()(advanced("ticker", {"type": "snapshot", "tickers": [{"product_id": NAME, "price": "1", **best}]}))
    assert feed.folded.quotes == [(Quote("1", "2", None, None), "1787610853793075885")]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"status": "online"}, Status("trading", None)),
        ({"status": "online", "post_only": True}, Status("pre-open", "post_only")),
        ({"status": "online", "cancel_only": True}, Status("halt", "cancel_only")),
        ({"status": "online", "trading_disabled": True, "status_message": "why"}, Status("halt", "why")),
        ({"status": "offline"}, Status("halt", "offline")),
        ({"status": "delisted"}, Status("close", "delisted")),
        ({"status": "odd"}, Status("unknown", "odd")),
    ],
)
def test_status_and_definition(more: dict[str, Any], wanted: Status) -> None:
    entry = {"id": NAME, "base_currency": "BTC", "quote_currency": "USD", "base_increment": "0.00000001"}
    entry |= {"quote_increment": "0.010", "display_name": "BTC/USD", **more}
    frame = {"type": "status", "products": [{"id": "A-B"}, entry], "currencies": []}
    for feed in (product()(frame), product()(advanced("status", {"type": "snapshot", "products": [entry]}))):
        assert feed.played.snapshot(NAME, "status") == wanted
        assert feed.played.snapshot(NAME, "instruments") == Instrument(
            "coinbase", NAME, "spot", "BTC", "USD", "0.01", "0.00000001", ["BTC/USD"]
        )


def test_a_book_that_missed_a_change_is_stale_until_the_next_snapshot() -> None:
    snapshot = {"type": "snapshot", "product_id": NAME, "bids": [["1", "1"]], "asks": []}
    feed = product()(snapshot, changed(["buy", "1", "x"]), changed(["buy", "2", "1"]))
    assert [(state.state, state.reason, state.seq) for state in feed.folded.states] == [("stale", "gap", 1)]
    assert feed.book() == ({"1": "1"}, {})
    feed(snapshot, changed(["buy", "2", "1"]))
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]
    assert feed.book() == ({"2": "1", "1": "1"}, {})


def test_a_product_trades_only_where_its_status_and_all_flags_say_so() -> None:
    def said(*entries: dict[str, Any]) -> list[tuple[str, str | None]]:
        feed = product()(*({"type": "status", "products": [{"id": NAME, **entry}]} for entry in entries))
        return [(update.data.action, update.data.reason) for update in feed.folded.other if update.channel == "status"]

    assert said({"status": "online"}, {"post_only": True}, {"status": "offline"}, {"post_only": False}) == [
        ("trading", None),
        ("pre-open", "post_only"),
        ("halt", "offline"),
    ]
    assert said({"cancel_only": True}, {"status": "online"}, {"cancel_only": False}) == [
        ("halt", "cancel_only"),
        ("trading", None),
    ]
    assert said({"status": "delisted", "post_only": True}, {"base_currency": "BTC"}) == [("close", "delisted")]
    assert said({"status": "online", "limit_only": True}) == [("trading", "limit_only")]
    assert said({"status": "online", "auction_mode": True, "cancel_only": True}) == [("halt", "cancel_only")]


def test_an_entry_with_less_keeps_what_was_known() -> None:
    whole = {
        "id": NAME,
        "base_currency": "BTC",
        "quote_currency": "USD",
        "base_increment": "0.1",
        "quote_increment": "0.01",
    }
    known = Instrument("coinbase", NAME, "spot", "BTC", "USD", "0.01", "0.1", [])
    feed = product()(
        {"type": "status", "products": [whole]}, {"type": "status", "products": [{"id": NAME, "status": "online"}]}
    )
    assert feed.played.snapshot(NAME, "instruments") == known
    feed({"type": "status", "products": [{"id": NAME, "quote_increment": "0.1"}, {"id": NAME, "base_increment": ""}]})
    assert feed.played.snapshot(NAME, "instruments") == msgspec.structs.replace(known, tick_size="0.1", lot_size=None)
    assert feed.folded.updates["instruments"] == 2


def test_words_that_are_empty_say_nothing() -> None:
    entry = {"id": NAME, "base_currency": "", "quote_currency": "USD", "status": "", "status_message": ""}
    feed = product()({"type": "status", "products": [entry]})
    wanted = Instrument("coinbase", NAME, "spot", None, "USD", None, None, [])
    assert feed.played.snapshot(NAME, "instruments") == wanted
    assert feed.played.snapshot(NAME, "status") is None
