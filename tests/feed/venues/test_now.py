"""What all symbols of a source share: what the venue says of all of them, and which status counts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from feed.venues.now import ALL, Now, SavedSymbol, VenueStatus, strictest


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ([("trading", None), ("halt", "x")], ("halt", "x")),
        ([("unknown", "y"), ("trading", None)], ("unknown", "y")),
        ([("halt", None), ("halt", "why"), ("halt", "later")], ("halt", "why")),
    ],
)
def test_the_status_that_allows_the_least_counts(said: Any, counts: Any) -> None:
    assert strictest(said) == counts


def at(now: Now, seq: int) -> Now:
    now.seq = seq
    return now


def test_a_status_of_the_venue_is_kept_where_it_changes() -> None:
    now = Now("v/0@a")
    assert at(now, 3).venue_status is None
    for seq, action in ((3, "halt"), (5, "halt"), (7, "trading")):
        at(now, seq).set_venue_status(action, None)  # type: ignore[arg-type]
    assert now.venue_statuses == [VenueStatus(3, "halt", None), VenueStatus(7, "trading", None)]


def test_a_tick_that_is_run_again_finds_the_status_of_then() -> None:
    now = Now("v/0@a")
    at(now, 3).set_venue_status("halt", None)
    at(now, 7).set_venue_status("trading", None)
    assert at(now, 2).venue_status is None
    assert at(now, 6).venue_status == VenueStatus(3, "halt", None)
    before = list(now.venue_statuses)
    now.set_venue_status("trading", None)
    assert now.venue_statuses == before, "it was said already, at tick 7"


def test_only_the_last_statuses_are_kept_and_they_are_saved() -> None:
    now = Now("v/0@a")
    for seq in range(40):
        at(now, seq).set_venue_status("halt" if seq % 2 else "trading", str(seq))
    saved = msgspec.json.decode(now.save(), type=SavedSymbol)
    assert saved.venue_symbol == ALL
    assert [status.seq for status in saved.venue_statuses] == list(range(24, 40))
    assert msgspec.json.decode(now.save())["words"][0] == [24, "trading", "24"], "the name in checkpoints stays"
