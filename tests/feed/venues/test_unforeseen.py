"""An exception that nobody expected in one tick: a dead letter, told to be one; what it left in doubt says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feed.errors import Unforeseen
from feed.feedlog.writer import Ahead
from feed.venues.source import Source
from feed.venues.symbol import Rules, Tick
from feed.venues.venue import Venue
from feed.wire.model import Book, Gap, State, Update
from feed.wire.record import Record
from tests.feed.memory_log import Worker, updates_of
from tests.feed.toy import TOY, Toy, venue_status

T0 = 1_700_000_000_000_000_000


class Faulty(Toy):
    """Has faults of its own: before anything is told, in the middle, and at the end of a tick."""

    def apply(self, tick: Tick) -> None:
        frame = json.loads(tick.value)
        fault = frame.pop("fault", None)
        if fault == "before":
            raise RuntimeError("a fault of ours")
        if fault == "twice":
            self.symbol.book_change_json(b'{"bids":[["3","1"]],"asks":[]}', 1, None)
        super().apply(Tick(tick.seq, tick.key, json.dumps(frame).encode(), tick.ts_recv, tick.ts_kafka))
        if fault == "after":
            raise RuntimeError("a fault of ours")


FAULTY = Venue("toy", "TOY", Faulty, TOY.keys, venue_status, 10)


def tick(seq: int, key: str = "A", **frame: Any) -> Tick:
    return Tick(seq, key, json.dumps({"ts": T0 + seq} | frame).encode(), T0 + seq, T0 + seq)


def book(seq: int, price: int, **more: Any) -> Tick:
    return tick(seq, op="book", bids=[[str(price), "1"]], asks=[], **more)


def snapshot(seq: int, *prices: int) -> Tick:
    return tick(seq, op="snapshot", bids=[[str(price), "1"] for price in prices], asks=[])


def trade(seq: int, **more: Any) -> Tick:
    return tick(seq, op="trade", trades=[["1", "1", str(seq)]], **more)


def told(source: Source) -> list[Any]:
    return source.take()


@pytest.mark.parametrize("fault", ["before", "after"])
def test_what_is_in_doubt_is_stale_and_what_was_told_stays(fault: str) -> None:
    source = Source(FAULTY, "toy/0@a", Rules())
    source.apply(snapshot(0, 5))
    source.apply(trade(1))
    told(source)
    (error,) = source.apply(book(2, 6, fault=fault))
    assert isinstance(error, Unforeseen)
    assert isinstance(error.__cause__, RuntimeError)
    messages = told(source)
    if fault == "after":
        update = messages.pop(0)
        assert isinstance(update, Update)
        assert update.data == Book([("6", "1")], [])
    (state,) = messages
    assert isinstance(state, State)
    assert (state.channel, state.state, state.reason) == ("book", "stale", "gap")
    source.apply(trade(3))
    assert [type(message) for message in told(source)] == [Gap, Update]
    source.apply(snapshot(4, 5, 9))
    difference, again = told(source)
    assert difference.data.bids == ([("6", "0"), ("9", "1")] if fault == "after" else [("9", "1")])
    assert again.state == "ok"


def test_a_change_that_could_not_be_told_comes_with_the_next_tick() -> None:
    """The tick tells the book whole, and then changes it: two updates of a kind, which end in an exception."""
    source = Source(FAULTY, "toy/0@a", Rules())
    source.apply(snapshot(0, 5))
    told(source)
    (error,) = source.apply(book(1, 6, fault="twice"))
    assert "second update of book" in str(error)
    update, state = told(source)
    assert (bytes(update.data), state.state) == (b'{"bids":[["3","1"]],"asks":[]}', "stale")
    source.apply(tick(2, op="quote"))
    changes = [(message.prev, message.data.bids) for message in told(source) if message.channel == "book"]
    assert changes == [(1, [("6", "1")])]
    source.apply(snapshot(3, 5))
    difference, _ = told(source)
    assert sorted(difference.data.bids) == [("3", "0"), ("6", "0")]


def test_a_first_tick_leaves_nothing() -> None:
    source = Source(FAULTY, "toy/0@a", Rules())
    with pytest.raises(Unforeseen):
        source.apply(trade(0, fault="after"))
    assert told(source) == []
    assert len(source) == 0
    assert not source.born
    assert not source.apply(trade(1))
    assert [message.prev for message in told(source) if message.channel == "trades"] == [-1]


def test_reading_ahead_finds_the_tick_itself() -> None:
    def ahead(ticks: Any) -> Any:
        raise RuntimeError("a fault of ours")

    source = Source(FAULTY._replace(ahead=ahead), "toy/0@a", Rules())
    ticks = [trade(0), trade(1)]
    assert [source.apply(one, read) for one, read in zip(ticks, source.ahead(ticks), strict=True)] == [(), ()]


def test_the_writer_goes_on_and_a_restart_says_the_same() -> None:
    ticks = [snapshot(0, 5), trade(1), book(2, 6, fault="after"), trade(3), snapshot(4, 7), book(5, 8), trade(6)]
    whole: list[Record] = []
    Worker(FAULTY, whole, ticks).run([1] * len(ticks))
    step = Worker(FAULTY, [], ticks).writer.step(ticks, Ahead(7, 7), 0)
    (letter,) = step.dead
    assert (letter.tick.seq, letter.kind) == (2, "unforeseen")
    assert isinstance(letter.fault, Unforeseen)
    for cut in range(1, len(ticks)):
        log: list[Record] = []
        Worker(FAULTY, log, ticks[:cut]).run([1] * cut)
        Worker(FAULTY, log, ticks).run([1] * len(ticks))
        assert updates_of(log) == updates_of(whole)
