"""Books of which the recording has lost states: `stale` until it is known again how they stand.

Owns since when, and until when. An update may have made a book stale, or good again, where a batch of the states was
lost: nothing says which. So it counts as stale (reason `gap`) from the begin of the loss to what is told of it next:
its next state, or the next round of keyframes of all states, of which whoever is not in it is well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from feed.recording.merge import order_of
from feed.recording.recording import RecordingFiles
from feed.recording.tables import SCHEMAS, STATES
from replay.added import Added, plain, rounds
from replay.losses import Losses, LostBatch, Spans

_BOOK: Final = "book"
_Key = tuple[str, str]
"""Symbol and source."""
_Place = tuple[float, int]
"""Clock and tick in the source's order."""
_Row = dict[str, Any]
_NOWHERE: Final[_Place] = (float("inf"), 0)


def doubts_of(recording: RecordingFiles, lost: Sequence[LostBatch], spans: Spans) -> list[Added]:
    """The states to be told where some are lost.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    books, states = _Books(recording), _States(recording)
    added: list[Added] = []
    for loss in lost:
        losses = Losses(spans, [loss])
        for key, first in books.firsts.items():
            # none where nothing of its source came meanwhile
            stretches = losses.behind(key[1], first)
            if not stretches:
                continue
            end = stretches[-1].end
            begin = max(first, stretches[0].begin)
            known = states.after(key, end)
            told, row = states.round(key, loss.last, spans)
            until = min(known, told)
            places = [begin, *(at for at in books.snapshots.get(key, ()) if begin < at < until)]
            rows = [_row(key, place, "stale", "gap") for place in places]
            rows += [row] if told < known else []
            # behind what is left of the states before the loss, keyframes among it
            commits = [max(loss.after + 1, spans.commit(key[1], row["clock"], row["at"])) for row in rows]
            added += map(Added, rows, commits)
    return added


def _row(key: _Key, place: tuple[int, int], state: str, reason: str | None) -> _Row:
    clock, at = place
    row: _Row = {"source": key[1], "channel": _BOOK, "symbol": key[0], "seq": at, "state": state}
    return row | {"reason": reason, "since": clock, "is_keyframe": False, "at": at, "clock": clock}


class _Books:
    """Where each book begins in the files, and where snapshots of it were told."""

    def __init__(self, recording: RecordingFiles) -> None:
        self.firsts: dict[_Key, tuple[int, int]] = {}
        self.snapshots: dict[_Key, list[tuple[int, int]]] = {}
        table_files = recording.files_by_table[_BOOK]
        for ref in table_files.refs():
            note, batch = table_files.block(ref).note, table_files.rows(ref)
            clock, at = order_of(batch)
            columns = (batch.column(name).to_pylist() for name in ("symbol", "source", "is_snapshot"))
            places = zip(clock.tolist(), at.tolist(), strict=True)
            for symbol, source, snapshot, place in zip(*columns, places, strict=True):
                self.firsts.setdefault((symbol, source), place)
                if snapshot and not note.keyframes:
                    self.snapshots.setdefault((symbol, source), []).append(place)


class _States:
    """What is told of books: by states of their own, and by rounds of all that are not `ok`."""

    def __init__(self, recording: RecordingFiles) -> None:
        self._told: dict[_Key, list[tuple[int, int]]] = {}
        table_files = recording.files_by_table[STATES]
        for ref in table_files.refs():
            if not table_files.block(ref).note.keyframes:
                for row in _rows(table_files.rows(ref)):
                    self._told.setdefault((row["symbol"], row["source"]), []).append((row["clock"], row["at"]))
        self._rounds = [
            (
                note.commit,
                set(note.keyframes),
                {(row["symbol"], row["source"]): row for batch in batches for row in _rows(batch)},
            )
            for note, batches in rounds(table_files)
        ]

    def after(self, key: _Key, end: _Place) -> _Place:
        """Where a book is told of next behind a place."""
        return min((place for place in self._told.get(key, ()) if place > end), default=_NOWHERE)

    def round(self, key: _Key, commit: int, spans: Spans) -> tuple[_Place, _Row]:
        """Where, and what, a round says of it as of a commit or a later one."""
        for number, sources, stale in self._rounds:
            span = spans.at(key[1], number)
            if number >= commit and key[1] in sources and span is not None:
                place = span.clock, span.tick
                if key not in stale:
                    return place, _row(key, place, "ok", None)
                return place, stale[key] | {"is_keyframe": False, "clock": span.clock, "at": span.tick}
        return _NOWHERE, {}


def _rows(batch: pa.RecordBatch) -> list[_Row]:
    rows: list[_Row] = plain(batch, SCHEMAS[STATES]).to_pylist()
    return [row for row in rows if row["channel"] == _BOOK]
