"""What a recording holds, counted: channels, times, gaps, files.

Owns the counting for `replay info`. Reads every batch once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from msgspec import Struct

from feed.recording.merge import order_of
from feed.recording.notes import Gone
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import TableFiles
from feed.recording.tables import GAPS
from feed.wire.model import KINDS
from feed.wire.times import text_of


class ChannelSummary(Struct):
    """One channel: its updates, and when its first and last were received (RFC 3339, empty where none was).

    `rows`: those of its table, of which an update of several trades has as many.
    """

    channel: str
    symbol: str
    updates: int = 0
    first: str = ""
    last: str = ""
    rows: int = 0


class Summary(Struct):
    """A recording. `positions`: the last tick of each source that is in it; `torn_bytes`: after whole batches."""

    path: str
    files: int
    bytes: int
    open_files: int
    torn_bytes: int
    first: str
    last: str
    updates: int
    channels: list[ChannelSummary]
    gaps: dict[str, int]
    positions: dict[str, int]
    rows: int = 0


def summary_of(recording: RecordingFiles, tell: Callable[[int], None] = lambda done: None) -> Summary:
    """Counts; `tell` is given the bytes read so far.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    count = _Count()
    done = 0
    for table in (*KINDS, GAPS):
        table_files = recording.files_by_table[table]
        while True:
            try:
                mine, read = _counted(table_files, tell, done)
                break
            except Gone:
                continue  # deleted while it was counted: what there is now is counted
        count.add(mine)
        done = read
    counts, firsts, lasts, gaps = count.updates, count.firsts, count.lasts, count.gaps
    places = [place for table_files in recording.files_by_table.values() for place in table_files.places]
    channels = [
        ChannelSummary(
            kind,
            symbol,
            counts[kind, symbol],
            text_of(firsts[kind, symbol]),
            text_of(lasts[kind, symbol]),
            count.rows[kind, symbol],
        )
        for kind, symbol in sorted(counts, key=lambda key: (key[1], KINDS.index(key[0])))
    ]
    return Summary(
        path=recording.folder.name,
        files=len(places),
        bytes=sum(place.size for place in places),
        open_files=sum(not place.sealed for place in places),
        torn_bytes=_torn(recording),
        first=text_of(min(firsts.values())) if firsts else "",
        last=text_of(max(lasts.values())) if lasts else "",
        updates=sum(counts.values()),
        channels=channels,
        gaps=dict(gaps),
        positions={source: span.tick for source, span in sorted(recording.positions.items())},
        rows=sum(count.rows.values()),
    )


class _Count:
    """Updates and rows of each channel, when its first and last were, and gaps by reason."""

    def __init__(self) -> None:
        self.rows: Counter[tuple[str, str]] = Counter()
        self.updates: Counter[tuple[str, str]] = Counter()
        self.firsts: dict[tuple[str, str], int] = {}
        self.lasts: dict[tuple[str, str], int] = {}
        self.gaps: Counter[str] = Counter()

    def add(self, other: _Count) -> None:
        """Those of another table."""
        self.rows += other.rows
        self.updates += other.updates
        self.firsts |= other.firsts
        self.lasts |= other.lasts
        self.gaps += other.gaps

    def take(self, kind: str, batch: pa.RecordBatch) -> None:
        """The updates of a block."""
        clock, _ = order_of(batch)
        keep = ~batch.column("is_snapshot").to_numpy(zero_copy_only=False)
        names = batch.column("symbol").dictionary.to_pylist()
        rows = np.bincount(batch.column("symbol").indices.to_numpy()[keep], minlength=len(names)).tolist()
        self.rows.update({(kind, name): number for name, number in zip(names, rows, strict=True) if number})
        if "item" in batch.schema.names:
            keep &= batch.column("item").fill_null(0).to_numpy() == 0
        codes, times = batch.column("symbol").indices.to_numpy()[keep], clock[keep]
        if not len(codes):
            return
        order = np.argsort(codes, kind="stable")
        found, begins = np.unique(codes[order], return_index=True)
        for code, begin, end in zip(found, begins, [*begins[1:], len(order)], strict=True):
            key, mine = (kind, names[code]), times[order[begin:end]]
            self.updates[key] += len(mine)
            self.firsts[key] = min(self.firsts.get(key, int(mine[0])), int(mine.min()))
            self.lasts[key] = max(self.lasts.get(key, 0), int(mine.max()))


def _counted(table_files: TableFiles, tell: Callable[[int], None], done: int) -> tuple[_Count, int]:
    """One table, and how many bytes were read with it."""
    count = _Count()
    for ref in table_files.refs():
        block = table_files.block(ref)
        if not block.note.keyframes and block.rows:
            batch = table_files.rows(ref)
            if table_files.table == GAPS:
                count.gaps.update(batch.column("reason").to_pylist())
            else:
                count.take(table_files.table, batch)
        done += block.end - block.start
        tell(done)
    return count, done


def _torn(recording: RecordingFiles) -> int:
    return sum(
        table_files.file(number).torn_bytes
        for table_files in recording.files_by_table.values()
        for number, place in enumerate(table_files.places)
        if not place.sealed
    )


def lines_of(summary: Summary) -> list[str]:
    """A summary in words."""
    open_ = f", {summary.open_files} still open" if summary.open_files else ""
    lines = [
        f"{summary.path}: {summary.updates:,} updates of {len(summary.channels)} channels, {summary.rows:,} rows",
        f"{summary.files} files, {summary.bytes:,} bytes{open_}",
        f"{summary.first or '-'} to {summary.last or '-'}",
        "gaps: " + (", ".join(f"{count} {reason}" for reason, count in sorted(summary.gaps.items())) or "none"),
    ]
    width = max((len(channel.symbol) for channel in summary.channels), default=6)
    lines.append(f"  {'':{width}}  {'':11}  {'updates':>12} {'rows':>12}")
    lines += [
        f"  {channel.symbol:{width}}  {channel.channel:11}  {channel.updates:>12,} {channel.rows:>12,}  "
        f"{channel.first} to {channel.last}"
        for channel in summary.channels
    ]
    return lines
