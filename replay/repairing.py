"""Mending a recording: of a damaged file every batch that is whole is kept, and the file as it was beside it.

Owns the salvage. A batch counts when it fits its checksum and all dictionaries before it were in batches that do.
What is missing then is told in the files, as gaps of reason `recording` (`holes`), and so by whatever reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa

from feed.channels.channel import LOST_KINDS
from feed.errors import ConfigError
from feed.model import KINDS
from feed.recorder.lock import FolderLock
from feed.recorder.recovery import take_up
from feed.recording.disk import Disk
from feed.recording.files import RecordedFile
from feed.recording.folder import PART, SEALED, Folder, Place, path_of
from feed.recording.frames import BATCH, CONTINUES, DICTIONARY, MAGIC, Damaged, Frame, crc_of, frames
from feed.recording.merge import order_of
from feed.recording.notes import CorruptRecording, Note, Span, note_of
from feed.recording.recording import Recording
from feed.recording.seal import Noted, write_sealed
from feed.recording.shelf import NEVER
from feed.recording.tables import GAPS, SCHEMAS, STATES, TABLES, TICKS, TIME, as_now, is_of, rules_of, schema_of
from feed.recording.verify import faults_of
from replay.clocks import received_of, timelines_of
from replay.holes import Lost, holes_of, states_of, with_rows, with_snapshots
from replay.timeline import Timeline
from replay.unsure import doubts_of

KEPT_AS: Final = ".damaged"
NEW: Final = ".new"


class Mended(NamedTuple):
    """One file that was damaged: batches kept and lost, its name before and after (None: nothing of it was whole).

    `clocks`: all of it was whole, and only the clocks of its rows were wrong.
    """

    path: str
    kept: int
    lost: int
    mended: str | None
    clocks: bool = False


def repair(root: Path) -> Iterator[Mended]:
    """Mends what is damaged, then seals what a recorder left open, then sets clocks right that no tick had.

    Raises:
        ConfigError: there is no such folder.
        FeedError: it is being recorded.
    """
    folder = Folder(str(root))
    if not folder.local:
        raise ConfigError(f"{root} is not a local folder: only such a one can be repaired")
    lock = FolderLock(root)
    lock.take()
    try:
        disk = Disk(root)
        lost: dict[str, list[Lost]] = {}
        places = folder.places((*TABLES, TICKS))
        for place, behind in zip(places, [*places[1:], None], strict=True):
            if any(faults_of(folder, place)):
                # up to where the next file of the table begins, or for ever
                end = behind.commit if behind is not None and behind.table == place.table else NEVER
                mended, missing = _mend(disk, place, end)
                lost.setdefault(place.table, []).extend(missing)
                yield mended
        take_up(root, disk, KINDS)
        if any(lost.values()):
            _tell_holes(disk, lost)
        yield from _set_clocks(disk)
    finally:
        lock.release()


def _mend(disk: Disk, place: Place, end: int) -> tuple[Mended, list[Lost]]:
    """Mends a file that ends with a commit; with it what of it was lost."""
    data = (disk.root / place.path).read_bytes()
    kept, lost, schema, missing = _salvage(place, data, end)
    final = place.path.removesuffix(PART).removesuffix(SEALED) + SEALED
    _put_aside(disk, place.path)
    if not kept:
        return Mended(place.path, 0, lost, None), missing
    write_sealed(disk, schema, iter(kept), final)
    return Mended(place.path, len(kept), lost, final), missing


def _put_aside(disk: Disk, path: str) -> None:
    kept_as, number = path + KEPT_AS, 1
    while (disk.root / kept_as).exists():
        number += 1
        kept_as = f"{path}{KEPT_AS}-{number}"
    (disk.root / path).rename(disk.root / kept_as)


# ---- holes


def _tell_holes(disk: Disk, lost: Mapping[str, Sequence[Lost]]) -> None:
    """Writes gaps where batches were lost, and the snapshots that make up for them."""
    recording = Recording(str(disk.root))
    try:
        end = recording.limit
        # where there is no commit in between, only keyframes or an index are gone
        found = {
            table: [Lost(one.after, min(one.last, end)) for one in missing if one.after < min(one.last, end)]
            for table, missing in lost.items()
        }
        holes = holes_of(recording, {table: missing for table, missing in found.items() if missing})
        states = [*states_of(recording, holes), *doubts_of(recording, found.get(STATES, []))]
        for table, added in ((GAPS, [hole.row for hole in holes]), (STATES, states)):
            shelf = recording.shelves[table]
            for number in range(len(shelf)):
                first = shelf.places[number].commit + 1 if number else 0
                stop = shelf.places[number + 1].commit if number + 1 < len(shelf) else NEVER
                if mine := [one for one in added if first <= one.commit <= stop]:
                    _write_anew(disk, shelf.file(number), partial(with_rows, added=mine))
        for kind in {hole.kind for hole in holes} - LOST_KINDS:
            of_kind = [hole for hole in holes if hole.kind == kind]
            for number in range(len(recording.shelves[kind])):
                _write_anew(disk, recording.shelves[kind].file(number), partial(with_snapshots, holes=of_kind))
    finally:
        recording.close()


def _write_anew(disk: Disk, file: RecordedFile, change: Callable[[list[Noted]], list[Noted]]) -> None:
    blocks = [(file.batch(number), block.note) for number, block in enumerate(file.blocks)]
    changed = change(blocks)
    if [note for _, note in changed] != [note for _, note in blocks]:
        write_sealed(disk, schema_of(file.table, file.rules), iter(changed), file.place.path + NEW)
        disk.publish(file.place.path + NEW, file.place.path)


# ---- clocks


def _set_clocks(disk: Disk) -> Iterator[Mended]:
    """Writes all files with wrong clocks anew, then puts them in the place of the old ones."""
    recording = Recording(str(disk.root))
    try:
        timelines = timelines_of(recording)
        written: list[tuple[Place, str, int]] = []
        for shelf in recording.shelves.values() if timelines else ():
            for number, place in enumerate(shelf.places):
                file = shelf.file(number)
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
    for place, final, blocks_count in written:
        _put_aside(disk, place.path)
        disk.publish(final + NEW, final)
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


# ---- what is whole of a damaged file


def _salvage(place: Place, data: bytes, end: int) -> tuple[list[Noted], int, pa.Schema, list[Lost]]:
    """The whole batches, how many are not, the schema to write them with, and which commits those were of that are not
    (`end`: the last one of the file)."""
    found: list[tuple[list[Frame], Frame | None, bool]] = list(_blocks(place, data))
    schema = SCHEMAS[place.table]
    head, kept, count = b"", [], 0
    trusted = True
    missing: list[Lost] = []
    lost = False
    last = place.commit - 1  # its first batches may be keyframes as of that commit
    for before, batch, whole in found:
        made = None
        if batch is None or not whole or not trusted:
            # an index in a batch is worth nothing without the dictionary that it points into
            trusted = trusted and (bool(head) and not any(frame.kind == DICTIONARY for frame in before))
        else:
            head += b"".join(data[frame.start : frame.end] for frame in before)
            made = _decoded(place, head + data[batch.start : batch.end])
        if batch is None or made is None:
            count, lost = count + 1, True
            continue
        note = _note_of(batch)
        if note is None:
            continue  # the index of a sealed file
        kept.append((made, note))
        if lost:
            # of a commit with keyframes the rows stand before these
            missing.append(Lost(last, note.commit if note.keyframes else note.commit - 1))
        lost, last = False, note.commit
    if lost:
        missing.append(Lost(last, end))
    if head:
        schema = schema_of(place.table, rules_of(pa.ipc.open_stream(head).schema))
    return _same_dictionaries(kept), count, schema, missing


def _blocks(place: Place, data: bytes) -> Iterator[tuple[list[Frame], Frame | None, bool]]:
    """Each batch with the messages before it that belong to it, and whether it fits its checksum."""
    at = len(MAGIC) if place.sealed else 0
    start = 0
    before: list[Frame] = []

    def read_at(position: int, length: int) -> bytes:
        return data[position : position + length]

    while at < len(data):
        try:
            for frame in frames(read_at, at, len(data)):
                at = frame.end
                if frame.kind != BATCH:
                    before.append(frame)
                    continue
                digits = data[frame.digits_at : frame.digits_at + 8]
                whole = frame.digits_at >= 0 and crc_of(data[start : frame.end], frame.digits_at - start) == digits
                yield before, frame, whole
                before, start = [], frame.end
            return
        except Damaged as error:
            at = data.find(CONTINUES, max(at, error.at) + 1)
            yield before, None, False
            if at < 0:
                return
            before, start = [], at


def _decoded(place: Place, stream: bytes) -> pa.RecordBatch | None:
    try:
        reader = pa.ipc.open_stream(stream)
        if not is_of(place.table, reader.schema):
            return None
        batch = reader.read_next_batch()
        batch.validate(full=True)
        return as_now(place.table, batch)
    except (ValueError, TypeError, KeyError, NotImplementedError, MemoryError, OSError, StopIteration):
        return None


def _note_of(batch: Frame) -> Note | None:
    try:
        return note_of(batch.note)
    except CorruptRecording:
        return None


def _same_dictionaries(batches: list[Noted]) -> list[Noted]:
    """The same with one dictionary a column: the longest, of which the others are the begin."""
    if not batches:
        return []
    schema = batches[0][0].schema
    longest = {
        field.name: max((batch.column(field.name).dictionary for batch, _ in batches), key=len)
        for field in schema
        if pa.types.is_dictionary(field.type)
    }
    return [
        (
            pa.record_batch(
                [
                    pa.DictionaryArray.from_arrays(column.indices, longest[name]) if name in longest else column
                    for name, column in zip(schema.names, batch.columns, strict=True)
                ],
                schema=schema,
            ),
            note,
        )
        for batch, note in batches
    ]
