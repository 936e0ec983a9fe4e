"""A Binance book: diffs, the snapshots that they are bridged to, and what waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.venues import binance_book
from feed.venues.binance_frames import DepthSnapshot
from feed.venues.binance_spot import SpotDiff, SpotDiffs, SpotHead
from feed.venues.bulk_levels import CanonicalBook
from feed.venues.symbol import Tick
from feed.wire.model import Book
from tests.feed.venues.alone import Alone
from tests.feed.venues.binance_examples import MS, NAME, ODD_IDS, diffs, encode, future, futures, spot
from tests.feed.venues.playing import T0, Feeder, captured, numbered, play, ticks


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


def canonical(symbol: Alone, first: int, last: int, **more: Any) -> tuple[Any, CanonicalBook]:
    head = SpotHead(s="X", U=first, u=last, time=MS, **more)
    return head, CanonicalBook(b'{"bids":[["%d","1"]],"asks":[]}' % last, 1)


def test_a_diff_as_json_is_taken_only_as_the_next_one_of_a_live_book() -> None:
    alone = Alone()
    diffs = SpotDiffs(alone.symbol, lambda: None)
    assert not diffs.apply_canonical(*canonical(alone, 1, 2), 0), "there is no book"
    diffs.apply_snapshot(DepthSnapshot(10, [], []), 0)
    alone.messages()
    assert not diffs.apply_canonical(*canonical(alone, 12, 13), 0), "a hole"
    assert not diffs.apply_canonical(*canonical(alone, 9, 10), 0), "old"
    odd = SpotHead(s="X", U=11, u=12, time=1)
    assert not diffs.apply_canonical(odd, CanonicalBook(b"{}", 0), 0), "an odd time"
    assert diffs.save().book == 10
    assert alone.messages() == []
    assert diffs.apply_canonical(*canonical(alone, 11, 12), 0)
    assert alone.book() == ({"12": "1"}, {})
    assert diffs.save().book == 12
    alone.symbol.book_stale("checksum")
    assert not diffs.apply_canonical(*canonical(alone, 13, 14), 0)


def test_where_update_ids_begin_anew_all_that_counts_by_them_is_told() -> None:
    alone = Alone()
    anew: list[int] = []
    diffs = SpotDiffs(alone.symbol, lambda: anew.append(1))
    diffs.apply_snapshot(DepthSnapshot(1000, [("1", "1")], [], E=MS), 0)
    alone.messages()
    diffs.apply(SpotDiff(s="X", U=1, u=5, b=[("2", "1")], a=[], time=MS + 2000), 0)
    assert (anew, alone.said()) == ([1], [("State", "stale", "gap")])
    diffs.apply_snapshot(DepthSnapshot(4, [], [], E=MS + 2000), 0)
    assert alone.book() == ({"2": "1"}, {}), "the diff that waited is bridged"
    diffs.apply_snapshot(DepthSnapshot(1, [], [], E=MS + 100_000), 0)
    assert (anew, alone.book()) == ([1, 1], ({}, {})), "a snapshot alone shows it a minute later"
