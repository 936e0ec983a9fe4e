"""Being held back, on a clock of the test's own."""

from __future__ import annotations

import pytest

from feed.gateway.rates import Rates, rate_limited
from feed.runtime.settings import LimitSettings

LIMITS = LimitSettings(bytes_per_second=1000, frames_per_second=10, burst_seconds=2.0, overload_seconds=3.0)


def test_a_burst_is_free() -> None:
    rates = Rates(LIMITS, 0.0)
    rates.use(2000, 20)
    assert rates.owed_seconds(0.0) == 0


@pytest.mark.parametrize(("size", "frames", "owed"), [(3000, 1, 1.0), (1, 30, 1.0), (4000, 25, 2.0), (2000, 20, 0.0)])
def test_what_is_over_has_to_be_waited_for(size: int, frames: int, owed: float) -> None:
    rates = Rates(LIMITS, 0.0)
    rates.use(size, frames)
    assert rates.owed_seconds(0.0) == pytest.approx(owed)
    assert rates.owed_seconds(owed) == pytest.approx(0.0, abs=1e-9)


def test_time_gives_back_at_most_a_burst() -> None:
    rates = Rates(LIMITS, 0.0)
    rates.use(2000, 0)
    rates.owed_seconds(1000.0)
    rates.use(2001, 0)
    assert rates.owed_seconds(1000.0) > 0


def test_overloaded_until_it_has_rested() -> None:
    rates = Rates(LIMITS, 0.0)
    rates.held_back_seconds = 3.1
    rates.use(100, 1)
    rates.owed_seconds(0.05)
    assert rates.overloaded
    rates.owed_seconds(1.0)
    assert not rates.overloaded


def test_the_error_names_the_wait() -> None:
    assert b'"code":"rate_limited"' in rate_limited(0.2504)
    assert b'"retry_after_ms":250' in rate_limited(0.2504)
    assert b'"retry_after_ms":1}' in rate_limited(0.0)
