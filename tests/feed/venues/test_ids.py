"""Trade ids: each is new once, whatever their order, and also after they were saved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feed.venues.ids import TradeIds

MOST = 10**18 - 1
NUMBERS = st.one_of(st.integers(0, 30), st.integers(MOST - 3, MOST + 3)).map(str)
IDS = st.one_of(NUMBERS, st.sampled_from(["", "007", "07", "00", "a", "-1", "1.0", "\u0661"]))


@given(st.lists(st.tuples(IDS, st.booleans()), max_size=40))
def test_each_id_is_new_once(added: list[tuple[str, bool]]) -> None:
    ids, seen = TradeIds(100), set()
    for trade_id, restart in added:
        assert ids.add(trade_id) is (trade_id not in seen)
        seen.add(trade_id)
        if restart:
            again = TradeIds(100)
            again.load(*ids.save())
            assert again.save() == ids.save()
            ids = again


def test_consecutive_ids_are_one_run() -> None:
    ids = TradeIds(3)
    for number in range(1000):
        assert ids.add(str(number))
    assert ids.save() == ([(0, 999)], [])


def test_the_lowest_run_and_the_oldest_text_are_forgotten_first() -> None:
    ids = TradeIds(2)
    for trade_id in ("1", "5", "9", "a", "b", "c"):
        assert ids.add(trade_id)
    assert ids.save() == ([(5, 5), (9, 9)], ["b", "c"])
