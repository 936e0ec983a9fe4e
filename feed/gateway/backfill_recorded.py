"""Recordings read for requests that begin in the past: from a time or from marks on, in threads.

Owns what a recording can give for a request: of which partitions, from where, and whether that is as early as was asked
for. Leaves what a client is sent of it to `feed.backfill.recorded`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from feed.backfill.recorded import Key, RecordedMessage, RecordedPart, RecordedState
from feed.channels.source import partition_of
from feed.gateway.recordings import RecordingIterator, Recordings
from feed.recording.filter import Filter
from feed.recording.footing import WHOLE
from feed.recording.merge import RANKS, RowPage
from feed.recording.state_at import last_seqs
from feed.recording.table_files import NEVER, RecordingCut
from feed.wire.message import END, START, head_of
from feed.wire.model import KINDS, Kind

if TYPE_CHECKING:
    from feed.backfill.past import LogCut
    from feed.recording.recording import RecordingFiles

_PIECE_BYTES: Final = 256 * 1024
_KINDS: Final[dict[int, Kind]] = {RANKS[kind]: kind for kind in KINDS}


class RecordedEnd(NamedTuple):
    """Where a partition's recording ends: its source, the last tick, the offset of the feed log after it."""

    source: str
    tick: int
    offset: int


class _Found(NamedTuple):
    """What a recording has for a request: where its partitions end, and what is sent of it."""

    ends: dict[str, RecordedEnd]
    part: RecordedPart


class RecordedSource:
    """A recording that is read for one request. Close it. `ends` and `part` are known when it is open."""

    def __init__(
        self, recordings: Recordings, kinds: list[str], symbols: list[str], cuts: Mapping[str, LogCut]
    ) -> None:
        """`cuts`: those of the partitions for which the feed log does not reach back far enough."""
        chosen = Filter([kind for kind in kinds if kind in KINDS], symbols)
        self.ends: dict[str, RecordedEnd] = {}
        self.part: RecordedPart | None = None
        # nothing that is read refers back to this: when it goes, all goes
        self._items: RecordingIterator[_Found | list[RecordedMessage]] = RecordingIterator(
            recordings, lambda recording: _read(recording, chosen, cuts)
        )

    async def open(self) -> bool:
        """Reads the channels' states, and where the recording ends; False where it has nothing for this request.

        Raises:
            BadRequest: `no_recording`.
            CorruptRecording: a batch is damaged.
        """
        found = await self._items.next()
        if isinstance(found, _Found):
            self.ends, self.part = found
        return self.part is not None

    async def next(self) -> list[RecordedMessage] | None:
        """The next messages; None at the end.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        messages = await self._items.next()
        assert not isinstance(messages, _Found)
        return messages

    def close(self) -> None:
        """Closes the recording; does not wait for it."""
        self._items.close()


def _read(
    recording: RecordingFiles, chosen: Filter, cuts: Mapping[str, LogCut]
) -> Iterator[_Found | list[RecordedMessage]]:
    """What there is, where there is anything for these cuts; then the messages."""
    begins = _begins(recording, chosen)
    ends = {partition: end for partition, end in _ends(recording).items() if partition in cuts}
    first: Mapping[str, LogCut] = {partition: cuts[partition] for partition in ends}
    marks = {cut.source: cut.mark for cut in first.values() if cut.source}
    if marks:
        # of a source that was not recorded at its mark the feed log is all that there is
        ends = {
            partition: end
            for partition, end in ends.items()
            if end.source in marks and begins.get(end.source, _Begin(0, 0, -1)).tick <= marks[end.source]
        }
        cut, late, whole = RecordingCut(-1, {end.source: marks[end.source] for end in ends.values()}), False, True
    else:
        time = max((cut.time for cut in first.values() if cut.time is not None), default=0)
        footing = recording.footing(chosen.tables)
        # what was recorded from the recorder's begin on says itself which channels were there before: by a snapshot
        whole = footing == WHOLE
        first_row = max((b.clock for name, b in begins.items() if partition_of(name) in ends), default=time)
        late = (first_row if whole else footing) > time
        cut = RecordingCut(max(time, footing))
        if footing == NEVER:
            return
    if not ends or not chosen.kinds:
        return
    wanted = {end.source for end in ends.values()}
    partitions = set(ends)
    states: dict[Key, RecordedState] = {}
    if not marks:
        for (kind, symbol), found in recording.standing(chosen, cut).items():
            if partition_of(found.source) in partitions:
                states[kind, symbol] = RecordedState(found.source, found.seq, found.messages)
    lasts = {
        key: last
        for key, last in last_seqs(recording.files_by_table, chosen.kinds).items()
        if chosen.symbol(key[1]) and partition_of(last[0]) in partitions
    }
    part = RecordedPart(
        {end.source: end.tick for end in ends.values()},
        lasts,
        states,
        client_marks={name: mark for name, mark in marks.items() if name in wanted},
        late="evicted" if late and not whole else None,
        unrecorded="evicted" if late else "recording",
    )
    yield _Found(ends, part)
    for page in recording.pages(chosen, cut, separator=""):
        yield from _pieces(page, partitions)


def _pieces(page: RowPage, partitions: set[str]) -> Iterator[list[RecordedMessage]]:
    """The messages of a page that belong to these partitions, some at a time."""
    texts = page.messages.cast(pa.binary()).to_pylist()
    ours = [partition_of(name) in partitions for name in page.sources]
    piece: list[RecordedMessage] = []
    size = 0
    columns = (page.source.tolist(), page.symbol.tolist(), page.rank.tolist())
    for text, source, symbol, rank in zip(texts, *columns, strict=True):
        if not ours[source]:
            continue
        kind = _KINDS.get(rank) or head_of(text[len(START) : -len(END)]).channel
        piece.append(RecordedMessage(kind, page.symbols[symbol], page.sources[source], text))
        size += len(text)
        if size >= _PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _ends(recording: RecordingFiles) -> dict[str, RecordedEnd]:
    """For each partition the source that was recorded last."""
    found: dict[str, RecordedEnd] = {}
    for source, span in recording.positions.items():
        partition = partition_of(source)
        if span.offset >= 0 and (partition not in found or found[partition].offset < span.offset):
            found[partition] = RecordedEnd(source, span.tick, span.offset)
    return found


class _Begin(NamedTuple):
    """From where on all tables have a source: since which commit, and its clock and tick then."""

    commit: int
    clock: int
    tick: int


def _begins(recording: RecordingFiles, chosen: Filter) -> dict[str, _Begin]:
    """Where the sources of the first files begin; one that came later was recorded from its own begin on.

    Of its first commit a file has keyframes, or the rows that came with it; all that follows is there. Gaps and states
    are as old as the recording where nothing of them was deleted.
    """
    begins: dict[str, _Begin] = {}
    for table in chosen.tables:
        table_files = recording.files_by_table[table]
        found: dict[str, _Begin] = {}
        if table not in KINDS and table_files.has_first:
            continue
        for block in table_files.oldest():
            commit = block.note.commit
            for source, span in block.note.sources.items():
                clock, tick = (span.first_clock, span.first_at) if span.rows else (span.clock, span.tick)
                before = found.get(source)
                if before is None or (before.commit == commit and tick < before.tick):
                    found[source] = _Begin(commit, clock, tick)
        for source, at in found.items():
            before = begins.get(source)
            if before is None or at.commit > before.commit or (at.commit == before.commit and at.tick < before.tick):
                begins[source] = at
    return begins
