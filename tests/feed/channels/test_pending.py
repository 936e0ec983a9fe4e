"""What a join has still to bring says the same as two plain dicts, whatever was done to it."""

from __future__ import annotations

import random

import pytest

from feed.channels.channel import Channel, Listing
from feed.channels.pending import JoinPlan, Pending
from feed.channels.source import Source
from feed.wire.message import ALL_KINDS, KIND_BIT, KIND_INDEX

SYMBOLS = range(6)


@pytest.mark.parametrize("announces", [False, True])
def test_it_keeps_what_is_left_and_what_of_it_is_announced(announces: bool) -> None:
    for seed in range(200):
        chance = random.Random(seed)
        planned = {id_: chance.randint(1, ALL_KINDS) for id_ in chance.sample(SYMBOLS, 4)}
        pending = Pending(JoinPlan(planned, announces=announces))
        kinds = dict(planned)
        announced = dict(planned) if announces else {}
        for _ in range(30):
            id_, bits = chance.choice(SYMBOLS), chance.randint(1, ALL_KINDS)
            match chance.randrange(4):
                case 0:
                    announce = chance.random() < 0.5
                    pending.add(id_, bits, announce=announce)
                    kinds[id_] = kinds.get(id_, 0) | bits
                    announced[id_] = announced.get(id_, 0) | (bits if announce else 0)
                case 1:
                    pending.remove(id_, bits)
                    kinds[id_] = kinds.get(id_, 0) & ~bits
                    announced[id_] = announced.get(id_, 0) & ~bits
                case 2:
                    pending.silence(id_, bits)
                    announced[id_] = announced.get(id_, 0) & ~bits
                case _ if any(kinds.values()):
                    id_ = pending.next()
                    pending.remove(id_, ALL_KINDS)
                    kinds[id_] = announced[id_] = 0
            left = {id_: bits for id_, bits in kinds.items() if bits}
            assert dict(pending.items()) == left
            assert len(pending) == len(left)
            assert [id_ for id_ in SYMBOLS if id_ in pending] == sorted(left)
            assert [pending.announced(id_) for id_ in SYMBOLS] == [announced.get(id_, 0) for id_ in SYMBOLS]
            assert not left or pending.next() in left


PLAN = JoinPlan({5: 1, 3: 3, 9: 2, 7: 4})


def drained(pending: Pending) -> list[int]:
    """The symbols in the order in which their turn comes."""
    order = []
    while pending:
        order.append(pending.next())
        pending.remove(order[-1], ALL_KINDS)
    return order


def test_it_goes_through_its_plan_in_order_and_the_plan_stays() -> None:
    for _ in range(2):
        pending = Pending(PLAN)
        assert dict(pending.items()) == PLAN.kinds
        assert drained(pending) == [5, 3, 9, 7]


def test_what_is_not_in_the_plan_comes_after_it_and_what_was_done_comes_again_at_the_end() -> None:
    pending = Pending(PLAN)
    pending.add(8, 1)
    pending.remove(5, ALL_KINDS)
    pending.add(5, 6)
    pending.remove(9, ALL_KINDS)
    assert 9 not in pending
    assert drained(pending) == [3, 7, 8, 5]


def test_blocks_of_a_plan_as_long_as_nothing_is_different() -> None:
    pending = Pending(PLAN)
    assert pending.block(3) == 0
    assert (pending.ids(0, 3), pending.ids(1, 3)) == ((5, 3, 9), (7,))
    pending.pass_block(3)
    assert (pending.block(3), [id_ for id_, _ in pending.items()]) == (1, [7])
    pending.pass_block(3)
    assert (len(pending), pending.block(3)) == (0, None)  # the plan is done
    other = Pending(PLAN)
    other.remove(5, ALL_KINDS)
    assert other.block(3) is None  # in the midst of one
    other = Pending(PLAN)
    other.add(3, 4)
    assert other.block(3) is None
    other.clear()
    assert (len(other), list(other.items())) == (0, [])


def test_its_sources_are_those_of_the_plan_until_that_is_done_and_of_what_was_added() -> None:
    sources = [Source(f"x/{index}@a", index) for index in range(3)]
    listings = {id_: Listing(f"X:{id_}", id_, sources[id_]) for id_ in range(3)}
    for listing in listings.values():
        listing.channels[KIND_INDEX["trades"]] = Channel(listing, "trades", listing.owner)
    trades, quotes = KIND_BIT["trades"], KIND_BIT["quotes"]
    plan = JoinPlan({0: trades, 1: trades | quotes})
    pending = Pending(plan)
    pending.add(2, quotes)
    assert pending.sources(listings, 1) == set(sources[:2])  # it has begun no quotes
    pending.add(2, trades)
    assert pending.sources(listings, 1) == set(sources)
    channel = listings[0].channels[KIND_INDEX["trades"]]
    assert channel is not None
    channel.source = sources[2]
    assert plan.sources(listings, 1) == set(sources[:2])  # as of the same moves
    assert plan.sources(listings, 2) == {sources[1], sources[2]}
    pending.pass_block(2)
    assert pending.sources(listings, 2) == {sources[2]}
