"""What can be believed of a recorder: whether it follows Kafka, whether it writes, and since when what is durable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from feed.metrics import Metrics


class Status(Struct, frozen=True):
    """How a recorder stands: `ok` while it records; `found` in words."""

    ok: bool
    found: str


class RecorderHealth:
    """What was seen of Kafka and of the disk. Durations are monotonic."""

    def __init__(
        self, metrics: Metrics, *, silence_s_max: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._silence_max = silence_s_max
        self._answered_at: float | None = None
        self._kafka = "kafka has not answered yet"
        self._why_paused = "it has not begun"
        self._durable_at: float | None = None
        self.pauses = metrics.counter("feed_record_pauses", "Times that the disk took nothing more")
        self.commits = metrics.counter("feed_record_commits", "Batches written, all tables together counted once")
        self.rows = metrics.counter("feed_record_rows", "Rows written")
        self.sealed = metrics.counter("feed_record_sealed_files", "Files sealed")
        self.deleted = metrics.counter("feed_record_deleted_files", "Files deleted because they were old or too much")
        metrics.gauge("feed_record_paused", "1 while the disk takes nothing", lambda: float(bool(self._why_paused)))
        metrics.gauge("feed_record_durable_age_seconds", "Since what is durable was read", self.durable_age_s)

    # ---- what the follower tells

    def kafka_answered(self) -> None:
        """A fetch was answered."""
        self._answered_at = self._clock()

    def kafka_failed(self, reason: str) -> None:
        """A fetch failed."""
        self._kafka = reason

    def caught_up(self) -> None:
        """All logs were read to the end that they had at the start."""

    # ---- what the recorder tells

    def paused(self, why: str) -> None:
        """The disk takes nothing."""
        self._why_paused = why
        self.pauses.value += 1

    def goes_on(self) -> None:
        """It records."""
        self._why_paused = ""

    def durable(self) -> None:
        """All that was read until now would survive a power cut."""
        self._durable_at = self._clock()

    def durable_age_s(self) -> float:
        """How old the newest thing that is durable is, about."""
        return -1.0 if self._durable_at is None else self._clock() - self._durable_at

    def status(self) -> Status:
        """How it stands."""
        if self._why_paused:
            return Status(False, f"paused: {self._why_paused}")
        if self._answered_at is None or self._clock() - self._answered_at > self._silence_max:
            return Status(False, self._kafka)
        age = self.durable_age_s()
        return Status(True, "recording" if age < 0 else f"recording; durable {age:.1f} s ago")
