"""When flushes follow each other, on times of the test's own."""

from __future__ import annotations

import pytest

from feed.gateway.flush_pacing import FlushPacing

BUSY_S = 0.025


def pace_after(use: float, seconds: float = 2.0) -> FlushPacing:
    """One of a loop that has been used so much for a while."""
    pace = FlushPacing(share=0.5, interval_busy=BUSY_S, interval_max=1.0)
    steps = int(seconds / 0.01)
    for step in range(steps):
        now = step * 0.01
        pace.next_flush(began=now, now=now, cost=0.0, cpu=now * use)
    return pace


@pytest.mark.parametrize("use", [0.0, 0.2, 0.44])
def test_a_loop_with_time_to_spare_rests_in_proportion_to_the_cost_alone(use: float) -> None:
    pace = pace_after(use)
    found = pace.next_flush(began=2.0, now=2.004, cost=0.003, cpu=2.004 * use)
    assert found == pytest.approx(2.004 + 0.003)


@pytest.mark.parametrize(("use", "apart_s"), [(0.6, BUSY_S / 2), (0.75, BUSY_S), (1.0, BUSY_S)])
def test_a_busy_loop_flushes_in_larger_steps(use: float, apart_s: float) -> None:
    pace = pace_after(use)
    assert pace.use == pytest.approx(use, abs=0.01)
    found = pace.next_flush(began=2.0, now=2.001, cost=0.001, cpu=2.001 * use)
    assert found == pytest.approx(2.0 + apart_s, abs=0.001)


def test_a_cost_beyond_the_step_decides_alone() -> None:
    pace = pace_after(1.0)
    assert pace.next_flush(began=2.0, now=2.1, cost=0.1, cpu=2.1) == pytest.approx(2.2)


def test_a_burst_after_quiet_changes_little_and_lasting_load_much() -> None:
    pace = pace_after(0.05)
    pace.next_flush(began=2.0, now=2.03, cost=0.03, cpu=2.0 * 0.05 + 0.03)
    assert pace.use < 0.2
    for step in range(1, 60):
        pace.next_flush(began=0.0, now=2.03 + step * 0.01, cost=0.0, cpu=0.13 + step * 0.01)
    assert pace.use > 0.9


def test_no_rest_is_longer_than_the_longest() -> None:
    pace = pace_after(0.1)
    assert pace.next_flush(began=2.0, now=9.0, cost=7.0, cpu=7.2) == pytest.approx(10.0)
