"""What repeats is said once a minute with how often, by us and by the client of Kafka."""

from __future__ import annotations

import io
import json
import logging

import pytest

from feed.runtime import logs
from feed.runtime.throttle import ThrottledLog


class Clock:
    """Monotonic time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


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


def test_what_the_client_of_kafka_repeats_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(logs.time, "monotonic", clock)
    root, stream = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", stream)
    try:
        logs.set_up("info", "json")
        client, ours = logging.getLogger("aiokafka.client"), logging.getLogger("feed.workers")
        for second in range(130):
            for _ in range(15):
                client.error("Unable connect to node with id %s: %s", 1, OSError(111, "Connect call failed"))
            client.error("Topic %s not found in cluster metadata", "ticks.krakn")
            if second % 50 == 0:
                ours.error("worker %d ended with %d", 1, -9)
            clock.now += 1.0
    finally:
        root.handlers[:], root.level = before, level
    said = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    node = "Unable connect to node with id 1: [Errno 111] Connect call failed"
    topic = "Topic ticks.krakn not found in cluster metadata"
    assert sorted(said) == sorted(
        [node, f"{node} (900 times)", f"{node} (900 times)", topic, f"{topic} (60 times)", f"{topic} (60 times)"]
        + ["worker 1 ended with -9"] * 3
    )
