"""What a normalizer has done and how it stands: counted for metrics, told in the log once a minute a reason.

Owns the numbers' names. Labels are the venue, the partition and the reason: none of them grows with time.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import asdict

from feed.runtime.throttle import ThrottledLog
from feed.venues.now import SourceCounts
from feed.wire.model import NO_SEQ

if TYPE_CHECKING:
    from feed.feedlog.writer import Dead
    from feed.runtime.metrics import Metrics
    from feed.venues.symbol import Tick
    from feed.wire.record import Record

_REASON_CHARS_MAX: Final = 80
_TROUBLE_CHARS_MAX: Final = 160
_WRITTEN_S: Final = 5.0
_WAITS_S: Final = 2.0
_JUST_NOW_S: Final = 0.001
_ODD_BARS: Final = {
    "bars_untold": "a bar is not told: its volume has more than 20 digits before the point",
    "trades_ahead": "a trade is dated more than a day ahead, and is in no bar",
    "trades_late": "a trade came too late for the bars that are kept",
}
_NOTHING_ODD: Final = SourceCounts()
log: Final = logging.getLogger("feed.normalizer")


class PartitionNumbers:
    """One partition's. `waits_s`: how long its oldest tick has waited; `age`: when the newest tick was received, ns."""

    def __init__(self, venue: str, partition: int, told: ThrottledLog) -> None:
        self.venue = venue
        self.partition = partition
        self.owned = True
        self.ticks = 0
        self.updates = 0
        self.dead: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.incarnations = 0
        self.foreign = 0
        self.records = 0
        self.log_bytes = 0
        self.behind = 0
        self.position = NO_SEQ
        """All ticks below it are in the log."""
        self.newest_ns = 0
        self.retention_unknown = False
        self._waits_s = 0.0
        self._written_at: float | None = None
        self._trouble = ""
        self._stood_at = time.monotonic()
        self._told = told

    @property
    def waits_s(self) -> float:
        """For how long the oldest tick has waited that is not read; what waited goes on waiting until it is told."""
        return self._waits_s + time.monotonic() - self._stood_at if self._waits_s else 0.0

    def begins(self) -> None:
        """It is ours from now on, and nothing was written yet."""
        self.owned, self._written_at, self._trouble, self.position = True, None, "", NO_SEQ

    @property
    def trouble(self) -> str:
        """Why it is not being written; empty where it is. A record comes at least once a second."""
        if self._trouble or self._written_at is None:
            return self._trouble or "nothing was written yet"
        since = time.monotonic() - self._written_at
        return f"nothing was written for {since:.1f} s" if since > _WRITTEN_S else ""

    @property
    def standstill(self) -> str:
        """Words about ticks that have waited too long though records are written; empty where none has."""
        waits = self.waits_s
        return f"ticks have waited for {waits:.1f} s" if waits > _WAITS_S else ""

    def took(self, ticks: Sequence[Tick], updates: int, counts: SourceCounts) -> None:
        """These ticks are read, and made so many updates; `counts`: what was odd in them."""
        if counts != _NOTHING_ODD:
            self._took_odd(counts)
        self.ticks += len(ticks)
        self.updates += updates
        self.newest_ns = max(self.newest_ns, ticks[-1].ts_recv)

    def _took_odd(self, counts: SourceCounts) -> None:
        found = asdict(counts)
        symbol = found.pop("bars_of")
        for name, count in found.items():
            if count:
                self.odd[name] += count
                self._tell_odd_bars(name, symbol, count)

    def _tell_odd_bars(self, name: str, symbol: str, count: int) -> None:
        """Other oddities are usual, or have a dead letter."""
        words = _ODD_BARS.get(name)
        if words is not None:
            where = f"{self.venue}/{self.partition}: {symbol}"
            self._told.say((name, self.venue, self.partition), f"{where}: {words}", count=count)

    def wrote(self, records: Sequence[Record]) -> None:
        """These records lie in the log."""
        self._written_at = time.monotonic()
        self.records += len(records)
        self.log_bytes += sum([len(record.value) for record in records])
        for record in records:
            if record.kind == "data":
                self.position = record.position

    def stands(self, end: int, position: int, waits_ms: int) -> None:
        """The tick log ends here, and all below `position` is read."""
        self._trouble = ""
        self.behind = max(0, end - position)
        self._waits_s, self._stood_at = waits_ms / 1000, time.monotonic()

    def retention(self, unknown: Sequence[str]) -> None:
        """Why it is not known how long its topics keep what is in them; told once."""
        if unknown and not self.retention_unknown:
            self._told.say(("retention", self.venue), f"{self.venue}: retention unknown: {'; '.join(unknown)}")
        self.retention_unknown = bool(unknown)

    def buries(self, dead: Sequence[Dead]) -> None:
        """These ticks cannot be used."""
        for one in dead:
            self.dead[one.kind] += 1
            self._told.say(
                ("dead", self.venue, one.kind),
                f"dead letter: tick {one.tick.seq} of {self.venue}/{self.partition}: {one.reason[:_REASON_CHARS_MAX]}",
                level=logging.WARNING if one.fault is None else logging.ERROR,
                error=one.fault,
            )

    def retried(self, reason: str, words: str, error: BaseException | None = None) -> None:
        """Something went wrong and is tried again. `error`: a fault of ours, told with its traceback."""
        self.retries[reason] += 1
        self._trouble = words[:_TROUBLE_CHARS_MAX]
        if not self._waits_s:  # as its log says it: what comes waits until this is over
            self._waits_s, self._stood_at = _JUST_NOW_S, time.monotonic()
        level = logging.WARNING if error is None else logging.ERROR
        self._told.say((reason, self.venue, self.partition), words, level=level, error=error)


class Numbers:
    """Those of all partitions of a process, by (venue, partition); what a partition has counted stays when it goes."""

    def __init__(self) -> None:
        self.told = ThrottledLog(log)
        self.rebalances = 0
        self._partitions: dict[tuple[str, int], PartitionNumbers] = {}

    def of(self, venue: str, partition: int) -> PartitionNumbers:
        """A partition's numbers."""
        found = self._partitions.get((venue, partition))
        if found is None:
            found = self._partitions[venue, partition] = PartitionNumbers(venue, partition, self.told)
        return found

    def all(self) -> list[PartitionNumbers]:
        """Those of every partition that was ours at any time."""
        return list(self._partitions.values())

    @property
    def ticks(self) -> int:
        """Ticks read."""
        return sum(one.ticks for one in self._partitions.values())

    @property
    def dead(self) -> int:
        """Dead letters."""
        return sum(sum(one.dead.values()) for one in self._partitions.values())

    @property
    def records(self) -> int:
        """Records written."""
        return sum(one.records for one in self._partitions.values())

    @property
    def log_bytes(self) -> int:
        """Bytes of values written."""
        return sum(one.log_bytes for one in self._partitions.values())

    def register(self, metrics: Metrics) -> None:
        """Has all of them told at a scrape."""
        each = self.all
        metrics.counted(
            "feed_ticks_taken",
            "Ticks read and covered by the feed log",
            lambda: {(one.venue, str(one.partition)): one.ticks for one in each()},
            labels=("venue", "partition"),
        )
        metrics.counted(
            "feed_updates",
            "Updates made of ticks, with the gaps and states told beside them",
            lambda: {(one.venue, str(one.partition)): one.updates for one in each()},
            labels=("venue", "partition"),
        )
        metrics.counted(
            "feed_dead_letters",
            "Ticks that could not be used, by what was wrong with them",
            lambda: {(n.venue, str(n.partition), why): count for n in each() for why, count in n.dead.items()},
            labels=("venue", "partition", "reason"),
        )
        metrics.counted(
            "feed_oddities",
            "Odd things that ended no tick: trades sent twice, ids begun anew, bad entries, odd bars and others",
            lambda: {(n.venue, str(n.partition), what): count for n in each() for what, count in n.odd.items()},
            labels=("venue", "partition", "reason"),
        )
        metrics.counted(
            "feed_retries",
            "Times that something failed and was tried again",
            lambda: {(n.venue, str(n.partition), why): count for n in each() for why, count in n.retries.items()},
            labels=("venue", "partition", "reason"),
        )
        metrics.counted(
            "feed_incarnations",
            "Incarnations of sources that were opened",
            lambda: {(one.venue, str(one.partition)): one.incarnations for one in each()},
            labels=("venue", "partition"),
        )
        metrics.counted(
            "feed_foreign_records",
            "Records in feed logs that none of ours has written",
            lambda: {(one.venue, str(one.partition)): one.foreign for one in each()},
            labels=("venue", "partition"),
        )
        metrics.gauge(
            "feed_lag_seconds",
            "How long the oldest tick has waited that is not read",
            lambda: {(one.venue, str(one.partition)): one.waits_s for one in each() if one.owned},
            labels=("venue", "partition"),
        )
        metrics.gauge(
            "feed_newest_tick_age_seconds",
            "How long ago the newest tick was received, by its collector's clock and this machine's",
            lambda: {
                (one.venue, str(one.partition)): time.time() - one.newest_ns / 1e9
                for one in each()
                if one.owned and one.newest_ns
            },
            labels=("venue", "partition"),
        )
        metrics.gauge(
            "feed_partitions_owned",
            "Partitions that this normalizer writes",
            lambda: {(venue,): count for venue, count in Counter(one.venue for one in each() if one.owned).items()},
            labels=("venue",),
        )
        metrics.gauge(
            "feed_retention_unknown",
            "1 where we may not know how long a topic is kept, so that keyframes come as often as the settings say",
            lambda: {(one.venue, str(one.partition)): float(one.retention_unknown) for one in each() if one.owned},
            labels=("venue", "partition"),
        )
        metrics.counted("feed_rebalances", "Times that partitions were shared out anew", lambda: self.rebalances)
