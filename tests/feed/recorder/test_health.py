"""What a recorder says of itself."""

from __future__ import annotations

from feed.follow.followed import LogStanding
from feed.recorder.health import RecorderHealth, register
from feed.runtime.checks import is_ready, readyz_text
from feed.runtime.metrics import Metrics
from tests.feed.runtime.test_metrics import exported


class Clock:
    """Monotonic time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_is_ready_while_kafka_answers_and_its_disk_takes_something() -> None:
    clock = Clock()
    health = RecorderHealth(clock=clock)
    assert not is_ready(health.checks())
    health.goes_on()
    assert [check.name for check in health.checks() if not check.ok] == ["kafka"]
    health.kafka_answered()
    assert is_ready(health.checks())
    assert health.status().ok
    health.durable()
    clock.now += 4.0
    assert readyz_text(health.checks(), verbose=True) == (
        "[+] kafka: answered 4000 ms ago\n[+] recording: recording; durable 4.0 s ago\nok\n"
    )
    health.paused("No space left on device")
    assert readyz_text(health.checks(), verbose=False) == "[-] recording: paused: No space left on device\nnot ready\n"
    assert (health.status().ok, health.status().found) == (False, "paused: No space left on device")
    health.goes_on()
    health.kafka_failed("fetches are not answered")
    clock.now += 1.1
    assert readyz_text(health.checks(), verbose=False) == "[-] kafka: fetches are not answered\nnot ready\n"
    assert (health.status().ok, health.status().found) == (False, "fetches are not answered")


def test_logs_that_do_not_come_are_named_and_no_reason_to_stop() -> None:
    clock = Clock()
    health = RecorderHealth(clock=clock)
    health.goes_on()
    health.kafka_answered()
    good = LogStanding("kraken", 0, "kraken/0@a", None, 0.0, "well", 0.0)
    bad = LogStanding("kraken", 1, "", "unreadable", 0.0, "cannot be read on: it was mirrored", 0.0)
    health.follows(lambda: [good, bad])
    checks = health.checks()
    assert is_ready(checks)
    assert "[!] kraken/1: unreadable: cannot be read on: it was mirrored\nok\n" in readyz_text(checks, verbose=True)
    health.ticks_denied = "no right to READ on the topic ticks.kraken"
    assert "[!] ticks: no right to READ on the topic ticks.kraken\n" in readyz_text(health.checks(), verbose=True)


def test_its_numbers() -> None:
    health, metrics = RecorderHealth(clock=Clock()), Metrics()
    register(metrics, health.status)
    health.rows, health.pauses = 7, 2
    found = exported(metrics)
    assert found["feed_record_rows"] == {"": 7}
    assert found["feed_record_pauses"] == {"": 2}
    assert found["feed_record_ok"] == {"": 0}
    assert found["feed_record_durable_age_seconds"] == {"": -1}
    assert found.get("feed_record_room_bytes", {}) == {}  # nobody has looked at the disk yet
