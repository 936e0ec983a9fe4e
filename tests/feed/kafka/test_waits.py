"""How long ticks have waited, by this process' own clock alone."""

from __future__ import annotations

from feed.kafka.waits import Waits


def test_nothing_waits_where_all_was_taken() -> None:
    waits = Waits()
    waits.saw(10, 1.0)
    assert waits.waited(10, 50.0) == 0.0
    assert Waits().waited(0, 50.0) == 0.0


def test_what_lay_below_an_end_has_waited_since_it_was_seen() -> None:
    waits = Waits()
    waits.saw(10, 1.0)
    waits.saw(20, 5.0)
    waits.saw(20, 6.0)
    assert waits.waited(3, 8.0) == 7.0
    assert waits.waited(10, 8.0) == 3.0
    assert waits.waited(19, 9.0) == 4.0
    assert waits.waited(20, 9.0) == 0.0


def test_an_end_that_falls_is_not_believed() -> None:
    waits = Waits()
    waits.saw(20, 1.0)
    waits.saw(10, 2.0)
    assert waits.waited(15, 3.0) == 2.0


def test_at_most_so_much_is_remembered_and_the_oldest_counts() -> None:
    waits = Waits()
    for number in range(10_000):
        waits.saw(number + 1, float(number))
    assert waits.waited(0, 10_000.0) == 10_000.0
    assert len(waits._seen) <= 64
    # what came last may be told to have waited longer than it has, never shorter
    for position in (100, 5_000, 9_999):
        assert waits.waited(position, 10_000.0) >= 10_000.0 - position


def test_what_lay_there_before_the_first_look_has_waited_longer() -> None:
    waits = Waits()
    waits.saw(10, 100.0)
    waits.waited_before(30.0)
    assert waits.waited(0, 101.0) == 31.0
    waits.waited_before(-5.0)
    assert waits.waited(0, 101.0) == 31.0
