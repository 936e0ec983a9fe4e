"""When a recorded tick is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.pacing import Pacing, speed_of

S = 1_000_000_000


def test_the_first_tick_is_due_when_it_is_first_asked_for() -> None:
    assert Pacing(1.0).wait_ns(1_700_000_000 * S, 5) == 0


def test_at_recorded_pace_time_passes_as_it_did() -> None:
    pacing = Pacing(1.0)
    pacing.wait_ns(100 * S, 0)
    assert pacing.wait_ns(103 * S, S) == 2 * S
    assert pacing.wait_ns(103 * S, 3 * S) == 0


def test_at_a_factor_it_passes_faster_or_slower() -> None:
    for speed, wait in ((10.0, S // 10), (0.5, 2 * S)):
        pacing = Pacing(speed)
        pacing.wait_ns(0, 0)
        assert pacing.wait_ns(S, 0) == wait


def test_at_full_speed_nothing_waits_and_nothing_is_late() -> None:
    pacing = Pacing("max")
    assert pacing.wait_ns(0, 0) == pacing.wait_ns(10**18, 0) == pacing.behind_ns(0, 10**18) == 0


def test_a_step_back_in_recorded_time_is_due_at_once() -> None:
    pacing = Pacing(1.0)
    pacing.wait_ns(100 * S, 0)
    assert pacing.wait_ns(90 * S, 0) == 0


def test_late_is_told() -> None:
    pacing = Pacing(2.0)
    pacing.wait_ns(0, 0)
    assert pacing.behind_ns(2 * S, 3 * S) == 2 * S


@given(
    st.lists(st.integers(0, 10**18), min_size=2, max_size=50).map(sorted),
    st.floats(0.01, 1000, allow_nan=False),
)
def test_waiting_as_told_keeps_the_recorded_distances(times: list[int], speed: float) -> None:
    pacing, now = Pacing(speed), 0
    for ts in times:
        now += pacing.wait_ns(ts, now)
        assert now == pytest.approx((ts - times[0]) / speed, abs=1 + now * 1e-12)


@pytest.mark.parametrize(("text", "speed"), [("1", 1.0), ("10", 10.0), ("0.5", 0.5), ("max", "max")])
def test_a_speed_is_a_factor_or_max(text: str, speed: object) -> None:
    assert speed_of(text) == speed


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", "", "1e9"])
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="speed"):
        speed_of(text)
