"""Numbers through decimal128(38, 18) and back: the same text."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.recording.decimals import text_of
from feed.recording.tables import DECIMAL

EDGES = [
    "0",
    "1",
    "100",
    "-37.63",
    "0.000001",
    "0.0000012",
    "-0.00000012",
    "0.000000999999999999",
    "0.000000000000000001",
    "-0.000000000000000001",
    "99999999999999999999.999999999999999999",
    "-99999999999999999999",
    "123456789012345678.5",
    "-1",
    "-100",
    "-0.5",
    "-0.000001",
    "-0.000000999999999999",
    "-0.0000012",
    "-99999999999999999999.999999999999999999",
]


@st.composite
def canonical(draw: st.DrawFn) -> str:
    """A canonical number: at most 20 digits before and 18 after the point."""
    whole = str(draw(st.integers(0, 10 ** draw(st.integers(0, 20)) - 1)))
    digits = draw(st.text("0123456789", max_size=18)).rstrip("0")
    return f"{whole}.{digits}" if digits else whole


@st.composite
def prices(draw: st.DrawFn) -> str:
    """A canonical price, which may be negative."""
    number = draw(canonical())
    return f"-{number}" if draw(st.booleans()) and number != "0" else number


def through(texts: list[str | None]) -> list[str | None]:
    back: list[str | None] = text_of(pa.array(texts, pa.string()).cast(DECIMAL)).to_pylist()
    return back


def test_edges_come_back() -> None:
    assert through([*EDGES, None]) == [*EDGES, None]


@given(st.lists(st.none() | prices()))
def test_every_canonical_number_comes_back(texts: list[str | None]) -> None:
    assert through(texts) == texts


@given(st.lists(prices(), min_size=3))
def test_a_slice_is_its_own(texts: list[str]) -> None:
    numbers = pa.array(texts, pa.string()).cast(DECIMAL)
    assert text_of(numbers.slice(1, len(texts) - 2)).to_pylist() == texts[1:-1]


def test_nothing_comes_back_as_nothing() -> None:
    assert text_of(pa.nulls(2, DECIMAL)).to_pylist() == [None, None]
    assert text_of(pa.array([], pa.string()).cast(DECIMAL)).to_pylist() == []


@pytest.mark.parametrize("text", ["0.0000000000000000001", "100000000000000000000"])
def test_what_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(pa.ArrowInvalid):
        pa.array([text], pa.string()).cast(DECIMAL)


def test_arrow_alone_would_not_do() -> None:
    """The reason for this module; when this fails, Arrow has learned it."""
    zero, small = pa.array(["0", "0.00000012"]).cast(DECIMAL).cast(pa.string()).to_pylist()
    assert "E" in zero
    assert "E" in small
