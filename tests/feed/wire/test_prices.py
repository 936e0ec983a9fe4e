"""Prices sort exactly, by rank and by key."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from feed.wire.decimals import DECIMALS_MAX, DIGITS_MAX, signed
from feed.wire.prices import rank_of, sort_key

PRICES = st.decimals(
    min_value=-(10**DIGITS_MAX) + 1, max_value=10**DIGITS_MAX - 1, places=DECIMALS_MAX, allow_nan=False
).map(lambda number: signed(format(number, "f")))


@given(st.lists(PRICES, min_size=2, max_size=8))
def test_by_rank_and_by_key_as_by_number(prices: list[str]) -> None:
    wanted = sorted(prices, key=Decimal)
    assert sorted(prices, key=rank_of) == wanted
    assert sorted(prices, key=sort_key(max(map(len, prices)))) == wanted


def test_prices_that_are_equal_as_floats_are_not_equal() -> None:
    low, high = "10000000000000000.1", "10000000000000000.2"
    assert float(low) == float(high)
    assert rank_of(low) < rank_of(high)
    assert sorted([high, low], key=sort_key(len(low))) == [low, high]
    assert sort_key(len("60000.123456789")) is float
