"""A recorder over feed logs that are lists: the whole of recording and taking up without a broker and without tasks.

Owns nothing of the rules: it reads records in order, as the follower does, and lets the recorder die wherever the test
wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from feed.channels.state import FoldRules
from feed.recorder.commits import Commits
from feed.recorder.recovery import seal_ended, take_up
from feed.recorder.session import RecorderSession
from feed.recording.disk import Disk
from feed.recording.filter import Filter
from feed.recording.tables import GAPS, STATES
from feed.runtime.settings import RecordSettings
from feed.wire.log_reader import LogReader
from feed.wire.record import Record

FILES = RecordSettings(rotate_bytes=1 << 30, rotate_s=10**9, keyframe_ratio=4.0, keyframe_bytes_min=1 << 20)


class Log:
    """One partition of a feed log: its name (`kraken/0`), and its records, those before `begin` gone."""

    def __init__(self, name: str, records: Sequence[Record], begin: int = 0) -> None:
        self.name = name
        self.records = records
        self.begin = begin


class Tape:
    """A recorder's life: made from what the files say; `read` until it is enough, then `end` it, or let it go."""

    def __init__(
        self,
        root: Path,
        logs: Sequence[Log],
        *,
        chosen: Filter | None = None,
        files: RecordSettings = FILES,
        disk: Disk | None = None,
    ) -> None:
        self.root = root
        self.disk = disk or Disk(root)
        self.chosen = chosen or Filter()
        root.mkdir(exist_ok=True, parents=True)
        taken_up = take_up(root, self.disk, self.chosen.kinds)
        self.session = RecorderSession(taken_up, self.chosen, FoldRules())
        self.commits = Commits(
            self.disk, (*self.chosen.kinds, GAPS, STATES), taken_up.commit, FoldRules(), files, wall_ns=lambda: 0
        )
        self.logs = [_Followed(log, self.session) for log in logs]

    def read(self, log: int, count: int = 1) -> bool:
        """Takes so many records of a log; False at its end."""
        return self.logs[log].read(count)

    def play(self, step: int = 20) -> None:
        """All logs to their ends, so many records of each in turn, and a commit after each round."""
        more = [True] * len(self.logs)
        while any(more):
            more = [self.read(log, step) if more[log] else False for log in range(len(more))]
            self.commit()

    def commit(self) -> None:
        """Writes what came in."""
        positions = {log.source: (log.reader.pos, log.taken) for log in self.logs if log.source}
        taken, spans = self.session.take(positions)
        if not spans:
            return
        self.commits.received_ns = self.session.received_ns
        self.commits.write(taken, spans)
        fresh, self.session.fresh = self.session.fresh, set()
        due = self.commits.due()
        for table in self.commits.tables:
            if table in due:
                self.commits.write_round(table, *self.session.keyframes(table))
            elif fresh:
                self.commits.write_round(table, *self.session.keyframes(table, fresh))
        self.rotate(self.commits.full())

    def rotate(self, tables: Sequence[str]) -> None:
        """Ends the files of some tables and begins new ones."""
        for table in tables:
            path = self.commits.end(table)
            self.commits.write_round(table, *self.session.keyframes(table))
            if path is not None:
                seal_ended(self.root, self.disk, path)

    def lose(self, table: str) -> None:
        """A fault, planted: the rows of a table since the last commit are not written."""
        positions = {log.source: (log.reader.pos, log.taken) for log in self.logs if log.source}
        taken, spans = self.session.take(positions)
        assert taken.pop(table).batch.num_rows
        self.commits.write(taken, spans)

    def end(self) -> None:
        """As it ends when it is told to."""
        self.commit()
        for path in self.commits.end_all():
            seal_ended(self.root, self.disk, path)

    def die(self) -> None:
        """As it ends when it is killed: what is written is there."""
        self.commits.close()


class _Followed:
    def __init__(self, log: Log, session: RecorderSession) -> None:
        self.log = log
        self.session = session
        self.reader = LogReader()
        self.source = ""
        self.open = False
        wanted = session.starts(log.name, log.begin, len(log.records))
        if not isinstance(wanted, int):
            start = next(record.floor for record in log.records[log.begin :] if record.floor >= log.begin)
        elif wanted >= len(log.records):
            start = log.records[-1].floor
        else:
            start = log.records[wanted].floor
        self.at = self.taken = max(start, log.begin)

    def read(self, count: int) -> bool:
        session = self.session
        for record in self.log.records[self.at : self.at + count]:
            self.at += 1
            before = self.reader.take(record)
            if before is None:
                continue
            session.passed(record.source, record.offset)
            if record.kind == "data":
                self.open = not record.covers and len(record.value) > 2
            if not self.open:
                self.taken = self.at
            if record.kind == "source":
                session.opened(record.source, record.ends, record.carries, record.missing)
                self.source = record.source
            elif self.reader.source != self.source:
                session.found(self.reader.source, self.source)
                self.source = self.reader.source
            if record.kind == "data":
                session.data(record.source, before, self.reader.pos, record.value, record.end)
            elif record.kind == "keyframe":
                session.keyframe(record.source, record.symbol, record.value)
        return self.at < len(self.log.records)
