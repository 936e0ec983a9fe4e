"""Kraken v2: data by channel, and answers."""

from __future__ import annotations

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues import kraken_v2
from feed.venues.kraken_frames import head_of
from feed.wire.model import Instrument, Quote, Status
from tests.feed.venues.kraken_examples import (
    DEEP,
    ISO,
    V1,
    V2,
    answer,
    best,
    book_v2,
    crc,
    pairs,
    prices,
    raw,
    trade_v2,
    two_depths,
    v1,
    v2,
)
from tests.feed.venues.playing import Feeder, doubts


@pytest.mark.parametrize("depth", [7, 10**30])
def test_v2_answer_with_a_depth_that_there_is_not_is_odd(depth: int) -> None:
    feed = two_depths()(answer(depth))
    assert len(feed.played.bad) == 1
    feed(book_v2({}, DEEP, best(DEEP), "snapshot"), book_v2({}, {"99.0": "1.0"}, best({"99.0": "1.0"} | DEEP)))
    assert prices(feed) == [*range(99, 120)]


def test_v2_quotes_instruments_and_status() -> None:
    feed = Feeder("kraken", V2)
    top = {"symbol": V2, "bid": raw("1.10"), "bid_qty": raw("2.0"), "ask": raw("1.2"), "ask_qty": raw("3"), "last": 1}
    feed(v2("ticker", top), v2("ticker", {**top, "bid": None, "timestamp": ISO}))
    assert feed.folded.quotes == [
        (Quote("1.1", "2", "1.2", "3"), None),
        (Quote(None, None, "1.2", "3"), "1783247859090964000"),
    ]
    pair = {"symbol": V2, "base": "BTC", "quote": "USD", "price_precision": 1, "qty_precision": 8}
    feed({"channel": "instrument", "type": "snapshot", "data": {"pairs": [{"symbol": "X/Y"}, pair]}})
    wanted = Instrument("kraken", V2, "spot", "BTC", "USD", "0.1", "0.00000001", [])
    assert feed.played.snapshot(V2, "instruments") == wanted
    exact = v2("instrument").replace(
        b"[]", b'{"pairs":[{"symbol":"BTC/USD","price_increment":0.50,"status":"cancel_only"}]}'
    )
    feed(exact)
    assert feed.played.snapshot(V2, "instruments") == msgspec.structs.replace(wanted, tick_size="0.5")
    assert feed.played.snapshot(V2, "status") == Status("halt", "cancel_only")


def test_v2_entry_with_less_keeps_what_was_known() -> None:
    whole = {"symbol": V2, "base": "BTC", "quote": "USD", "price_increment": raw("0.01"), "qty_increment": raw("0.001")}
    known = Instrument("kraken", V2, "spot", "BTC", "USD", "0.01", "0.001", [])
    feed = Feeder("kraken", V2)(pairs({**whole, "status": "online"}, type_="snapshot"))
    feed(pairs({"symbol": V2, "status": "cancel_only"}))
    assert feed.played.snapshot(V2, "instruments") == known
    assert feed.played.snapshot(V2, "status") == Status("halt", "cancel_only")
    # left out, unknown and another one are three things
    feed(pairs({"symbol": V2, "price_increment": None}, {"symbol": V2, "base": "XBT"}))
    assert feed.played.snapshot(V2, "instruments") == msgspec.structs.replace(known, tick_size=None, base="XBT")
    assert feed.folded.updates["status"] == 2


def test_v2_ticker_without_best_prices_is_no_quote() -> None:
    top = {"symbol": V2, "bid": raw("1.10"), "bid_qty": raw("2.0"), "ask": raw("1.2"), "ask_qty": raw("3")}
    feed = Feeder("kraken", V2)(v2("ticker", top), v2("ticker", {"symbol": V2, "last": 1}))
    assert [quote for quote, _ in feed.folded.quotes] == [Quote("1.1", "2", "1.2", "3")]
    feed(v2("ticker", {"symbol": V2, "bid": raw("1.0")}, {"symbol": V2, "ask": None}, {"symbol": V2}))
    assert feed.folded.quotes[-1][0] == Quote("1", None, None, None)
    v1_feed = Feeder("kraken", V1)(v1({"a": ["1.2", 1, "3.0"], "b": ["1.1", 1, "2.0"]}, channel="ticker"))
    v1_feed(v1({"c": ["1", "1"]}, channel="ticker"), v1({"b": ["0.0", 0, "0.0"]}, channel="ticker"))
    assert [quote for quote, _ in v1_feed.folded.quotes] == [
        Quote("1.1", "2", "1.2", "3"),
        Quote(None, None, "1.2", "3"),
    ]


@pytest.mark.parametrize("number", ["1e5", "-1", "NaN", "true", '"1.0"', "null", "[1]", "1E-7"])
def test_v2_numbers_are_plain_numbers(number: str) -> None:
    feed = Feeder("kraken", V2)(book_v2({"1.0": "1"}, {}, crc([], [("1.0", "1")]), "snapshot"))
    feed(book_v2({"2.0": number}, {}, 1), v2("trade", {**trade_v2(1), "qty": raw(number)}))
    assert len(feed.played.bad) == 2
    # where the frame cannot be read at all ("NaN"), its channel is legible
    assert [state.reason for state in feed.folded.states] == ["gap"]
    assert doubts(feed.played.source, V2) == ["book", "trades"]


def test_v2_trades_without_a_type_are_odd() -> None:
    feed = Feeder("kraken", V2)(v2("trade", trade_v2(1)), v2("trade", trade_v2(2), type_=""), v2("trade", trade_v2(3)))
    assert [trade.trade_id for trade in feed.folded.trades] == ["1", "3"]
    assert len(feed.folded.gaps) == 1


def test_words_that_are_empty_say_nothing() -> None:
    pair = {"symbol": V2, "base": "", "quote": "USD", "status": ""}
    feed = Feeder("kraken", V2)({"channel": "instrument", "type": "snapshot", "data": {"pairs": [pair]}})
    assert feed.played.snapshot(V2, "instruments") == Instrument("kraken", V2, "spot", None, "USD", None, None, [])
    assert feed.played.snapshot(V2, "status") is None


@pytest.mark.parametrize(
    ("frame", "doubt"),
    [
        (v2("book", {"symbol": V2, "bids": []}, type_="snapshot"), "book"),
        (v2("book", {"symbol": V2, "bids": []}, type_="else"), "book"),
        (v2("book", {"symbol": V2, "checksum": -1}), "book"),
        (v2("trade", trade_v2(1) | {"side": "up"}), "trades"),
        (v2("trade", trade_v2(1) | {"timestamp": "today"}), "trades"),
        (v2("ticker", {"symbol": V2, "bid": raw("x")}), None),
    ],
)
def test_an_odd_item_puts_its_own_channel_in_doubt(frame: bytes, doubt: str | None) -> None:
    feed = Feeder("kraken", V2)(v2("book", {"symbol": V2, "bids": [], "asks": []}, type_="snapshot"), frame)
    assert len(feed.played.bad) == 1
    assert doubts(feed.played.source, V2) == ([doubt] if doubt else [])


def test_trades_of_an_update_are_told_and_those_of_a_snapshot_are_history() -> None:
    feed = Feeder("kraken", V2)(v2("trade", trade_v2(1), type_="snapshot"), v2("trade"), v2("trade", trade_v2(2)))
    assert [trade.trade_id for trade in feed.folded.trades] == ["2"]
    assert feed.played.snapshot(V2, "trades") == feed.folded.trades


def test_a_pair_that_stands_beside_an_odd_one_is_read() -> None:
    odd = {"symbol": "ETH/USD", "side": "up"}
    feed = Feeder("kraken", V2)(v2("trade", odd, trade_v2(1)), v2("trade", odd))
    assert [trade.trade_id for trade in feed.folded.trades] == ["1"]
    assert feed.played.bad == []


def test_items_are_found_by_their_pair() -> None:
    entries = kraken_v2.entries_of(head_of(v2("trade", trade_v2(1), trade_v2(2, "ETH/USD"), trade_v2(3))))
    assert {name: len(entry.items) for name, entry in entries.items()} == {V2: 2, "ETH/USD": 1}
    assert list(kraken_v2.entries_of(head_of(pairs({"symbol": V2})))) == [V2]
    for frame in (v2("trade", {}), b'{"channel":"trade","data":{}}'):
        with pytest.raises(BadTick):
            kraken_v2.entries_of(head_of(frame))


def test_the_status_of_the_system() -> None:
    status = kraken_v2.system_status
    assert status(head_of(v2("status", {"system": "online"}, {"system": "maintenance"}))) == ("halt", "maintenance")
    assert status(head_of(v2("status", {}))) is None
    assert status(head_of(v2("heartbeat", {"system": "online"}))) is None
    with pytest.raises(BadTick):
        status(head_of(b'{"channel":"status","data":[1]}'))


def test_only_answers_about_this_pairs_book_tell_a_depth() -> None:
    about = {"channel": "book", "symbol": V2, "depth": 25}
    others = [about | {"symbol": "X/Y"}, about | {"channel": "trade"}, about | {"depth": None}]
    feed = Feeder("kraken", V2)(answer(10), *(answer(25, result=other) for other in others))
    feed(answer(25) | {"success": False}, answer(10, "unsubscribe"))
    assert feed.played.bad == []
    assert msgspec.json.decode(feed.played.source.checkpoint(V2))["machine"] == {}
