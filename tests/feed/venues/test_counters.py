"""When a venue's own counter has begun anew: it fell, and its time went on."""

from __future__ import annotations

import pytest

from feed.venues.counters import LATE_NS, SOON_NS, VenueCounter, begins_anew


@pytest.mark.parametrize(
    ("number", "last", "later_ns", "anew"),
    [
        (5, 4, 2 * LATE_NS, False),  # it rose
        (99, 100, LATE_NS, False),
        (99, 100, LATE_NS + 1, True),  # by whatever it fell, a minute later
        (49, 100, SOON_NS, False),
        (49, 100, SOON_NS + 1, True),  # below half, a second later
        (50, 100, SOON_NS + 1, False),
    ],
)
def test_how_far_back_and_how_much_later(number: int, last: int, later_ns: int, anew: bool) -> None:
    assert begins_anew(number, last, later_ns) is anew


def test_times_are_the_venues_where_both_numbers_have_one() -> None:
    counter = VenueCounter()
    counter.set(100, "1000", 5)
    assert counter.later_ns("1700", 50) == 700
    assert counter.later_ns(None, 50) == 45
    counter.set(100, None, 5)
    assert counter.later_ns("1700", 50) == 45


@pytest.mark.parametrize(
    ("number", "after_ns", "anew"), [(49, LATE_NS + 1, True), (50, LATE_NS + 1, False), (49, LATE_NS, False)]
)
def test_after_an_answer_without_a_time_its_receiving_counts(number: int, after_ns: int, anew: bool) -> None:
    counter = VenueCounter()
    counter.set(100, None, 1000)
    assert counter.begins_anew(number, str(1000 + after_ns), 1000) is anew
    counter.set(100, "1000", 1000)
    assert counter.begins_anew(number, str(1000 + SOON_NS), 0) is False
