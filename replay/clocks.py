"""The clocks of a recording's rows: each is when some tick was received, and never later than all that were.

Owns what `replay verify` asks of them. A clock is the running maximum of `ts_recv`; a turn stands some nanoseconds
after what came before it (earlier versions: microseconds), and behind what the source said that it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feed.recording.footing import is_trimmed
from feed.recording.merge import order_of
from feed.recording.recording import RecordingFiles
from replay.timeline import Timeline

TURNS_NS: Final = 1_000_000_000
"""So far at most the turns of a recording move a clock from the ticks."""


class Clocks:
    """For each source the newest clock and where it is; for each venue when its newest tick was received."""

    def __init__(self, recording: RecordingFiles) -> None:
        self._newest: dict[str, tuple[int, str]] = {}
        self._received = _begins(recording)

    def see(self, batch: pa.RecordBatch, where: str) -> None:
        """Takes note of a batch's rows."""
        if not batch.num_rows:
            return
        clock, received = order_of(batch)[0], received_of(batch)
        codes, names = batch.column("source").indices.to_numpy(), batch.column("source").dictionary
        for code in np.unique(codes).tolist():
            mine, name = codes == code, names[code].as_py()
            newest = int(clock[mine].max())
            if newest > self._newest.get(name, (-1, ""))[0]:
                self._newest[name] = newest, where
            venue = venue_of(name)
            self._received[venue] = max(self._received.get(venue, 0), int(received[mine].max()))

    def ceiling(self, source: str) -> int:
        """No clock of a source may be later."""
        return self._received.get(venue_of(source), 0) + TURNS_NS

    @property
    def wrong(self) -> list[str]:
        """The sources of which one is."""
        return sorted(name for name, (newest, _) in self._newest.items() if newest > self.ceiling(name))

    def faults(self) -> Iterator[str]:
        """What is wrong, in words."""
        for name in self.wrong:
            newest, where = self._newest[name]
            last = self._received[venue_of(name)]
            yield (
                f"{where}: clock of {name} is {_words(newest)}, but its newest tick was received {_words(last)};"
                " `replay repair` sets it right"
            )


def timelines_of(recording: RecordingFiles) -> dict[str, Timeline]:
    """Of each source whose clocks are wrong, what they should have been.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    clocks = Clocks(recording)
    for _, batch in _batches(recording):
        clocks.see(batch, "")
    found = {name: Timeline(clocks.ceiling(name)) for name in clocks.wrong}
    for keyframes, batch in _batches(recording) if found else ():
        if keyframes or not batch.num_rows:
            continue
        clock, at = order_of(batch)
        received = received_of(batch)
        names = batch.column("source").dictionary.to_pylist()
        for name, timeline in found.items():
            mine = batch.column("source").indices.to_numpy() == (names.index(name) if name in names else -1)
            if mine.any():
                timeline.note(clock[mine], at[mine], received[mine])
    for timeline in found.values():
        timeline.reckon()
    return found


def _batches(recording: RecordingFiles) -> Iterator[tuple[bool, pa.RecordBatch]]:
    """All rows, and whether they are keyframes."""
    for table_files in recording.files_by_table.values():
        for ref in table_files.refs():
            yield bool(table_files.block(ref).note.keyframes), table_files.rows(ref)


def received_of(batch: pa.RecordBatch) -> np.ndarray:
    """When the tick of each row was received, 0 where it does not say."""
    name = next((name for name in ("ts_recv", "since") if name in batch.schema.names), None)
    if name is None:
        return np.zeros(batch.num_rows, np.int64)
    received: np.ndarray = pc.fill_null(batch.column(name).cast(pa.int64()), 0).to_numpy()
    return received


def venue_of(source: str) -> str:
    """A symbol moves from source to source within its venue only."""
    return source.partition("/")[0]


def _begins(recording: RecordingFiles) -> dict[str, int]:
    """Where files before these are gone: the clocks that they left, by venue."""
    found: dict[str, int] = {}
    for table_files in recording.files_by_table.values():
        ref = next(table_files.refs(), None)
        if ref is not None and is_trimmed(table_files):
            for source, span in table_files.block(ref).note.sources.items():
                found[venue_of(source)] = max(found.get(venue_of(source), 0), span.clock)
    return found


def _words(clock: int) -> str:
    return datetime.fromtimestamp(clock / 1e9, UTC).isoformat(timespec="seconds")
