"""The file of a table that is being written: an Arrow stream that grows by a batch a commit.

Owns one open file. What a commit writes is whole or, after an error or a crash, cut off by whoever reads it.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from feed.channels.state import FoldRules
from feed.recording.blocks import BlockWriter
from feed.recording.disk import Disk
from feed.recording.folder import path_of
from feed.recording.frames import ZEROS
from feed.recording.notes import Note, Span
from feed.recording.tables import schema_of

_NO_CRC: Final = ZEROS.decode()


class Part:
    """An open file; `commit`: after which it begins; `rows` are those written."""

    def __init__(self, disk: Disk, table: str, commit: int, clock: int, rules: FoldRules) -> None:
        self.path = path_of(table, commit, clock)
        self.table = table
        self.commit = commit
        self.rows = 0
        self._writer = BlockWriter(schema_of(table, rules), "stream")
        self._file = disk.create(self.path)

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._file.size

    def write(self, batch: pa.RecordBatch, commit: int, spans: dict[str, Span]) -> None:
        """Appends a batch of updates.

        Raises:
            OSError: it is not whole; the file must not be written any further.
        """
        self._append(batch, Note(_NO_CRC, commit, spans))

    def write_round(
        self, batches: list[pa.RecordBatch], commit: int, spans: dict[str, Span], sources: list[str]
    ) -> None:
        """Appends the keyframes of all channels of these sources, as they are after a commit.

        Raises:
            OSError: they are not whole; the file must not be written any further.
        """
        for number, batch in enumerate(batches, 1):
            self._append(batch, Note(_NO_CRC, commit, spans, sources, len(batches) - number))

    def _append(self, batch: pa.RecordBatch, note: Note) -> None:
        data, _ = self._writer.block(batch, note)
        self._file.write(data)
        self.rows += batch.num_rows

    def sync(self) -> None:
        """Returns when all of it would survive a power cut."""
        self._file.sync()

    def close(self) -> None:
        """Closes it."""
        self._file.close()
