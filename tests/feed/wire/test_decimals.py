"""Numbers as text: the one canonical form, number by number and in bulk."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.wire.decimals import canonical, canonical_levels, positive, signed, signed_levels

PLAIN = st.from_regex(r"(0|[1-9][0-9]{0,19})(\.[0-9]{1,18})?", fullmatch=True, alphabet="0123456789.")
ODD = st.one_of(PLAIN, st.text('0123456789.,"\\-+eENaf _\u0661', max_size=8), st.text(max_size=3))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", "0"),
        ("0.0", "0"),
        ("0.000", "0"),
        ("100", "100"),
        ("100.0", "100"),
        ("100.10", "100.1"),
        ("0.00000638", "0.00000638"),
        ("61800.30", "61800.3"),
        ("9" * 20 + "." + "9" * 18, "9" * 20 + "." + "9" * 18),
    ],
)
def test_canonical(text: str, wanted: str) -> None:
    assert canonical(text) == wanted
    assert canonical_levels([("1", text)]) == [("1", wanted)]


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "5.", ".5", "1..2", "1.2.3", "00", "01", "00.5", "-1", "+1", "1e5", "1E5", "NaN", "inf", "1_0", " 1",
        "1 ", "1\n", "1,2", "٣", "1.٣", "0x1", "1\x00", '1"', "9" * 21, "0." + "1" * 19, "null", "\ud800",
    ],
)  # fmt: skip
def test_what_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(BadTick):
        canonical(text)
    with pytest.raises(BadTick):
        canonical_levels([("1.5", "2.5"), ("1", text)])
    with pytest.raises(BadTick):
        canonical_levels([(text, "1")])


@pytest.mark.parametrize("zero", ["0", "0.0", "0.00000000"])
def test_zero_is_a_size_and_no_price(zero: str) -> None:
    assert canonical_levels([("1", zero), ("1.50", zero)]) == [("1", "0"), ("1.5", "0")]
    with pytest.raises(BadTick):
        positive(zero)
    with pytest.raises(BadTick):
        canonical_levels([("1", "1"), (zero, "1")])


def test_message_shows_a_little_of_what_was_found() -> None:
    with pytest.raises(BadTick, match=r"number '9{50}', wanted") as refused:
        canonical("9" * 10_000_000)
    assert len(str(refused.value)) < 150


@given(PLAIN)
def test_canonical_is_the_same_number_and_stays(text: str) -> None:
    number = canonical(text)
    assert Decimal(number) == Decimal(text)
    assert canonical(number) == number
    assert "." not in number or not number.endswith(("0", "."))


@given(st.lists(st.tuples(ODD, ODD), max_size=6))
def test_bulk_form_agrees_with_one_by_one(levels: list[tuple[str, str]]) -> None:
    try:
        wanted = [(positive(price), canonical(size)) for price, size in levels]
    except BadTick:
        with pytest.raises(BadTick):
            canonical_levels(levels)
        return
    assert canonical_levels(levels) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-37.63", "-37.63"),
        ("-37.630", "-37.63"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("0", "0"),
        ("-0.10", "-0.1"),
        ("-100", "-100"),
        ("12.5", "12.5"),
        ("-" + "9" * 20 + "." + "9" * 18, "-" + "9" * 20 + "." + "9" * 18),
    ],
)
def test_prices_may_have_a_minus(text: str, wanted: str) -> None:
    assert signed(text) == wanted
    assert signed_levels([("1.50", "0.0"), (text, "2.0")]) == [("1.5", "0"), (wanted, "2")]
    assert signed(wanted) == wanted
    with pytest.raises(BadTick):
        signed_levels([("1", text if text.startswith("-") else "-1")])
    if wanted.startswith("-"):
        for read in (canonical, positive):
            with pytest.raises(BadTick):
                read(text)
        with pytest.raises(BadTick):
            canonical_levels([(text, "1")])


@pytest.mark.parametrize(
    "text", ["", "-", "--1", "+1", "-+1", "-01", "-.5", "-5.", "- 1", "-1-", "-NaN", "−1", "-" + "9" * 21]
)
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(BadTick):
        signed(text)
    with pytest.raises(BadTick):
        signed_levels([("1.5", "2.5"), (text, "1")])


@given(st.lists(st.tuples(st.one_of(ODD, ODD.map("-{}".format)), ODD), max_size=6))
def test_bulk_form_of_prices_agrees_with_one_by_one(levels: list[tuple[str, str]]) -> None:
    try:
        wanted = [(signed(price), canonical(size)) for price, size in levels]
    except BadTick:
        with pytest.raises(BadTick):
            signed_levels(levels)
        return
    assert signed_levels(levels) == wanted
