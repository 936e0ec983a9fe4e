"""Messages of several recordings, each of them once: what is a copy, and what belongs before what.

Owns what was given, in bounded memory: updates as chains, of the rest what a recording may yet give again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence, Set
from typing import Final, NamedTuple

from feed.channels.channel import LOST_KINDS
from feed.recording.recording import RecordingFiles
from feed.recording.table_files import NEVER
from replay.ahead import RowHead, head_of

HOLE: Final = "recording"
Place = tuple[int, int, int]
"""Recording, clock and tick."""
Where = tuple[str, str, str]
"""Kind, symbol and source."""
_GIVEN_MIN: Final = 256
"""So many copies of a channel may be awaited before it is looked which can still come."""


class Filled(NamedTuple):
    """A hole of one recording that another fills: of which channel and source, and the `seq` at which it ends."""

    channel: str
    symbol: str
    source: str
    seq: int


class Entry(NamedTuple):
    """A message of one recording; they compare by their places."""

    clock: int
    source: str
    at: int
    rank: int
    recording: int
    number: int
    symbol: str
    message: bytes


class _Copies:
    """Snapshots, gaps or states of one channel and source: up to where each recording has given them, and by whom each
    was."""

    def __init__(self, passed: list[int]) -> None:
        self.passed = passed
        self.given: dict[int, Place | None] = {}
        self._looks_at = _GIVEN_MIN

    def forget(self, ended: Set[int]) -> None:
        """Lets go of what no recording can give again; looks only when there are twice as many as were left."""
        if len(self.given) >= self._looks_at:
            low = min((seq for number, seq in enumerate(self.passed) if number not in ended), default=NEVER)
            self.given = {seq: owner for seq, owner in self.given.items() if seq >= low}
            self._looks_at = max(_GIVEN_MIN, 2 * len(self.given))


class _Updates:
    """The updates of one channel and source that were given: as chains, each from a position to another.

    So who gives them again long after, or never, costs nothing: there are as many chains as holes.
    """

    def __init__(self) -> None:
        self.begins: list[int] = []
        self._ends: list[int] = []
        self._last: tuple[int, Place] | None = None

    def new(self, prev: int, seq: int, place: Place) -> bool:
        """Whether an update was not given; all parts of one stand at its place."""
        if self._last is not None and self._last[0] == seq:
            return self._last[1] == place
        at = bisect_right(self.begins, prev)
        if at and self._ends[at - 1] >= seq:
            return False
        self._last = seq, place
        if at and self._ends[at - 1] == prev:
            at -= 1
            self._ends[at] = seq
        else:
            self.begins.insert(at, prev)
            self._ends.insert(at, seq)
        if at + 1 < len(self.begins) and self.begins[at + 1] == seq:
            self._ends[at] = self._ends.pop(at + 1)
            del self.begins[at + 1]
        return True


class Once:
    """Lets each message through once. What no recording can give again is forgotten.

    A recorder that begins again behind a hole tells there which gap comes next, before its place: behind the update at
    which it begins. Where another recording fills the hole, the gap waits for that update.
    """

    def __init__(self, recordings: Sequence[RecordingFiles], filled: set[Filled]) -> None:
        self._filled = filled
        self._holed = {(hole.channel, hole.symbol, hole.source) for hole in filled}
        self._at: dict[Where, int] = {}
        self._begins = [_begins_of(recording) for recording in recordings]
        self._copies: dict[tuple[str, Where], _Copies] = {}
        self._updates: dict[Where, _Updates] = {}
        self._ended: set[int] = set()
        self._early: dict[Where, list[tuple[RowHead, Entry]]] = {}

    def ends(self, recording: int) -> None:
        """A recording has given all that it has."""
        self._ended.add(recording)

    def stands(self, source: str, message: bytes) -> None:
        """How a channel stood was given; a recording that tells it again behind a hole is not heard."""
        head = head_of(message)
        where = head.channel, head.symbol, source
        self._of(head.type, where).given[head.seq] = None
        if head.type == "snapshot":
            self._at[where] = head.seq

    def take(self, entry: Entry) -> list[Entry]:
        """What is to be given now that a message has come."""
        head = head_of(entry.message)
        where = head.channel, entry.symbol, entry.source
        if self._filled and Filled(*where, head.seq) in self._filled and _of_hole(head, entry.message):
            return []
        if head.type == "gap" and where in self._holed and head.prev > self._at.get(where, NEVER):
            self._early.setdefault(where, []).append((head, entry))
            return []
        found: list[Entry] = []
        if head.type == "update":
            found += self._late(where, head.seq)
        if head.type in ("update", "snapshot"):
            self._at[where] = head.seq
        return [*found, entry] if self._mine(head, where, entry) else found

    def rest(self) -> list[Entry]:
        """What has waited for its place, and will not be told by another recording."""
        return sorted(entry for where in list(self._early) for entry in self._late(where, NEVER))

    def _late(self, where: Where, seq: int) -> list[Entry]:
        """What has waited, and belongs before an update that comes now."""
        waiting = self._early.pop(where, [])
        if later := [one for one in waiting if one[0].seq >= seq]:
            self._early[where] = later
        return [entry for head, entry in waiting if head.seq < seq and self._mine(head, where, entry)]

    def _mine(self, head: RowHead, where: Where, entry: Entry) -> bool:
        """Whether a message is to be given, or was by another recording."""
        place = entry.recording, entry.clock, entry.at
        if head.type == "update":
            return self._updates.setdefault(where, _Updates()).new(head.prev, head.seq, place)
        copies = self._of(head.type, where)
        copies.passed[entry.recording] = head.seq
        owner = copies.given.setdefault(head.seq, place)
        copies.forget(self._ended)
        # what a recording tells again behind its hole is a copy where that is filled, else it says what holds
        again = owner is not None and owner[0] == entry.recording and where not in self._holed
        return again or owner == place

    def _of(self, type_: str, where: Where) -> _Copies:
        copies = self._copies.get((type_, where))
        if copies is None:
            passed = [begins.get(where[2], NEVER) - 1 for begins in self._begins]
            copies = self._copies[type_, where] = _Copies(passed)
        return copies


def _of_hole(head: RowHead, message: bytes) -> bool:
    """Whether it is the gap of a hole, or the snapshot that makes up for one: not of trades and bars, they go on."""
    if head.type == "snapshot":
        return head.channel not in LOST_KINDS
    return head.type == "gap" and b'"reason":"recording"' in message


def _begins_of(recording: RecordingFiles) -> dict[str, int]:
    """The first tick of each source that a recording has rows of."""
    found: dict[str, int] = {}
    for table_files in recording.files_by_table.values():
        for ref in table_files.refs():
            for source, span in table_files.block(ref).note.sources.items():
                if span.rows:
                    found[source] = min(span.first_at, found.get(source, NEVER))
    return found
