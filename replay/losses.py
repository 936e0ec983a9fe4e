"""Batches that a recording has lost: between which commits, and which stretch that is of each source's order.

Owns where a loss begins and ends in a source: from where the source stood after the last commit that is there, to where
it stood after the last one that is not. Other tables say so, since all stand at the same positions after a commit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from feed.recording.notes import Span
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import NEVER
from feed.wire.model import NO_SEQ

Place = tuple[int, int]
"""Clock and tick in a source's order."""
BEFORE_ALL: Final[Place] = (-1, NO_SEQ)


class Stretch(NamedTuple):
    """What is lost of a source: everything behind a place and up to another."""

    begin: Place
    end: Place


class LostBatch(Struct, frozen=True):
    """Batches of a table that are not there: those of the commits after one and up to another.

    `begins`, `ends`: from where and up to where of each source, as the batches beside them say, before they are put
    together in sealed files. `exact`: an index says so, and of other sources nothing is lost.
    """

    after: int
    last: int
    begins: dict[str, Place] = {}
    ends: dict[str, Place] = {}
    exact: bool = False


class Spans:
    """Where each source stood at a commit, by any table's notes."""

    def __init__(self, recording: RecordingFiles) -> None:
        self._spans: dict[str, dict[int, Span]] = {}
        self._firsts: dict[str, Place] = {}
        for table_files in recording.files_by_table.values():
            for ref in table_files.refs():
                note = table_files.block(ref).note
                for source, span in note.sources.items():
                    self._spans.setdefault(source, {}).setdefault(note.commit, span)
                    first = (span.first_clock, span.first_at) if span.rows else (span.clock, span.tick)
                    if first[0] > 0:
                        self._firsts[source] = min(first, self._firsts.get(source, first))
        self._commits = {source: sorted(found) for source, found in self._spans.items()}

    @property
    def sources(self) -> list[str]:
        """All sources."""
        return list(self._spans)

    def at(self, source: str, commit: int) -> Span | None:
        """The last that is said up to a commit."""
        commits = self._commits.get(source, [])
        number = bisect_right(commits, commit)
        return self._spans[source][commits[number - 1]] if number else None

    def commit(self, source: str, clock: int, at: int) -> int:
        """The first commit after which a source stands at this place, or behind it."""
        spans = self._spans.get(source, {})
        commits = self._commits.get(source, [])
        number = bisect_left(commits, (clock, at), key=lambda commit: (spans[commit].clock, spans[commit].tick))
        return commits[number] if number < len(commits) else NEVER

    def before(self, source: str) -> Place:
        """A place before everything that is there of a source, at the first clock that one of its ticks had."""
        clock, at = self._firsts.get(source, (0, 0))
        return clock, max(at - 1, NO_SEQ)

    def stood(self, source: str, commit: int) -> Place:
        """Where a source stood after a commit at least; before its first tick, where it had none."""
        span = self.at(source, commit)
        return self.before(source) if span is None or span.clock <= 0 else (span.clock, span.tick)

    def reached(self, source: str, commit: int) -> Place:
        """Where a source stood after a commit at most."""
        commits = self._commits[source]
        span = self._spans[source][commits[min(bisect_left(commits, commit), len(commits) - 1)]]
        return span.clock, span.tick


class Losses:
    """What a table has lost, source by source."""

    def __init__(self, spans: Spans, lost: Sequence[LostBatch]) -> None:
        self._stretches: dict[str, list[Stretch]] = {}
        for loss in lost:
            for source in spans.sources:
                begin, end = loss.begins.get(source, BEFORE_ALL), loss.ends.get(source)
                if not loss.exact:
                    end = spans.reached(source, loss.last) if end is None else end
                    if begin[0] <= 0:
                        begin = spans.stood(source, loss.after)
                if end is not None and begin < end:
                    self._stretches.setdefault(source, []).append(Stretch(begin, end))
        for stretches in self._stretches.values():
            stretches.sort()

    def __bool__(self) -> bool:
        return bool(self._stretches)

    def between(self, source: str, begin: Place, end: Place) -> list[Stretch]:
        """Those of which anything lies behind a place and before another."""
        return [one for one in self._stretches.get(source, ()) if one.end > begin and one.begin < end]

    def behind(self, source: str, place: Place) -> list[Stretch]:
        """Those of which anything lies behind a place."""
        return [one for one in self._stretches.get(source, ()) if one.end > place]

    def at(self, source: str, place: Place) -> Stretch | None:
        """The one in which a place lies."""
        return next((one for one in self._stretches.get(source, ()) if one.begin < place <= one.end), None)
