"""Tapes out of recordings: what was recorded of some channels from a time or from marks on, read in threads.

Owns what a recording can give for a walk: of which partitions, from where, and whether that is as early as was asked
for. Leaves what a client is sent of it to `feed.backfill.recorded`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from feed.backfill.recorded import Key, RecordedPart, Said, Stood
from feed.gateway.recordings import Recordings, RecordingWalk
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


class End(NamedTuple):
    """Where a partition's recording ends: its source, the last tick, the offset of the feed log after it."""

    source: str
    tick: int
    offset: int


class Found(NamedTuple):
    """What a recording has for a walk: where its partitions end, and the tape."""

    ends: dict[str, End]
    tape: RecordedPart


class RecordedSource:
    """A recording that is read for one walk. Close it. `ends` and `tape` are known when it is open."""

    def __init__(
        self, recordings: Recordings, kinds: list[str], symbols: list[str], cuts: Mapping[str, LogCut]
    ) -> None:
        """`cuts`: those of the partitions for which the feed log does not reach back far enough."""
        chosen = Filter([kind for kind in kinds if kind in KINDS], symbols)
        self.ends: dict[str, End] = {}
        self.tape: RecordedPart | None = None
        # nothing that is read holds this reel: it goes, and all goes
        self._walk: RecordingWalk[Found | list[Said]] = RecordingWalk(
            recordings, lambda recording: _read(recording, chosen, cuts)
        )

    async def open(self) -> bool:
        """Reads how the channels stood, and where the recording ends; False where it has nothing for this walk.

        Raises:
            BadRequest: `no_recording`.
            CorruptRecording: a batch is damaged.
        """
        found = await self._walk.next()
        if isinstance(found, Found):
            self.ends, self.tape = found
        return self.tape is not None

    async def next(self) -> list[Said] | None:
        """What comes next; None at the end.

        Raises:
            CorruptRecording: a batch is damaged.
        """
        said = await self._walk.next()
        assert not isinstance(said, Found)
        return said

    def close(self) -> None:
        """Closes the recording; does not wait for it."""
        self._walk.close()


def _read(recording: RecordingFiles, chosen: Filter, cuts: Mapping[str, LogCut]) -> Iterator[Found | list[Said]]:
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
        first_row = max((b.clock for name, b in begins.items() if name.partition("@")[0] in ends), default=time)
        late = (first_row if whole else footing) > time
        cut = RecordingCut(max(time, footing))
        if footing == NEVER:
            return
    if not ends or not chosen.kinds:
        return
    wanted = {end.source for end in ends.values()}
    partitions = set(ends)
    stood: dict[Key, Stood] = {}
    if not marks:
        for (kind, symbol), found in recording.standing(chosen, cut).items():
            if found.source.partition("@")[0] in partitions:
                stood[kind, symbol] = Stood(found.source, found.seq, found.messages)
    lasts = {
        key: last
        for key, last in last_seqs(recording.shelves, chosen.kinds).items()
        if chosen.symbol(key[1]) and last[0].partition("@")[0] in partitions
    }
    tape = RecordedPart(
        {end.source: end.tick for end in ends.values()},
        lasts,
        stood,
        resumes={name: mark for name, mark in marks.items() if name in wanted},
        reason="evicted" if late and not whole else None,
        unheard="evicted" if late else "recording",
    )
    yield Found(ends, tape)
    for page in recording.pages(chosen, cut, separator=""):
        yield from _pieces(page, partitions)


def _pieces(page: RowPage, partitions: set[str]) -> Iterator[list[Said]]:
    """The messages of a page that belong to these partitions, some at a time."""
    texts = page.messages.cast(pa.binary()).to_pylist()
    ours = [name.partition("@")[0] in partitions for name in page.sources]
    piece: list[Said] = []
    size = 0
    columns = (page.source.tolist(), page.symbol.tolist(), page.rank.tolist())
    for text, source, symbol, rank in zip(texts, *columns, strict=True):
        if not ours[source]:
            continue
        kind = _KINDS.get(rank) or head_of(text[len(START) : -len(END)]).channel
        piece.append(Said(kind, page.symbols[symbol], page.sources[source], text))
        size += len(text)
        if size >= _PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _ends(recording: RecordingFiles) -> dict[str, End]:
    """For each partition the source that was recorded last."""
    found: dict[str, End] = {}
    for source, span in recording.positions.items():
        partition = source.partition("@")[0]
        if span.offset >= 0 and (partition not in found or found[partition].offset < span.offset):
            found[partition] = End(source, span.tick, span.offset)
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
        shelf = recording.shelves[table]
        found: dict[str, _Begin] = {}
        if table not in KINDS and shelf.has_first:
            continue
        for block in shelf.oldest():
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
