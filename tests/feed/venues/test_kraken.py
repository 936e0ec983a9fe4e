"""Kraken v1 and v2: checksums, the cut to the depth, history, and what its answers tell."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feed.venues import kraken, kraken_book
from feed.venues.symbol import Tick
from feed.wire.model import Instrument, Quote, Status, Trade
from tests.feed.venues.playing import Feeder, captured, doubts, numbered, play, ticks, without_doubts

V1, V2 = "XBT/USD", "BTC/USD"
BOOK_V1, BOOK_V2 = "kraken/v1_5pairs_20210417.book", "kraken/v2_btcusd_d10_20260705"
ISO = "2026-07-05T10:37:39.090964Z"
BEGIN = 1_700_000_000
encode = msgspec.json.encode


def v1(*payloads: Any, channel: str = "book-10", pair: str = V1) -> list[Any]:
    return [336, *payloads, channel, pair]


def crc(asks: list[tuple[str, str]], bids: list[tuple[str, str]]) -> int:
    """The venue's own words: without the point and leading zeros, asks then bids, price then volume."""
    digits = [number.replace(".", "").lstrip("0") for level in [*asks[:10], *bids[:10]] for number in level]
    return zlib.crc32("".join(digits).encode())


def level(price: str, size: str) -> list[str]:
    return [price, size, "1618678142.557535"]


def v2(channel: str, *data: dict[str, Any], type_: str = "update") -> bytes:
    """An object whose numbers are written as the texts that stand for them."""
    text = encode({"channel": channel, "type": type_, "data": data})
    return text.replace(b'"#', b"").replace(b'#"', b"")


def raw(number: str) -> str:
    return f"#{number}#"


def book_v2(bids: dict[str, str], asks: dict[str, str], checksum: int, type_: str = "update") -> bytes:
    sides = {
        side: [{"price": raw(price), "qty": raw(size)} for price, size in levels.items()]
        for side, levels in (("bids", bids), ("asks", asks))
    }
    return v2("book", {"symbol": V2, **sides, "checksum": checksum, "timestamp": ISO}, type_=type_)


def test_v1_book() -> None:
    asks, bids = [("5541.30000", "2.50700000")], [("5541.20000", "1.52900000")]
    feed = Feeder("kraken", V1)(v1({"as": [level(*asks[0])], "bs": [level(*bids[0])]}))
    assert feed.book() == ({"5541.2": "1.529"}, {"5541.3": "2.507"})
    asks.append(("5542.00000", "0.10000000"))
    feed(v1({"a": [level(*asks[1])], "c": str(crc(asks, bids))}))
    # two objects in one frame are one update
    feed(
        v1(
            {"a": [level("5541.30000", "0.00000000")]},
            {"b": [level("5541.20000", "2.00000000")], "c": str(crc(asks[1:], [("5541.20000", "2.00000000")]))},
        )
    )
    assert feed.book() == ({"5541.2": "2"}, {"5542": "0.1"})
    assert feed.folded.updates["book"] == 3
    assert feed.folded.states == []
    assert feed.played.source.keyframe(V1)[0].ts_event == "1618678142557535000"  # type: ignore[union-attr]


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


def test_v2_depth_is_told_by_the_answer() -> None:
    bids = {f"{price}.0": "1" for price in range(20, 10, -1)}
    snapshot = book_v2(bids, {}, crc([], list(bids.items())), "snapshot")
    more = book_v2({"10.0": "1"}, {}, crc([], list(bids.items())))
    for told, wanted in ((10, 10), (25, 11)):
        for frames in ((answer(told), snapshot, more), (snapshot, answer(told), more)):
            assert len(Feeder("kraken", V2)(*frames).book()[0]) == wanted
    # a level told beyond the tenth says so, too
    assert len(Feeder("kraken", V2)(snapshot, more).book()[0]) == 11


def best(asks: dict[str, str], bids: dict[str, str] | None = None) -> int:
    """The checksum of a book."""
    return crc(
        sorted(asks.items(), key=lambda level: float(level[0])),
        sorted((bids or {}).items(), key=lambda level: -float(level[0])),
    )


def answer(depth: int, method: str = "subscribe", **more: Any) -> dict[str, Any]:
    return {"method": method, "success": True, "result": {"channel": "book", "symbol": V2, "depth": depth}, **more}


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


TWELVE = [(f"100.{tenth}0000", "1.00000000") for tenth in range(1, 10)] + [
    (f"101.{tenth}0000", "1.00000000") for tenth in range(3)
]
BID = [("99.00000", "1.00000000")]


def all_v1(asks: list[tuple[str, str]], channel: str) -> list[Any]:
    return v1({"as": [level(*ask) for ask in asks], "bs": [level(*BID[0])]}, channel=channel)


def change_v1(price: str, size: str, now: list[tuple[str, str]], channel: str) -> list[Any]:
    return v1({"a": [level(price, size)], "c": str(crc(now, BID))}, channel=channel)


def at(second: int, frame: Any, seq: int) -> Tick:
    value = frame if isinstance(frame, bytes) else encode(frame)
    return Tick(seq, V1, value, (BEGIN + second) * 10**9, (BEGIN + second) * 10**9)


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


DEEP = {f"{price}.0": "1.0" for price in range(100, 120)}
SHALLOW = dict(list(DEEP.items())[:10])


def two_depths(*, deeper_first: bool = True) -> Feeder:
    """A pair whose answers told 25 and 10, and a snapshot of each."""
    begin = [book_v2({}, DEEP, best(DEEP), "snapshot"), book_v2({}, SHALLOW, best(DEEP), "snapshot")]
    told = [[answer(25), begin[0]], [answer(10), begin[1]]]
    return Feeder("kraken", V2)(*(frame for each in (told if deeper_first else told[::-1]) for frame in each))


def prices(feed: Feeder) -> list[int]:
    """Of the asks, best first; what clients were told is what a snapshot holds."""
    found = [int(price) for price in feed.book()[1]]
    assert sorted(feed.folded.asks) == found
    return found


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


@pytest.mark.parametrize("depth", [7, 10**30])
def test_v2_answer_with_a_depth_that_there_is_not_is_odd(depth: int) -> None:
    feed = two_depths()(answer(depth))
    assert len(feed.played.bad) == 1
    feed(book_v2({}, DEEP, best(DEEP), "snapshot"), book_v2({}, {"99.0": "1.0"}, best({"99.0": "1.0"} | DEEP)))
    assert prices(feed) == [*range(99, 120)]


def test_v1_trades_from_before_the_subscription_are_history() -> None:
    subscribed = {"event": "subscriptionStatus", "pair": V1, "status": "subscribed", "subscription": {"name": "trade"}}

    def sent(*times: int) -> list[Any]:
        return v1([["10.50", "2.0", f"{BEGIN + time}.5", "s", "l", ""] for time in times], channel="trade")

    def half(*seconds: int) -> list[str]:
        return [f"{BEGIN + second}500000000" for second in seconds]

    feed = Feeder("kraken", V1)
    feed.play(at(100, subscribed, 0))
    feed.play(at(101, sent(97, 98, 99), 1))
    assert feed.folded.trades == []
    assert [trade.ts_event for trade in feed.played.snapshot(V1, "trades")] == half(97, 98, 99)
    feed.play(at(103, sent(102), 2))
    feed.play(at(104, sent(99, 103), 3))
    assert [trade.ts_event for trade in feed.folded.trades] == half(102, 99, 103)
    assert feed.folded.trades[0] == Trade("10.5", "2", "sell", None, half(102)[0])
    assert feed.folded.gaps == []
    # a second subscription: trades may have been missed
    feed.play(at(200, subscribed, 4))
    feed.play(at(201, sent(150, 200), 5))
    assert [trade.ts_event for trade in feed.folded.trades[3:]] == half(200)
    assert [gap.reason for gap in feed.folded.gaps] == ["venue"]


def test_v1_trades_are_not_taken_beside_those_of_v2() -> None:
    own = v2("trade", trade_v2(3, V1))
    copy = v1([["10.50", "2.0", "1783247859.090964", "b", "l", ""]], channel="trade")
    feed = Feeder("kraken", V1)(copy, own, copy, v2("trade", trade_v2(4, V1)))
    assert [trade.trade_id for trade in feed.folded.trades] == [None, "3", "4"]


def trade_v2(number: int, symbol: str = V2) -> dict[str, Any]:
    numbers = {"price": raw("10.50"), "qty": raw("2"), "trade_id": number}
    return {"symbol": symbol, "side": "buy", **numbers, "ord_type": "limit", "timestamp": ISO}


def test_v2_trades() -> None:
    feed = Feeder("kraken", V2)(v2("trade", trade_v2(1), trade_v2(2), type_="snapshot"))
    assert feed.folded.trades == []
    assert [trade.trade_id for trade in feed.played.snapshot(V2, "trades")] == ["1", "2"]
    feed(v2("trade", trade_v2(3), trade_v2(9, "ETH/USD"), trade_v2(4)), v2("trade", trade_v2(4)))
    assert [trade.trade_id for trade in feed.folded.trades] == ["3", "4"]
    assert feed.folded.trades[0] == Trade("10.5", "2", "buy", "3", "1783247859090964000")
    assert feed.folded.gaps == []
    feed(v2("trade", trade_v2(6)))
    assert len(feed.folded.gaps) == 1
    feed(v2("trade", trade_v2(6), trade_v2(8), type_="snapshot"), v2("trade", trade_v2(9)))
    assert [trade.trade_id for trade in feed.folded.trades] == ["3", "4", "6", "9"]
    assert len(feed.folded.gaps) == 2  # 7 and 8 were only told as history


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


def pairs(*entries: dict[str, Any], type_: str = "update") -> bytes:
    text = encode({"channel": "instrument", "type": type_, "data": {"assets": [], "pairs": entries}})
    return text.replace(b'"#', b"").replace(b'#"', b"")


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


def test_what_stands_at_another_pair_does_not_matter() -> None:
    feed = Feeder("kraken", V2)(
        v2("trade", {**trade_v2(1, "ETH/USD"), "side": "odd"}, trade_v2(1)),
        pairs({"symbol": "X/Y", "price_precision": 99}, {"symbol": V2, "status": "online"}),
        v2("ticker", {"symbol": "X/Y", "bid": raw("1"), "timestamp": 5}, {"symbol": V2, "bid": raw("1")}),
    )
    assert feed.played.bad == []
    assert [trade.trade_id for trade in feed.folded.trades] == ["1"]
    assert feed.played.snapshot(V2, "status") == Status("trading", None)
    assert feed.folded.quotes == [(Quote("1", None, None, None), None)]


@pytest.mark.parametrize(
    "frame",
    [
        {"event": "heartbeat"},
        {"event": "pong", "reqid": 1},
        {"event": "error", "errorMessage": "no"},
        {
            "event": "subscriptionStatus",
            "status": "error",
            "pair": V1,
            "errorMessage": "no",
            "subscription": {"name": "book"},
        },
        {"channel": "heartbeat"},
        {"method": "pong", "time_in": ISO, "time_out": ISO},
        {"method": "subscribe", "success": False, "error": "Currency pair not supported", "symbol": "A/B"},
        {"error": "Unknown", "method": "x", "success": False},
        v1([["1.0", "2.0", "1783247859.1", "1.0", "2.0"]], channel="spread"),
        v1(["1542057314.748456", "1542057360.435743", "3586.7", "3586.7", "1", "1", "1", "1", 2], channel="ohlc-5"),
        [[{"OID": {"status": "open"}}], "openOrders", {"sequence": 1}],
        [[{"TID": {"pair": V1}}], "ownTrades", {"sequence": 1}],
        {"channel": "ohlc", "type": "snapshot", "data": [{"symbol": V1, "open": 1.0}]},
        {"channel": "level3", "type": "update", "data": [{"symbol": V1, "bids": [{"event": "add"}]}]},
        {"channel": "executions", "type": "snapshot", "data": [{"order_id": "x"}], "sequence": 1},
        {"channel": "balances", "type": "snapshot", "data": [{"asset": "USD"}], "sequence": 1},
        {"channel": "something", "type": "update", "data": {"new": 1}},
        {"channel": "instrument", "type": "update", "data": {"assets": [{"id": "USD"}], "pairs": []}},
    ],
)
@pytest.mark.parametrize("key", [V1, ""])
def test_frames_of_other_kinds_mean_nothing(frame: Any, key: str) -> None:
    feed = Feeder("kraken", key)(frame)
    assert feed.played.bad == []
    assert feed.played.symbols == {}
    kraken.keys(encode(frame))


def test_times_that_the_venue_does_not_know_are_null() -> None:
    feed = Feeder("kraken", V2)(
        v2("trade", {**trade_v2(1), "timestamp": None}), v2("trade", {**trade_v2(2), "timestamp": ""})
    )
    assert [trade.ts_event for trade in feed.folded.trades] == [None, None]
    old = Feeder("kraken", V1)(v1([["10.50", "2.0", "0.0000", "s", "l", ""]], channel="trade"))
    old(v1({"as": [["2.0", "2.0", "0.0"]], "bs": []}))
    assert old.folded.trades[0].ts_event is None
    assert old.played.source.keyframe(V1)[1].ts_event is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (v1({}, channel="book-10"), [V1]),
        (v1({}, {}, channel="ticker", pair="A/B"), ["A/B"]),
        ({"event": "subscriptionStatus", "pair": V1, "status": "subscribed"}, [V1]),
        ({"event": "subscriptionStatus", "pair": V1, "status": "error"}, []),
        ({"event": "heartbeat"}, []),
        ({"channel": "heartbeat"}, []),
        ({"channel": "trade", "data": [{"symbol": "A/B"}, {"symbol": V2}, {"symbol": "A/B"}]}, ["A/B", V2]),
        ({"channel": "instrument", "data": {"assets": [], "pairs": [{"symbol": V2}]}}, [V2]),
        ({"method": "subscribe", "result": {"symbol": V2, "channel": "book"}}, [V2]),
        ({"method": "pong"}, []),
        ({"error": "Currency pair not supported", "method": "subscribe"}, []),
    ],
)
def test_keys(frame: Any, wanted: list[str]) -> None:
    assert kraken.keys(encode(frame)) == wanted
    assert kraken.venue_status(encode(frame)) is None


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        ({"event": "systemStatus", "status": "online"}, ("trading", None)),
        ({"event": "systemStatus", "status": "maintenance"}, ("halt", "maintenance")),
        ({"channel": "status", "type": "update", "data": [{"system": "post_only"}]}, ("pre-open", "post_only")),
        ({"channel": "status", "type": "update", "data": [{"system": "odd"}]}, ("unknown", "odd")),
        ({"event": "systemStatus", "version": "1.9.0"}, None),
        ({"event": "systemStatus", "status": ""}, None),
        ({"channel": "status", "type": "update", "data": [{"version": "2.0.0"}]}, None),
        ({"channel": "status", "data": [{"system": "maintenance"}, {"version": "2"}]}, ("halt", "maintenance")),
        ({"event": "heartbeat"}, None),
        ({"channel": "heartbeat"}, None),
    ],
)
def test_wide(frame: Any, wanted: Any) -> None:
    assert kraken.venue_status(encode(frame)) == wanted


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (v1({"a": [level("1.0", "-1.0")], "c": "1"}), ["book"]),
        (v1({"a": [["1.0", "1.0"]], "c": "1"}), ["book"]),
        (v1({"a": [level("1e5", "1.0")], "c": "1"}), ["book"]),
        (v1({"a": [level("0.0", "1.0")], "c": "1"}), ["book"]),
        (v1({"a": [level("1.0", "1.0")], "c": "x"}), ["book"]),
        (v1({"a": [["1.0", "1.0", "yesterday"]], "c": "1"}), ["book"]),
        (v1({"a": [["1.0", "1.0", "1618678142557"]], "c": "1"}), ["book"]),
        (v1({"a": [level("1.0", "1.0")], "c": "1"}, channel="book-x"), []),
        (v1({"a": [level("1.0", "1.0")], "c": "1"}, pair="A/B"), ["book"]),
        (v1([["1.0", "1.0", "5.5", "x", "l", ""]], channel="trade"), ["trades"]),
        (v1([["1.0", "1.0"]], channel="trade"), ["trades"]),
        (v1({"a": ["1", 1], "b": ["1", 1, "1"]}, channel="ticker"), []),
        ([1, 2, 3], ["book", "trades"]),
        ({"foo": 1}, ["book", "trades"]),
        (v2("trade", {**trade_v2(1, V1), "side": "odd"}), ["trades"]),
        (v2("ticker", {"symbol": V1, "bid": raw("-1")}), []),
        (v2("trade", trade_v2(1, V1), {**trade_v2(1), "symbol": 5}), ["trades"]),
        (v2("trade", trade_v2(1, V1), {"side": "buy"}), ["trades"]),
    ],
)
def test_odd_entry_is_refused_and_only_puts_its_channel_in_doubt(frame: Any, wanted: list[str]) -> None:
    feed = Feeder("kraken", V1)(v1({"as": [level("2.0", "2.0")], "bs": [level("1.0", "2.0")]}))
    before = without_doubts(feed.played.source, V1)
    feed(frame)
    assert len(feed.played.bad) == 1
    after = without_doubts(feed.played.source, V1)
    for state in (before, after):
        state[1].pop("machine")
    assert after == before
    assert doubts(feed.played.source, V1) == wanted


@pytest.mark.parametrize("number", ["1e5", "-1", "NaN", "true", '"1.0"', "null", "[1]", "1E-7"])
def test_v2_numbers_are_plain_numbers(number: str) -> None:
    feed = Feeder("kraken", V2)(book_v2({"1.0": "1"}, {}, crc([], [("1.0", "1")]), "snapshot"))
    feed(book_v2({"2.0": number}, {}, 1), v2("trade", {**trade_v2(1), "qty": raw(number)}))
    assert len(feed.played.bad) == 2
    # where the frame cannot be read at all ("NaN"), its channel is legible
    assert [state.reason for state in feed.folded.states] == ["gap"]
    assert doubts(feed.played.source, V2) == ["book", "trades"]


ODD_SNAPSHOTS = [
    (V1, v1({"as": [level("100.0", "1.0")]})),
    (V1, v1({"as": [level("100.0", "1.0")], "bs": None})),
    (V2, v2("book", {"symbol": V2, "asks": []}, type_="snapshot")),
    (V2, v2("book", {"symbol": V2, "bids": []}, type_="snapshot")),
    (V2, v2("book", {"symbol": V2, "bids": [], "asks": []}, type_="")),
    (V2, v2("book", {"symbol": V2, "bids": [], "asks": []}, type_="partial")),
]


@pytest.mark.parametrize(("pair", "frame"), ODD_SNAPSHOTS)
def test_side_or_type_of_a_book_that_is_left_out_is_not_an_empty_one(pair: str, frame: Any) -> None:
    whole = {
        V1: v1({"as": [level("100.0", "1.0")], "bs": [level("99.0", "1.0")]}),
        V2: book_v2({"99.0": "1.0"}, {"100.0": "1.0"}, best({"100.0": "1.0"}, {"99.0": "1.0"}), "snapshot"),
    }[pair]
    feed = Feeder("kraken", pair)(whole, frame if isinstance(frame, bytes) else encode(frame))
    assert len(feed.played.bad) == 1
    assert feed.book() == ({"99": "1"}, {"100": "1"})
    assert [state.state for state in feed.folded.states] == ["stale"]


def test_v2_trades_without_a_type_are_odd() -> None:
    feed = Feeder("kraken", V2)(v2("trade", trade_v2(1)), v2("trade", trade_v2(2), type_=""), v2("trade", trade_v2(3)))
    assert [trade.trade_id for trade in feed.folded.trades] == ["1", "3"]
    assert len(feed.folded.gaps) == 1


def test_words_that_are_empty_say_nothing() -> None:
    pair = {"symbol": V2, "base": "", "quote": "USD", "status": ""}
    feed = Feeder("kraken", V2)({"channel": "instrument", "type": "snapshot", "data": {"pairs": [pair]}})
    assert feed.played.snapshot(V2, "instruments") == Instrument("kraken", V2, "spot", None, "USD", None, None, [])
    assert feed.played.snapshot(V2, "status") is None
