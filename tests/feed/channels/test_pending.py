"""What is left of a plan that many share, and what one of them has besides."""

from __future__ import annotations

import random

import pytest

from feed.channels.channel import Channel, Listing, Source
from feed.channels.pending import JoinPlan, Pending
from feed.wire.message import KIND_BIT, KIND_INDEX

PLAN = JoinPlan({5: 1, 3: 3, 9: 2, 7: 4})


def drained(pending: Pending) -> list[int]:
    """The symbols in the order in which their turn comes."""
    order = []
    while pending:
        order.append(pending.next())
        del pending[order[-1]]
    return order


def test_it_begins_as_the_plan_and_goes_through_it_in_order() -> None:
    pending = Pending(PLAN)
    assert dict(pending) == PLAN.bits
    assert drained(pending) == [5, 3, 9, 7]
    assert len(pending) == 0
    assert dict(Pending(PLAN)) == PLAN.bits  # of the others nothing has changed


def test_what_is_not_in_the_plan_comes_after_it_and_what_was_done_comes_again_at_the_end() -> None:
    pending = Pending(PLAN)
    pending[8] = 1
    del pending[5]
    pending[5] = 6
    pending[9] = 0
    assert 9 not in pending
    assert "9" not in pending
    assert list(pending) == [3, 7, 8, 5]
    pending[7] = 2
    assert drained(pending) == [3, 7, 8, 5]


def test_without_a_plan_they_come_as_they_were_asked_for() -> None:
    pending = Pending()
    for id_ in (4, 2, 6):
        pending[id_] = 1
    del pending[2]
    del pending[1]
    assert drained(pending) == [4, 6]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_changed_it_holds_what_a_dict_would_hold(seed: int) -> None:
    chooser = random.Random(seed)
    pending, wanted = Pending(PLAN), dict(PLAN.bits)
    for _ in range(chooser.randrange(60)):
        id_, bits = chooser.randrange(12), chooser.randrange(4)
        pending[id_] = wanted[id_] = bits
        wanted = {id_: bits for id_, bits in wanted.items() if bits}
        assert dict(pending.items()) == wanted
        assert len(pending) == len(wanted)
        assert [pending.get(id_) for id_ in range(12)] == [wanted.get(id_, 0) for id_ in range(12)]
    while len(wanted) > 2:
        id_ = pending.next() if chooser.random() < 0.6 else chooser.choice(list(wanted))
        bits = wanted[id_] & 1 if chooser.random() < 0.3 else 0
        pending[id_] = bits
        wanted = {**wanted, id_: bits} if bits else {one: bits for one, bits in wanted.items() if one != id_}
        assert dict(pending.items()) == wanted
    assert pending.next() in wanted
    pending.clear()
    assert not pending
    assert list(pending) == []


def test_blocks_of_a_plan_as_long_as_nothing_is_different() -> None:
    pending = Pending(PLAN)
    assert pending.block(3) == 0
    assert pending.ids(0, 3) == (5, 3, 9)
    assert pending.ids(1, 3) == (7,)
    pending.pass_block(3)
    assert pending.block(3) == 1
    assert list(pending) == [7]
    pending.pass_block(3)
    assert not pending
    assert pending.block(3) is None  # the plan is done
    other = Pending(PLAN)
    del other[5]
    assert other.block(3) is None  # in the midst of one
    other = Pending(PLAN)
    other[3] = 1
    assert other.block(3) is None


def test_its_sources_are_those_of_the_plan_until_that_is_done_and_of_what_was_added() -> None:
    sources = [Source(f"x/{index}@a", index) for index in range(3)]
    listings = {id_: Listing(f"X:{id_}", id_, sources[id_]) for id_ in range(3)}
    for listing in listings.values():
        listing.channels[KIND_INDEX["trades"]] = Channel(listing, "trades", listing.owner)
    trades, quotes = KIND_BIT["trades"], KIND_BIT["quotes"]
    plan = JoinPlan({0: trades, 1: trades | quotes})
    pending = Pending(plan)
    pending[2] = quotes
    assert pending.sources(listings, 1) == set(sources[:2])  # it has begun no quotes
    pending[2] = trades
    assert pending.sources(listings, 1) == set(sources)
    channel = listings[0].channels[KIND_INDEX["trades"]]
    assert channel is not None
    channel.source = sources[2]
    assert plan.sources(listings, 1) == set(sources[:2])  # as of the same moves
    assert plan.sources(listings, 2) == {sources[1], sources[2]}
    pending.pass_block(2)
    assert pending.sources(listings, 2) == {sources[2]}
