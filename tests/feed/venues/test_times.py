"""Times as venues write them, exact to the nanosecond."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.errors import BadTick
from feed.venues.times import iso_ns, seconds_ns

FRACTION = st.text("0123456789", min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2021-04-17T16:43:30.244075Z", "1618677810244075000"),
        ("2021-04-17T16:43:30Z", "1618677810000000000"),
        ("2026-08-24T22:34:13.793075885Z", "1787610853793075885"),
        ("1970-01-01T00:00:01.5Z", "1500000000"),
        ("2024-02-29T23:59:59.000000001Z", "1709251199000000001"),
    ],
)
def test_iso(text: str, wanted: str) -> None:
    assert iso_ns(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "Z", "2021-04-17", "2021-04-17T16:43:30", "2021-04-17T16:43:30.Z", "2021-04-17T16:43:30.1234567890Z",
        "2021-04-17T16:43:30+00:00", "2021-04-17 16:43:30Z", "2021-02-29T00:00:00Z", "2021-04-17T24:00:00Z",
        "2021-04-17T16:43:60Z", "1970-01-01T00:00:00Z", "1969-01-01T00:00:00Z", "2263-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z", "٢٠٢١-04-17T16:43:30Z", "2021-04-17T16:43:30.٢Z", "2021-04-17T16:43:30Z\n", "x" * 1000,
    ],
)  # fmt: skip
def test_what_is_no_iso_time_is_refused(text: str) -> None:
    with pytest.raises(BadTick):
        iso_ns(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1618678142.557535", "1618678142557535000"), ("5", "5000000000"), ("1.000000001", "1000000001")],
)
def test_seconds(text: str, wanted: str) -> None:
    assert seconds_ns(text) == wanted


@pytest.mark.parametrize("text", ["", "0", "0.5", "-1", "1.", ".5", "1e9", "1.0000000001", "9223372036", "1 ", "٣"])
def test_what_is_no_time_in_seconds_is_refused(text: str) -> None:
    with pytest.raises(BadTick):
        seconds_ns(text)


@given(st.datetimes(datetime(1970, 1, 2), datetime(2262, 1, 1)), FRACTION)  # whole seconds of UTC
def test_iso_and_seconds_agree(moment: datetime, fraction: str) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    seconds = int(moment.timestamp())
    wanted = str(seconds * 10**9 + int(fraction.ljust(9, "0")))
    assert iso_ns(f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z") == wanted
    assert seconds_ns(f"{seconds}.{fraction}") == wanted
