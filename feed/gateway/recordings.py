"""The recordings that a gateway serves: opened for each request, read in threads, never on the loop.

Owns the threads, and that a client that goes away leaves no file open. Leaves what is read, and how, to whoever asks
for it.

Each request has a recording of its own, as it was when the request came: its files are held open as long as it is read,
so that retention passes them over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, NamedTuple, TypeVar

from feed.errors import BadRequest, ConfigError
from feed.gateway.catalog import Catalog
from feed.recording.grown import Grown
from feed.recording.notes import Gone
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import FILES_OPEN_MAX, NEVER, TableFiles
from feed.recording.tables import TABLES

THREADS: Final = 4
FILES_A_READER: Final = FILES_OPEN_MAX * len(TABLES)
"""What each request may have open at most."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Range(NamedTuple):
    """Clock of the first row of a recording that can be played, and of the newest commit, in nanoseconds."""

    begin: int
    end: int


class Recordings:
    """The recordings in one folder (or at a URI). `catalog` knows their channels."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.catalog = Catalog()
        self._begins = Begins()
        self._grown = Grown()
        self._threads: ThreadPoolExecutor | None = None

    def open(self) -> RecordingFiles:
        """The recording as it is now; blocks.

        Raises:
            BadRequest: `no_recording`, there is none yet.
            CorruptRecording: a file is damaged.
        """
        try:
            return RecordingFiles(self.path, grown=self._grown)
        except ConfigError as error:
            raise BadRequest("no_recording", "this server has no recording yet") from error

    def range_of(self, recording: RecordingFiles) -> Range:
        """From when to when it is; blocks.

        Raises:
            BadRequest: `no_recording`, there is no row in it.
        """
        return range_of(recording, self._begins)

    async def run(self, act: Callable[[], Result]) -> Result:
        """Does something that blocks in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool(), act)

    def later(self, act: Callable[[], None]) -> None:
        """The same, without waiting for it."""
        self._pool().submit(act)

    def close(self) -> None:
        """Ends the threads; does not wait for them."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="recordings")
        return self._threads


class RecordingIterator(Generic[Item]):
    """An iterator over a recording that is advanced in threads, an item at a time.

    `make` gets the recording, which is opened for it, and is run in a thread too.
    """

    def __init__(self, recordings: Recordings, make: Callable[[RecordingFiles], Iterator[Item]]) -> None:
        self._recordings = recordings
        self._make = make
        self._lock = threading.Lock()
        self._closed = False
        self._recording: RecordingFiles | None = None
        self._items: Iterator[Item] | None = None

    async def next(self) -> Item | None:
        """The next item; None at the end, and when it was closed meanwhile.

        Raises:
            BadRequest: `no_recording`.
            CorruptRecording: a batch is damaged.
        """
        return await self._recordings.run(self._next)

    def close(self) -> None:
        """Closes the recording, after what is being read right now; does not wait for it."""
        self._closed = True
        self._recordings.later(self._close)

    def _next(self) -> Item | None:
        with self._lock:
            if self._closed:
                return None
            if self._items is None:
                self._recording = self._recordings.open()
                self._items = self._make(self._recording)
            return next(self._items, None)

    def _close(self) -> None:
        with self._lock:
            self._items = None
            if self._recording is not None:
                self._recording.close()
                self._recording = None


class Begins:
    """Clocks of the first rows in the files of one folder, so that none is looked through twice; may be shared."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def of(self, recording: RecordingFiles) -> int:
        """The clock of the first row of any source; `NEVER` where there is no row."""
        found: dict[str, tuple[int, int]] = {}
        with self._lock:
            for table_files in recording.files_by_table.values():
                for number, place in enumerate(table_files.places):
                    known = self._known.get(place.path)
                    if known is None or not place.sealed:
                        known = _first_clock(table_files, number, known or (0, NEVER))
                    found[place.path] = known
            self._known = found
        return min((clock for _, clock in found.values()), default=NEVER)


def _first_clock(table_files: TableFiles, number: int, known: tuple[int, int]) -> tuple[int, int]:
    """Of how many blocks of a file the smallest clock is known, and that clock."""
    seen, clock = known
    try:
        blocks = table_files.blocks(number)
    except Gone:
        return known
    for block in blocks[seen:]:
        if not block.note.keyframes:
            clock = min([clock, *(span.first_clock for span in block.note.sources.values() if span.rows)])
    return len(blocks), clock


def range_of(recording: RecordingFiles, begins: Begins | None = None) -> Range:
    """From when to when a recording is: a source that lags in the files may have the oldest row in any of them.

    Where its first files were deleted it begins behind the moment at which it is known how all channels stand.

    Raises:
        BadRequest: `no_recording`, there is no row in it.
    """
    oldest = (begins or Begins()).of(recording)
    if oldest == NEVER:
        raise BadRequest("no_recording", "nothing is recorded yet")
    end = max(oldest, *(span.clock for span in recording.positions.values()))
    begin = max(oldest, min(recording.footing(), end) + 1)
    return Range(begin, max(begin, end))
