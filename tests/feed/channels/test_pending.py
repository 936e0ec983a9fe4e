"""What a join has still to bring says the same as two plain dicts, whatever was done to it."""

from __future__ import annotations

import random

import pytest

from feed.channels.pending import JoinPlan, Pending
from feed.wire.message import ALL_KINDS

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
