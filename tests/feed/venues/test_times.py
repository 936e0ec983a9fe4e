"""Times as venues write them, exact to the nanosecond."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.venues.times import iso_ns, ms_or_us_ns, seconds_ns

FRACTION = st.text("0123456789", min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2021-04-17T16:43:30.244075Z", "1618677810244075000"),
        ("2021-04-17T16:43:30Z", "1618677810000000000"),
        ("2026-08-24T22:34:13.793075885Z", "1787610853793075885"),
        ("1990-01-01T00:00:00.5Z", "631152000500000000"),
        ("2024-02-29T23:59:59.000000001Z", "1709251199000000001"),
    ],
)
def test_iso(text: str, wanted: str) -> None:
    assert iso_ns(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Z", "2021-04-17", "2021-04-17T16:43:30", "2021-04-17T16:43:30.Z", "2021-04-17T16:43:30.1234567890Z",
        "2021-04-17T16:43:30+00:00", "2021-04-17 16:43:30Z", "2021-02-29T00:00:00Z", "2021-04-17T24:00:00Z",
        "2021-04-17T16:43:60Z", "1970-01-01T00:00:01Z", "1969-01-01T00:00:00Z", "2263-01-01T00:00:00Z",
        "1989-12-31T23:59:59Z", "0000-01-01T00:00:00Z",
        "٢٠٢١-04-17T16:43:30Z", "2021-04-17T16:43:30.٢Z", "2021-04-17T16:43:30Z\n", "x" * 1000,
    ],
)  # fmt: skip
def test_what_is_no_iso_time_is_refused(text: str) -> None:
    with pytest.raises(BadTick):
        iso_ns(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1618678142.557535", "1618678142557535000"), ("631152000", "631152000000000000")],
)
def test_seconds(text: str, wanted: str) -> None:
    assert seconds_ns(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1618678142.",
        ".5",
        "1e9",
        "1618678142.0000000001",
        "631151999.9",
        "1618678142557",
        "9223372036",
        "1618678142 ",
        "٣",
    ],
)
def test_what_is_no_time_in_seconds_is_refused(text: str) -> None:
    with pytest.raises(BadTick):
        seconds_ns(text)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2262, 1, 1)), FRACTION)  # whole seconds of UTC
def test_iso_and_seconds_agree(moment: datetime, fraction: str) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    seconds = int(moment.timestamp())
    wanted = str(seconds * 10**9 + int(fraction.ljust(9, "0")))
    assert iso_ns(f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z") == wanted
    assert seconds_ns(f"{seconds}.{fraction}") == wanted


@pytest.mark.parametrize(
    "text", [None, "", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z", "0001-01-01T00:00:00Z"]
)
def test_a_time_that_the_venue_does_not_know_is_none(text: str | None) -> None:
    assert iso_ns(text) is None
    assert seconds_ns("0") is seconds_ns("0.000000") is None
    assert ms_or_us_ns(0) is ms_or_us_ns(None) is None


@pytest.mark.parametrize(
    ("time", "wanted"),
    [
        (1_723_161_255_342, "1723161255342000000"),
        (1_723_161_255_342_123, "1723161255342123000"),
        (631_152_000_000, "631152000000000000"),
        (631_152_000_000_000, "631152000000000000"),
    ],
)
def test_milliseconds_and_microseconds_are_told_by_their_size(time: int, wanted: str) -> None:
    assert ms_or_us_ns(time) == wanted


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        (5, "neither"),
        (1_723_161_255, "seconds"),
        (631_151_999_999, "neither"),
        (50_000_000_000_000, "neither"),
        (1_723_161_255_342_123_456, "nanoseconds"),
    ],
)
def test_a_number_of_another_unit_is_refused_by_its_name(time: int, unit: str) -> None:
    with pytest.raises(BadTick, match=unit):
        ms_or_us_ns(time)
