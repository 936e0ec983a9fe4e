"""What writing a recording needs of the disk, in one place, so that a test can let it fail.

Owns that a file is new, that what was written is there after a power cut (`sync`), and that a name appears at once and
for good (`publish`). Every error is an `OSError`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND


class NewFile:
    """A file that is written from its begin to its end."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.size = 0
        self._fd = os.open(path, _NEW_FILE, 0o644)
        sync_folder(path.parent)

    def write(self, data: bytes | bytearray) -> None:
        """Writes all of it. After an error nobody knows how much of it is there."""
        view = memoryview(data)
        while view:
            done = os.write(self._fd, view)
            self.size += done
            view = view[done:]

    def sync(self) -> None:
        """Returns when it would survive a power cut.

        Raises:
            OSError: it would not, or it was deleted: what is written into it goes nowhere.
        """
        os.fsync(self._fd)
        if not os.fstat(self._fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "was deleted while it was written", str(self.path))

    def close(self) -> None:
        """Closes it; what was not synced may be lost."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Disk:
    """The folder of a recording, for writing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, path: str) -> NewFile:
        """A new file."""
        return NewFile(self.root / path)

    def publish(self, path: str, final: str) -> None:
        """Gives a synced file its final name."""
        (self.root / path).rename(self.root / final)
        sync_folder((self.root / final).parent)

    def remove(self, path: str) -> None:
        """Removes a file, if it is there."""
        (self.root / path).unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """What may still be written by us."""
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize


def sync_folder(path: Path) -> None:
    """Returns when the names in a folder would survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
