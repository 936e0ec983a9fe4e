"""One recorder a folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from feed.errors import FeedError

NAME: Final = ".recorder.lock"


class FolderLock:
    """Held from `take` to `release`."""

    def __init__(self, root: Path) -> None:
        self._path = root / NAME
        self._fd = -1

    def take(self) -> None:
        """Takes it, where it is not held; makes the folder, where it is not there or was deleted.

        Raises:
            FeedError: another recorder writes here; says which.
            OSError: the folder cannot be written.
        """
        if self._fd >= 0:
            if self._is_there():
                return
            self.release()  # it was deleted with its folder
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 1000).decode(errors="replace").strip() or "somebody"
            os.close(fd)
            raise FeedError(f"{self._path.parent} is being recorded by {holder}; one recorder a folder") from None
        self._fd = fd
        who = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps(who).encode())

    def _is_there(self) -> bool:
        """Whether what is locked is what others would lock."""
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Lets go of it. The file stays: removing it would let two recorders lock two files of the same name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
