"""A recording, opened: its tables, its messages in order, and how channels stood at any time.

Owns what of it is read: all tables up to the last commit that they have in common, so that an open recording is seen
as it was at one moment. Everything that reads recordings goes through here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from feed.channels.state import FoldRules
from feed.recording.filter import Filter
from feed.recording.folder import Folder
from feed.recording.footing import footing_of
from feed.recording.grown import Grown
from feed.recording.merge import Reading, RowPage
from feed.recording.notes import Gone, Span
from feed.recording.state_at import Channel, ChannelState, standing_at
from feed.recording.table_files import FROM_BEGIN, TO_END, RecordingCut, TableFiles, common_commit
from feed.recording.tables import TABLES

_OPENINGS_MAX: Final = 50


class RecordingFiles:
    """The files in a folder as they are now; `verify`: each batch is compared with its checksum when it is read.

    `limit`: the last commit that all tables have. `tables`: those that are committed together.

    Raises:
        ConfigError: there is no such folder.
        CorruptRecording: a file is damaged.
    """

    def __init__(
        self, path: str, *, verify: bool = True, tables: Sequence[str] = TABLES, grown: Grown | None = None
    ) -> None:
        """`grown`: what is known of its open files, for those who open it again and again."""
        self.folder = Folder(path)
        self.files_by_table: dict[str, TableFiles] = {}
        for left in reversed(range(_OPENINGS_MAX)):
            places = self.folder.places(tables)
            self.files_by_table = {
                table: TableFiles(
                    self.folder,
                    table,
                    [place for place in places if place.table == table],
                    verify=verify,
                    grown=grown,
                )
                for table in tables
            }
            try:
                self.limit = self._settle()
                return
            except Gone:
                # sealed or deleted since it was listed: what there is now is the recording
                self.close()
                if not left:
                    raise
            except BaseException:
                self.close()
                raise

    @property
    def positions(self) -> dict[str, Span]:
        """Up to where each source was recorded, as of the newest commit."""
        lasts = [last for table_files in self.files_by_table.values() if (last := table_files.last()) is not None]
        return max(lasts, key=lambda block: block.note.commit).note.sources if lasts else {}

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(place.size for table_files in self.files_by_table.values() for place in table_files.places)

    @property
    def rules(self) -> FoldRules:
        """What snapshots hold, as the recorder's settings said."""
        for table_files in self.files_by_table.values():
            if len(table_files):
                return table_files.file(len(table_files) - 1).rules
        return FoldRules()

    def pages(
        self, chosen: Filter, start: RecordingCut = FROM_BEGIN, end: RecordingCut = TO_END, *, separator: str = "\n"
    ) -> Iterator[RowPage]:
        """The messages between two cuts, in order, each followed by the separator.

        After a cut inside the recording a client needs `standing` first.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        return Reading(self.files_by_table, chosen, start, end, separator).pages()

    def standing(self, chosen: Filter, cut: RecordingCut) -> dict[Channel, ChannelState]:
        """How each chosen channel stands at a cut; channels without a state are left out.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        while True:
            try:
                return standing_at(self.files_by_table, chosen, cut, self.rules)
            except Gone:
                continue  # what was deleted does not count any more, nor what lies before it

    def footing(self, tables: Sequence[str] = TABLES) -> int:
        """The clock from which on all channels of these tables are known, where the first files were deleted; else -1.

        Raises:
            CorruptRecording: a file cannot be opened.
        """
        while True:
            try:
                return footing_of(self.files_by_table[table] for table in tables if table in self.files_by_table)
            except Gone:
                continue  # it is where the next file says now

    def close(self) -> None:
        """Closes all files."""
        for table_files in self.files_by_table.values():
            table_files.close()

    def _settle(self) -> int:
        """Opens what may change: files that are written, which stay open, and those with which tables end.

        Raises:
            Gone: one of them is not there any more.
        """
        for table_files in self.files_by_table.values():
            for number, place in enumerate(table_files.places):
                if not place.sealed:
                    table_files.file(number)
        parts: dict[str, int | None] = {}
        sealed: dict[str, int | None] = {}
        for table, table_files in self.files_by_table.items():
            if not len(table_files):
                sealed[table] = 0  # its writer died in its first commit, or it is not recorded
                continue
            newest = len(table_files) - 1
            open_ = not table_files.places[newest].sealed
            parts[table] = _last_commit(table_files, newest) if open_ else None
            sealed[table] = _last_commit(table_files, newest - 1 if open_ else newest)
        limit = common_commit(parts, sealed)
        for table_files in self.files_by_table.values():
            table_files.limit = limit
        return limit


def _last_commit(table_files: TableFiles, number: int) -> int | None:
    blocks = table_files.file(number).blocks if number >= 0 else []
    return blocks[-1].note.commit if blocks else None
