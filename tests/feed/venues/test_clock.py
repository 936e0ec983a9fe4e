"""The clock of a source whose ticks have no time of Kafka's: what is believed, and what is not."""

from __future__ import annotations

import msgspec
import pytest

from feed.errors import BadTick
from feed.venues.clock import untimed
from feed.venues.now import Now, SavedSymbol
from feed.venues.tick import NEVER_WRITTEN, NO_TIME, Tick
from feed.wire.model import Trade
from tests.feed.venues.playing import Feeder

S = 1_000_000_000
BEGIN = 1_795_467_600 * S
WEEK = 7 * 24 * 3600 * S
FAR = 9_000_000_000_000_000_000
LARGEST = 2**63 - 1


def traded(feed: Feeder, ts_recv: int, *, ts_event: int | None = None, price: str = "10") -> None:
    """A trade in a record without a time; `Feeder` restarts a second source after it, which must say the same."""
    trade = Trade(price, "1", None, None, None if ts_event is None else str(ts_event))
    frame = msgspec.json.encode({"channel": "trades", "data": [trade]})
    feed.play(Tick(feed.seq, "X", frame, ts_recv, NEVER_WRITTEN))


def clock_of(feed: Feeder) -> int:
    return feed.played.source.clock


def begun(feed: Feeder) -> Feeder:
    for second in range(2):
        traded(feed, BEGIN + second * S, ts_event=BEGIN + second * S)
    assert clock_of(feed) == BEGIN + S
    return feed


@pytest.mark.parametrize("odd", [FAR, LARGEST, BEGIN + WEEK + 60 * S])
@pytest.mark.parametrize("times", [1, 3])
def test_a_time_far_ahead_is_refused_however_often_and_bars_come(odd: int, times: int) -> None:
    feed = begun(Feeder("acme", "X"))
    for second in range(2, 12):
        for _ in range(times):
            traded(feed, odd)
        traded(feed, BEGIN + second * S, ts_event=BEGIN + second * S)
    assert len(feed.played.bad) == 10 * times
    assert feed.played.bad[0][1].startswith(f"ts_recv {odd} in a record without a time")
    assert clock_of(feed) == BEGIN + 11 * S
    assert len(feed.folded.trades) == 12
    assert feed.folded.updates["bars"] > 8


@pytest.mark.parametrize("silent", [WEEK, WEEK + 1, 30 * WEEK])
def test_a_silence_costs_one_tick_at_most(silent: int) -> None:
    feed = begun(Feeder("acme", "X"))
    for second in range(5):
        traded(feed, BEGIN + S + silent + second * S)
    assert len(feed.played.bad) == (silent > WEEK)
    assert clock_of(feed) == BEGIN + S + silent + 4 * S


def test_what_goes_on_in_the_past_ends_a_claim() -> None:
    feed = begun(Feeder("acme", "X"))
    for second in range(3):
        traded(feed, BEGIN + 2 * WEEK + second * S)
        traded(feed, BEGIN)
    assert clock_of(feed) == BEGIN + S
    assert len(feed.played.bad) == 3


@pytest.mark.parametrize("first", [FAR, LARGEST])
def test_a_first_tick_of_no_time_that_can_be_is_refused(first: int) -> None:
    feed = Feeder("acme", "X")
    for _ in range(3):
        traded(feed, first)
    assert len(feed.played.bad) == 3
    assert clock_of(begun(feed)) == BEGIN + S


def test_a_first_tick_that_is_decades_behind_costs_one() -> None:
    feed = Feeder("acme", "X")
    traded(feed, 631_152_000 * S)
    for second in range(10):
        traded(feed, BEGIN + second * S, ts_event=BEGIN + second * S)
    assert len(feed.played.bad) == 1
    assert clock_of(feed) == BEGIN + 9 * S
    assert feed.folded.updates["bars"] > 5


def test_a_claim_waits_over_ticks_with_kafkas_time_and_those_of_no_time() -> None:
    feed = begun(Feeder("acme", "X"))
    frame = msgspec.json.encode({"channel": "trades", "data": [Trade("10", "1", None, None, None)]})
    later = BEGIN + 2 * WEEK
    traded(feed, later)
    feed.play(Tick(feed.seq, "X", frame, BEGIN + 2 * S, BEGIN + 2 * S))
    traded(feed, NO_TIME)
    assert clock_of(feed) == BEGIN + 2 * S
    traded(feed, later + S)
    assert clock_of(feed) == later + S
    assert len(feed.played.bad) == 1


def test_ticks_that_are_run_again_believe_what_was_believed() -> None:
    """The clock of then is not known; it was at most that of the first checkpoint, or what it has jumped from."""
    saved = msgspec.json.decode(Now("v/0@a").save(), type=SavedSymbol)
    first = msgspec.structs.replace(saved, clock=BEGIN + 100, jumped=(10, BEGIN))
    now = Now("v/0@a")

    def tick(seq: int, ts_recv: int) -> Tick:
        return Tick(seq, "A", b"", ts_recv, NEVER_WRITTEN)

    assert untimed(now, tick(9, BEGIN), first) == BEGIN
    assert untimed(now, tick(9, NO_TIME), first) == BEGIN
    assert untimed(now, tick(10, BEGIN + 100), first) == BEGIN + 100
    for seq, ts_recv in ((9, BEGIN + 1), (10, BEGIN + 101)):
        with pytest.raises(BadTick, match="was not believed"):
            untimed(now, tick(seq, ts_recv), first)
    now.clock = BEGIN + 50
    assert untimed(now, tick(11, NO_TIME), first) == BEGIN + 50
