"""What can be believed of this gateway: whether it follows Kafka, and whether its loop turns.

Owns what `/readyz` and `/livez` say of that, and the watchdog behind the second. Whoever reads the log tells it what it
saw; time is monotonic throughout. Leaves what is to be thought of the sources to `flow`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Final

from feed.runtime.checks import Check
from feed.runtime.metrics import Metrics

_BEAT_SECONDS: Final = 0.1
_TELL_SECONDS: Final = 1.0
_logger = logging.getLogger("feed.gateway")


class Health:
    """What was seen of Kafka and of the loop."""

    def __init__(self, *, kafka_silence_ms_max: int, stall_ms_max: int, live: bool = True) -> None:
        """`live`: Kafka is followed."""
        self._live = live
        self._silence_max = kafka_silence_ms_max / 1000
        self._stall_max = stall_ms_max / 1000
        self._answered_at: float | None = None
        self._failure = ""
        self.read = asyncio.Event()
        self.draining = False
        self.others: list[Callable[[], Check]] = []
        """What else has to be so in this process."""
        self.turned_at = monotonic()

    def kafka_answered(self) -> None:
        """Kafka answered a fetch, with records or without."""
        self._answered_at = monotonic()
        self._failure = ""

    def kafka_failed(self, reason: str) -> None:
        """Kafka did not answer, or not as it must."""
        self._failure = reason

    def caught_up(self) -> None:
        """The log was read to where it ended when this gateway started."""
        self.read.set()

    def checks(self) -> list[Check]:
        """What has to be so for clients to be sent here."""
        return [
            *(self._followed() if self._live else ()),
            Check("draining", not self.draining, "going away" if self.draining else "no"),
            *(other() for other in self.others),
        ]

    def _followed(self) -> list[Check]:
        read = self.read.is_set()
        return [
            self._kafka(),
            Check("caught_up", read, "all logs were read to their ends" if read else "not all logs were read yet"),
        ]

    def stalled_seconds(self) -> float:
        """For how long the loop has not turned."""
        return max(0.0, monotonic() - self.turned_at - _BEAT_SECONDS)

    @property
    def alive(self) -> bool:
        """Whether the loop turns."""
        return self.stalled_seconds() <= self._stall_max

    def _kafka(self) -> Check:
        if self._answered_at is None:
            return Check("kafka", False, self._failure or "no answer yet")
        silent = monotonic() - self._answered_at
        return Check("kafka", silent <= self._silence_max, self._failure or f"answered {silent * 1000:.0f} ms ago")


class Watchdog:
    """A thread that sees the loop stand still, says where, and counts it."""

    def __init__(self, health: Health, metrics: Metrics, *, tell: Callable[[str], None] = _logger.error) -> None:
        self._health = health
        self._tell = tell
        self._stop = threading.Event()
        self._loop_thread = threading.get_ident()
        self._stalls = metrics.counter("feed_gateway_loop_stalls", "Times that the loop stood still for over a second")
        self._lag = metrics.histogram("feed_gateway_loop_lag_seconds", "How late the loop was for a timer")
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    async def run(self) -> None:
        """Turns with the loop until it is cancelled; the thread lives as long."""
        self._loop_thread = threading.get_ident()
        self._thread.start()
        try:
            while True:
                due = monotonic() + _BEAT_SECONDS
                await asyncio.sleep(_BEAT_SECONDS)
                self._health.turned_at = now = monotonic()
                self._lag.observe(max(0.0, now - due))
        finally:
            self._stop.set()

    def _watch(self) -> None:
        told = False
        while not self._stop.wait(_BEAT_SECONDS * 2):
            stalled = self._health.stalled_seconds()
            if stalled < _TELL_SECONDS:
                told = False
            elif not told:
                told = True
                self._stalls.value += 1
                frame = sys._current_frames().get(self._loop_thread)
                where = "".join(traceback.format_stack(frame)) if frame is not None else "unknown"
                self._tell(f"the loop stands still since {stalled:.1f} s, at:\n{where}")
