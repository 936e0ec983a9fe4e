"""The pages of a replay between those who read and those who send: what is next, and where each channel stands.

Owns the place in the pages, the positions of channels as the client knows them, and the marks. Nothing here is about
time: how far rows may go is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Set
from itertools import islice
from typing import NamedTuple

import numpy as np

from feed.channels.channel import LOST_KINDS
from feed.recording.state_at import ChannelState
from feed.wire.model import NO_SEQ, Mode
from replay.ahead import Ahead
from replay.selection import Channel


class Begin(NamedTuple):
    """Where a channel begins for a client: what `joined` says."""

    channel: Channel
    mode: Mode
    source: str
    seq: int


class Pages:
    """Rows of some channels in order. `begun`: channels whose begin was told, with source and position.

    `exhausted`: no page will follow. `sent`: every row up to this clock is gone.
    """

    def __init__(self) -> None:
        self.begun: dict[Channel, tuple[str, int]] = {}
        self.exhausted = False
        self.sent = -1
        self._chosen: Set[Channel] = frozenset()
        self._pages: deque[Ahead] = deque()
        self._row = 0
        self._begins: deque[tuple[int, Channel]] | None = None
        self._marks: dict[str, int] = {}
        # of channels and sources by their numbers in the pages since the restart: what was sent last
        self._named: Ahead | None = None
        self._seqs = self._sources = self._ats = np.zeros(0, np.int64)

    @property
    def size(self) -> int:
        """Bytes of text that wait."""
        return sum(page.size for page in self._pages)

    @property
    def current(self) -> Ahead | None:
        """The page with the next row."""
        return self._pages[0] if self._pages else None

    @property
    def next_clock(self) -> int | None:
        """When the next row is; None where it is yet to be read, or there is none."""
        return int(self._pages[0].clock[self._row]) if self._pages else None

    @property
    def within(self) -> bool:
        """Whether rows of one moment have gone, and others of it have not."""
        return bool(self._pages and self._row) and bool(
            self._pages[0].clock[self._row] == self._pages[0].clock[self._row - 1]
        )

    def add(self, page: Ahead | None) -> None:
        """A page behind the others; None: it was the last one."""
        if page is None:
            self.exhausted = True
        elif len(page):
            self._pages.append(page)

    def restart(self, chosen: Set[Channel]) -> None:
        """Other pages will come, of these channels."""
        self._settle()
        self.clear()
        self.exhausted = False
        self._chosen = chosen
        self._named = None
        self._seqs = self._sources = self._ats = np.zeros(0, np.int64)

    def clear(self) -> None:
        """Drops what waits."""
        self._pages.clear()
        self._row, self._begins = 0, None

    def beginning(self) -> Begin | None:
        """Where the channel of the next row begins, if that was not told."""
        if not self._pages or len(self.begun) >= len(self._chosen):
            return None
        page = self._pages[0]
        if self._begins is None:
            self._begins = deque(found for found in page.begins if found[1] not in self.begun)
        if not self._begins or self._begins[0][0] != self._row:
            return None
        row, channel = self._begins.popleft()
        source = page.sources[page.source[row]]
        page, first = self._first_move(channel, row)
        head = None if first is None else page.heads.get(first)
        if first is None or (head is not None and head.type == "gap" and head.lost):
            return Begin(channel, "live", source, NO_SEQ if head is None else head.prev)
        if head is None:
            prev = page.prev(first)
            # inside a hole of a book, say: nobody has what this update changes before the snapshot that comes
            waits = prev != NO_SEQ and channel[0] not in LOST_KINDS
            return Begin(channel, "snapshot" if waits else "live", source, prev)
        return Begin(channel, "snapshot", source, head.seq)

    def _first_move(self, channel: Channel, row: int) -> tuple[Ahead, int | None]:
        """Where the channel of the next row first moves, as far as pages are there: it may begin with a state."""
        page = self._pages[0]
        first = page.first_move(row)
        for later in islice(self._pages, 1, None) if first is None else ():
            begin = next((one for one, begins in later.begins if begins == channel), None)
            if begin is not None and (first := later.first_move(begin)) is not None:
                return later, first
        return page, first

    def rows(self, bytes_max: int, reached: int, updates_max: int | None) -> tuple[bytes, int]:
        """A frame with the next rows up to a clock, about as long; counts updates where there is a bound on them.

        The next row is there, not after that clock, and its channel's begin was told.
        """
        page, start = self._pages[0], self._row
        stop = page.before(reached + 1)
        if self._begins:
            stop = min(stop, self._begins[0][0])
        stop = page.fitting(start, stop, bytes_max)
        updates = 0
        if updates_max is not None:
            ends = np.flatnonzero(page.ends[start:stop])[:updates_max]
            updates = len(ends)
            if updates == updates_max:
                stop = start + int(ends[-1]) + 1
        self._note(page, start, stop)
        self._row = stop
        clock = int(page.clock[stop - 1])
        self.sent = clock - 1 if stop < len(page) and page.clock[stop] == clock else clock
        frame = page.frame(start, stop)
        if stop == len(page):
            self._pages.popleft()
            self._row, self._begins = 0, None
        return frame, updates

    def position(self, channel: Channel) -> tuple[str, int]:
        """The source and position of a channel that has begun."""
        self._settle()
        return self.begun[channel]

    def marks(self) -> dict[str, int]:
        """Up to where everything of each source was sent."""
        self._settle()
        return dict(self._marks)

    def marks_begin(self, standing: Iterable[ChannelState]) -> None:
        """Marks of channels that stand at one moment."""
        self._marks = {}
        for found in standing:
            self._marks[found.source] = max(found.seq, self._marks.get(found.source, NO_SEQ))

    def _note(self, page: Ahead, start: int, stop: int) -> None:
        """Remembers what is sent, by numbers: of equal ones the last stays."""
        codes, sources = page.codes[start:stop], page.source[start:stop]
        if (more := int(codes.max()) + 1 - len(self._seqs)) > 0:
            self._seqs = np.append(self._seqs, np.full(more, -2, np.int64))
            self._sources = np.append(self._sources, np.zeros(more, np.int64))
        if (more := int(sources.max()) + 1 - len(self._ats)) > 0:
            self._ats = np.append(self._ats, np.full(more, -2, np.int64))
        self._seqs[codes] = page.seqs[start:stop]
        self._sources[codes] = sources
        self._ats[sources] = page.at[start:stop]
        self._named = page

    def _settle(self) -> None:
        page = self._named
        if page is None:
            return
        for code in np.flatnonzero(self._seqs > -2).tolist():
            channel = page.channel(code)
            if channel in self.begun:
                self.begun[channel] = page.sources[int(self._sources[code])], int(self._seqs[code])
        for number in np.flatnonzero(self._ats > -2).tolist():
            name = page.sources[number]
            self._marks[name] = max(int(self._ats[number]), self._marks.get(name, NO_SEQ))
        self._named = None
        self._seqs[:] = -2
        self._ats[:] = -2
