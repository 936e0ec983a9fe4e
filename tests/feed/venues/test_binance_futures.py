"""Binance futures: diffs that name the one before, and partial books."""

from __future__ import annotations

import pytest

from tests.feed.venues.binance_examples import MS, NAME, diffs, future, futures
from tests.feed.venues.playing import Feeder


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


def test_futures_diff_that_does_not_follow_the_one_before_is_a_hole() -> None:
    feed = futures().rest(100, [["1", "1"]], [])(*diffs("", 110), future(118, 120, 115, [["2", "1"]]))
    assert [state.reason for state in feed.folded.states] == ["gap"]
    assert feed.book() == ({"110": "1", "1": "1"}, {})


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
