"""Coinbase: Exchange and Advanced Trade, their sides, history, and what they do not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.venues import coinbase
from feed.wire.model import Instrument, Quote, Status, Trade
from tests.feed.venues.playing import CAPTURES, Feeder, Played, captured, doubts, ticks, without_doubts

NAME = "BTC-USD"
ISO, NS = "2021-04-17T16:43:30.244075Z", "1618677810244075000"
ISO_NS = "2026-08-24T22:34:13.793075885Z"
EXCHANGE = "coinbase/exchange_5products_20210417"
encode = msgspec.json.encode


def product() -> Feeder:
    return Feeder("coinbase", NAME)


def match(number: int, type_: str = "match", **more: Any) -> dict[str, Any]:
    data = {"trade_id": number, "side": "sell", "size": "0.040", "price": "14.7775", "product_id": NAME, "time": ISO}
    return {"type": type_, "maker_order_id": "a", "taker_order_id": "b", **data, "sequence": 1, **more}


def advanced(channel: str, *events: dict[str, Any]) -> dict[str, Any]:
    return {"channel": channel, "client_id": "", "timestamp": ISO_NS, "sequence_num": 3, "events": events}


def l2_event(type_: str, *updates: tuple[str, str, str], name: str = NAME) -> dict[str, Any]:
    fields = ("side", "price_level", "new_quantity")
    levels = [{**dict(zip(fields, update, strict=True)), "event_time": ISO} for update in updates]
    return {"type": type_, "product_id": name, "updates": levels}


def traded(number: int, side: str = "BUY", name: str = NAME) -> dict[str, Any]:
    return {"trade_id": str(number), "product_id": name, "price": "10.0", "size": "2", "side": side, "time": ISO_NS}


def test_side_is_the_takers() -> None:
    feed = product()(match(1), match(2, side="buy"))
    assert feed.folded.trades == [
        Trade("14.7775", "0.04", "buy", "1", NS),
        Trade("14.7775", "0.04", "sell", "2", NS),
    ]
    feed = product()(advanced("market_trades", {"type": "update", "trades": [traded(1), traded(2, "SELL")]}))
    assert [trade.side for trade in feed.folded.trades] == ["sell", "buy"]
    assert feed.folded.trades[0].ts_event == "1787610853793075885"


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


def test_a_change_without_a_snapshot_makes_the_book_stale() -> None:
    advanced_change = advanced("l2_data", l2_event("update", ("bid", "7", "7")))
    for change in (changed(["buy", "1", "1"]), advanced_change):
        feed = product()(change, change)
        assert [(state.state, state.reason, state.seq) for state in feed.folded.states] == [("stale", "gap", 0)]
        assert feed.played.source.counts.changes_lost == 2


def test_batched_and_single_changes_of_one_product_end_right() -> None:
    """Nothing in a frame tells them apart; both are whole."""
    feed = product()({"type": "snapshot", "product_id": NAME, "bids": [["1", "1"]], "asks": []})
    feed(changed(["buy", "2", "5"]), changed(["buy", "2", "0"]), changed(["buy", "2", "5"]), changed(["buy", "3", "1"]))
    feed(changed(["buy", "2", "0"], ["buy", "3", "1"]))
    assert feed.book() == ({"3": "1", "1": "1"}, {})
    assert feed.folded.states == []


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


def test_skipped_trade_id_is_a_hole() -> None:
    feed = product()(match(1), match(2), match(2), match(5))
    assert [trade.trade_id for trade in feed.folded.trades] == ["1", "2", "5"]
    assert [gap.reason for gap in feed.folded.gaps] == ["venue"]


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


def changed(*changes: list[Any], **more: Any) -> dict[str, Any]:
    return {"type": "l2update", "product_id": NAME, "time": ISO, "changes": changes, **more}


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


def test_a_book_that_missed_a_change_is_stale_until_the_next_snapshot() -> None:
    snapshot = {"type": "snapshot", "product_id": NAME, "bids": [["1", "1"]], "asks": []}
    feed = product()(snapshot, changed(["buy", "1", "x"]), changed(["buy", "2", "1"]))
    assert [(state.state, state.reason, state.seq) for state in feed.folded.states] == [("stale", "gap", 1)]
    assert feed.book() == ({"1": "1"}, {})
    feed(snapshot, changed(["buy", "2", "1"]))
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]
    assert feed.book() == ({"2": "1", "1": "1"}, {})


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


def test_levels_with_more_elements_than_known() -> None:
    snapshot = {"type": "snapshot", "product_id": NAME, "bids": [["1", "1", "x"]], "asks": [["2", "1", 7, 8]]}
    feed = product()(snapshot, changed(["buy", "1", "2", "x"]))
    assert feed.played.bad == []
    assert feed.book() == ({"1": "2"}, {"2": "1"})


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


def test_words_that_are_empty_say_nothing() -> None:
    entry = {"id": NAME, "base_currency": "", "quote_currency": "USD", "status": "", "status_message": ""}
    feed = product()({"type": "status", "products": [entry]})
    wanted = Instrument("coinbase", NAME, "spot", None, "USD", None, None, [])
    assert feed.played.snapshot(NAME, "instruments") == wanted
    assert feed.played.snapshot(NAME, "status") is None
