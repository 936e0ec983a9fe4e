"""What the gateway says of itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from feed.gateway.health import Health, Watchdog
from feed.runtime.metrics import Metrics


class Clock:
    """Monotonic time by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the health module."""
    found = Clock()
    monkeypatch.setattr("feed.gateway.health.monotonic", found)
    return found


def health() -> Health:
    """With round bounds."""
    return Health(kafka_silence_ms_max=5000, stall_ms_max=5000)


def bad(found: Health) -> list[str]:
    """The names of the checks that fail."""
    return [check.name for check in found.checks() if not check.ok]


def test_nothing_is_believed_at_the_start(clock: Clock) -> None:
    assert bad(health()) == ["kafka", "caught_up"]


def test_ready(clock: Clock) -> None:
    found = health()
    found.kafka_answered()
    found.caught_up()
    assert bad(found) == []


def test_kafka_that_is_silent_for_too_long(clock: Clock) -> None:
    found = health()
    found.kafka_answered()
    found.caught_up()
    clock.now += 5.0
    assert bad(found) == []
    clock.now += 0.1
    assert bad(found) == ["kafka"]
    found.kafka_failed("no broker")
    assert found.checks()[0].found == "no broker"
    found.kafka_answered()
    assert bad(found) == []


def test_one_failed_fetch_is_not_the_end(clock: Clock) -> None:
    found = health()
    found.kafka_answered()
    found.caught_up()
    found.kafka_failed("one broker of three")
    assert bad(found) == []


def test_draining_is_not_ready(clock: Clock) -> None:
    found = health()
    found.kafka_answered()
    found.caught_up()
    found.draining = True
    assert bad(found) == ["draining"]


def test_alive_until_the_loop_stands_still_for_long(clock: Clock) -> None:
    found = health()
    found.turned_at = clock.now
    clock.now += 5.0
    assert found.alive
    clock.now += 0.2
    assert not found.alive


@pytest.mark.slow
def test_the_watchdog_says_where_the_loop_stands_still() -> None:
    told: list[str] = []
    found = health()

    async def main() -> None:
        watchdog = asyncio.create_task(Watchdog(found, Metrics(), tell=told.append).run())
        await asyncio.sleep(0.05)
        time.sleep(3.0)
        await asyncio.sleep(0.3)
        watchdog.cancel()

    asyncio.run(main())
    assert len(told) == 1
    assert "time.sleep(3.0)" in told[0]
