"""The books of a Kraken pair: which of several streams is the symbol's."""

from __future__ import annotations

import msgspec
import pytest

from tests.feed.venues.kraken_examples import (
    DEEP,
    SHALLOW,
    TWELVE,
    V1,
    V2,
    all_v1,
    answer,
    at,
    best,
    book_v2,
    change_v1,
    crc,
    level,
    prices,
    two_depths,
    v1,
)
from tests.feed.venues.playing import Feeder


def test_v2_depth_is_told_by_the_answer() -> None:
    bids = {f"{price}.0": "1" for price in range(20, 10, -1)}
    snapshot = book_v2(bids, {}, crc([], list(bids.items())), "snapshot")
    more = book_v2({"10.0": "1"}, {}, crc([], list(bids.items())))
    for told, wanted in ((10, 10), (25, 11)):
        for frames in ((answer(told), snapshot, more), (snapshot, answer(told), more)):
            assert len(Feeder("kraken", V2)(*frames).book()[0]) == wanted
    # a level told beyond the tenth says so, too
    assert len(Feeder("kraken", V2)(snapshot, more).book()[0]) == 11


def test_v2_answer_counts_from_when_it_comes() -> None:
    """A thin book says nothing about the depth; the answer that comes after it does."""
    asks = {f"{price / 10}": "1.0" for price in range(1001, 1009)}
    bids = {"99.0": "1.0"}
    feed = Feeder("kraken", V2)(book_v2(bids, asks, best(asks, bids), "snapshot"), answer(25))
    for price in ("100.9", "101.0", "101.1"):
        asks[price] = "1.0"
        feed(book_v2({}, {price: "1.0"}, best(asks, bids)))
    assert len(feed.book()[1]) == 11
    assert feed.folded.states == []
    assert len(feed.folded.asks) == 11


def test_v2_smaller_depth_is_cut_when_it_is_told() -> None:
    asks = {f"{price}.0": "1.0" for price in range(100, 112)}
    feed = Feeder("kraken", V2)(book_v2({}, asks, best(asks), "snapshot"), answer(10))
    assert len(feed.book()[1]) == len(feed.folded.asks) == 10
    feed(answer(100, "unsubscribe"), {**answer(500), "success": False})
    better = {"99.0": "1.0", **asks}
    feed(book_v2({}, {"99.0": "1.0"}, best(better)))
    assert len(feed.book()[1]) == 10


@pytest.mark.parametrize("deeper_first", [True, False])
def test_v1_deeper_of_two_streams_is_the_book(deeper_first: bool) -> None:
    snapshots = [all_v1(TWELVE, "book-100"), all_v1(TWELVE[:10], "book-10")]
    feed = Feeder("kraken", V1)(*(snapshots if deeper_first else snapshots[::-1]))
    now = [("100.10000", "2.00000000"), *TWELVE[1:]]
    feed(change_v1(*now[0], now, "book-100"))
    assert len(feed.book()[1]) == len(feed.folded.asks) == 12
    feed(change_v1(*now[0], now, "book-10"), change_v1("101.20000", "5.00000000", now, "book-100"))
    assert feed.book()[1]["101.2"] == "5"
    assert feed.folded.states == []


def test_v1_shallower_stream_is_told_when_the_deeper_one_has_ended() -> None:
    feed = Feeder("kraken", V1)
    feed.play(at(0, all_v1(TWELVE, "book-100"), 0))
    feed.play(at(1, all_v1(TWELVE[:10], "book-10"), 1))
    now = TWELVE[:10]
    for second in range(2, 14):
        now = [("100.10000", f"{second}.00000000"), *now[1:]]
        feed.play(at(second, change_v1(*now[0], now, "book-10"), second))
        assert len(feed.book()[1]) == (12 if second <= 12 else 10)
    assert feed.book()[1]["100.1"] == "13"
    assert feed.folded.states == []
    # it was only slow
    now = [now[0], *TWELVE[1:]]
    feed.play(at(14, change_v1(*now[0], now, "book-100"), 14))
    assert len(feed.book()[1]) == len(feed.folded.asks) == 12


def test_v1_snapshot_that_disagrees_shows_that_the_deeper_book_is_behind() -> None:
    feed = Feeder("kraken", V1)(all_v1(TWELVE, "book-100"), all_v1(TWELVE[1:11], "book-10"))
    assert next(iter(feed.book()[1])) == "100.2"
    assert len(feed.book()[1]) == 10


def test_v1_other_stream_takes_over_when_the_checksum_disagrees_or_it_is_left() -> None:
    wrong = change_v1("100.10000", "2.00000000", TWELVE, "book-100")
    odd = v1({"a": [level("100.10000", "x")], "c": "1"}, channel="book-100")
    left = {
        "event": "subscriptionStatus", "pair": V1, "status": "unsubscribed", "channelName": "book-100",
        "subscription": {"name": "book", "depth": 100},
    }  # fmt: skip
    for frame in (wrong, odd, left):
        feed = Feeder("kraken", V1)(all_v1(TWELVE, "book-100"), all_v1(TWELVE[:10], "book-10"), frame)
        assert feed.folded.states == []
        assert len(feed.book()[1]) == len(feed.folded.asks) == 10
        now = [("100.10000", "2.00000000"), *TWELVE[1:10]]
        feed(change_v1(*now[0], now, "book-10"))
        assert feed.book()[1]["100.1"] == "2"
        # what is wrong with the other one does not matter to the book
        feed(all_v1(TWELVE, "book-100"), change_v1("100.10000", "9.00000000", TWELVE, "book-10"))
        assert len(feed.book()[1]) == 12
        assert feed.folded.states == []
    alone = Feeder("kraken", V1)(all_v1(TWELVE, "book-100"), left)
    assert len(alone.book()[1]) == 12
    assert alone.folded.states == []


def test_v2_deeper_of_two_depths_is_the_book_where_the_answers_tell_them() -> None:
    asks = {f"{price}.0": "1.0" for price in range(100, 112)}
    ten = dict(list(asks.items())[:10])
    feed = Feeder("kraken", V2)(answer(25), book_v2({}, asks, best(asks), "snapshot"))
    feed(answer(10), book_v2({}, ten, best(ten), "snapshot"))
    asks["100.0"] = "2.0"
    feed(*[book_v2({}, {"100.0": "2.0"}, best(asks))] * 2)
    assert len(feed.book()[1]) == len(feed.folded.asks) == 12
    assert feed.folded.states == []
    # one that sends ten fills the place itself; one that sends 25 does not
    del asks["105.0"]
    feed(book_v2({}, {"105.0": "0", "110.0": "1.0"}, best(asks)), book_v2({}, {"105.0": "0"}, best(asks)))
    assert len(feed.book()[1]) == 11
    assert feed.folded.states == []


def test_v2_shallower_is_told_when_nothing_comes_of_the_deeper_any_more() -> None:
    asks = {f"{price}.0": "1.0" for price in range(100, 112)}
    ten = dict(list(asks.items())[:10])
    feed = Feeder("kraken", V2)
    begin = [answer(25), book_v2({}, asks, best(asks), "snapshot"), answer(10), book_v2({}, ten, best(ten), "snapshot")]
    for second, frame in enumerate(begin):
        feed.play(msgspec.structs.replace(at(second, frame, second), key=V2))
    for second in range(4, 16):
        ten["100.0"] = f"{second}.0"
        frame = book_v2({}, {"100.0": f"{second}.0"}, best(ten))
        feed.play(msgspec.structs.replace(at(second, frame, second), key=V2))
    assert len(feed.book()[1]) == len(feed.folded.asks) == 10
    asks |= ten
    asks["111.0"] = "7.0"
    feed.play(msgspec.structs.replace(at(20, book_v2({}, {"111.0": "7.0"}, best(asks)), 20), key=V2))
    assert len(feed.book()[1]) == 12
    assert feed.folded.states == []


def test_v2_other_stream_is_told_at_once_when_the_deeper_one_is_left() -> None:
    for deeper_first in (True, False):
        feed = two_depths(deeper_first=deeper_first)
        assert prices(feed) == [*range(100, 120)]
        feed(answer(25, "unsubscribe"))
        assert prices(feed) == [*range(100, 110)]
        asks = dict(DEEP)
        for price in range(100, 110):  # the ten that are left fill themselves, and nobody tells of what lies beyond
            del asks[f"{price}.0"]
            feed(book_v2({}, {f"{price}.0": "0", f"{price + 10}.0": "1.0"}, best(asks)))
            assert prices(feed) == [*range(price + 1, price + 11)]
        assert feed.folded.states == []


def test_v2_other_stream_is_told_with_the_change_when_the_checksum_disagrees() -> None:
    # 110, the eleventh, is gone, and the frame of the deeper stream that said so was lost
    asks = {price: size for price, size in DEEP.items() if price not in ("100.0", "110.0")}
    for deeper_first in (True, False):
        feed = two_depths(deeper_first=deeper_first)
        feed(book_v2({}, {"100.0": "0", "111.0": "1.0"}, best(asks)))
        assert prices(feed) == [*range(101, 110), 111]
        assert feed.played.said[-1].ts_event is not None  # type: ignore[union-attr]  # of an update
        feed(book_v2({}, {"101.0": "7.0"}, best(asks | {"101.0": "7.0"})))
        assert feed.book()[1]["101"] == "7"
        assert feed.folded.states == []
        # and when both disagree, the book is stale, once
        feed(book_v2({}, {"101.0": "8.0"}, 1))
        assert [(state.state, state.reason) for state in feed.folded.states] == [("stale", "checksum")]
        # a snapshot of either begins anew
        feed(book_v2({}, SHALLOW, best(SHALLOW), "snapshot"))
        assert prices(feed) == [*range(100, 110)]
        assert feed.folded.states[-1].state == "ok"


def test_v2_snapshot_of_the_deeper_stream_that_disagrees_leaves_the_other_one() -> None:
    for deeper_first in (True, False):
        feed = two_depths(deeper_first=deeper_first)(book_v2({}, DEEP, 1, "snapshot"))
        assert prices(feed) == [*range(100, 110)]
        assert feed.folded.states == []
    feed = Feeder("kraken", V2)(answer(10), book_v2({}, SHALLOW, best(DEEP), "snapshot"), answer(25))
    assert prices(feed(book_v2({}, DEEP, 1, "snapshot"))) == [*range(100, 110)]
    assert feed.folded.states == []


def test_v2_deeper_stream_that_deletes_does_not_end_the_other_one() -> None:
    """Of ten levels nine are left, until the stream that sends ten fills the place."""
    asks = dict(DEEP)
    for deeper_first in (True, False):
        feed = two_depths(deeper_first=deeper_first)
        asks = {price: size for price, size in DEEP.items() if price != "105.0"}
        feed(book_v2({}, {"105.0": "0"}, best(asks)), book_v2({}, {"105.0": "0", "110.0": "1.0"}, best(asks)))
        assert prices(feed) == [*range(100, 105), *range(106, 120)]
        # then it is silent, and the other one is told as the one that is alive
        for size in (2, 3):
            asks["100.0"] = f"{size}.0"
            feed.wait(11)(book_v2({}, {"100.0": f"{size}.0"}, best(asks)))
        assert prices(feed) == [*range(100, 105), *range(106, 111)]
        feed(answer(25, "unsubscribe"))
        assert prices(feed) == [*range(100, 105), *range(106, 111)]
        assert feed.folded.states == []


def test_v2_book_whose_stream_is_left_is_cut_where_the_other_ones_book_was_lost() -> None:
    feed = Feeder("kraken", V2)(answer(10), book_v2({}, DEEP, best(DEEP), "snapshot"), answer(25))
    assert prices(feed) == [*range(100, 120)]
    assert prices(feed(answer(25, "unsubscribe"))) == [*range(100, 110)]
    assert feed.folded.states == []


def test_a_deeper_stream_that_was_behind_is_not_told_when_the_other_one_is_lost() -> None:
    feed = Feeder("kraken", V1)
    feed.play(at(0, all_v1(TWELVE, "book-100"), 0))
    feed.play(at(1, all_v1(TWELVE[:10], "book-10"), 1))
    now = TWELVE[:10]
    for second in range(2, 14):
        now = [("100.10000", f"{second}.00000000"), *now[1:]]
        feed.play(at(second, change_v1(*now[0], now, "book-10"), second))
    assert len(feed.book()[1]) == 10
    feed.play(at(14, change_v1("100.10000", "20.00000000", TWELVE, "book-10"), 14))
    assert feed.book()[1]["100.1"] == "13"
    assert [(state.state, state.reason) for state in feed.folded.states] == [("stale", "checksum")]
    feed.play(at(15, all_v1(TWELVE, "book-100"), 15))
    assert len(feed.book()[1]) == 12
    assert feed.folded.states[-1].state == "ok"
