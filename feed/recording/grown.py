"""What is known of files that grow, so that who opens one again walks over what is new of it alone.

Owns what is remembered, by the file itself and not by its name. An open file is only ever appended to: what was whole
stays so, and each batch is compared with its checksum by whoever reads it.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Final, NamedTuple

import pyarrow as pa

from feed.recording.frames import Frame
from feed.recording.notes import Block

_FILES_MAX: Final = 32
"""A recording has an open file a table, and some that are about to be sealed."""


class Walked(NamedTuple):
    """A file up to the end of its last whole batch."""

    end: int
    schema: pa.Schema
    blocks: list[Block]
    dictionaries: list[Frame]


class Grown:
    """Files that were walked over; may be asked by several threads. What it gives must not be changed."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[int, int], Walked] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, fd: int, size: int) -> Walked | None:
        """What is known of the file behind a descriptor, if it has not been cut since; None for no local file."""
        if fd < 0:
            return None
        with self._lock:
            found = self._files.get(_identity(fd))
        return found if found is not None and found.end <= size else None

    def learn(self, fd: int, walked: Walked) -> None:
        """Remembers it; the file that was opened longest ago is forgotten."""
        if fd < 0:
            return
        with self._lock:
            self._files[_identity(fd)] = walked
            self._files.move_to_end(_identity(fd))
            while len(self._files) > _FILES_MAX:
                self._files.popitem(last=False)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
