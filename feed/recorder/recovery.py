"""Taking up a recording where its last writer left it, from the files alone.

Owns what of the open files counts: the commits that all tables have. The rest was being written when the writer died,
and is written again: reading goes on from the positions of the last common commit. Open files are sealed up to there;
the new writer begins new ones.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from feed.errors import ConfigError
from feed.recording.disk import Disk
from feed.recording.files import RecordedFile
from feed.recording.folder import Folder
from feed.recording.notes import CorruptRecording, Gone, Span
from feed.recording.recording import RecordingFiles
from feed.recording.seal import seal
from feed.recording.state_at import Channel, last_seqs
from feed.recording.tables import TABLES
from feed.wire.model import KINDS

log: Final = logging.getLogger("feed.recorder")
GROWING: Final = "*.sealing"


class TakenUp(NamedTuple):
    """What a recording says: its last commit, where each source was then, and each channel's source and last `seq`."""

    commit: int
    positions: dict[str, Span]
    channels: dict[Channel, tuple[str, int]]


def take_up(root: Path, disk: Disk, kinds: tuple[str, ...], tables: tuple[str, ...] = TABLES) -> TakenUp:
    """Seals what is open of the tables, and says where to go on.

    Raises:
        CorruptRecording: an open file is damaged before its end, not torn: `replay repair` keeps what is whole of it.
        OSError: the disk is full or fails, or the folder or a file was deleted; nothing else is lost.
    """
    with deleted_is_oserror(root):
        return _take_up(root, disk, kinds, tables)


@contextmanager
def deleted_is_oserror(root: Path) -> Iterator[None]:
    """To a recorder a folder or a file that somebody has deleted is trouble of the disk: it pauses, and begins anew."""
    try:
        yield
    except (ConfigError, Gone) as error:
        raise FileNotFoundError(errno.ENOENT, f"was deleted: {error}", str(root)) from error


def _take_up(root: Path, disk: Disk, kinds: tuple[str, ...], tables: tuple[str, ...]) -> TakenUp:
    _tidy(root, tables)
    # kinds that are not recorded have no commit: without this the first one, which only the others have, was cut
    there = {place.table for place in Folder(str(root)).places(tables)}
    tables = tuple(table for table in tables if table not in KINDS or table in kinds or table in there)
    recording = RecordingFiles(str(root), tables=tables)
    try:
        limit = recording.limit
        for table_files in recording.files_by_table.values():
            for number, place in enumerate(table_files.places):
                if not place.sealed:
                    part = table_files.file(number)
                    _verify(part)
                    if part.torn_bytes:
                        log.warning("%s: %d bytes after its last whole batch are cut off", place.path, part.torn_bytes)
                    seal(disk, part, last_commit=limit)
    finally:
        recording.close()
    recording = RecordingFiles(str(root), tables=tables)
    try:
        # a number is left out: the new files' names differ from that of a file in which nothing was committed
        return TakenUp(limit + 1, recording.positions, last_seqs(recording.files_by_table, kinds))
    finally:
        recording.close()


def seal_ended(root: Path, disk: Disk, path: str) -> str | None:
    """Seals one file that its writer has ended.

    Raises:
        OSError: as `seal`, or it is not there any more, nor perhaps its folder.
    """
    with deleted_is_oserror(root):
        folder = Folder(str(root))
    place = next((place for place in folder.places([path.partition("/")[0]]) if place.path == path), None)
    if place is None:
        raise FileNotFoundError(errno.ENOENT, "was deleted before it was sealed", path)
    part = RecordedFile(folder, place)
    try:
        return seal(disk, part)
    finally:
        part.close()


def _verify(part: RecordedFile) -> None:
    for number in range(len(part.blocks)):
        try:
            part.verify(number)
        except CorruptRecording as error:
            raise CorruptRecording(f"{error}; `replay repair` keeps the batches that are whole") from error


def _tidy(root: Path, tables: tuple[str, ...]) -> None:
    """Removes what a crash in the middle of a sealing has left."""
    for table in tables:
        for growing in (root / table).glob(f"date=*/{GROWING}"):
            growing.unlink()
        for part in (root / table).glob("date=*/*.arrow.part"):
            if part.with_suffix("").exists():
                part.unlink()
