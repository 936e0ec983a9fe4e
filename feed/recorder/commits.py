"""The open files of all tables: rows in, batches out, all tables at the same positions after each commit.

Owns when a file is ended and a new one begun, when keyframes are due, and what is durable. Does no waiting of its own:
its methods block on the disk and are called in a thread. After any error all of it is given up, and taken up again
from the files.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from feed.recording.notes import Span
from feed.recording.part import Part
from feed.recording.tables import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from feed.channels.state import FoldRules
    from feed.recorder.rows import Taken
    from feed.recording.disk import Disk
    from feed.runtime.settings import RecordSettings

_DAY_NS: Final = 86_400 * 1_000_000_000


class _Table:
    """One table: its open file, and what was written since its last keyframes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.part: Part | None = None
        self.misnamed = False
        """Its file is called by the wall clock, since no tick had told a time."""
        self.begun = 0.0
        self.day = 0
        self.bytes = 0
        self.round_bytes = 0
        # with the dictionaries of the batch before: they may only grow
        self.empty = pa.RecordBatch.from_pylist([], schema=SCHEMAS[name])


class Commits:
    """Writes. `number`: of the last commit; `durable`: of the last one that would survive a power cut."""

    def __init__(
        self,
        disk: Disk,
        tables: Sequence[str],
        number: int,
        rules: FoldRules,
        settings: RecordSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`settings`: when files end, and how often keyframes come.

        `wall_ns` only names files that are begun before any source has told a time.
        """
        self.received_ns = 0
        """When the newest tick was received that was only read: a time for names, where there is no other."""
        self.number = self.durable = number
        self.tables = tuple(tables)
        self._disk = disk
        self._rules = rules
        self._settings = settings
        self._clock = clock
        self._wall_ns = wall_ns
        self._tables = {name: _Table(name) for name in tables}
        self._spans: dict[str, Span] = {}

    def write(self, taken: Mapping[str, Taken], positions: Mapping[str, Span]) -> None:
        """One commit.

        Raises:
            OSError: it is not known what of it is there.
        """
        number = self.number + 1
        self._spans = dict(positions)
        for name, table in self._tables.items():
            rows = taken.get(name)
            spans = self._spans
            if rows is not None:
                found = {source: Span(*_position(positions[source]), *span) for source, span in rows.spans.items()}
                spans = self._spans | found
            if table.misnamed and self._newest and table.part is not None and not table.part.rows:
                part = self._begin(table, self._leave(table))
            else:
                part = table.part or self._begin(table, number - 1)
            before = part.size
            part.write(table.empty if rows is None else rows.batch, number, spans)
            if rows is not None:
                table.empty = rows.batch.slice(0, 0)
                table.bytes += part.size - before
        self.number = number

    def sync(self) -> None:
        """Makes all commits durable.

        Raises:
            OSError: it is not known whether they are.
        """
        for table in self._tables.values():
            if table.part is not None:
                table.part.sync()
        self.durable = self.number

    def full(self) -> list[str]:
        """The tables whose file is to be ended."""
        now, day = self._clock(), self._newest // _DAY_NS
        settings = self._settings
        for table in self._tables.values():
            table.day = table.day or day
        return [
            table.name
            for table in self._tables.values()
            if table.part is not None
            and (table.part.size >= settings.rotate_bytes or now - table.begun >= settings.rotate_s or table.day != day)
            and table.part.rows
        ]

    def due(self) -> list[str]:
        """The tables whose file is to have keyframes again."""
        settings = self._settings
        return [
            table.name
            for table in self._tables.values()
            if table.bytes >= max(settings.keyframe_bytes_min, settings.keyframe_ratio * table.round_bytes)
        ]

    def end(self, name: str) -> str | None:
        """Ends a table's file; its path, to be sealed. All commits must be durable."""
        table = self._tables[name]
        part, table.part = table.part, None
        if part is None:
            return None
        part.close()
        return part.path

    def write_round(self, name: str, batches: list[pa.RecordBatch], sources: list[str]) -> None:
        """Keyframes of all channels of these sources, as they are after the last commit.

        Raises:
            OSError: it is not known what of it is there.
        """
        table = self._tables[name]
        part = table.part or self._begin(table, self.number)
        before = part.size
        # a table without channels has keyframes too: that there are none
        part.write_round(batches or [table.empty], self.number, self._spans, sources)
        table.round_bytes = part.size - before
        if batches:
            table.empty = batches[-1].slice(0, 0)
        table.bytes = 0

    def end_all(self) -> list[str]:
        """Ends all files; their paths, to be sealed.

        Raises:
            OSError: it is not known whether all commits are durable.
        """
        self.sync()
        return [path for name in self._tables if (path := self.end(name)) is not None]

    def close(self) -> None:
        """Gives all of it up."""
        for table in self._tables.values():
            if table.part is not None:
                table.part.close()

    @property
    def _newest(self) -> int:
        return max((span.clock for span in self._spans.values()), default=0)

    def _leave(self, table: _Table) -> int:
        """Gives a file up in which nothing but positions is, so that one with the right name takes its place.

        After which commit it began: so does the other one, there was nothing in between.
        """
        assert table.part is not None
        commit = table.part.commit
        path = self.end(table.name)
        assert path is not None
        self._disk.remove(path)
        return commit

    def _begin(self, table: _Table, commit: int) -> Part:
        newest = self._newest or self.received_ns
        table.misnamed = not newest
        table.part = Part(self._disk, table.name, commit, newest or self._wall_ns(), self._rules)
        table.begun, table.day = self._clock(), newest // _DAY_NS
        table.bytes = table.round_bytes = 0
        return table.part


def _position(span: Span) -> tuple[int, int, int]:
    return span.tick, span.offset, span.clock
