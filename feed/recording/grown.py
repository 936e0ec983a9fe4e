"""What is known of files that grow, so that who opens one again walks over what is new of it alone.

Owns what is remembered, by the file itself and its name: the number of a deleted file is given to the next one.
An open file is only ever appended to: what was whole stays so, and each batch is compared with its checksum by whoever
reads it. Whether it is the file that was walked over says its last batch, to whoever goes on behind that.
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


_Identity = tuple[str, int, int]


class Walked(NamedTuple):
    """A file up to the end of its last whole batch."""

    end: int
    schema: pa.Schema
    blocks: list[Block]
    dictionaries: list[Frame]


class Grown:
    """Files that were walked over; may be asked by several threads. What it gives must not be changed."""

    def __init__(self) -> None:
        self._files: OrderedDict[_Identity, Walked] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, name: str, fd: int, size: int) -> Walked | None:
        """What is known of the file behind a descriptor, if it has not been cut since; None for no local file."""
        if fd < 0:
            return None
        with self._lock:
            found = self._files.get(_identity(name, fd))
        return found if found is not None and found.end <= size else None

    def learn(self, name: str, fd: int, walked: Walked) -> None:
        """Remembers it; the file that was opened longest ago is forgotten."""
        if fd < 0:
            return
        identity = _identity(name, fd)
        with self._lock:
            self._files[identity] = walked
            self._files.move_to_end(identity)
            while len(self._files) > _FILES_MAX:
                self._files.popitem(last=False)


def _identity(name: str, fd: int) -> _Identity:
    found = os.fstat(fd)
    return name, found.st_dev, found.st_ino
