"""Binance: bridging, holes, identity and the forms of its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.errors import BadTick
from feed.model import Book, Quote, Trade
from feed.venues import binance
from feed.venues.symbol import Tick
from tests.feed.venues.playing import Feeder, captured, numbered, play, state_of, ticks

NAME = "BTCUSDT"
encode = msgspec.json.encode


def futures(venue: str = "binance-usdm") -> Feeder:
    return Feeder(venue, NAME)


def combined(stream: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"stream": f"btcusdt@{stream}", "data": data}


def future(first: int, last: int, before: int, bids: Any = (), asks: Any = ()) -> dict[str, Any]:
    data = {"e": "depthUpdate", "E": 2, "T": last, "s": NAME, "U": first, "u": last, "pu": before, "b": bids, "a": asks}
    return combined("depth@0ms", data)


def spot(first: int, last: int, bids: Any = (), asks: Any = ()) -> dict[str, Any]:
    return combined("depth", {"e": "depthUpdate", "E": last, "s": NAME, "U": first, "u": last, "b": bids, "a": asks})


def trade(number: int, **more: Any) -> dict[str, Any]:
    data = {"e": "trade", "E": 6, "T": 5, "s": NAME, "t": number, "p": "10.50", "q": "2.0", "X": "MARKET", "m": True}
    return combined("trade", {**data, **more})


def aggregate(number: int, first: int, last: int) -> dict[str, Any]:
    data = {
        "e": "aggTrade",
        "E": 6,
        "s": NAME,
        "a": number,
        "p": "10",
        "q": "1",
        "f": first,
        "l": last,
        "T": 5,
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
    feed.rest(105, [["10.00", "7"], ["8", "1"]], [["11.0", "2"]], T=7)
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
    feed = futures().rest(100, [["1", "1"]], [])(*diffs("", 110), future(108, 120, 105, [["2", "1"]]))
    assert [state.reason for state in feed.folded.states] == ["gap"]
    assert feed.book() == ({"110": "1", "1": "1"}, {})


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
    monkeypatch.setattr(binance, "_KEPT_BYTES_MAX", 1000)
    feed = futures()(*diffs("", *range(10, 1000, 10)))
    source = feed.played.source
    assert len(source.checkpoint(NAME)) < 2500
    assert feed.rest(100, [], []).book() is None
    assert feed.rest(985, [], []).book() == ({"990": "1"}, {})


def test_diffs_are_kept_for_a_minute() -> None:
    def at(second: int, frame: Any, request: str | None = None) -> Tick:
        return Tick(second, NAME, encode(frame), second * 10**9, second * 10**9, request)

    old, new, newest = diffs("", 110, 120, 130)
    for last, wanted in ((100, None), (110, {"130": "1", "120": "1", "5": "1"})):
        played = futures().played.play([at(1, old), at(2, new), at(62, newest)])
        played.play([at(63, {"lastUpdateId": last, "bids": [["5", "1"]], "asks": []}, "depth")])
        book = played.snapshot(NAME, "book")
        assert (book and dict(book.bids)) == wanted


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

    feed = futures("binance")(ticker(5, "2.0"), ticker(5, "2.0"), ticker(4, "1.0"), ticker(6, "2.5", T=9))
    assert feed.folded.quotes == [
        (Quote("2", "1", "3", "2"), None),
        (Quote("2.5", "1", "3", "2"), "9000000"),
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
    assert made[0][0][0] == Trade("10.5", "2", "sell", "1", "5000000")


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
        ({"stream": "!ticker@arr", "data": [{"e": "24hrTicker", "s": NAME}]}, []),
        ({"result": None, "id": 1}, []),
        ({"error": {"code": 2, "msg": "no"}}, []),
        ({"code": -1121, "msg": "no"}, []),
    ],
)
def test_keys(frame: dict[str, Any], wanted: list[str]) -> None:
    assert binance.keys(encode(frame)) == wanted
    if wanted:
        with pytest.raises(BadTick):
            binance.wide(encode(frame))
    else:
        assert binance.wide(encode(frame)) is None


@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b"{}", b"1", b'{"lastUpdateId":1,"bids":[],"asks":[]}', b"\xff"])
def test_frames_without_a_symbol_are_refused(frame: bytes) -> None:
    for read in (binance.keys, binance.wide):
        with pytest.raises(BadTick):
            read(frame)
    feed = futures()(frame)
    assert len(feed.played.bad) == 1


def test_frames_of_other_kinds_mean_nothing() -> None:
    feed = futures()(
        combined("kline_1m", {"e": "kline", "s": NAME, "k": {}}),
        combined("depth20", {"lastUpdateId": 1, "bids": [], "asks": []}),
        {"result": None, "id": 1},
    )
    assert feed.played.bad == []
    assert feed.played.symbols == {}


@pytest.mark.parametrize(
    "frame",
    [
        trade(3, s="ETHUSDT"),
        trade(3, p="-1"),
        trade(3, p="0"),
        trade(3, q="0.0"),
        trade(3, q="NaN"),
        trade(3, q="1e5"),
        trade(3, q=1.5),
        trade(3, t="3"),
        trade(3, t=-1),
        trade(3, T=0),
        trade(3, T=50_000_000_000_000),
        trade(3, T=2**70),
        trade(3, m="true"),
        future(111, 120, 110, [["1"]]),
        future(111, 120, 110, [["1", "2", "3"]]),
        future(111, 120, 110, [["1", "-2"]]),
        future(111, 120, 110, [["1", 2]]),
        future(111, 120, 110, [["1.0", "2.0"], ["1e5", "2.0"]]),
        future(111, 120, 110, [["1.0", "2.0"], ["0.0", "2.0"]]),
        future(111, 120, 110, [["1.0", "2.0"], ["\\u0031.0", "2.0"], ["NaN", "1.0"]]),
        spot(111, 120, [["1", "2"]]),
        aggregate(9, 12, 11),
        combined("bookTicker", {"u": 9, "s": NAME, "b": "1", "B": "-1", "a": "2", "A": "1"}),
        combined("bookTicker", {"u": 9, "s": NAME, "b": "1", "B": "1", "a": None, "A": "1"}),
    ],
)
def test_bad_frame_is_refused_and_changes_nothing(frame: dict[str, Any]) -> None:
    good = [trade(1), trade(2), future(101, 110, 100, [["2.0", "1.0"]])]
    feed = futures().rest(100, [["1", "1"]], [])(*good)
    source = feed.played.source
    before = state_of(source, NAME)
    feed(frame)
    assert len(feed.played.bad) == 1
    assert state_of(source, NAME) == before


@pytest.mark.parametrize(
    "rest",
    [
        {"lastUpdateId": 200, "bids": [["1", "1"]]},
        {"lastUpdateId": 200, "bids": [["x", "1"]], "asks": []},
        {"lastUpdateId": "200", "bids": [], "asks": []},
        {"lastUpdateId": 200, "bids": [], "asks": [], "symbol": "ETHUSDT"},
        {"code": -1003, "msg": "too many requests"},
        [],
    ],
)
def test_bad_snapshot_is_refused(rest: Any) -> None:
    feed = futures().rest(100, [["1", "1"]], [])(rest, request="https://x/depth")
    assert len(feed.played.bad) == 1
    assert feed.book() == ({"1": "1"}, {})


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
