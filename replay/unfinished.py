"""What a repair has begun: a file beside the recording, which is there until all of it is done.

Owns that a repair that was interrupted can be gone on with. What the damaged files have lost is written down before
they are put aside, since nothing else says so then. Files change places in swaps: the new ones are whole beside the old
ones, then all swaps are written down, then they are made; whoever comes next makes those that were not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from feed.recording.disk import Disk
from feed.recording.notes import CorruptRecording
from replay.losses import LostBatch

NAME: Final = "repair.json"
NEW: Final = ".new"
KEPT_AS: Final = ".damaged"


class Mended(NamedTuple):
    """One file that was damaged: batches kept and lost, its name before and after (None: nothing of it was whole).

    `clocks`: all of it was whole, and only the clocks of its rows were wrong.
    """

    path: str
    kept: int
    lost: int
    mended: str | None
    clocks: bool = False


class Swap(NamedTuple):
    """A file that takes its place (None: nothing does), and the one that is put aside for it, if any."""

    final: str | None
    old: str | None = None


class _Written(Struct):
    mended: list[Mended] = []
    lost: dict[str, list[LostBatch]] = {}
    swaps: list[Swap] = []


class Unfinished:
    """A repair. `lost`: what no gap tells of yet; `mended`: the files that have lost it."""

    def __init__(self, disk: Disk) -> None:
        """Takes up what was begun.

        Raises:
            CorruptRecording: what was written of it cannot be read.
        """
        self._disk = disk
        path = disk.root / NAME
        try:
            self._written = msgspec.json.decode(path.read_bytes(), type=_Written) if path.exists() else _Written()
        except msgspec.DecodeError as error:
            raise CorruptRecording(f"{path} cannot be read: {error}") from error
        if self._written.swaps:
            self._make()
        for left in disk.root.glob(f"*/date=*/*{NEW}"):
            left.unlink()

    @property
    def lost(self) -> Mapping[str, list[LostBatch]]:
        """What each table has lost."""
        return self._written.lost

    @property
    def mended(self) -> list[Mended]:
        """What was mended."""
        return list(self._written.mended)

    def mend(self, table: str, mended: Mended, lost: Sequence[LostBatch]) -> None:
        """Puts a damaged file aside, and what is whole of it in its place: it lies there as `….new`.

        Raises:
            OSError: the disk is full or fails; it can be gone on with.
        """
        written = self._written
        written.mended.append(mended)
        written.lost.setdefault(table, []).extend(lost)
        self._swap([Swap(mended.mended, mended.path)])

    def tell(self, finals: Sequence[str]) -> None:
        """Files that tell all that is lost take their places.

        Raises:
            OSError: as above.
        """
        self._written.mended, self._written.lost = [], {}
        self._swap([Swap(final) for final in finals])

    def replace(self, swaps: Sequence[Swap]) -> None:
        """Files that lie there as `….new` take their places.

        Raises:
            OSError: as above.
        """
        self._swap(swaps)

    def end(self) -> None:
        """All of it is done."""
        self._disk.remove(NAME)

    def _swap(self, swaps: Sequence[Swap]) -> None:
        self._written.swaps = list(swaps)
        self._write()
        self._make()

    def _write(self) -> None:
        self._disk.remove(NAME + NEW)
        file = self._disk.create(NAME + NEW)
        try:
            file.write(msgspec.json.encode(self._written))
            file.sync()
        finally:
            file.close()
        self._disk.publish(NAME + NEW, NAME)

    def _make(self) -> None:
        root = self._disk.root
        for final, old in self._written.swaps:
            if final is not None and not (root / (final + NEW)).exists():
                continue  # it was made
            if old is not None and (root / old).exists():
                self._put_aside(old)
            if final is not None:
                self._disk.publish(final + NEW, final)
        # else a later file that is not yet to take its place would be taken for one of these
        self._written.swaps = []
        self._write()

    def _put_aside(self, path: str) -> None:
        root = self._disk.root
        kept_as, number = path + KEPT_AS, 1
        while (root / kept_as).exists():
            number += 1
            kept_as = f"{path}{KEPT_AS}-{number}"
        self._disk.publish(path, kept_as)
