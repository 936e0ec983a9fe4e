"""How long a recording is kept: sealed files go, the first that were ended first, never one that is open or read.

Time is the recording's own, so a wall clock that jumps deletes nothing.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
from typing import TYPE_CHECKING, Final

from feed.recorder.recovery import deleted_is_oserror
from feed.recording.files import RecordedFile
from feed.recording.folder import Folder
from feed.recording.notes import Block, CorruptRecording
from feed.recording.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from feed.recording.disk import Disk
    from feed.recording.folder import FilePlace
    from feed.runtime.settings import RecordSettings

log: Final = logging.getLogger("feed.recorder")
_NS: Final = 1_000_000_000


def keep(
    root: Path, disk: Disk, settings: RecordSettings, newest_clock: int, tables: Sequence[str] = TABLES
) -> list[str]:
    """Deletes what is older than allowed, or too much; says which files. The newest of a table is never deleted.

    Raises:
        OSError: the disk fails, or the folder was deleted.
    """
    with deleted_is_oserror(root):
        folder = Folder(str(root))
    places = folder.places(tables)
    ends = _ends(places)
    # by where they end: gaps and states, which are few, have long files, of which the others need the last rows
    old = sorted((place for place in places if place.path in ends), key=lambda place: ends[place.path])
    total = sum(place.size for place in places)
    gone: list[str] = []
    for place in old:
        too_much = bool(settings.keep_bytes) and total > settings.keep_bytes
        behind = [other for other in places if other.table == place.table and other.commit > place.commit]
        if not too_much and not (
            settings.keep_s and _ended_before(folder, place, behind, newest_clock - settings.keep_s * _NS)
        ):
            break
        if place.sealed and _unused(root / place.path):
            disk.remove(place.path)
            total -= place.size
            gone.append(place.path)
    if gone:
        log.info("deleted %d files that were older or more than what is kept, the last one %s", len(gone), gone[-1])
    return gone


def _ends(places: list[FilePlace]) -> dict[str, int]:
    """The commit after which each file was ended: the next one of its table begins. The newest ones are left out."""
    nexts = itertools.pairwise(places)
    return {place.path: following.commit for place, following in nexts if place.table == following.table}


def _ended_before(folder: Folder, place: FilePlace, behind: list[FilePlace], clock: int) -> bool:
    """Whether all of a file was before a clock; of one that is damaged the first one `behind` it says so."""
    try:
        blocks = _blocks(folder, place)
        return max((_clock(block) for block in blocks[-1:]), default=0) < clock
    except FileNotFoundError:
        return True  # somebody else has deleted it
    except CorruptRecording as error:
        why = error
    for other in behind:
        try:
            ended = any(_clock(block) < clock for block in _blocks(folder, other)[:1])
        except (FileNotFoundError, CorruptRecording):
            continue
        log.warning("%s; it is %s", why, "deleted, it is old" if ended else "kept")
        return ended
    return False


def _blocks(folder: Folder, place: FilePlace) -> list[Block]:
    file = RecordedFile(folder, place)
    file.close()
    return file.blocks


def _clock(block: Block) -> int:
    return max((span.clock for span in block.note.sources.values()), default=0)


def _unused(path: Path) -> bool:
    """Whether it is there, and no reader has it open."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
