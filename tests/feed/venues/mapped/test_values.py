"""Values of records: exact, in any unit and scale, or refused by what they are."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.venues.mapped import values
from feed.venues.mapped.values import Moment
from feed.venues.sent import Written

TIME = "1795467600131000000"


@pytest.mark.parametrize(
    ("scale", "value", "wanted"),
    [
        (0, "1.50", "1.50"),
        (0, Written("1e-7"), "0.0000001"),
        (0, Decimal("1.50"), "1.5"),
        (0, Decimal("1E+3"), "1000"),
        (9, 67187480000000, "67187.48"),
        (9, "-5", "-0.000000005"),
        (9, 0, "0"),
        (2, "100", "1"),
        (4, Decimal(12345), "1.2345"),
    ],
)
def test_numbers(scale: int, value: object, wanted: str) -> None:
    assert values.number(scale, floats=False)("price", value) == wanted


@given(st.integers(-(10**20), 10**20), st.integers(1, 18))
def test_a_scaled_integer_is_the_same_number(number: int, scale: int) -> None:
    told = values.number(scale, floats=False)("price", number)
    assert Decimal(told).scaleb(scale) == number


@given(st.floats(min_value=1e-9, max_value=1e15) | st.floats(min_value=-1e15, max_value=-1e-9) | st.just(0.0))
def test_a_float_is_taken_as_the_shortest_text_of_it_where_that_is_asked_for(number: float) -> None:
    assert float(values.number(0, floats=True)("price", number)) == number
    with pytest.raises(BadTick, match="binary float"):
        values.number(0, floats=False)("price", number)


@pytest.mark.parametrize(
    ("scale", "value", "found"),
    [
        (0, None, "price null"),
        (0, True, "price true"),
        (0, b"1", "price b'1'"),
        (0, float("nan"), "nan"),
        (0, Decimal("NaN"), "price NaN"),
        (0, Decimal("1e500"), "price 1E+500"),
        (9, "1.5", "wanted an integer that counts 1e-9"),
        (9, "x", "wanted an integer"),
        (9, "1" * 50, "wanted digits"),
    ],
)
def test_what_is_no_number_is_named(scale: int, value: object, found: str) -> None:
    with pytest.raises(BadTick) as error:
        values.number(scale, floats=True)("price", value)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("ns", TIME),
        ("ns", int(TIME)),
        ("us", 1795467600131000),
        ("ms", "1795467600131"),
        ("s", Written("1795467600.131")),
        ("s", Decimal("1795467600.131")),
        ("ms", "2026-11-23T21:00:00.131Z"),
        ("s", Moment(TIME)),
        ("s", values.moment_of(datetime(2026, 11, 23, 21, 0, 0, 131000, UTC))),
    ],
)
def test_times(unit: str, value: object) -> None:
    assert values.time(unit)("ts_event", value) == TIME


@pytest.mark.parametrize(
    ("unit", "value", "found"),
    [
        ("ms", int(TIME), "of more than 63 bits|up to"),
        ("ns", 1795467600131, "looks like milliseconds"),
        ("ns", Written("1.5"), "wanted at most nanoseconds"),
        ("s", 1.5, "wanted a time"),
        ("s", True, "wanted a time"),
        ("s", values.moment_of(datetime(2026, 1, 1)), "wanted a time"),
        ("s", "yesterday", "with its zone"),
    ],
)
def test_what_is_no_time_is_named(unit: str, value: object, found: str) -> None:
    with pytest.raises(BadTick, match=found):
        values.time(unit)("ts_event", value)


def test_texts_and_sides() -> None:
    assert values.text("symbol", 5) == "5"
    assert values.texts("conditions", ["a", 1]) == ["a", "1"]
    assert values.texts("conditions", "a") == ["a"]
    assert values.side("side", "B") == "buy"
    assert [values.book_side("side", word) for word in ("Bid", "S", "ask", "b")] == ["bids", "asks", "asks", "bids"]
    for convert, value in ((values.text, True), (values.text, 1.5), (values.book_side, "x"), (values.book_side, 1)):
        call: Any = convert
        with pytest.raises(BadTick):
            call("side", value)


def test_words_of_values() -> None:
    assert [values.word(value) for value in (True, False, 5, "x", Written("1.0"))] == ["true", "false", "5", "x", "1.0"]
