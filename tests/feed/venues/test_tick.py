"""What goes into a state machine cannot be changed by it."""

from __future__ import annotations

import pytest

from feed.venues.tick import NEVER_WRITTEN, NO_TIME, Rules, Tick
from feed.wire.times import NS_MIN


def test_ticks_and_rules_are_frozen() -> None:
    tick = Tick(1, "X", b"{}", 2, 3)
    with pytest.raises(AttributeError):
        tick.seq = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Rules().trades_kept = 1  # type: ignore[misc]
    assert (tick.request, tick.symbols) == (None, None)


def test_what_stands_for_no_time_is_no_time() -> None:
    assert NEVER_WRITTEN < NO_TIME < NS_MIN
    assert Rules() == Rules()
    assert Rules(quotes_from="book") != Rules()
