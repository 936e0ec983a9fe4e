"""From where on a recording can be stood upon, where retention has deleted its first files.

Owns which tables have lost their begin, and where the states of all their channels are known again: with the first
round of each source. Rows may lie before that. A recorder that was started again writes what its first commit brought,
and the round behind it; while the file before is there, they follow on that one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pyarrow as pa

from feed.recording.notes import CorruptRecording, Gone
from feed.recording.table_files import NEVER, BlockRef, TableFiles
from feed.wire.model import KINDS, NO_SEQ

WHOLE: Final = -1
"""The footing of what lacks nothing of its begin: before any time."""
_COLUMNS: Final = ("symbol", "source", "prev", "is_snapshot")


def footing_of(files_by_table: Iterable[TableFiles]) -> int:
    """The clock from which on these tables can be stood upon; `NEVER` where they cannot.

    What a source did until then may be known of some channels alone, so it is one moment for all of them: a channel may
    have moved from one source to another meanwhile.

    Raises:
        CorruptRecording: a file cannot be opened.
        Gone: a file was deleted meanwhile.
    """
    return max((_footing(table_files) for table_files in files_by_table if is_trimmed(table_files)), default=WHOLE)


def is_trimmed(table_files: TableFiles) -> bool:
    """Whether a table had files before those that are there.

    A kind that came to a recording later had none: of each of its channels the first rows tell where it begins.

    Raises:
        CorruptRecording: a file cannot be opened.
        Gone: a file was deleted meanwhile.
    """
    if table_files.has_first:
        return False
    if table_files.table not in KINDS:
        return True  # gaps and states are recorded whatever is chosen
    told: set[tuple[str, str]] = set()
    pending: set[str] | None = None
    for ref in table_files.refs():
        note = table_files.block(ref).note
        pending = set(note.sources) if pending is None else pending & set(note.sources)
        try:
            rows = _firsts(table_files, ref)
        except Gone:
            raise
        except CorruptRecording:
            return True  # who needs these rows is told of it; a range is known without them
        if note.keyframes:
            if not told.issuperset(rows):
                return True
            pending -= set() if note.left else set(note.keyframes)
        elif any(not begins for channel, begins in rows.items() if channel not in told):
            return True
        told |= rows.keys()
        if not pending:
            return False
    return False


def _footing(table_files: TableFiles) -> int:
    clock = WHOLE
    pending: set[str] | None = None
    for ref in table_files.refs():
        note = table_files.block(ref).note
        # of a source that has ended all went on in others, which are recorded from their begin
        pending = set(note.sources) if pending is None else pending & set(note.sources)
        if note.keyframes and not note.left:
            pending -= set(note.keyframes)
            clock = max(clock, *(span.clock for span in note.sources.values()))
        if not pending:
            return clock
    return NEVER


def _firsts(table_files: TableFiles, ref: BlockRef) -> dict[tuple[str, str], bool]:
    """The channels and sources of a block, and whether their first row tells where they begin."""
    batch = table_files.rows(ref)
    rows = zip(*(_plain(batch.column(name)) for name in _COLUMNS), strict=True)
    found: dict[tuple[str, str], bool] = {}
    for symbol, source, prev, is_snapshot in rows:
        found.setdefault((symbol, source), is_snapshot or prev == NO_SEQ)
    return found


def _plain(column: pa.Array) -> list[object]:
    values: list[object] = column.to_pylist()
    return values
