"""Binance spot: consecutive update ids, and no partial books."""

from __future__ import annotations

from typing import Any

import pytest

from tests.feed.venues.binance_examples import NAME, ODD_IDS, combined, futures, spot
from tests.feed.venues.playing import Feeder


def test_spot_bridge() -> None:
    feed = futures("binance")
    feed(spot(90, 99, [["1", "9"]]), spot(100, 110, [["10", "1.5"]]))
    feed.rest(105, [["10", "7"], ["8", "1"]], [["11", "2"]])
    assert feed.book() == ({"10": "1.5", "8": "1"}, {"11": "2"})
    feed(spot(111, 112, [["8", "0"]]), spot(113, 113, [], [["11", "1"]]))
    assert feed.book() == ({"10": "1.5"}, {"11": "1"})
    assert feed.folded.states == []


def test_partial_books_of_spot_mean_nothing() -> None:
    partial = {"lastUpdateId": 160, "bids": [["1", "10"]], "asks": [["2", "100"]]}
    feed = futures("binance")(partial, combined("depth5", partial), combined("depth20@100ms", partial))
    assert feed.played.bad == []
    assert feed.book() is None


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
