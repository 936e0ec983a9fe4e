"""All symbols of a source: which one a tick is for, the clock, what is refused, and restoring."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from feed.errors import BadTick, CorruptLog, SchemaAway, Unforeseen
from feed.venues.bars import BarRules
from feed.venues.now import ALL
from feed.venues.source import Checkpoint, Source
from feed.venues.table import venue
from feed.venues.tick import NEVER_WRITTEN, NO_TIME, Rules, Tick
from feed.wire.model import Snapshot, State, Update
from tests.feed.venues.playing import T0

SECOND = 1_000_000_000
encode = msgspec.json.encode


def source(name: str = "v", **rules: Any) -> Source:
    return Source(venue(name), f"{name}/0@a", Rules(**rules))


def tick(seq: int, key: str, channel: str = "status", data: Any = None, **more: Any) -> Tick:
    frame = encode({"channel": channel, "data": data or {"action": "trading", "reason": None}, **more})
    return Tick(seq, key, frame, T0 + seq * SECOND, T0 + seq * SECOND)


def book(seq: int, key: str, price: str, **more: Any) -> Tick:
    return tick(seq, key, "book", {"bids": [[price, "1"]], "asks": []}, **more)


def trades(seq: int, key: str, *ids: int) -> Tick:
    data = [
        {"price": "1", "size": "1", "side": None, "trade_id": str(number), "ts_event": str(T0 + number)}
        for number in ids
    ]
    return tick(seq, key, "trades", data)


def written(of: Source, at: int) -> list[Checkpoint]:
    return [Checkpoint(at, [encode([message]) for message in of.keyframe(key)], of.checkpoint(key)) for key in of]


def said(of: Source) -> list[tuple[str, str]]:
    return [(type(message).__name__, message.symbol) for message in of.take()]  # type: ignore[misc]


def test_a_tick_is_for_the_symbol_that_is_its_key() -> None:
    found = source()
    found.apply(tick(0, "A"))
    found.apply(tick(1, "B"))
    assert said(found) == [("Update", "V:A"), ("Update", "V:B")]
    assert (list(found), len(found), found.born) == (["A", "B"], 2, [("A", -1), ("B", 0)])
    assert found.clock == T0 + SECOND
    assert said(found) == []


@pytest.mark.parametrize(
    ("key", "why"),
    [("*", "is a pattern"), ("X" * 65, "key of 65 characters"), ("a\nb", "printable"), ("C", "one more than the 2")],
)
def test_what_cannot_be_a_symbol_is_refused(key: str, why: str) -> None:
    found = source(symbols_max=2)
    found.apply(tick(0, "A"))
    found.apply(tick(1, "B"))
    with pytest.raises(BadTick, match=why):
        found.apply(tick(2, key))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("ts_recv", "why"),
    [(-1, "cannot be read"), (5, "looks like"), (T0 + 3600 * SECOND, "wanted at most a little after")],
)
def test_a_bad_time_puts_in_doubt_what_the_tick_held(ts_recv: int, why: str) -> None:
    found = source()
    found.apply(book(0, "A", "1", snapshot=True))
    found.take()
    with pytest.raises(BadTick, match=why):
        found.apply(msgspec.structs.replace(book(1, "A", "2"), ts_recv=ts_recv))
    assert said(found) == [("State", "V:A")]


def test_a_tick_without_kafkas_time_goes_by_its_own_or_by_the_clock() -> None:
    found = source()
    with pytest.raises(BadTick, match="no tick before it"):
        found.apply(msgspec.structs.replace(tick(0, "A"), ts_recv=NO_TIME, ts_kafka=NEVER_WRITTEN))
    found.apply(msgspec.structs.replace(tick(1, "A"), ts_kafka=NEVER_WRITTEN))
    found.apply(msgspec.structs.replace(tick(2, "B"), ts_recv=NO_TIME, ts_kafka=NEVER_WRITTEN))
    assert [message.ts_recv for message in found.take()] == [str(T0 + SECOND)] * 2  # type: ignore[union-attr]


def test_an_odd_entry_is_told_and_a_frame_that_is_none_is_bad() -> None:
    found = source()
    found.apply(book(0, "A", "1", snapshot=True))
    (error,) = found.apply(book(1, "A", "x"))
    assert str(error).startswith("entry of A: number 'x'")
    with pytest.raises(BadTick):
        found.apply(Tick(2, "A", b"{", T0, T0))
    with pytest.raises(BadTick):
        found.apply(Tick(3, "", b"{", T0, T0))
    assert found.take_counts().bad_entries == 1
    assert found.counts.bad_entries == 0


def test_a_frame_without_a_key_is_for_those_that_it_names() -> None:
    found = source("coinbase")
    frame = encode({"type": "status", "products": [{"id": "A", "status": "online"}, {"id": "B", "status": 1}]})
    bad = found.apply(Tick(0, "", frame, T0, T0))
    assert (list(found), len(bad)) == (["A"], 1)
    named = Tick(1, "", frame, T0, T0, symbols=b'["B"]')
    (error,) = found.apply(named)
    assert "B" in str(error)
    with pytest.raises(BadTick, match="header `symbols`"):
        found.apply(msgspec.structs.replace(named, symbols=b"B"))
    other = Source(venue("coinbase"), "coinbase/0@a", Rules(), is_own=lambda name: False)
    with pytest.raises(BadTick, match="wanted it with its key"):
        other.apply(Tick(0, "", encode({"type": "status", "products": [{"id": "A"}]}), T0, T0))


def test_a_venue_may_tell_by_the_value_alone_of_which_symbols_it_is() -> None:
    found = Source(venue("v")._replace(by_value=True), "v/0@a", Rules(), is_own=lambda name: False)
    for seq, name in enumerate("AB"):
        value = encode(
            {"channel": "book", "data": {"bids": [["1", "1"]], "asks": []}, "snapshot": True, "symbol": name}
        )
        found.apply(Tick(seq, "some-order", value, T0, T0))
    assert list(found) == ["A", "B"]
    found.take()
    with pytest.raises(BadTick):
        found.apply(Tick(2, "A", b"{", T0, T0))
    assert [symbol for _, symbol in said(found)] == ["V:A", "V:B"], "nobody knows of which it was"


class Away:
    """A machine of which nothing can be read yet."""

    def __init__(self, *_: object) -> None: ...

    def apply(self, tick: Tick) -> None:
        raise SchemaAway(7)


def test_a_tick_whose_schema_is_away_is_no_bad_tick() -> None:
    wide = venue("v")._replace(entries=lambda tick: Away().apply(tick))  # type: ignore[arg-type, return-value, func-returns-value]
    for one, key in ((wide, ""), (venue("v")._replace(machine=Away), "A")):  # type: ignore[arg-type]
        found = Source(one, "v/0@a", Rules())
        with pytest.raises(SchemaAway):
            found.apply(Tick(0, key, b'{"channel":"status"}', T0, T0))
        assert list(found) == []


def test_a_spoiled_frame_puts_in_doubt_those_that_its_header_names() -> None:
    found = source()
    for seq, key in enumerate("AB"):
        found.apply(book(seq, key, "1", snapshot=True))
    found.take()
    for symbols, doubted in ((b'["A","X"]', ["V:A"]), (b"{", [])):
        with pytest.raises(BadTick):
            found.apply(Tick(2, "", b'{"channel":"book",', T0, T0, symbols=symbols))
        assert [symbol for _, symbol in said(found)] == doubted


def test_the_venues_status_is_for_all_symbols_also_later_ones() -> None:
    found = source()
    found.apply(tick(0, "B"))
    found.apply(tick(1, "A"))
    found.take()
    found.apply(tick(2, "", data={"action": "halt", "reason": "x"}))
    assert said(found) == [("Update", "V:A"), ("Update", "V:B")]
    assert list(found) == ["B", "A", ALL]
    assert found.keyframe(ALL) == []
    found.apply(tick(3, "C"))
    (update,) = found.take()
    assert isinstance(update, Update)
    assert update.data.action == "halt"  # type: ignore[union-attr]


def test_bars_of_all_symbols_are_told_when_the_clock_has_reached_their_end() -> None:
    found = source(bars=BarRules(("1s",), every_ns=0))
    found.apply(trades(0, "A", 1))
    found.apply(trades(0, "B", 2))
    kinds = [message.channel for message in found.take()]  # type: ignore[union-attr]
    assert kinds == ["trades", "bars", "trades", "bars"]
    found.apply(tick(5, "C"))
    closed = [message for message in found.take() if message.channel == "bars"]  # type: ignore[union-attr]
    assert [(bar.symbol, bar.data[0].closed) for bar in closed] == [("V:A", True), ("V:B", True)]  # type: ignore[union-attr, index]


def test_a_symbol_sleeps_until_the_tick_of_its_checkpoint() -> None:
    halt = tick(4, "", data={"action": "halt", "reason": None})
    ticks = [book(0, "A", "1", snapshot=True), trades(1, "B", 1), book(2, "A", "2"), trades(3, "B", 2), halt]
    ticks.append(book(5, "A", "3"))
    whole, early, late = source(), source(), source()
    for each in ticks:
        whole.apply(each)
    for each in ticks[:3]:
        early.apply(each)
    for each in ticks[:5]:
        late.apply(each)
    checkpoints = [*(c for c, key in zip(written(early, 2), early, strict=True) if key == "A"), *written(late, 4)[1:]]
    again = source()
    again.restore(checkpoints)
    for each in ticks[3:]:
        again.apply(each)
    again.wake_all()
    assert {key: again.keyframe(key) for key in again} == {key: whole.keyframe(key) for key in whole}
    assert [again.checkpoint(key) for key in sorted(again)] == [whole.checkpoint(key) for key in sorted(whole)]


@pytest.mark.parametrize("private", [b"", b"{}", b"[]"])
def test_a_checkpoint_that_cannot_be_read_is_loud(private: bytes) -> None:
    with pytest.raises(CorruptLog, match="checkpoint at tick 3"):
        source().restore([Checkpoint(3, [], private)])


def test_a_keyframe_that_cannot_be_read_is_loud() -> None:
    found = source()
    found.apply(tick(0, "A"))
    again = source()
    again.restore([Checkpoint(0, [b"[1]"], found.checkpoint("A"))])
    with pytest.raises(CorruptLog, match="keyframe at tick 0"):
        again.wake_all()


def test_what_lost_ticks_did_is_taken_up_and_what_follows_is_behind_the_cut() -> None:
    found, again = source(), source()
    for each in (book(0, "A", "1", snapshot=True), trades(1, "A", 1), tick(2, "B"), book(3, "A", "2")):
        found.apply(each)
    value = encode(found.take())
    again.retell(value, -1)
    again.retell(value, 2)
    assert {key: again.keyframe(key) for key in again} == {key: found.keyframe(key) for key in found}
    again.cut(2)
    snapshots = [message for message in again.keyframe("A") if isinstance(message, Snapshot)]
    assert max(snapshot.seq for snapshot in snapshots) == 2
    assert [message.state for message in again.keyframe("A") if isinstance(message, State)] == ["stale"]
    with pytest.raises(CorruptLog, match="cannot be read again"):
        again.retell(b"{", 0)


def test_reading_ahead_that_ends_in_an_exception_leaves_the_ticks_to_apply() -> None:
    def fail(ticks: Any) -> Any:
        raise RuntimeError

    found = Source(venue("v")._replace(ahead=fail), "v/0@a", Rules())
    assert list(found.ahead([tick(0, "A")] * 100)) == [None] * 100


def test_an_exception_in_a_frame_without_a_key_is_unforeseen() -> None:
    def fail(tick: Tick) -> Any:
        raise RuntimeError

    found = Source(venue("v")._replace(entries=fail), "v/0@a", Rules())
    with pytest.raises(Unforeseen):
        found.apply(tick(0, ""))
