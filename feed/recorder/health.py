"""What can be believed of a recorder: whether it follows Kafka, whether it writes, and since when what is durable.

Owns the words and the numbers, also for a process that runs a recorder as its child.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from feed.runtime.checks import Check

if TYPE_CHECKING:
    from feed.follow.followed import LogStanding
    from feed.runtime.metrics import Metrics

_TOLD_MAX: Final = 20
FEED: Final = "feed logs"
"""What a recorder records, if it records anything."""


class RecorderStatus(Struct, frozen=True):
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
    room_bytes: int | None = None
    """How much may still be written before it pauses, as its disk was seen last; below 0: so much is missing."""


class RecorderHealth:
    """What was seen of Kafka and of the disk. Durations are monotonic."""

    def __init__(self, *, silence_s_max: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = 0
        self.commits = 0
        self.sealed_files = 0
        self.deleted_files = 0
        self.pauses = 0
        self.ticks: dict[str, int] = {}
        self.room_bytes: int | None = None
        self._caught_up = False
        self._clock = clock
        self._silence_max = silence_s_max
        self._answered_at: float | None = None
        self._kafka = "kafka has not answered yet"
        self._why_paused = {FEED: "it has not begun"}
        self._durable_at: float | None = None
        self._standings: Callable[[], list[LogStanding]] = list
        self.ticks_denied = ""
        """Which right is missing to record ticks."""

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

    def paused(self, why: str, what: str = FEED) -> None:
        """The disk takes nothing; of what, where feed logs are not all that is recorded."""
        self._why_paused[what] = why
        if what == FEED:
            self._caught_up = False
        self.pauses += 1

    def goes_on(self, what: str = FEED) -> None:
        """It records."""
        self._why_paused.pop(what, None)

    def durable(self) -> None:
        """All that was read until now would survive a power cut."""
        self._durable_at = self._clock()

    def status(self) -> RecorderStatus:
        """How it stands."""
        ok, found = self._found()
        return RecorderStatus(
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
            room_bytes=self.room_bytes,
        )

    def follows(self, standings: Callable[[], list[LogStanding]]) -> None:
        """How the logs stand that it records from now on."""
        self._standings = standings

    def checks(self) -> list[Check]:
        """What has to be so for it to record, and which logs do not come."""
        bad = [one for one in self._standings() if one.reason is not None]
        return [
            self._kafka_check(),
            self._disk_check(),
            *([Check("ticks", False, self.ticks_denied, counts=False)] if self.ticks_denied else ()),
            *(
                Check(f"{one.venue}/{one.partition}", False, f"{one.reason}: {one.found}", counts=False)
                for one in bad[:_TOLD_MAX]
            ),
        ]

    def _found(self) -> tuple[bool, str]:
        worst = next((check for check in (self._disk_check(), self._kafka_check()) if not check.ok), self._disk_check())
        return worst.ok, worst.found

    def _kafka_check(self) -> Check:
        if self._answered_at is None or self._clock() - self._answered_at > self._silence_max:
            return Check("kafka", False, self._kafka)
        return Check("kafka", True, f"answered {(self._clock() - self._answered_at) * 1000:.0f} ms ago")

    def _disk_check(self) -> Check:
        for why in self._why_paused.values():
            return Check("recording", False, f"paused: {why}")
        if self._durable_at is None:
            return Check("recording", True, "recording")
        return Check("recording", True, f"recording; durable {self._clock() - self._durable_at:.1f} s ago")


def register(metrics: Metrics, status: Callable[[], RecorderStatus]) -> None:
    """Has a recorder's numbers told at a scrape."""
    metrics.gauge("feed_record_ok", "1 while it records", lambda: float(status().ok))
    metrics.gauge("feed_record_rows", "Rows written by the recorder", lambda: status().rows)
    metrics.gauge(
        "feed_record_commits",
        "Batches written by the recorder, those of all tables counted once",
        lambda: status().commits,
    )
    metrics.gauge("feed_record_sealed_files", "Files sealed by the recorder", lambda: status().sealed_files)
    metrics.gauge(
        "feed_record_deleted_files",
        "Files deleted by the recorder because they were old or too much",
        lambda: status().deleted_files,
    )
    metrics.gauge("feed_record_pauses", "Times that the recorder's disk took nothing more", lambda: status().pauses)
    metrics.gauge(
        "feed_record_durable_age_seconds",
        "Since when what is durable was read; -1 before anything is",
        lambda: status().durable_age_s,
    )
    metrics.gauge("feed_record_room_bytes", "What may still be written before it pauses", lambda: _room(status()))


def _room(status: RecorderStatus) -> int | dict[str, float]:
    """Nothing, before the disk was looked at."""
    return {} if status.room_bytes is None else status.room_bytes
