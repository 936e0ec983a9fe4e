"""Binance: bridging, holes, identity and the forms of its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues import binance, binance_book
from feed.venues.symbol import Tick
from feed.wire.model import Book, Quote, Trade
from tests.feed.venues.playing import T0, Feeder, captured, doubts, numbered, play, ticks, without_doubts

NAME = "BTCUSDT"
MS = 1_723_161_255_000
encode = msgspec.json.encode


def ns(ms: int) -> str:
    return f"{MS + ms}000000"


def futures(venue: str = "binance-usdm") -> Feeder:
    return Feeder(venue, NAME)


def combined(stream: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"stream": f"btcusdt@{stream}", "data": data}


def future(first: int, last: int, before: int, bids: Any = (), asks: Any = ()) -> dict[str, Any]:
    data = {
        "e": "depthUpdate",
        "E": MS,
        "T": MS + last,
        "s": NAME,
        "U": first,
        "u": last,
        "pu": before,
        "b": bids,
        "a": asks,
    }
    return combined("depth@0ms", data)


def spot(first: int, last: int, bids: Any = (), asks: Any = ()) -> dict[str, Any]:
    return combined(
        "depth", {"e": "depthUpdate", "E": MS + last, "s": NAME, "U": first, "u": last, "b": bids, "a": asks}
    )


def trade(number: int, **more: Any) -> dict[str, Any]:
    data = {
        "e": "trade",
        "E": MS + 6,
        "T": MS + 5,
        "s": NAME,
        "t": number,
        "p": "10.50",
        "q": "2.0",
        "X": "MARKET",
        "m": True,
    }
    return combined("trade", {**data, **more})


def aggregate(number: int, first: int, last: int) -> dict[str, Any]:
    data = {
        "e": "aggTrade",
        "E": MS + 6,
        "s": NAME,
        "a": number,
        "p": "10",
        "q": "1",
        "f": first,
        "l": last,
        "T": MS + 5,
        "m": False,
    }
    return combined("aggTrade", data)


def test_futures_bridge() -> None:
    feed = futures()
    feed(
        future(90, 99, 80, [["1", "9"]]),
        future(100, 110, 99, [["10.0", "1.50"]]),
        future(115, 120, 110, [["9.0", "3"]]),
    )
    assert feed.book() is None
    feed.rest(105, [["10.00", "7"], ["8", "1"]], [["11.0", "2"]], T=MS + 7)
    assert feed.book() == ({"10": "1.5", "9": "3", "8": "1"}, {"11": "2"})
    feed(future(121, 130, 120, [], [["11", "0.000"], ["12", "1"]]))
    assert feed.book() == ({"10": "1.5", "9": "3", "8": "1"}, {"12": "1"})
    assert feed.folded.updates["book"] == 2
    assert feed.folded.states == []


@pytest.mark.parametrize(("last", "taken"), [(99, True), (98, False)])
def test_futures_first_diff_may_name_the_snapshot_as_the_one_before(last: int, taken: bool) -> None:
    feed = futures().rest(last, [["1", "1"]], [])(future(101, 110, 99, [["2", "1"]]))
    assert (feed.folded.states == []) is taken
    assert feed.book() == ({"2": "1", "1": "1"} if taken else {"1": "1"}, {})


def test_futures_diff_that_ends_at_the_snapshot_is_applied_once() -> None:
    feed = futures().rest(110, [["1", "1"]], [])
    feed(*[future(101, 110, 99, [["2", "1"]])] * 2)
    assert feed.folded.updates["book"] == 2
    feed(future(111, 120, 110, [["2", "0"]]))
    assert feed.book() == ({"1": "1"}, {})
    assert feed.folded.states == []


def test_spot_bridge() -> None:
    feed = futures("binance")
    feed(spot(90, 99, [["1", "9"]]), spot(100, 110, [["10", "1.5"]]))
    feed.rest(105, [["10", "7"], ["8", "1"]], [["11", "2"]])
    assert feed.book() == ({"10": "1.5", "8": "1"}, {"11": "2"})
    feed(spot(111, 112, [["8", "0"]]), spot(113, 113, [], [["11", "1"]]))
    assert feed.book() == ({"10": "1.5"}, {"11": "1"})
    assert feed.folded.states == []


def diffs(venue: str, *ends: int) -> list[dict[str, Any]]:
    """Diffs that follow each other, each of ten ids, setting the price of its end."""
    if venue == "binance":
        return [spot(end - 9, end, [[str(end), "1"]]) for end in ends]
    return [future(end - 9, end, end - 10, [[str(end), "1"]]) for end in ends]


@pytest.mark.parametrize("venue", ["binance", "binance-usdm", "binance-coinm"])
def test_hole_makes_the_book_stale_until_a_snapshot_bridges_it(venue: str) -> None:
    feed = futures(venue).rest(100, [["1", "1"]], [])
    feed(*diffs(venue, 110, 130, 140))
    assert [(state.state, state.reason, state.seq) for state in feed.folded.states] == [("stale", "gap", 2)]
    assert feed.book() == ({"110": "1", "1": "1"}, {})
    feed.rest(115, [["5", "5"]], [])  # still older than the hole
    assert len(feed.folded.states) == 1
    feed.rest(125, [["5", "5"]], [])
    assert [(state.state, state.seq) for state in feed.folded.states[1:]] == [("ok", 5)]
    assert feed.book() == ({"140": "1", "130": "1", "5": "5"}, {})
    assert dict(feed.folded.bids) == {140: "1", 130: "1", 5: "5"}  # the difference went out
    feed(*diffs(venue, 150))
    assert feed.folded.states[-1].state == "ok"
    assert feed.folded.last["book"] == 6


def test_futures_diff_that_does_not_follow_the_one_before_is_a_hole() -> None:
    feed = futures().rest(100, [["1", "1"]], [])(*diffs("", 110), future(118, 120, 115, [["2", "1"]]))
    assert [state.reason for state in feed.folded.states] == ["gap"]
    assert feed.book() == ({"110": "1", "1": "1"}, {})


@pytest.mark.parametrize("venue", ["binance", "binance-usdm", "binance-coinm"])
def test_diffs_at_two_speeds_may_be_mixed(venue: str) -> None:
    """Each stream is whole: what is covered already is old, and what overlaps goes on from there."""

    def diff(stream: str, first: int, last: int, before: int, bids: Any) -> dict[str, Any]:
        frame = spot(first, last, bids) if venue == "binance" else future(first, last, before, bids)
        return {**frame, "stream": f"btcusdt@{stream}"}

    feed = Feeder(venue, NAME).rest(100, [["1", "1"]], [])
    feed(
        diff("depth@100ms", 101, 110, 100, [["2", "1"]]),
        diff("depth@100ms", 111, 120, 110, [["3", "1"]]),
        diff("depth", 101, 115, 100, [["2", "1"], ["3", "9"]]),
        diff("depth@100ms", 121, 130, 120, [["3", "0"]]),
        diff("depth", 116, 140, 115, [["3", "0"], ["4", "1"]]),
        diff("depth@100ms", 131, 145, 130, [["4", "2"]]),
        diff("depth", 141, 145, 140, [["4", "2"]]),
    )
    assert feed.book() == ({"4": "2", "2": "1", "1": "1"}, {})
    assert feed.folded.states == []
    assert feed.folded.updates["book"] == 6


@pytest.mark.parametrize("venue", ["binance-usdm", "binance-coinm"])
@pytest.mark.parametrize(
    "stream", ["depth5@100ms", "depth10", "depth20@500ms", "rpiDepth@500ms", "depth7", "depth@fast"]
)
def test_partial_books_of_futures_mean_nothing(venue: str, stream: str) -> None:
    """They have the fields of diffs; only the name of the stream tells."""
    feed = Feeder(venue, NAME).rest(1000, [["10.1", "5"], ["10.0", "7"]], [["10.2", "4"]])
    partial = {**future(1006, 1010, 1005, [["10.0", "7"]], [["10.2", "4"]]), "stream": f"btcusdt@{stream}"}
    feed(future(999, 1005, 998, [["10.1", "6"]]), partial, future(1006, 1010, 1005, [["10.1", "0"]]))
    assert feed.played.bad == []
    assert feed.book() == ({"10": "7"}, {"10.2": "4"})
    assert feed.folded.states == []


@pytest.mark.parametrize("count", [5, 10, 20])
def test_raw_partial_books_of_futures_mean_nothing(count: int) -> None:
    """A raw frame has no name of a stream, but a partial book looks like one."""
    bids = [[f"{100 - index}", "1"] for index in range(count)]
    asks = [[f"{101 + index}", "1"] for index in range(count)]
    raw = future(101, 110, 100, bids, asks)["data"]
    feed = futures().rest(100, [["1", "1"]], [])(raw)
    assert feed.folded.updates["book"] == 1
    for deleted in (future(101, 110, 100, [*bids[:-1], ["1", "0"]], asks), future(111, 120, 110, bids[::-1], asks)):
        feed(deleted["data"])
    assert feed.folded.updates["book"] == 3
    assert feed.folded.states == []


def test_partial_books_of_spot_mean_nothing() -> None:
    partial = {"lastUpdateId": 160, "bids": [["1", "10"]], "asks": [["2", "100"]]}
    feed = futures("binance")(partial, combined("depth5", partial), combined("depth20@100ms", partial))
    assert feed.played.bad == []
    assert feed.book() is None


def test_tickers_of_all_symbols_are_those_of_one() -> None:
    data = {"u": 5, "s": NAME, "b": "1", "B": "1", "a": "2", "A": "1"}
    feed = futures("binance")({"stream": "!bookTicker", "data": data}, data, combined("bookTicker", {**data, "u": 6}))
    assert len(feed.folded.quotes) == 2


@pytest.mark.parametrize("venue", ["binance", "binance-usdm"])
def test_levels_with_more_elements_than_known(venue: str) -> None:
    """Until 2019-03-12 a level was a price, a size and an empty list."""
    feed = Feeder(venue, NAME).rest(100, [["10", "1", []]], [["11", "1", []]])
    (diff,) = diffs(venue, 110)
    diff["data"]["b"] = [["9.0", "2", []]]
    feed(diff, {**diffs(venue, 120)[0]["data"], "b": [["8", "1", 5, "x"]]})
    assert feed.played.bad == []
    assert feed.book() == ({"10": "1", "9": "2", "8": "1"}, {"11": "1"})


@pytest.mark.parametrize("venue", ["binance", "binance-usdm"])
def test_snapshot_that_leaves_a_hole_to_the_diffs_kept_is_not_used(venue: str) -> None:
    feed = futures(venue)(*diffs(venue, 120, 130)).rest(100, [["1", "1"]], [])
    assert feed.book() is None
    assert feed.rest(120, [["1", "1"]], []).book() == (
        {"130": "1", "1": "1"} | ({} if venue == "binance" else {"120": "1"}),
        {},
    )


@pytest.mark.parametrize("last", [100, 110])
def test_snapshot_that_is_not_newer_than_the_book_changes_nothing(last: int) -> None:
    feed = futures().rest(100, [["1", "1"]], [])(*diffs("", 110))
    feed.rest(last, [["7", "7"]], [])
    assert feed.book() == ({"110": "1", "1": "1"}, {})
    assert feed.rest(111, [["7", "7"]], []).book() == ({"7": "7"}, {})
    feed(future(121, 130, 110), future(112, 130, 110, [["8", "1"]]))
    assert [state.state for state in feed.folded.states] == []


def test_diffs_kept_are_bounded_and_the_newest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binance_book, "_KEPT_BYTES_MAX", 1000)
    feed = futures()(*diffs("", *range(10, 1000, 10)))
    source = feed.played.source
    assert len(source.checkpoint(NAME)) < 2500
    assert feed.rest(100, [], []).book() is None
    assert feed.rest(985, [], []).book() == ({"990": "1"}, {})


def test_diffs_are_kept_for_a_minute() -> None:
    def at(second: int, frame: Any, request: str | None = None) -> Tick:
        time = T0 + second * 10**9
        return Tick(second, NAME, encode(frame), time, time, request)

    old, new, newest = diffs("", 110, 120, 130)
    for last, wanted in ((100, None), (110, {"130": "1", "120": "1", "5": "1"})):
        played = futures().played.play([at(1, old), at(2, new), at(62, newest)])
        played.play([at(63, {"lastUpdateId": last, "bids": [["5", "1"]], "asks": []}, "depth")])
        book = played.snapshot(NAME, "book")
        assert (book and dict(book.bids)) == wanted


@pytest.mark.parametrize("venue", ["binance", "binance-usdm"])
def test_a_book_whose_snapshot_does_not_come_is_stale_when_its_diffs_are_given_up(venue: str) -> None:
    feed = Feeder(venue, NAME)(*diffs(venue, 110, 120)).wait(59)(*diffs(venue, 130))
    assert feed.folded.states == []
    feed.wait(2)(*diffs(venue, 140, 150))
    assert [(state.state, state.reason, state.seq) for state in feed.folded.states] == [("stale", "gap", 3)]
    assert feed.played.source.counts.changes_lost == 2
    feed.rest(125, [["1", "1"]], [])
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]
    assert len(feed.book()[0]) == 4


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


def test_raw_streams_and_other_orders_of_keys_say_the_same() -> None:
    frames = [future(1, 10, 0, [["1.0", "1"]]), trade(1), aggregate(7, 2, 2)]
    turned = [{"data": dict(reversed(frame["data"].items())), "stream": frame["stream"]} for frame in frames]
    raw = [frame["data"] for frame in frames]
    spaced = [encode(frame).replace(b":", b" : ").replace(b",", b" , ") for frame in frames]
    made = []
    for form in (frames, turned, raw, spaced):
        feed = futures().rest(5, [["2", "2"]], [])(*form)
        assert feed.played.bad == []
        assert feed.played.symbols[NAME].updates["book"] == 2
        made.append((feed.folded.trades, feed.folded.sides()))
    assert made[1:] == made[:1] * 3
    assert made[0][0][0] == Trade("10.5", "2", "sell", "1", ns(5))


def test_microseconds_are_told_by_their_size() -> None:
    feed = futures()(trade(1, T=1_723_161_255_342_123), trade(2, T=1_723_161_255_342))
    assert [item.ts_event for item in feed.folded.trades] == ["1723161255342123000", "1723161255342000000"]


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (trade(1), [NAME]),
        (trade(1)["data"], [NAME]),
        (combined("kline_1m", {"e": "kline", "s": NAME, "k": {}}), [NAME]),
        (combined("depth20", {"lastUpdateId": 1, "bids": [], "asks": []}), [NAME]),
        ({"stream": "!bookTicker", "data": {"u": 5, "s": NAME, "b": "1", "B": "1", "a": "2", "A": "1"}}, [NAME]),
        ({"e": "forceOrder", "E": 1, "o": {"s": NAME}}, [NAME]),
        ({"stream": "!ticker@arr", "data": [{"e": "24hrTicker", "s": NAME}]}, []),
        ([{"e": "24hrMiniTicker", "s": NAME}], []),
        ({"e": "serverShutdown", "E": 1}, []),
        ({"lastUpdateId": 1, "bids": [], "asks": []}, []),
        ({"result": None, "id": 1}, []),
        ({"error": {"code": 2, "msg": "no"}}, []),
        ({"code": -1121, "msg": "no"}, []),
    ],
)
def test_keys(frame: dict[str, Any], wanted: list[str]) -> None:
    assert binance.keys(encode(frame)) == wanted
    assert binance.venue_status(encode(frame)) is None


@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b"[1]", b"[{}]", b"{}", b"1", b"\xff"])
def test_frames_of_which_nothing_says_what_they_are_are_refused(frame: bytes) -> None:
    for read in (binance.keys, binance.venue_status):
        with pytest.raises(BadTick):
            read(frame)
    feed = futures()(frame)
    assert len(feed.played.bad) == 1


EVENT = {"E": MS, "s": NAME}
NOTHING = [
    combined("kline_1m", {"e": "kline", **EVENT, "k": {}}),
    combined("kline_1d@+08:00", {"e": "kline", **EVENT, "k": {}}),
    combined("continuousKline_1m", {"e": "continuous_kline", "E": MS, "ps": NAME, "ct": "PERPETUAL", "k": {}}),
    combined("depth20", {"lastUpdateId": 1, "bids": [], "asks": []}),
    combined("miniTicker", {"e": "24hrMiniTicker", **EVENT, "c": "1.1", "o": "1"}),
    combined("ticker", {"e": "24hrTicker", **EVENT, "c": "1.1", "o": "1"}),
    combined("ticker_1h", {"e": "1hTicker", **EVENT, "o": "1"}),
    combined("avgPrice", {"e": "avgPrice", **EVENT, "i": "5m", "w": "1", "T": MS}),
    combined("markPrice@1s", {"e": "markPriceUpdate", **EVENT, "p": "1", "i": "1", "P": "1", "r": "0", "T": MS}),
    combined("forceOrder", {"e": "forceOrder", "E": MS, "o": {"s": NAME, "S": "SELL", "q": "0.014", "p": "9910"}}),
    combined("compositeIndex", {"e": "compositeIndex", **EVENT, "p": "1", "c": []}),
    combined("indexPrice", {"e": "indexPriceUpdate", "E": MS, "i": "BTCUSD", "p": "1"}),
    {"stream": "!ticker@arr", "data": [{"e": "24hrTicker", **EVENT}]},
    {"stream": "!markPrice@arr@1s", "data": [{"e": "markPriceUpdate", **EVENT}]},
    {"stream": "!contractInfo", "data": {"e": "contractInfo", **EVENT, "ps": NAME, "ct": "PERPETUAL"}},
    {"stream": "!assetIndex@arr", "data": [{"e": "assetIndexUpdate", **EVENT}]},
    {"stream": "!forceOrder@arr", "data": {"e": "forceOrder", "E": MS, "o": {"s": NAME}}},
    [{"e": "24hrMiniTicker", **EVENT, "c": "1.1"}, {"e": "24hrMiniTicker", "E": MS, "s": "ETHUSDT", "c": "1"}],
    {"e": "forceOrder", "E": MS, "o": {"s": NAME, "S": "SELL", "q": "0.014", "p": "9910"}},
    {"e": "serverShutdown", "E": MS},
    {"e": "kline", **EVENT, "k": {}},
    {"e": "ACCOUNT_UPDATE", "E": MS, "T": MS, "a": {}},
    {"lastUpdateId": 160, "bids": [["0.0024", "10"]], "asks": [["0.0026", "100"]]},
    {"result": None, "id": 1},
    {"error": {"code": 2, "msg": "no"}, "id": 3},
    {"code": -1121, "msg": "no"},
    {"id": "x", "status": 200, "result": {}, "rateLimits": []},
    {"timezone": "UTC", "serverTime": MS, "rateLimits": [], "symbols": []},
]


@pytest.mark.parametrize("key", [NAME, ""])
@pytest.mark.parametrize("frame", NOTHING)
@pytest.mark.parametrize("venue", ["binance", "binance-usdm", "binance-coinm"])
def test_frames_of_other_kinds_mean_nothing(venue: str, frame: Any, key: str) -> None:
    feed = Feeder(venue, key)(frame)
    assert feed.played.bad == []
    assert feed.played.symbols == {}
    binance.keys(encode(frame))


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


ODD_IDS = [1, 109, 110, 2**62, "x", None]


@pytest.mark.parametrize("last", ODD_IDS)
def test_no_snapshot_older_than_an_odd_diff_makes_up_for_it_whatever_its_ids_are(last: Any) -> None:
    odd = future(101, 110, 100, [["1", "x"]])
    odd["data"]["u"] = last
    feed = futures().rest(100, [["1", "1"]], [])(odd)
    for number in (109, 110, 120):  # nothing after it shows which of them hold it
        feed.rest(number, [["5", "1"]], [])
    feed(*diffs("", 120)).rest(109, [["5", "1"]], [])
    assert [state.state for state in feed.folded.states] == ["stale"]
    feed.rest(110, [["6", "1"]], [])
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]
    assert feed.book() == ({"120": "1", "6": "1"}, {})


@pytest.mark.parametrize("last", ODD_IDS)
def test_an_odd_diff_of_spot_needs_a_snapshot_that_bridges_whatever_its_ids_are(last: Any) -> None:
    def diff(first: int) -> dict[str, Any]:
        return {"e": "depthUpdate", "E": 5 * 10**12, "s": NAME, "U": first, "u": first + 9, "b": [["2", "1"]], "a": []}

    feed = Feeder("binance", NAME)(diff(91)).rest(100, [["1", "1"]], [])
    feed({**diff(101), "u": last, "b": [["1", "x"]]}).rest(110, [["5", "1"]], [])
    feed(diff(91)).rest(110, [["5", "1"]], [])  # of a second connection: it came before the odd one
    feed(diff(111)).rest(109, [["5", "1"]], [])
    assert [state.state for state in feed.folded.states] == ["stale"]
    feed.rest(115, [["6", "1"]], [])(diff(121))
    assert [state.state for state in feed.folded.states] == ["stale", "ok"]
    assert feed.book() == ({"6": "1", "2": "1"}, {})


def test_a_snapshot_before_an_odd_first_diff_is_bridged_is_not_used() -> None:
    odd = future(101, 110, 100, [["1", "x"]])
    feed = futures()(*diffs("", 100))(odd).rest(100, [["5", "1"]], [])
    assert feed.book() is None
    feed(*diffs("", 120)).rest(110, [["6", "1"]], [])
    assert feed.book() == ({"120": "1", "6": "1"}, {})


@pytest.mark.parametrize(
    "rest",
    [
        {"lastUpdateId": 200, "bids": [["1", "1"]]},
        {"lastUpdateId": 200, "bids": [["x", "1"]], "asks": []},
        {"lastUpdateId": "200", "bids": [], "asks": []},
        {"lastUpdateId": 200, "bids": [], "asks": [], "symbol": "ETHUSDT"},
        {"lastUpdateId": 200, "bids": [], "asks": [], "T": 5},
        [],
    ],
)
def test_odd_snapshot_is_refused_and_leaves_the_book_to_its_diffs(rest: Any) -> None:
    feed = futures().rest(100, [["1", "1"]], [])(rest, request="https://x/depth")
    assert len(feed.played.bad) == 1
    feed(*diffs("", 110))
    assert feed.book() == ({"110": "1", "1": "1"}, {})
    assert feed.folded.states == []


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


def test_left_out_diff_makes_one_book_stale_and_a_snapshot_mends_it(data_dir: Path) -> None:
    name = "binance/usdm_multi_20210722"
    all_ticks = ticks(name, captured(data_dir, name))
    mine = [i for i, tick in enumerate(all_ticks) if b"depthUpdate" in tick.value and tick.key == "SUSHIUSDT"]
    out, late = mine[100], mine[120]
    truth = play(name, all_ticks[: late + 1])
    book: Book = truth.snapshot("SUSHIUSDT", "book")
    last = msgspec.json.decode(all_ticks[late].value)["data"]["u"]
    rest = encode({"lastUpdateId": last, "bids": book.bids, "asks": book.asks})
    snapshot = msgspec.structs.replace(all_ticks[mine[160]], value=rest, request="https://x/depth?symbol=SUSHIUSDT")
    holed = numbered([*all_ticks[:out], *all_ticks[out + 1 : mine[160]], snapshot, *all_ticks[mine[160] :]])
    played = play(name, holed)
    whole = play(name, all_ticks)
    for key, folded in whole.symbols.items():
        assert played.symbols[key].sides() == folded.sides()
        states = [(state.state, state.reason) for state in played.symbols[key].states]
        assert states == ([("stale", "gap"), ("ok", None)] if key == "SUSHIUSDT" else [])
        assert played.symbols[key].trades == folded.trades


def test_cold_start_has_no_book_and_all_the_rest(data_dir: Path) -> None:
    name = "binance/spot_multi_20211011"
    all_ticks = ticks(name, captured(data_dir, name))
    cold = play(name, numbered(tick for tick in all_ticks if tick.request is None))
    for key, folded in play(name, all_ticks).symbols.items():
        assert cold.symbols[key].sides() == ([], [])
        assert cold.symbols[key].updates["book"] == 0
        assert cold.symbols[key].trades == folded.trades
        assert cold.symbols[key].quotes == folded.quotes
