"""Binance: what its frames mean, alike for spot and futures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feed.errors import BadTick
from feed.venues import binance
from feed.venues.tick import Tick
from feed.wire.model import Quote
from tests.feed.venues.binance_examples import (
    MS,
    NAME,
    aggregate,
    combined,
    diffs,
    encode,
    future,
    futures,
    ns,
    spot,
    trade,
)
from tests.feed.venues.playing import T0, Feeder, captured, doubts, numbered, play, ticks, without_doubts


@pytest.mark.parametrize("venue", ["binance", "binance-usdm"])
def test_levels_with_more_elements_than_known(venue: str) -> None:
    """Until 2019-03-12 a level was a price, a size and an empty list."""
    feed = Feeder(venue, NAME).rest(100, [["10", "1", []]], [["11", "1", []]])
    (diff,) = diffs(venue, 110)
    diff["data"]["b"] = [["9.0", "2", []]]
    feed(diff, {**diffs(venue, 120)[0]["data"], "b": [["8", "1", 5, "x"]]})
    assert feed.played.bad == []
    assert feed.book() == ({"10": "1", "9": "2", "8": "1"}, {"11": "1"})


def test_skipped_trade_id_is_a_hole() -> None:
    feed = futures()(trade(7), trade(8), trade(8), trade(11), trade(12))
    assert [item.trade_id for item in feed.folded.trades] == ["7", "8", "11", "12"]
    assert [(gap.reason, gap.lost, gap.seq) for gap in feed.folded.gaps] == [("venue", True, 1)]
    feed(trade(10))  # another connection had it
    assert len(feed.folded.gaps) == 1
    assert feed.folded.trades[-1].trade_id == "10"


def test_trades_that_were_not_at_market_are_none_but_count() -> None:
    feed = futures()(trade(1), trade(2, X="INSURANCE_FUND"), trade(3, X="NA", p="0", q="0"), trade(4))
    assert [item.trade_id for item in feed.folded.trades] == ["1", "4"]
    assert feed.folded.gaps == []
    feed(trade(6, X="ADL"), trade(7))
    assert len(feed.folded.gaps) == 1


def test_skipped_aggregate_is_a_hole() -> None:
    feed = futures()(aggregate(1, 10, 12), aggregate(2, 15, 15), aggregate(2, 15, 15))
    assert feed.folded.gaps == []  # ids between belong to trades that are not aggregated
    feed(aggregate(4, 16, 16))
    assert [item.trade_id for item in feed.folded.trades] == ["1", "2", "4"]
    assert len(feed.folded.gaps) == 1


def test_trade_is_taken_from_the_stream_that_told_it_first() -> None:
    feed = futures()(trade(101), aggregate(1, 101, 101), aggregate(2, 102, 103), trade(102), trade(103))
    feed(trade(104), aggregate(3, 104, 105), trade(105), aggregate(4, 106, 106))
    assert [item.trade_id for item in feed.folded.trades] == ["101", "2", "104", "105", "4"]
    assert feed.folded.gaps == []


def test_ticker_whose_id_does_not_rise_is_known() -> None:
    def ticker(u: int, bid: str, **more: Any) -> dict[str, Any]:
        return combined("bookTicker", {"u": u, "s": NAME, "b": bid, "B": "1.0", "a": "3.0", "A": "2", **more})

    feed = futures("binance")(ticker(5, "2.0"), ticker(5, "2.0"), ticker(4, "1.0"), ticker(6, "2.5", T=MS + 9))
    assert feed.folded.quotes == [
        (Quote("2", "1", "3", "2"), None),
        (Quote("2.5", "1", "3", "2"), ns(9)),
    ]
    feed(ticker(7, "0.00"))
    assert feed.folded.quotes[-1][0] == Quote(None, None, "3", "2")


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (trade(3, s="ETHUSDT"), ["trades"]),
        ({"e": "trade", "s": 5}, ["trades"]),
        (trade(3, p="-1"), ["trades"]),
        (trade(3, p="0"), ["trades"]),
        (trade(3, q="0.0"), ["trades"]),
        (trade(3, q="NaN"), ["trades"]),
        (trade(3, q="1e5"), ["trades"]),
        (trade(3, q=1.5), ["trades"]),
        (trade(3, t="3"), ["trades"]),
        (trade(3, t=-1), ["trades"]),
        (trade(3, T=5), ["trades"]),
        (trade(3, T=1_723_161_255), ["trades"]),
        (trade(3, T=50_000_000_000_000), ["trades"]),
        (trade(3, T=2**70), ["trades"]),
        (trade(3, m="true"), ["trades"]),
        ({**trade(3)["data"], "p": None}, ["trades"]),
        (aggregate(9, 12, 11), ["trades"]),
        (future(111, 120, 110, [["1"]]), ["book"]),
        (future(111, 120, 110, [["1", "-2"]]), ["book"]),
        (future(111, 120, 110, [["1", 2]]), ["book"]),
        (future(111, 120, 110, [["1", 2, 3]]), ["book"]),
        (future(111, 120, 110, [["1.0", "2.0"], ["1e5", "2.0"]]), ["book"]),
        (future(111, 120, 110, [["1.0", "2.0"], ["0.0", "2.0"]]), ["book"]),
        (future(111, 120, 110, [["1.0", "2.0"], ["\\u0031.0", "2.0"], ["NaN", "1.0"]]), ["book"]),
        (future(111, 120, 110, [["1", "-2"]])["data"], ["book"]),
        (spot(111, 120, [["1", "2"]]), ["book"]),
        (combined("depth", {"e": "depthUpdate", "u": 5}), ["book"]),
        (combined("bookTicker", {"u": 9, "s": NAME, "b": "1", "B": "-1", "a": "2", "A": "1"}), []),
        (combined("bookTicker", {"u": 9, "s": NAME, "b": "1", "B": "1", "a": None, "A": "1"}), []),
    ],
)
def test_odd_entry_is_refused_and_only_puts_its_channel_in_doubt(frame: dict[str, Any], wanted: list[str]) -> None:
    good = [trade(1), trade(2), future(101, 110, 100, [["2.0", "1.0"]])]
    feed = futures().rest(100, [["1", "1"]], [])(*good)
    source = feed.played.source
    before = without_doubts(source, NAME)
    feed(frame)
    assert len(feed.played.bad) == 1
    after = without_doubts(source, NAME)
    if wanted == ["book"]:
        assert after[1]["machine"]["diffs"].pop("missed")
    assert after == before
    assert doubts(source, NAME) == wanted


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ({"code": -1003, "msg": "too many requests"}, "https://x/fapi/v1/depth?symbol=BTCUSDT"),
        ({"timezone": "UTC", "symbols": []}, "https://x/api/v3/exchangeInfo"),
        ([], "https://x/api/v3/trades?symbol=BTCUSDT"),
    ],
)
def test_answers_to_other_questions_mean_nothing(answer: Any, asked: str) -> None:
    feed = futures()(answer, request=asked)
    assert feed.played.bad == []
    assert feed.played.symbols == {}


def test_times_that_the_venue_does_not_know_are_null() -> None:
    left_out = trade(2)
    del left_out["data"]["T"]
    feed = futures()(trade(1, T=0), left_out, trade(3))
    assert [item.ts_event for item in feed.folded.trades] == [None, None, ns(5)]
    diff = future(101, 110, 100, [["2", "1"]])
    diff["data"]["T"] = 0
    feed.rest(100, [["1", "1"]], [], T=0, E=0)(diff)
    assert feed.played.bad == []
    assert feed.played.source.keyframe(NAME)[1].ts_event is None  # type: ignore[union-attr]


def test_numbers_hidden_from_the_bulk_check_are_still_checked() -> None:
    # the first "b" is the one decoded, the last one only looks as if it were
    hidden = (
        b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":2,"T":2,"s":"BTCUSDT","U":101,"u":110,"pu":100,'
        b'"b" :[["1e5","2.0"]],"a" :[]%b'
    )
    feed = futures().rest(100, [["1", "1"]], [])
    for tail in (b',"x":{"b":[["1.0","2.0"]],"a":[]}}}', b'},"x":{"b":[["1.0","2.0"]],"a":[]}}'):
        feed(hidden % tail)
    assert len(feed.played.bad) == 2


def test_left_out_trade_is_one_gap(data_dir: Path) -> None:
    name = "binance/usdm_multi_20210722"
    all_ticks = ticks(name, captured(data_dir, name))
    at = [i for i, tick in enumerate(all_ticks) if b'"aggTrade"' in tick.value and tick.key == "CTKUSDT"][10]
    whole, holed = (play(name, numbered(some)) for some in (all_ticks, all_ticks[:at] + all_ticks[at + 1 :]))
    trades, left = whole.symbols["CTKUSDT"].trades, holed.symbols["CTKUSDT"]
    assert left.trades == trades[:10] + trades[11:]
    assert len(left.gaps) == 1
    assert all(folded.gaps == [] for key, folded in holed.symbols.items() if key != "CTKUSDT")


def test_cold_start_has_no_book_and_all_the_rest(data_dir: Path) -> None:
    name = "binance/spot_multi_20211011"
    all_ticks = ticks(name, captured(data_dir, name))
    cold = play(name, numbered(tick for tick in all_ticks if tick.request is None))
    for key, folded in play(name, all_ticks).symbols.items():
        assert cold.symbols[key].sides() == ([], [])
        assert cold.symbols[key].updates["book"] == 0
        assert cold.symbols[key].trades == folded.trades
        assert cold.symbols[key].quotes == folded.quotes


def test_what_a_frame_speaks_of() -> None:
    frame = encode(trade(1))
    assert binance.keys(frame) == [NAME]
    assert binance.entries(Tick(0, "", frame, 1, 1)) == {NAME: None}
    assert binance.entries(Tick(0, "", encode(combined("kline_1m", {"e": "kline", "s": NAME})), 1, 1)) == {}
    assert binance.venue_status(frame) is None
    with pytest.raises(BadTick, match="depth snapshot without a key"):
        binance.entries(Tick(0, "", b'{"lastUpdateId":1,"bids":[],"asks":[]}', 1, 1, "https://x/depth"))
    for read in (binance.keys, binance.venue_status, lambda value: binance.entries(Tick(0, "", value, 1, 1))):
        with pytest.raises(BadTick):
            read(b"{")


def test_trades_sent_twice_or_anew() -> None:
    now = T0 // 1_000_000
    told = [trade(number, T=now) for number in (5, 5, 7)]
    feed = futures("binance")(*told, trade(8, T=now, X="ADL"), trade(9, T=now))
    assert [found.trade_id for found in feed.folded.trades] == ["5", "7", "9"]
    assert len(feed.folded.gaps) == 1
    feed(trade(1, T=now + 3_600_000))
    assert [found.trade_id for found in feed.folded.trades][3:] == ["1"]
    assert (len(feed.folded.gaps), feed.played.source.counts.epochs) == (2, 1)


def test_aggregates_that_are_odd_known_or_anew() -> None:
    feed = futures("binance")(aggregate(5, 9, 10), aggregate(5, 9, 10), aggregate(6, 12, 11), aggregate(8, 15, 16))
    assert [found.trade_id for found in feed.folded.trades] == ["5", "8"]
    assert "wanted a rising range" in feed.played.bad[0][1]
    anew = aggregate(1, 1, 2)
    anew["data"]["T"] = MS + 3_600_000
    feed(anew)
    assert [found.trade_id for found in feed.folded.trades] == ["5", "8", "1"]


def test_tickers_have_sides_that_may_be_empty_and_ids_that_begin_anew() -> None:
    ticker = {"s": NAME, "u": 10, "b": "1.0", "B": "2", "a": "0", "A": "0", "T": MS}
    feed = futures()(combined("bookTicker", ticker), combined("bookTicker", ticker))
    assert [quote for quote, _ in feed.folded.quotes] == [Quote("1", "2", None, None)]
    feed(combined("bookTicker", ticker | {"u": 1, "T": MS + 61_000}))
    assert (len(feed.folded.quotes), feed.played.source.counts.epochs) == (2, 1)


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (b'{"stream":"btcusdt@trade","data":{', ["trades"]),
        (b'{"e":"depthUpdate","E":1,', ["book"]),
        (b'{"stream":"btcusdt@bookTicker","data":{', []),
        (b'{"stream":"btcusdt@kline_1m","data":{', []),
        (b'{"x":', ["book", "trades"]),
        (b"{}", ["book", "trades"]),
    ],
)
def test_a_refused_frame_puts_in_doubt_what_it_says_that_it_is(frame: bytes, wanted: list[str]) -> None:
    feed = futures("binance").rest(1, [], [])(trade(1), frame)
    assert doubts(feed.played.source, NAME) == wanted


@pytest.mark.parametrize("frame", [trade(1, s="ETHUSDT"), trade(1, s="ETHUSDT")["data"]])
def test_a_frame_of_another_symbol_is_refused(frame: Any) -> None:
    feed = futures("binance")(trade(1), frame)
    assert "frame of 'ETHUSDT', wanted BTCUSDT" in feed.played.bad[0][1]


def test_answers_are_snapshots_refusals_or_of_another_symbol() -> None:
    feed = futures()(trade(1))
    feed.rest(1, [["1", "2", []]], [])
    feed({"code": -1003, "msg": "too many"}, request="https://x/depth")
    assert feed.played.bad == []
    feed.rest(2, [], [], symbol="ETHUSDT")
    feed({"bids": 1}, request="https://x/depth")
    assert ["ETHUSDT" in why or "cannot be read" in why for _, why in feed.played.bad] == [True, True]
    assert feed.book() == ({"1": "2"}, {})
