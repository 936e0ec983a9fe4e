"""Turns: one after the other, within the share, and nobody's who is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from feed.gateway.turns import Turns

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Asker:
    """Has so much to do, a millisecond a turn."""

    def __init__(self, turns: Turns, clock: Clock, left: int, *, new: bool = False) -> None:
        self.turns, self.clock, self.left, self.new = turns, clock, left, new
        self.done: list[float] = []

    def take_turn(self) -> None:
        assert self.turns.open_to(self)
        self.clock.now += 0.001
        self.turns.spent(0.001)
        self.left -= 1
        self.done.append(self.clock.now)
        if self.left:
            self.turns.line_up(self)


def at_once(act: Callable[[], None]) -> None:
    act()


async def worked_off(clock: Clock, turns: Turns) -> None:
    """Time passes where everybody rests."""
    for _ in range(10_000):
        if not len(turns):
            return
        await asyncio.sleep(0)
        clock.now += 0.0001
    raise AssertionError("they wait for ever")


async def test_all_of_them_together_take_no_more_than_their_share() -> None:
    clock = Clock()
    turns = Turns(0.25, at_once, clock, clock)
    askers = [Asker(turns, clock, 20) for _ in range(5)]
    for asker in askers:
        turns.line_up(asker)
    assert not turns.open_to(askers[0])
    while len(turns):
        await asyncio.sleep(0.001)
        clock.now += 0.004
    took = clock.now
    assert took >= (100 * 0.001 - 0.005) / 0.25
    # in turns: nobody is done long before the others
    assert max(asker.done[-1] for asker in askers) - min(asker.done[-1] for asker in askers) < 0.1


@pytest.mark.parametrize(("new", "least", "most"), [(True, 0.4, 0.75), (False, 0.2, 0.25)])
async def test_where_the_loop_has_little_else_to_do_those_who_have_just_come_get_more(
    new: bool, least: float, most: float
) -> None:
    """Thousands that join at once would else wait for nobody; a client that asks again and again keeps to the share."""
    clock = Clock()
    worked = 0.0
    turns = Turns(0.25, at_once, clock, lambda: worked)
    askers = [Asker(turns, clock, 40, new=new) for _ in range(5)]
    for asker in askers:
        turns.line_up(asker)
    while len(turns):
        before = sum(asker.left for asker in askers)
        await asyncio.sleep(0.001)
        clock.now += 0.001
        worked += 0.0001 + (before - sum(asker.left for asker in askers)) * 0.001
    assert 0.19 / most < clock.now < 0.2 / least  # a turn may begin when little is left


async def test_a_request_is_worked_on_at_once_where_nobody_waits() -> None:
    clock = Clock()
    turns = Turns(0.25, at_once, clock, clock)
    one, other = Asker(turns, clock, 1), Asker(turns, clock, 1)
    assert turns.open_to(one)
    turns.line_up(other)
    assert not turns.open_to(one)
    await worked_off(clock, turns)
    assert other.done
    assert turns.open_to(one)
    turns.spent(1.0)
    assert not turns.open_to(one)
    clock.now += 4.1
    assert turns.open_to(one)


async def test_one_that_is_gone_has_no_turn() -> None:
    clock = Clock()
    turns = Turns(0.25, at_once, clock, clock)
    one, other = Asker(turns, clock, 3), Asker(turns, clock, 3)
    turns.line_up(one)
    turns.line_up(other)
    turns.leave(one)
    await worked_off(clock, turns)
    assert not one.done
    assert len(other.done) == 3


async def test_nothing_is_worked_on_while_a_flush_is_sent() -> None:
    clock = Clock()
    waiting: list[Callable[[], None]] = []
    turns = Turns(0.25, waiting.append, clock, clock)
    one = Asker(turns, clock, 1)
    turns.line_up(one)
    await asyncio.sleep(0)
    assert not one.done
    waiting.pop()()
    assert one.done
