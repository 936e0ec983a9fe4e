"""What repeats is said once a minute with how often."""

from __future__ import annotations

import logging

import pytest

from feed.told import Told


def test_a_reason_is_said_at_once_and_then_once_a_minute_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    told = Told(logging.getLogger("test.told"), clock=lambda: now)
    for second in range(121):
        now = float(second)
        told.say("a", f"a at {second}")
        if second == 30:
            told.say("b", "b", count=3)
    assert [record.message for record in caplog.records] == [
        "a at 0",
        "b (3 times)",
        "a at 60 (60 times)",
        "a at 120 (60 times)",
    ]


def test_reasons_without_end_take_no_memory_without_end() -> None:
    told = Told(logging.getLogger("test.told"), clock=lambda: 0.0)
    for number in range(5_000):
        told.say(number, "x")
    assert len(told._said) <= 1_000
