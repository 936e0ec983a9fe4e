"""A Kraken book: checksums, and the cut to the depth."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from feed.venues import kraken_book
from feed.venues.kraken_book import BookChange, StreamBook, ask, bid, smallest_depth
from tests.feed.venues.kraken_examples import BOOK_V1, BOOK_V2, V1, V2, best, book_v2, crc, level, v1
from tests.feed.venues.playing import Feeder, captured, numbered, play, ticks


def test_sides_are_cut_to_the_depth_of_the_channel() -> None:
    asks = [(f"{price}.0", "1.0") for price in range(100, 110)]
    feed = Feeder("kraken", V1)(v1({"as": [level(*ask) for ask in asks], "bs": []}))
    better = [("99.0", "1.0"), *asks]
    feed(v1({"a": [level("99.0", "1.0")], "c": str(crc(better, []))}))
    assert list(feed.book()[1]) == ["99", *(str(price) for price in range(100, 109))]
    assert len(feed.folded.asks) == 10  # the cut went out as a delete
    # the venue fills the place of a deleted level itself
    feed(
        v1(
            {
                "a": [level("99.0", "0.0"), [*level("109.0", "2.0"), "r"]],
                "c": str(crc([*asks[:9], ("109.0", "2.0")], [])),
            }
        )
    )
    assert feed.book()[1]["109"] == "2"
    assert feed.folded.states == []


@pytest.mark.parametrize("name", [BOOK_V1, BOOK_V2])
def test_wrong_checksum_makes_the_book_stale_until_the_next_snapshot(data_dir: Path, name: str) -> None:
    all_ticks = ticks(name, captured(data_dir, name))
    key = next(tick.key for tick in all_ticks if tick.key and b"subscriptionStatus" not in tick.value)
    mine = [i for i, tick in enumerate(all_ticks) if tick.key == key and b"subscriptionStatus" not in tick.value]
    snapshot, bad = mine[0], mine[5]
    good = all_ticks[bad]
    spoiled = re.sub(rb'("c":"|checksum":)[0-9]+', rb"\g<1>1", good.value)
    assert spoiled != good.value
    again = [*all_ticks[:bad], msgspec.structs.replace(good, value=spoiled), *all_ticks[bad + 1 :]]
    played = play(name, numbered(again))
    assert [(state.state, state.reason, state.seq) for state in played.symbols[key].states] == [
        ("stale", "checksum", bad)
    ]
    assert played.symbols[key].updates["book"] == 5  # what cannot be trusted is not told
    for other, folded in played.symbols.items():
        assert other == key or folded.states == []
    # a new connection: everything again, and the book is what it would have been
    whole = play(name, all_ticks)
    played.play(msgspec.structs.replace(tick, seq=len(again) + i) for i, tick in enumerate(all_ticks) if i >= snapshot)
    assert [state.state for state in played.symbols[key].states] == ["stale", "ok"]
    assert played.symbols[key].sides() == whole.symbols[key].sides()


def test_left_out_update_is_seen_by_the_checksum(data_dir: Path) -> None:
    all_ticks = ticks(BOOK_V2, captured(data_dir, BOOK_V2))
    played = play(BOOK_V2, numbered(all_ticks[:3] + all_ticks[4:]))
    assert [state.reason for state in played.symbols[V2].states] == ["checksum"]


def test_v2_digits_count_as_they_were_sent() -> None:
    feed = Feeder("kraken", V2)
    bids, asks = {"62622.30": "0.00923840"}, {"62627.0": "5"}
    feed(book_v2(bids, asks, crc(list(asks.items()), list(bids.items())), "snapshot"))
    assert feed.book() == ({"62622.3": "0.0092384"}, {"62627": "5"})
    assert feed.folded.states == []
    feed(book_v2({}, {"62627.00": "6.0"}, crc([("62627.00", "6.0")], list(bids.items()))))
    assert feed.book()[1] == {"62627": "6"}
    feed(book_v2({}, {"62627.0": "7.0"}, crc([("62627", "7")], list(bids.items()))))
    assert [state.reason for state in feed.folded.states] == ["checksum"]


def test_v2_snapshot_with_a_wrong_checksum_is_no_book() -> None:
    feed = Feeder("kraken", V2)(book_v2({"1.0": "1"}, {}, 5, "snapshot"), book_v2({"2.0": "1"}, {}, 5))
    assert feed.book() is None
    feed(book_v2({"1.0": "1"}, {}, crc([], [("1.0", "1")]), "snapshot"))
    assert feed.book() == ({"1": "1"}, {})
    feed(book_v2({"1.0": "1"}, {}, 5, "snapshot"))
    # the change after the first one had no book to go on from
    assert [(state.state, state.reason) for state in feed.folded.states] == [
        ("stale", "gap"),
        ("ok", None),
        ("stale", "checksum"),
    ]


def test_v2_levels_cut_on_a_guess_come_back_when_the_checksum_needs_them() -> None:
    """Nine levels may be any depth. What is pushed beyond the tenth place is cut, and was good if the depth was 25."""
    asks = {f"{price}.0": "1.0" for price in range(101, 110)}
    feed = Feeder("kraken", V2)(book_v2({}, asks, best(asks), "snapshot"))
    for price in ("100.0", "99.0"):  # the eleventh, 109, is cut
        asks[price] = "1.0"
        feed(book_v2({}, {price: "1.0"}, best(asks)))
    assert list(feed.book()[1]) == [str(price) for price in range(99, 109)]
    assert 109 not in feed.folded.asks
    for price in ("99.0", "100.0"):  # a venue that sends ten levels would tell of another one now
        del asks[price]
        feed(book_v2({}, {price: "0"}, best(asks)))
    assert list(feed.book()[1]) == [str(price) for price in range(101, 110)]
    assert feed.folded.asks[109] == "1"
    assert feed.folded.states == []


def test_v2_levels_cut_on_a_guess_stay_away_when_the_venue_replaces_them() -> None:
    asks = {f"{price}.0": "1.0" for price in range(101, 111)}
    feed = Feeder("kraken", V2)(book_v2({}, asks, best(asks), "snapshot"))
    ten = {"100.0": "1.0", **{price: size for price, size in asks.items() if price != "110.0"}}
    feed(book_v2({}, {"100.0": "1.0"}, best(ten)))
    # 110 went away unseen: the place is filled by another one, before the better one as the venue tells them
    del ten["100.0"]
    ten["111.0"] = "2.0"
    feed(book_v2({}, {"100.0": "0", "111.0": "2.0"}, best(ten)))
    assert list(feed.book()[1]) == [*(str(price) for price in range(101, 110)), "111"]
    assert feed.folded.states == []


def test_levels_cut_on_a_guess_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kraken_book, "_CUT_LEVELS_MAX", 3)
    asks = {f"{price}.0": "1.0" for price in range(1001, 1011)}
    feed = Feeder("kraken", V2)(book_v2({}, asks, best(asks), "snapshot"))
    for price in range(1000, 900, -1):
        asks[f"{price}.0"] = "1.0"
        feed(book_v2({}, {f"{price}.0": "1.0"}, best(asks)))
    [book] = msgspec.json.decode(feed.played.source.checkpoint(V2))["machine"]["books"]
    assert (len(book["asks"]), len(book["cut_asks"])) == (10, 3)


def changed(bids: dict[str, str], asks: dict[str, str], *, snapshot: bool = False) -> BookChange:
    return BookChange(
        snapshot, [bid(level) for level in bids.items()], [ask(level) for level in asks.items()], None, None
    )


def test_a_shallower_book_becomes_the_best_of_a_deeper_one() -> None:
    deeper, beside = StreamBook(25, depth_known=True), StreamBook(10, depth_known=True)
    levels = {f"{price}.0": "1.0" for price in range(100, 112)}
    deeper.apply(changed({"9": "1"}, levels, snapshot=True))
    beside.apply(changed({"8": "1"}, {}, snapshot=True))
    assert not deeper.agrees(beside)
    beside.copy_best(deeper)
    assert deeper.agrees(beside)
    assert beside.texts() == ({"9": "1"}, {str(price): "1" for price in range(100, 110)})
    assert (len(deeper), len(beside)) == (12, 10)


def test_a_level_beyond_the_depth_shows_a_deeper_stream() -> None:
    book = StreamBook(10, depth_known=True)
    book.apply(changed({}, {f"{price}.0": "1.0" for price in range(100, 110)}, snapshot=True))
    late = changed({}, {"110.0": "1.0"})
    assert book.apply(late) == ([], [("110", "0")])
    assert book.deeper_spoke
    assert book.apply(late) == ([], [("110", "0")])
    assert not book.deeper_spoke, "it was sent twice"


def test_a_saved_book_goes_on_as_it_was() -> None:
    book = StreamBook(10, depth_known=False)
    book.apply(changed({"9": "1"}, {f"{price}.0": "1.0" for price in range(100, 110)}, snapshot=True))
    book.apply(changed({}, {"99.0": "1.0"}))
    saved = book.save("v2")
    assert saved.cut_asks == [("109.0", "1.0")]
    again = StreamBook.load(saved)
    assert again.save("v2") == saved
    assert again.set_depth(25) == book.set_depth(25) == ([], [("109", "1")])


def test_the_smallest_depth_that_holds_so_many() -> None:
    assert [smallest_depth(levels) for levels in (0, 10, 11, 1000, 1001)] == [10, 10, 25, 1000, 1001]
