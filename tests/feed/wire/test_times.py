"""The one grammar of times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.wire.times import NS_MAX, NS_MIN, ns_of, text_of

NOON = 1_795_953_600_000_000_000


@pytest.mark.parametrize(
    ("written", "ns"),
    [
        ("2026-11-29T12:00:00Z", NOON),
        ("2026-11-29t12:00:00z", NOON),
        ("2026-11-29 12:00:00Z", NOON),
        ("2026-11-29T12:00Z", NOON),
        ("2026-11-29T12:00", NOON),
        ("2026-11-29T13:30:00+01:30", NOON),
        ("2026-11-29T12:00:00.000000001Z", NOON + 1),
        ("2026-11-29T12:00:00.5Z", NOON + 500_000_000),
        ("2026-11-29", NOON - 12 * 3600 * 10**9),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("1985-01-01", 473_385_600_000_000_000),
        (str(NOON), NOON),
        ("00" + str(NOON), NOON),
        (NOON, NOON),
        (NS_MIN, NS_MIN),
        (NS_MAX, NS_MAX),
    ],
)
def test_each_form(written: int | str, ns: int) -> None:
    assert ns_of(written) == ns


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (0, "seconds"),
        ("0", "seconds"),
        (1_795_973_660, "seconds"),
        ("1795973660", "seconds"),
        ("1795973660123", "milliseconds"),
        ("1795973660123456", "microseconds"),
        (NS_MIN - 1, "nanoseconds before 1990"),
        (-1, "seconds"),
        ("-1", "seconds"),
        ("9" * 4400, "4400 digits"),
        ("0" * 4400 + "1", "seconds"),
        ("-" + "0" * 4400 + "1", "seconds"),
        (NS_MAX + 1, str(NS_MAX)),
        ("", "wanted"),
        ("now", "wanted"),
        ("\u0661\u0667\u0669\u0665\u0669\u0665\u0663\u0666\u0660\u0660" * 2, "wanted"),
        ("2026-11-29T12:00.5Z", "wanted"),
        ("2026-11-29T12:00:00.1234567891Z", "wanted"),
        ("2026-13-01", "month"),
        ("2026-02-30T00:00:00Z", "day"),
        ("2026-11-29T24:00:01Z", "hour"),
        ("9999-12-31", "1677 and 2262"),
        ("0001-01-01T00:00:00+23:59", "1677 and 2262"),
        ("2026", "seconds"),
    ],
)
def test_what_is_none_is_refused_by_name(written: int | str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ns_of(written)


def test_an_integer_of_any_size_is_refused_too() -> None:
    for written in (10**4400, -(10**4400)):
        with pytest.raises(ValueError, match="63 bits"):
            ns_of(written)


@given(st.text(max_size=40) | st.integers())
def test_anything_is_a_time_or_a_value_error(written: str | int) -> None:
    try:
        ns = ns_of(written)
    except ValueError:
        return
    assert -NS_MAX <= ns <= NS_MAX


@given(st.integers(NS_MIN, int(datetime(2262, 1, 1, tzinfo=UTC).timestamp()) * 10**9))
def test_a_text_is_read_back_to_the_nanosecond(ns: int) -> None:
    assert ns_of(text_of(ns)) == ns
