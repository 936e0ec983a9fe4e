"""What can be believed of a recorder: whether it follows Kafka, whether it writes, and since when what is durable."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct


class Status(Struct, frozen=True):
    """How a recorder stands: `ok` while it records, `found` in words, and what it has done since it started."""

    ok: bool
    found: str
    rows: int = 0
    commits: int = 0
    sealed_files: int = 0
    deleted_files: int = 0
    pauses: int = 0
    caught_up: bool = False
    """Whether it follows all logs, and has read them to the end that they had when it came."""
    ticks: dict[str, int] = {}
    """Of each source the last tick up to which it is written."""
    durable_age_s: float = -1.0
    """How long ago what is durable was read; -1: nothing is yet."""


class RecorderHealth:
    """What was seen of Kafka and of the disk. Durations are monotonic."""

    def __init__(self, *, silence_s_max: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = 0
        self.commits = 0
        self.sealed_files = 0
        self.deleted_files = 0
        self.pauses = 0
        self.ticks: dict[str, int] = {}
        self._caught_up = False
        self._clock = clock
        self._silence_max = silence_s_max
        self._answered_at: float | None = None
        self._kafka = "kafka has not answered yet"
        self._why_paused = "it has not begun"
        self._durable_at: float | None = None

    # ---- what the follower tells

    def kafka_answered(self) -> None:
        """A fetch was answered."""
        self._answered_at = self._clock()

    def kafka_failed(self, reason: str) -> None:
        """A fetch failed."""
        self._kafka = reason

    def caught_up(self) -> None:
        """All logs were read to the end that they had at the start."""
        self._caught_up = True

    # ---- what the recorder tells

    def paused(self, why: str) -> None:
        """The disk takes nothing."""
        self._why_paused = why
        self._caught_up = False
        self.pauses += 1

    def goes_on(self) -> None:
        """It records."""
        self._why_paused = ""

    def durable(self) -> None:
        """All that was read until now would survive a power cut."""
        self._durable_at = self._clock()

    def status(self) -> Status:
        """How it stands."""
        ok, found = self._found()
        return Status(
            ok,
            found,
            rows=self.rows,
            commits=self.commits,
            sealed_files=self.sealed_files,
            deleted_files=self.deleted_files,
            pauses=self.pauses,
            caught_up=self._caught_up,
            ticks=self.ticks,
            durable_age_s=-1.0 if self._durable_at is None else round(self._clock() - self._durable_at, 3),
        )

    def _found(self) -> tuple[bool, str]:
        if self._why_paused:
            return False, f"paused: {self._why_paused}"
        if self._answered_at is None or self._clock() - self._answered_at > self._silence_max:
            return False, self._kafka
        if self._durable_at is None:
            return True, "recording"
        return True, f"recording; durable {self._clock() - self._durable_at:.1f} s ago"
