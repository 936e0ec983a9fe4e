"""The code takes and makes exactly those numbers that the schemas take."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.wire.decimals import canonical, signed
from tests.schemas.validation import check, faults

NUMBERS = st.one_of(
    st.from_regex(r"\A-?[0-9]{1,22}(\.[0-9]{0,20})?\Z"),
    st.text("0123456789.-+eE _\u0661", max_size=12),
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
    st.text(max_size=5),
)


@given(NUMBERS)
@example("0")
@example("0.0")
@example("1.0")
@example("1\n")
@example("9" * 20 + "." + "9" * 18)
def test_code_and_schemas_take_the_same_numbers(text: str) -> None:
    try:
        number = canonical(text)
    except BadTick:
        # "$" of Python's patterns also stands before a line end, that of JSON Schema does not
        assert faults("canonical_tick#/$defs/number", text) or text.endswith("\n")
        return
    check("canonical_tick#/$defs/number", text)
    check("common#/$defs/decimal", number)
    assert canonical(number) == number


@given(NUMBERS)
@example("-0")
@example("-0.0")
@example("-37.630")
@example("-1\n")
@example("-" + "9" * 20 + "." + "9" * 18)
def test_code_and_schemas_take_the_same_prices(text: str) -> None:
    try:
        price = signed(text)
    except BadTick:
        assert faults("canonical_tick#/$defs/price", text) or text.endswith("\n")
        return
    check("canonical_tick#/$defs/price", text)
    check("common#/$defs/price", price)
    assert signed(price) == price
    assert bool(faults("common#/$defs/decimal", price)) is price.startswith("-")
