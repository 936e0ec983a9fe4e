"""Reading the feed log: which records are valid and what of them is new.

Owns the rules that make several writers and copies harmless. The first copy of a tick's messages in log order is the
truth; later copies are equal and are dropped. A `source` record opens an incarnation: the first with a given `ends`
wins, and records of any other source are void from there on. What the messages mean is the hub's, the recorder's or
the normalizer's business.

A damaged record is passed over, and the log is in doubt from there on. The record after it settles that: it says which
tick was covered before it, so either nothing is missing, or what is missing is lost, and the log is good again when a
record's floor lies behind the damage: every channel has had a keyframe since. Of a tick that fills several records only
the last one covers it: what may have been one of the others is lost, unless a record without messages comes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feed.errors import FeedError
from feed.wire.model import NO_SEQ
from feed.wire.record import EMPTY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from feed.errors import DamagedRecord
    from feed.wire.record import Record


class HoleInLog(FeedError):
    """A record follows ticks that were not read; start again at `floor`."""

    def __init__(self, record: Record, pos: int) -> None:
        super().__init__(f"record at offset {record.offset} follows tick {record.after}, read up to tick {pos}")
        self.floor = record.floor
        self.offset = record.offset


class LogReader:
    """Reads one partition of a feed log from some record's floor, in order.

    `source` is the valid source so far (empty before the first record), `pos` the last tick covered. Keyframes older
    than `pos` come from a writer that is behind; nothing is ever built on them, and they are passed over.
    """

    def __init__(self) -> None:
        self.source = ""
        self.pos = NO_SEQ
        self.copies = 0
        self.void = 0
        self.damaged = 0
        self.damaged_at: int | None = None
        """The newest damaged record of the valid source, until the log is good again."""
        self._lost = False
        self._told = False
        """Whether messages may have been in what was damaged, of a tick that was not covered yet."""

    def take(self, record: Record) -> int | None:
        """The position before this record: of its messages those with a higher `seq` are new. None: pass it over.

        Raises:
            HoleInLog: ticks between `pos` and this record were not read, and no damaged record says why.
        """
        if record.kind == "source":
            return self._open(record)
        if not self.source:
            self.source, self.pos = record.source, record.after
        if record.source != self.source:
            self.void += 1
            return None
        if self.damaged_at is not None:
            self._look_at_damage(record)
        if record.kind != "data":
            return self.pos if record.at >= self.pos else None
        if record.after > self.pos:
            raise HoleInLog(record, self.pos)
        before = self.pos
        if record.covers:
            if record.last <= before:
                self.copies += 1
                return None
            self.pos = record.last
        elif record.after < before:
            self.copies += 1
            return None
        return before

    def pass_over(self, damaged: DamagedRecord) -> bool:
        """Takes note of a damaged record; whether it names the valid source."""
        if self.source and damaged.source != self.source:
            return False
        self.damaged += 1
        self.damaged_at = damaged.offset
        self._told = self._told or damaged.told
        return True

    def spoil(self, record: Record) -> None:
        """A record that was taken cannot be used: what it said is lost."""
        self.damaged += 1
        self.damaged_at, self._lost = record.offset, True

    def _look_at_damage(self, record: Record) -> None:
        assert self.damaged_at is not None
        if record.kind == "data" and record.after > self.pos:
            self._lost, self.pos = True, record.after
        elif record.kind == "data" and record.after == self.pos and not self._lost:
            empty = not record.covers and len(record.value) <= len(EMPTY)
            if empty or not self._told:
                self._trust()
                return
            self._lost = record.covers
        if record.floor > self.damaged_at:
            self._trust()

    def _trust(self) -> None:
        """The log is good again."""
        self.damaged_at, self._lost, self._told = None, False, False

    def _open(self, record: Record) -> int | None:
        if self.source and record.ends != self.source:
            self.void += 1
            return None
        self.source = record.source
        self.pos = record.last
        self._trust()
        return record.last


def valid_source(records: Iterable[Record], before: str = "") -> str:
    """The source that is valid after these records, where `before` was until then (empty: none)."""
    for record in records:
        if not before or (record.kind == "source" and record.ends == before):
            before = record.source
    return before
