"""Mending a recording: of a damaged file every batch that is whole is kept, and the file as it was beside it.

Owns the order of things, and which files are written anew. What is whole of a file says `salvage`. What is missing then
is told in the files, as gaps of reason `recording` (`holes`), and so by whatever reads them; until it is, `unfinished`
keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from msgspec.structs import replace

from feed.channels.channel import LOST_KINDS
from feed.errors import ConfigError
from feed.recorder.lock import FolderLock
from feed.recorder.recovery import take_up
from feed.recording.disk import Disk
from feed.recording.files import RecordedFile
from feed.recording.folder import PART, SEALED, FilePlace, Folder, path_of
from feed.recording.merge import order_of
from feed.recording.notes import Note, Span
from feed.recording.recording import RecordingFiles
from feed.recording.seal import Noted, write_sealed
from feed.recording.table_files import NEVER
from feed.recording.tables import GAPS, STATES, TABLES, TICKS, TIME, schema_of
from feed.recording.verify import faults_of
from feed.wire.model import KINDS
from replay.added import NO_CRC, Added, rows_of_files, with_rows, with_snapshots
from replay.clocks import received_of, timelines_of
from replay.holes import holes_of, states_of
from replay.losses import LostBatch, Spans
from replay.salvage import salvaged
from replay.timeline import Timeline
from replay.unfinished import NEW, Mended, Swap, Unfinished
from replay.unsure import doubts_of


def repair(root: Path, *, disk: Disk | None = None) -> Iterator[Mended]:
    """Mends what is damaged, then seals what a recorder left open, then sets clocks right that no tick had.

    One that was interrupted is gone on with; what it has mended, and nothing tells of, is given again.

    Raises:
        ConfigError: there is no such folder.
        FeedError: it is being recorded.
        OSError: the disk is full or fails; the next repair goes on.
    """
    folder = Folder(str(root))
    if not folder.local:
        raise ConfigError(f"{root} is not a local folder: only such a one can be repaired")
    lock = FolderLock(root)
    lock.take()
    try:
        disk = disk or Disk(root)
        unfinished = Unfinished(disk)
        yield from unfinished.mended
        places = folder.places((*TABLES, TICKS))
        for place, behind in zip(places, [*places[1:], None], strict=True):
            if any(faults_of(folder, place)):
                # up to where the next file of the table begins, or for ever
                end = behind.commit if behind is not None and behind.table == place.table else NEVER
                yield _mend(disk, unfinished, place, end)
        take_up(root, disk, KINDS)
        if any(unfinished.lost.values()):
            _tell_holes(disk, unfinished)
        yield from _set_clocks(disk, unfinished)
        unfinished.end()
    finally:
        lock.release()


def _mend(disk: Disk, unfinished: Unfinished, place: FilePlace, end: int) -> Mended:
    """Mends a file that ends with a commit."""
    found = salvaged(place, (disk.root / place.path).read_bytes(), end)
    final = place.path.removesuffix(PART).removesuffix(SEALED) + SEALED
    if found.kept:
        write_sealed(disk, found.schema, iter(found.kept), final + NEW)
    mended = Mended(place.path, len(found.kept), found.count_lost, final if found.kept else None)
    unfinished.mend(place.table, mended, found.lost)
    return mended


# ---- holes


def _tell_holes(disk: Disk, unfinished: Unfinished) -> None:
    """Writes gaps where batches were lost, and the snapshots that make up for them."""
    recording = RecordingFiles(str(disk.root))
    try:
        lost = {table: _within(recording, table, missing) for table, missing in unfinished.lost.items()}
        spans = Spans(recording)
        holes = holes_of(recording, lost, spans)
        states = [*states_of(recording, holes), *doubts_of(recording, lost.get(STATES, []), spans)]
        finals: list[str] = []
        for table, added in ((GAPS, [hole.row for hole in holes]), (STATES, states)):
            table_files = recording.files_by_table[table]
            if added and not len(table_files):
                finals.append(_begin(disk, recording, table, added))
            for number, rows in rows_of_files(table_files, added).items():
                finals += _write_anew(disk, table_files.file(number), partial(with_rows, rows=rows))
        for kind in {hole.kind for hole in holes} - LOST_KINDS:
            of_kind = [hole for hole in holes if hole.kind == kind]
            for number in range(len(recording.files_by_table[kind])):
                file = recording.files_by_table[kind].file(number)
                finals += _write_anew(disk, file, partial(with_snapshots, holes=of_kind))
    finally:
        recording.close()
    unfinished.tell(finals)


def _within(recording: RecordingFiles, table: str, missing: Sequence[LostBatch]) -> list[LostBatch]:
    """Losses with ends; where there is no commit in between, only keyframes or an index are gone."""
    found: list[LostBatch] = []
    for one in missing:
        nexts = (place.commit for place in recording.files_by_table[table].places if place.commit > one.after)
        last = min(one.last, recording.limit)
        # a recorder may have gone on since
        last = min(last, *nexts, last) if one.last == NEVER else last
        if one.after < last:
            found.append(replace(one, last=last))
    return found


def _begin(disk: Disk, recording: RecordingFiles, table: str, added: Sequence[Added]) -> str:
    """A file of a table of which there is none any more, with these rows."""
    spans = recording.positions
    first = min(place.commit for table_files in recording.files_by_table.values() for place in table_files.places)
    final = path_of(table, first, max(span.clock for span in spans.values())).removesuffix(PART) + SEALED
    schema = schema_of(table, recording.rules)
    empty = pa.RecordBatch.from_pylist([], schema=schema.remove_metadata())
    note = Note(
        NO_CRC, recording.limit, {source: Span(span.tick, span.offset, span.clock) for source, span in spans.items()}
    )
    blocks = with_rows([(empty, note)], {0: [one.row for one in added]})
    write_sealed(disk, schema, iter(blocks), final + NEW)
    return final


def _write_anew(disk: Disk, file: RecordedFile, change: Callable[[list[Noted]], list[Noted]]) -> list[str]:
    """Writes a file beside itself, where that changes it; its path."""
    blocks = [(file.batch(number), block.note) for number, block in enumerate(file.blocks)]
    changed = change(blocks)
    if [note for _, note in changed] == [note for _, note in blocks]:
        return []
    write_sealed(disk, schema_of(file.table, file.rules), iter(changed), file.place.path + NEW)
    return [file.place.path]


# ---- clocks


def _set_clocks(disk: Disk, unfinished: Unfinished) -> Iterator[Mended]:
    """Writes all files with wrong clocks anew, then puts them in the place of the old ones."""
    recording = RecordingFiles(str(disk.root))
    try:
        timelines = timelines_of(recording)
        written: list[tuple[FilePlace, str, int]] = []
        for table_files in recording.files_by_table.values() if timelines else ():
            for number, place in enumerate(table_files.places):
                file = table_files.file(number)
                blocks = [block for block in file.blocks if _is_wrong(block.note, timelines)]
                if not blocks:
                    continue
                first = _right_note(file.blocks[0].note, timelines).sources.values()
                final = place.path
                if _is_wrong(file.blocks[0].note, timelines):
                    final = path_of(place.table, place.commit, max(span.clock for span in first)).removesuffix(PART)
                    final += SEALED
                write_sealed(disk, schema_of(place.table, file.rules), _with_right_clocks(file, timelines), final + NEW)
                written.append((place, final, len(file.blocks)))
    finally:
        recording.close()
    if written:
        unfinished.replace([Swap(final, place.path) for place, final, _ in written])
    for place, final, blocks_count in written:
        yield Mended(place.path, blocks_count, 0, final, clocks=True)


def _is_wrong(note: Note, timelines: Mapping[str, Timeline]) -> bool:
    return _right_note(note, timelines).sources != note.sources


def _right_note(note: Note, timelines: Mapping[str, Timeline]) -> Note:
    spans = {source: _right(span, timelines.get(source)) for source, span in note.sources.items()}
    return Note(note.crc, note.commit, spans, note.keyframes, note.left)


def _right(span: Span, timeline: Timeline | None) -> Span:
    if timeline is None:
        return span
    clock = timeline.clock(span.clock, span.tick)
    if not span.rows:
        return Span(span.tick, span.offset, clock)
    first, last = timeline.clock(span.first_clock, span.first_at), timeline.clock(span.last_clock, span.last_at)
    return Span(span.tick, span.offset, clock, span.rows, first, span.first_at, last, span.last_at)


def _with_right_clocks(file: RecordedFile, timelines: Mapping[str, Timeline]) -> Iterator[Noted]:
    for number, block in enumerate(file.blocks):
        batch = file.batch(number)
        if number == 0 and not batch.num_rows and len(file.blocks) > 1:
            continue  # what leads a sealed file: that is written anew
        yield _right_rows(batch, timelines), _right_note(block.note, timelines)


def _right_rows(batch: pa.RecordBatch, timelines: Mapping[str, Timeline]) -> pa.RecordBatch:
    clock, at = order_of(batch)
    clock = clock.copy()
    column = batch.column("source")
    codes, names = column.indices.to_numpy(), column.dictionary.to_pylist()
    for name, timeline in timelines.items():
        mine = codes == (names.index(name) if name in names else -1)
        clock[mine] = timeline.clocks(clock[mine], at[mine])
    called = "clock" if "clock" in batch.schema.names else "clock_lag"
    new = pa.array(clock).cast(TIME) if called == "clock" else pa.array(clock - received_of(batch))
    return batch.set_column(batch.schema.names.index(called), batch.schema.field(called), new)
