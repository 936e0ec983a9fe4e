"""Reading the feed log: which records are valid and what of them is new.

Owns the rules that make several writers and copies harmless. The first copy of a tick's messages in log order is the
truth; later copies are equal and are dropped. A `source` record opens an incarnation: the first with a given `ends`
wins, and records of any other source are void from there on. What the messages mean is the hub's, the recorder's or
the normalizer's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feed.errors import FeedError
from feed.model import NO_SEQ

if TYPE_CHECKING:
    from feed.channels.record import Record


class HoleInLog(FeedError):
    """A record follows ticks that were not read; start again at `floor`."""

    def __init__(self, record: Record, pos: int) -> None:
        super().__init__(f"record at offset {record.offset} follows tick {record.after}, read up to tick {pos}")
        self.floor = record.floor


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

    def take(self, record: Record) -> int | None:
        """The position before this record: of its messages those with a higher `seq` are new. None: pass it over.

        Raises:
            HoleInLog: ticks between `pos` and this record were not read.
        """
        if record.kind == "source":
            return self._open(record)
        if not self.source:
            self.source, self.pos = record.source, record.after
        if record.source != self.source:
            self.void += 1
            return None
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

    def _open(self, record: Record) -> int | None:
        if self.source and record.ends != self.source:
            self.void += 1
            return None
        self.source = record.source
        self.pos = record.last
        return record.last
