"""Ids and sequences that begin anew: told, and known from what is only sent twice, late or out of order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.venues.counters import LATE_NS, SOON_NS, begins_anew
from feed.venues.known import KnownTrades
from feed.venues.now import SourceCounts
from feed.wire.model import Trade
from tests.feed.venues.playing import STEP_NS, T0, Feeder

MS = T0 // 1_000_000
Made = Callable[[int, float], Any]
"""A frame by an id and the seconds of its event."""


def iso(second: float) -> str:
    return datetime.fromtimestamp(T0 / 1e9 + second, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def ns(second: float) -> str:
    return str(T0 + int(second * 1e9))


def own_trade(number: object, second: float | None) -> dict[str, Any]:
    time = None if second is None else ns(second)
    trade = {"price": "10", "size": "1", "side": None, "trade_id": str(number), "ts_event": time}
    return {"channel": "trades", "data": [trade]}


def binance_trade(number: int, second: float) -> dict[str, Any]:
    data = {"e": "trade", "s": "X", "t": number, "p": "10", "q": "1", "T": MS + int(second * 1000), "m": True}
    return {"stream": "x@trade", "data": data}


def binance_aggregate(number: int, second: float) -> dict[str, Any]:
    data = {"e": "aggTrade", "s": "X", "a": number, "f": 2 * number, "l": 2 * number + 1, "p": "10", "q": "1"}
    return {"stream": "x@aggTrade", "data": {**data, "T": MS + int(second * 1000), "m": True}}


def coinbase_match(number: int, second: float) -> dict[str, Any]:
    data = {"trade_id": number, "side": "buy", "size": "1", "price": "10", "product_id": "X", "time": iso(second)}
    return {"type": "match", **data}


def coinbase_trade(number: int, second: float) -> dict[str, Any]:
    data = {"trade_id": str(number), "product_id": "X", "price": "10", "size": "1", "side": "BUY", "time": iso(second)}
    return {"channel": "market_trades", "timestamp": iso(second), "events": [{"type": "update", "trades": [data]}]}


def kraken_trade(number: int, second: float) -> dict[str, Any]:
    data = {"symbol": "X", "side": "buy", "price": 10, "qty": 1, "trade_id": number, "timestamp": iso(second)}
    return {"channel": "trade", "type": "update", "data": [data]}


COUNTED: dict[str, tuple[str, Made]] = {
    "binance": ("binance", binance_trade),
    "binance-usdm aggregates": ("binance-usdm", binance_aggregate),
    "coinbase exchange": ("coinbase", coinbase_match),
    "coinbase advanced": ("coinbase", coinbase_trade),
    "kraken v2": ("kraken", kraken_trade),
}


def ids(feed: Feeder) -> list[str | None]:
    return [trade.trade_id for trade in feed.folded.trades]


def test_ids_of_a_new_day_are_other_trades() -> None:
    """Ids per day are usual for equities and futures."""
    feed = Feeder("acme", "X")(own_trade(1, 0), own_trade(2, 0), own_trade(3, 0))
    feed(own_trade(1, 86_400), own_trade(2, 86_400), own_trade(1, 86_400), own_trade(2, 86_400))
    assert ids(feed) == ["1", "2", "3", "1", "2"]
    assert feed.folded.gaps == []  # our own ids need not be consecutive: nothing says that one is missing
    assert (feed.played.source.counts.epochs, feed.played.source.counts.copies) == (1, 2)


def test_a_known_id_that_is_not_later_than_every_trade_is_a_copy() -> None:
    feed = Feeder("acme", "X")(own_trade("a", 10), own_trade("b", 30), own_trade("a", 20), own_trade("a", 30))
    feed(own_trade("b", None), own_trade("a", 10))
    assert ids(feed) == ["a", "b"]
    assert (feed.played.source.counts.epochs, feed.played.source.counts.copies) == (0, 4)
    # later by a nanosecond is later, also than a trade of the same tick
    feed({"channel": "trades", "data": [own_trade("c", 40)["data"][0], own_trade("a", 40)["data"][0]]})
    assert ids(feed) == ["a", "b", "c"]
    both = [own_trade("a", 41)["data"][0], own_trade("a", 41)["data"][0], own_trade("a", 42)["data"][0]]
    feed({"channel": "trades", "data": both})
    assert ids(feed)[3:] == ["a", "a"]
    assert feed.played.source.counts.epochs == 2


def test_ids_are_texts() -> None:
    feed = Feeder("acme", "X")(*(own_trade(number, 0) for number in ("7", "007", "07", "7", "007")))
    assert ids(feed) == ["7", "007", "07"]


@pytest.mark.parametrize("name", COUNTED)
def test_counted_ids_that_begin_anew_are_told_behind_a_gap(name: str) -> None:
    venue, made = COUNTED[name]
    feed = Feeder(venue, "X")(made(500_000, 0), made(500_001, 1))
    feed(made(1, 600), made(2, 600.5), made(3, 601), made(2, 600.5))
    assert ids(feed) == ["500000", "500001", "1", "2", "3"]
    assert [(gap.reason, gap.lost, gap.seq) for gap in feed.folded.gaps] == [("venue", True, 1)]
    feed(made(5, 602), made(6, 603))
    assert len(feed.folded.gaps) == 2  # holes are seen as before
    assert feed.played.source.counts.epochs == 1


@pytest.mark.parametrize("name", COUNTED)
def test_counted_ids_that_are_known_begin_anew_where_they_are_later(name: str) -> None:
    venue, made = COUNTED[name]
    feed = Feeder(venue, "X")(*(made(number, number) for number in range(1, 6)))
    feed(made(1, 3600), made(2, 3601), made(4, 3602))
    assert ids(feed) == ["1", "2", "3", "4", "5", "1", "2", "4"]
    assert [gap.reason for gap in feed.folded.gaps] == ["venue", "venue"]


@pytest.mark.parametrize("name", COUNTED)
def test_counted_ids_that_step_back_are_late_or_copies(name: str) -> None:
    """As those of a second connection that lags: their times are those of the first."""
    venue, made = COUNTED[name]
    feed = Feeder(venue, "X")(*(made(number, number) for number in (1, 2, 3, 5, 6)))
    feed.wait(100)(made(4, 4), made(1, 1), made(3, 3), made(7, 7))
    assert ids(feed) == ["1", "2", "3", "5", "6", "4", "7"]
    assert len(feed.folded.gaps) == 1
    assert feed.played.source.counts.epochs == 0
    assert feed.played.source.counts.copies == 2


@pytest.mark.parametrize("name", COUNTED)
def test_one_trade_whose_time_is_written_in_two_precisions_is_one(name: str) -> None:
    venue, made = COUNTED[name]
    feed = Feeder(venue, "X")(made(5, 1.0))
    copy = made(5, 1.0)
    text = {"binance": "data", "binance-usdm aggregates": "data"}.get(name)
    if text:
        copy["data"]["T"] = copy["data"]["T"] * 1000 + 999
    elif name == "kraken v2":
        copy["data"][0]["timestamp"] = copy["data"][0]["timestamp"].replace("Z", "789Z")
    else:
        trade = copy if name == "coinbase exchange" else copy["events"][0]["trades"][0]
        trade["time"] = trade["time"].replace("Z", "789Z")
    feed(copy)
    assert ids(feed) == ["5"]
    assert feed.played.source.counts.copies == 1


def test_ids_of_trades_and_of_aggregates_count_by_themselves() -> None:
    feed = Feeder("binance", "X")(binance_trade(100, 0), binance_trade(101, 1))
    # an aggregate has the id of a trade that is known: another one
    feed(binance_aggregate(100, 5), binance_aggregate(101, 6))
    assert ids(feed) == ["100", "101", "100", "101"]
    assert feed.played.source.counts.epochs == 0


# ---- books and quotes


def diff(venue: str, first: int, last: int, second: float, bids: Any) -> dict[str, Any]:
    time = MS + int(second * 1000)
    data = {
        "e": "depthUpdate",
        "E": time,
        "T": time,
        "s": "X",
        "U": first,
        "u": last,
        "pu": first - 1,
        "b": bids,
        "a": [],
    }
    return {"stream": "x@depth@100ms", "data": data}


def best(last: int, bid: str, **more: Any) -> dict[str, Any]:
    return {"stream": "x@bookTicker", "data": {"u": last, "s": "X", "b": bid, "B": "1", "a": "11", "A": "1", **more}}


def states(feed: Feeder) -> list[tuple[Any, Any]]:
    return [(state.state, state.reason) for state in feed.folded.states]


@pytest.mark.parametrize("venue", ["binance", "binance-usdm", "binance-coinm"])
def test_update_ids_that_begin_anew_make_the_book_stale_until_a_snapshot(venue: str) -> None:
    feed = Feeder(venue, "X").rest(900_000, [["10", "1"]], [["11", "1"]])
    feed(best(900_000, "10")).wait(2)
    feed(diff(venue, 3, 5, 600, [["9", "1"], ["10", "0"]]))
    assert states(feed) == [("stale", "gap")]
    feed(best(5, "9"))
    feed.rest(5, [["9", "1"]], [["11", "1"]])
    feed(diff(venue, 6, 7, 601, [["9.1", "1"]]), best(7, "9.1"))
    assert states(feed) == [("stale", "gap"), ("ok", None)]
    assert feed.book() == ({"9.1": "1", "9": "1"}, {"11": "1"})
    assert [quote.bid_price for quote, _ in feed.folded.quotes] == ["10", "9", "9.1"]
    assert feed.played.source.counts.epochs == 1  # the tickers' ids are the book's


@pytest.mark.parametrize(("second", "number", "anew"), [(62, 5, True), (59, 5, False), (600, 800_000, False)])
def test_the_first_diff_after_a_snapshot_without_a_time_of_its_own(second: float, number: int, anew: bool) -> None:
    """Received at once, as where what a collector kept is worked off; and a collector's clock may be minutes slow."""
    feed = Feeder("binance", "X").rest(900_000, [["10", "1"]], [["11", "1"]])(best(900_000, "10"))
    feed(diff("binance", number - 2, number, second, [["9", "1"], ["10", "0"]]), best(number, "9"))
    assert states(feed) == ([("stale", "gap")] if anew else [])
    assert [quote.bid_price for quote, _ in feed.folded.quotes] == (["10", "9"] if anew else ["10"])


@pytest.mark.parametrize("venue", ["binance", "binance-usdm"])
def test_update_ids_that_begin_anew_while_diffs_wait_for_a_snapshot(venue: str) -> None:
    feed = Feeder(venue, "X")(diff(venue, 900_000, 900_010, 0, [["10", "1"]]))
    feed(diff(venue, 3, 5, 600, [["9", "1"]]), diff(venue, 6, 7, 601, [["8", "1"]])).rest(5, [["9", "1"]], [])
    assert feed.book() == ({"9": "1", "8": "1"}, {})


@pytest.mark.parametrize("venue", ["binance", "binance-usdm"])
@pytest.mark.parametrize(
    ("number", "second", "anew"), [(999_900, 61.5, True), (999_900, 59, False), (5, 0.5, False), (5, 2.5, True)]
)
def test_how_far_back_and_how_much_later(venue: str, number: int, second: float, anew: bool) -> None:
    feed = Feeder(venue, "X").rest(999_999, [["10", "1"]], [])(diff(venue, 1_000_000, 1_000_000, 1, [["9", "1"]]))
    feed(diff(venue, number, number, 1 + second, [["8", "1"]]))
    assert states(feed) == ([("stale", "gap")] if anew else [])
    assert feed.book() == ({"10": "1", "9": "1"}, {})


def test_a_snapshot_alone_shows_it_a_minute_after_the_last_diff() -> None:
    """An answer may come out of a cache that is half a minute old."""
    feed = Feeder("binance", "X").rest(1000, [["10", "1"]], [])
    feed.wait(31).rest(400, [["9", "1"]], [])
    assert feed.book() == ({"10": "1"}, {})
    feed.wait(31).rest(900, [["8", "1"]], [])
    assert feed.book() == ({"10": "1"}, {})
    feed.rest(400, [["7", "1"]], [])
    assert feed.book() == ({"7": "1"}, {})
    assert states(feed) == []


def test_tickers_of_a_second_connection_that_lags_are_old() -> None:
    feed = Feeder("binance", "X")(best(1000, "10"), best(400, "9")).wait(0.9)(best(999, "9"), best(1001, "11"))
    assert [quote.bid_price for quote, _ in feed.folded.quotes] == ["10", "11"]
    feed.wait(1.5)(best(300, "5"))
    assert feed.folded.quotes[-1][0].bid_price == "5"
    timed = Feeder("binance-usdm", "X")(best(1000, "10", T=MS + 1000)).wait(100)(best(400, "9", T=MS))
    assert len(timed.folded.quotes) == 1


def test_sequences_of_coinbase_tickers_begin_anew() -> None:
    def ticker(sequence: int, bid: str, time: str | None) -> dict[str, Any]:
        return {
            "type": "ticker",
            "product_id": "X",
            "sequence": sequence,
            "best_bid": bid,
            "best_ask": "9",
            "time": time,
        }

    feed = Feeder("coinbase", "X")(ticker(1000, "1", iso(0)), ticker(999, "2", iso(0)), ticker(5, "3", iso(0.5)))
    assert len(feed.folded.quotes) == 1
    feed(ticker(5, "4", iso(2)), ticker(6, "5", iso(2)), ticker(6, "6", iso(2)))
    assert [quote.bid_price for quote, _ in feed.folded.quotes] == ["1", "4", "5"]
    feed(ticker(1000, "7", None)).wait(2)(ticker(7, "8", None))
    assert [quote.bid_price for quote, _ in feed.folded.quotes[3:]] == ["7", "8"]


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.integers(-(10**12), 10**12))
def test_a_counter_that_did_not_fall_or_whose_time_did_not_go_on_goes_on(number: int, last: int, later: int) -> None:
    if number >= last or later <= SOON_NS:
        assert not begins_anew(number, last, later)
    if number < last and later > LATE_NS:
        assert begins_anew(number, last, later)
    assert STEP_NS < SOON_NS  # so that frames of a test do not begin anew by themselves


class Told(str):
    """A time that counts how often it is read."""

    reads = 0

    def __int__(self) -> int:
        Told.reads += 1
        return int(str(self))


def test_a_frame_half_of_which_is_known_is_sifted_in_one_walk() -> None:
    known, counts = KnownTrades(runs_max=256), SourceCounts()
    old = [Trade("1", "1", None, str(number), "5") for number in range(1000)]
    known.sift(old, counts, aggregated=False, clock=0)
    new = [Trade("1", "1", None, str(number), Told(number)) for number in range(1000, 2000)]
    mixed = [trade for pair in zip(new, old, strict=True) for trade in pair]
    assert known.sift(mixed, counts, aggregated=False, clock=0) == (new, False)
    assert counts.copies == 1000
    assert 0 < Told.reads <= len(new)


def test_a_trade_that_is_dated_centuries_ahead_hides_no_new_ids_and_makes_none() -> None:
    known, counts = KnownTrades(runs_max=256), SourceCounts()
    clock = 1_795_467_600_000_000_000
    wild = Trade("1", "1", None, "7", str(clock + 230 * 365 * 86_400 * 10**9))
    assert known.add(wild, clock)
    assert known.sift([wild, wild], counts, aggregated=False, clock=clock + 10**9) == ([], False)
    assert counts.copies == 2
    assert known.add(Trade("1", "1", None, "8", str(clock)), clock)
    again = [Trade("2", "1", None, number, str(clock + 10**9)) for number in ("7", "8")]
    assert known.sift(again, counts, aggregated=False, clock=clock + 10**9) == (again, True)
