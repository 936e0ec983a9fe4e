"""Where the files of a recording are: `<root>/<table>/date=YYYY-MM-DD/<name>.arrow`, on any file system of pyarrow.

Owns names and listing. A name starts with the commit after which the file begins, so that names of a table sort as
they were written, whatever the clocks said. `.part` is the file that is being written, or was when its writer died.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import pyarrow as pa
from pyarrow import fs

from feed.errors import ConfigError
from feed.recording.tables import TABLES

SEALED: Final = ".arrow"
PART: Final = ".arrow.part"
FIRST_COMMIT: Final = 1
"""The number of a recording's first commit; its first files are called by it or by what is before it."""
_NS: Final = 1_000_000_000
_LISTINGS_MAX: Final = 20
_PLACE: Final = re.compile(r"([a-z]+)/date=(\d{4}-\d\d-\d\d)/(\d{12})-[0-9TZ]+(\.arrow|\.arrow\.part)").fullmatch


class FilePlace(NamedTuple):
    """One file: its path within the recording, its table, and the commit after which it begins."""

    path: str
    table: str
    commit: int
    sealed: bool
    size: int


def sealed_of(place: FilePlace) -> FilePlace:
    """What a file that is written will be."""
    return place._replace(path=place.path.removesuffix(PART) + SEALED, sealed=True)


class Folder:
    """A recording's folder: a path or any URI that pyarrow knows.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self.root: str
        try:
            self.fs, self.root = fs.FileSystem.from_uri(path) if "://" in path else (fs.LocalFileSystem(), path)
            found = self.fs.get_file_info(self.root)
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigError(f"recording {path} cannot be reached: {error}") from error
        if found.type != fs.FileType.Directory:
            raise ConfigError(f"no recording in {path}: there is no such folder")

    @property
    def local(self) -> bool:
        """Whether its files can be mapped into memory."""
        return isinstance(self.fs, fs.LocalFileSystem)

    def places(self, tables: Sequence[str] = TABLES) -> list[FilePlace]:
        """The files of these tables, in the order in which they were begun.

        A folder that changes while it is listed may show a file that is sealed just then under neither name: it is
        listed until nothing has changed.
        """
        found = self._listed(tables)
        for _ in range(_LISTINGS_MAX if self.local else 0):
            before, found = found, self._listed(tables)
            if [place.path for place in found] == [place.path for place in before]:
                break
        return found

    def _listed(self, tables: Sequence[str]) -> list[FilePlace]:
        found: list[FilePlace] = []
        for table in tables:
            selector = fs.FileSelector(f"{self.root}/{table}", recursive=True, allow_not_found=True)
            for info in self.fs.get_file_info(selector):
                path = info.path[len(self.root) :].lstrip("/")
                if info.type == fs.FileType.File and (match := _PLACE(path)):
                    found.append(FilePlace(path, match[1], int(match[3]), match[4] == SEALED, info.size or 0))
        done = {place.path for place in found if place.sealed}
        # a part beside its sealed file is what a crash between the two left over
        left = [place for place in found if place.sealed or place.path.removesuffix(".part") not in done]
        return sorted(left, key=lambda place: (place.table, place.commit, place.path))


def path_of(table: str, commit: int, clock: int) -> str:
    """The path of a new file, still open, that begins after a commit, at a clock in nanoseconds."""
    at = datetime.fromtimestamp(clock / _NS, UTC)
    return f"{table}/date={at:%Y-%m-%d}/{commit:012d}-{at:%Y%m%dT%H%M%SZ}{PART}"
