"""What a recording holds, counted: channels, times, gaps, files.

Owns the counting for `replay info`. Reads every batch once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from msgspec import Struct

from feed.model import KINDS
from feed.recording.merge import order_of
from feed.recording.recording import Recording
from feed.recording.tables import GAPS
from feed.times import text_of


class ChannelSummary(Struct):
    """One channel: its updates, and when its first and last were received (RFC 3339, empty where none was)."""

    channel: str
    symbol: str
    updates: int = 0
    first: str = ""
    last: str = ""


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


def summary_of(recording: Recording, tell: Callable[[int], None] = lambda done: None) -> Summary:
    """Counts; `tell` is given the bytes read so far.

    Raises:
        CorruptRecording: a batch is damaged.
    """
    counts: Counter[tuple[str, str]] = Counter()
    firsts: dict[tuple[str, str], int] = {}
    lasts: dict[tuple[str, str], int] = {}
    gaps: Counter[str] = Counter()
    done = 0
    for table in (*KINDS, GAPS):
        shelf = recording.shelves[table]
        for spot in shelf.spots():
            block = shelf.block(spot)
            if not block.note.keyframes and block.rows:
                batch = shelf.rows(spot)
                if table == GAPS:
                    gaps.update(batch.column("reason").to_pylist())
                else:
                    _count(table, batch, counts, firsts, lasts)
            done += block.end - block.start
            tell(done)
    places = [place for shelf in recording.shelves.values() for place in shelf.places]
    channels = [
        ChannelSummary(kind, symbol, counts[kind, symbol], text_of(firsts[kind, symbol]), text_of(lasts[kind, symbol]))
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
    )


def _count(
    kind: str,
    batch: pa.RecordBatch,
    counts: Counter[tuple[str, str]],
    firsts: dict[tuple[str, str], int],
    lasts: dict[tuple[str, str], int],
) -> None:
    clock, _ = order_of(batch)
    keep = ~batch.column("is_snapshot").to_numpy(zero_copy_only=False)
    if "item" in batch.schema.names:
        keep &= batch.column("item").fill_null(0).to_numpy() == 0
    codes, times = batch.column("symbol").indices.to_numpy()[keep], clock[keep]
    names = batch.column("symbol").dictionary.to_pylist()
    if not len(codes):
        return
    order = np.argsort(codes, kind="stable")
    found, begins = np.unique(codes[order], return_index=True)
    for code, begin, end in zip(found, begins, [*begins[1:], len(order)], strict=True):
        key, mine = (kind, names[code]), times[order[begin:end]]
        counts[key] += len(mine)
        firsts[key] = min(firsts.get(key, int(mine[0])), int(mine.min()))
        lasts[key] = max(lasts.get(key, 0), int(mine.max()))


def _torn(recording: Recording) -> int:
    return sum(
        shelf.file(number).torn_bytes
        for shelf in recording.shelves.values()
        for number, place in enumerate(shelf.places)
        if not place.sealed
    )


def lines_of(summary: Summary) -> list[str]:
    """A summary in words."""
    open_ = f", {summary.open_files} still open" if summary.open_files else ""
    lines = [
        f"{summary.path}: {summary.updates:,} updates of {len(summary.channels)} channels",
        f"{summary.files} files, {summary.bytes:,} bytes{open_}",
        f"{summary.first or '-'} to {summary.last or '-'}",
        "gaps: " + (", ".join(f"{count} {reason}" for reason, count in sorted(summary.gaps.items())) or "none"),
    ]
    width = max((len(channel.symbol) for channel in summary.channels), default=0)
    lines += [
        f"  {channel.symbol:{width}}  {channel.channel:11}  {channel.updates:>12,}  {channel.first} to {channel.last}"
        for channel in summary.channels
    ]
    return lines
