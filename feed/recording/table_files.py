"""The files of one table in the order in which they were written, opened when they are needed.

Owns how many are open at once, where reading starts for a time, and which commits of open files count: a reader sees
all tables at the same positions. Leaves rows to those who take them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import pyarrow as pa

from feed.recording.files import RecordedFile
from feed.recording.folder import FIRST_COMMIT, FilePlace, Folder
from feed.recording.grown import Grown
from feed.recording.notes import Block, Gone, Span

FILES_OPEN_MAX: Final = 8
NEVER: Final = 2**63 - 1


class BlockRef(NamedTuple):
    """A block of a table: the number of its file, and its own in that file."""

    file: int
    block: int


class TableFiles:
    """One table. `limit`: blocks of later commits are not there yet."""

    def __init__(
        self, folder: Folder, table: str, places: list[FilePlace], *, verify: bool = True, grown: Grown | None = None
    ) -> None:
        self.table = table
        self.limit = NEVER
        self._folder = folder
        self._places = places
        self._verify = verify
        self._grown = grown
        self._open: OrderedDict[int, RecordedFile] = OrderedDict()
        self._first = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def places(self) -> list[FilePlace]:
        """The files."""
        return self._places

    @property
    def has_first(self) -> bool:
        """Whether the oldest file that is there is the first one that was written, or there is none at all."""
        return self._first >= len(self._places) or self._places[self._first].commit <= FIRST_COMMIT

    def file(self, number: int) -> RecordedFile:
        """A file, open.

        Raises:
            CorruptRecording: it cannot be read.
            Gone: it is not there any more. One that is being written is never gone after it was opened once.
        """
        found = self._open.get(number)
        if found is None:
            found = self._open[number] = self._file(number)
            while len(self._open) > FILES_OPEN_MAX:
                oldest = next((other for other, file in self._open.items() if file.place.sealed), number)
                if oldest == number:
                    break
                self._open.pop(oldest).close()
        else:
            self._open.move_to_end(number)
        return found

    def _file(self, number: int) -> RecordedFile:
        place = self._places[number]
        try:
            return RecordedFile(self._folder, place, self._grown)
        except FileNotFoundError as error:
            raise Gone(f"{place.path} was deleted while it was to be read") from error

    def blocks(self, number: int) -> list[Block]:
        """The blocks of a file that count."""
        blocks = self.file(number).blocks
        if blocks and blocks[-1].note.commit > self.limit:
            return blocks[: bisect_right(blocks, self.limit, key=lambda block: block.note.commit)]
        return blocks

    def oldest(self) -> list[Block]:
        """The blocks of the oldest file that is there and has any."""
        ref = next(self.refs(), None)
        return [] if ref is None else self.blocks(ref.file)

    def block(self, ref: BlockRef) -> Block:
        """One block."""
        return self.file(ref.file).blocks[ref.block]

    def rows(self, ref: BlockRef) -> pa.RecordBatch:
        """The rows of a block, verified."""
        return self.file(ref.file).batch(ref.block, verify=self._verify)

    def refs(self, first_file: int = 0) -> Iterator[BlockRef]:
        """All blocks from a file on, in order.

        Files are deleted from the oldest on: what lies before a deleted one does not count from then on.

        Raises:
            Gone: a file was deleted behind one of which blocks were given.
        """
        given = False
        for file in range(max(first_file, self._first), len(self._places)):
            try:
                count = len(self.blocks(file))
            except Gone:
                self._first = file + 1
                if given:
                    raise
                continue
            given = given or bool(count)
            for block in range(count):
                yield BlockRef(file, block)

    def last(self) -> Block | None:
        """The newest block that counts."""
        for file in reversed(range(len(self._places))):
            if blocks := self.blocks(file):
                return blocks[-1]
        return None

    def start(self, cut: RecordingCut) -> int:
        """The last file that begins before the cut for every source that it knows; 0 where there is none such."""
        low, high = 0, len(self._places)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._begins_before(middle, cut) else (low, middle)
        while low and not self._begins_before(low, cut):
            low -= 1
        return low

    def close(self) -> None:
        """Closes all files."""
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _begins_before(self, number: int, cut: RecordingCut) -> bool:
        try:
            blocks = self.blocks(number)
        except Gone:
            return True  # the oldest files are deleted first
        if not blocks:
            return False
        # a file begins with keyframes: what lies before its first block is what that one's positions cover
        return all(cut.covers(source, span.clock, span.tick) for source, span in blocks[0].note.sources.items())


class RecordingCut(NamedTuple):
    """A moment in the order of all sources: a time, or for some sources the last tick before it.

    What stands at the time itself, or at the tick, is before the cut.
    """

    time: int
    ticks: Mapping[str, int] = {}

    def covers(self, source: str, clock: int, at: int) -> bool:
        """Whether a place in a source's order is before the cut."""
        tick = self.ticks.get(source)
        return clock <= self.time if tick is None else at <= tick

    def ends_before(self, source: str, span: Span) -> bool:
        """Whether all rows of a block are before the cut."""
        return self.covers(source, span.last_clock, span.last_at)

    def begins_before(self, source: str, span: Span) -> bool:
        """Whether any row of a block is before the cut."""
        return self.covers(source, span.first_clock, span.first_at)


FROM_BEGIN: Final = RecordingCut(-1)
TO_END: Final = RecordingCut(NEVER)


def common_commit(parts: Mapping[str, int | None], sealed: Mapping[str, int | None]) -> int:
    """The last commit that every table has: of the last ones in open files and in sealed ones (None: there is none).

    A table without an open file either was just sealed, and then the others are one commit ahead of it at most (a new
    recorder leaves a number out), or has lost its files, or never had any.
    """
    open_ = [commit for commit in parts.values() if commit is not None]
    if not open_:
        return max((commit for commit in sealed.values() if commit is not None), default=0)
    newest = max(open_)
    just_sealed = [
        commit
        for table, commit in sealed.items()
        if parts.get(table) is None and commit is not None and commit + 2 >= newest
    ]
    return min(open_ + just_sealed)
