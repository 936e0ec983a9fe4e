"""A page of a recording as it goes to a client: whole frames out of its text, and what is in which row.

Owns the looks at rows that pacing, stepping and joining need. It is made in a thread; what a frame costs afterwards is
a copy of its text.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import msgspec
import numpy as np
import pyarrow.compute as pc

from feed.recording.merge import RowPage
from feed.wire.frames import frame_head
from feed.wire.message import KIND_INDEX
from feed.wire.model import KINDS, NO_SEQ

SEPARATOR: Final = ","
"""What pages are read with."""
_UPDATE: Final = '{"type":"update"'


class RowHead(msgspec.Struct):
    """What a gap, a state or a snapshot says beside its data."""

    type: str
    channel: str
    symbol: str
    seq: int
    source: str = ""
    prev: int = NO_SEQ
    lost: bool = True


_HEAD: Final = msgspec.json.Decoder(RowHead)
head_of: Final = _HEAD.decode


class Ahead:
    """Rows of a page, in order. `clock`: nanoseconds; `at`, `source`, `sources`: as of the page.

    `codes`: of which channel a row is (`channels` names them). `heads`: rows that are no updates. `seqs`: the position
    of its channel after a row.
    """

    def __init__(self, page: RowPage) -> None:
        messages = page.messages
        _, offsets, data = messages.buffers()
        first = messages.offset
        self._bounds = np.frombuffer(offsets, np.int32)[first : first + len(messages) + 1]
        self._text = memoryview(data) if data is not None else memoryview(b"")
        self.clock, self.at, self.source, self.sources = page.clock, page.at, page.source, page.sources
        self._symbols = page.symbols
        self.updates = pc.starts_with(messages, _UPDATE).to_numpy(zero_copy_only=False)
        self.codes = (page.rank.astype(np.int64) - 1) + len(KINDS) * page.symbol.astype(np.int64)
        self.seqs = page.at
        self.heads: dict[int, RowHead] = {}
        others = np.flatnonzero(~self.updates).tolist()
        if others:
            self.seqs = page.at.copy()
            symbols = {name: number for number, name in enumerate(page.symbols)}
            for row in others:
                head = self.heads[row] = head_of(self.message(row))
                self.codes[row] = KIND_INDEX[head.channel] + len(KINDS) * symbols[head.symbol]
                self.seqs[row] = head.seq

    def __len__(self) -> int:
        return len(self.clock)

    @property
    def size(self) -> int:
        """Bytes of text."""
        return int(self._bounds[-1] - self._bounds[0])

    @cached_property
    def ends(self) -> np.ndarray:
        """Rows with which an update ends; those of several parts end with their last."""
        same = (np.diff(self.codes) == 0) & (np.diff(self.at) == 0) & (np.diff(self.source) == 0)
        ends: np.ndarray = self.updates & ~np.append(same & self.updates[1:], False)
        return ends

    @cached_property
    def begins(self) -> list[tuple[int, tuple[str, str]]]:
        """The first row of each channel, in order."""
        codes, rows = np.unique(self.codes, return_index=True)
        found = zip(rows.tolist(), map(self.channel, codes.tolist()), strict=True)
        return sorted(found)

    def channel(self, code: int) -> tuple[str, str]:
        """The channel of a code."""
        return KINDS[code % len(KINDS)], self._symbols[code // len(KINDS)]

    def message(self, row: int) -> memoryview:
        """A message, without its separator."""
        return self._text[self._bounds[row] : self._bounds[row + 1] - len(SEPARATOR)]

    def first_move(self, row: int) -> int | None:
        """The first row of a row's channel, from it on, that is about its position: no state."""
        rows = row + np.flatnonzero(self.codes[row:] == self.codes[row])
        return next((one for one in rows.tolist() if one not in self.heads or self.heads[one].type != "state"), None)

    def prev(self, row: int) -> int:
        """The position before an update."""
        return head_of(self.message(row)).prev

    def fitting(self, start: int, stop: int, bytes_max: int) -> int:
        """How far a frame from `start` goes that is about as long; at least one row."""
        fits = int(np.searchsorted(self._bounds, self._bounds[start] + bytes_max, "right")) - 1
        return min(stop, max(fits, start + 1))

    def before(self, clock: int) -> int:
        """The first row that is not before a time."""
        return int(np.searchsorted(self.clock, clock))

    def frame(self, start: int, stop: int) -> bytes:
        """A frame with some messages."""
        text = self._text[self._bounds[start] : self._bounds[stop] - len(SEPARATOR)]
        return b"".join((frame_head(len(text) + 2), b"[", text, b"]"))
