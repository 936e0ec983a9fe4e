"""What repeats is said once a minute with how often."""

from __future__ import annotations

import logging

import pytest

from feed.runtime.throttle import ThrottledLog


def test_a_reason_is_said_at_once_and_then_once_a_minute_with_its_count(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = ThrottledLog(logging.getLogger("test.throttle"), clock=lambda: now)
    for second in range(121):
        now = float(second)
        log.say("a", f"a at {second}")
        if second == 30:
            log.say("b", "b", count=3)
    assert [record.message for record in caplog.records] == [
        "a at 0",
        "b (3 times)",
        "a at 60 (60 times)",
        "a at 120 (60 times)",
    ]


def test_reasons_without_end_take_no_memory_without_end() -> None:
    log = ThrottledLog(logging.getLogger("test.throttle"), clock=lambda: 0.0)
    for number in range(5_000):
        log.say(number, "x")
    assert len(log._throttle._reasons) <= 1_000


def test_a_fault_of_ours_is_said_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError("nobody thought of it")
    except RuntimeError as error:
        ThrottledLog(logging.getLogger("feed.test")).say("fault", "a record failed", level=logging.ERROR, error=error)
    assert "nobody thought of it" in caplog.text
    assert "Traceback" in caplog.text
