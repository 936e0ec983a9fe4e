"""Flushes: what changed between two moments at which readers are served, and the window of them that is kept.

Owns the commit: only here what records said becomes what readers see, so that whoever joins between two flushes gets
the state as of the last one and the next flush on top. Leaves what a record says to `intake`, and who gets what to
`selection` and `cursor`.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from feed.channels.channel import TURN_SEQ, Channel, Entry, Listing, Source
from feed.channels.message import bare
from feed.channels.tally import updates_in
from feed.model import NO_SEQ, Joined, Mode

if TYPE_CHECKING:
    from feed.channels.state import Folded

_FLUSH_OVERHEAD_BYTES: Final = 600
_ENTRY_OVERHEAD_BYTES: Final = 200
_NS_PER_MS: Final = 1_000_000
_STEP_NS_MAX: Final = 5_000 * _NS_PER_MS


class Birth:
    """A channel that begins with this flush, and what those are told who asked for it by a pattern."""

    __slots__ = ("channel", "joined")

    def __init__(self, channel: Channel, joined: bytes) -> None:
        self.channel = channel
        self.joined = joined


class Flush:
    """What changed, by symbol, and where the sources stood at its end.

    A reader's cursor is a flush: the last one that it was sent. Once evicted it keeps only its number and positions.
    """

    __slots__ = (
        "births",
        "born",
        "bytes",
        "changed",
        "closed_ns",
        "notices",
        "number",
        "offers",
        "positions",
        "standings",
        "states",
        "told",
        "turns",
        "uneven",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.changed: dict[int, list[Entry]] = {}
        self.notices: list[tuple[Source, bytes]] = []
        self.births: list[Birth] = []
        self.positions: tuple[int, ...] = ()
        self.closed_ns = 0
        self.bytes = 0
        self.uneven: set[int] = set()
        """Symbols of which not every entry is one update: turns, and states by themselves."""
        self.standings: dict[tuple[int, int], tuple[int, int]] = {}
        """Where channels stood at its end, as far as a reader lost what came after: last update, how many so far."""
        # for the commit only
        self.born: dict[Channel, None] = {}
        self.turns: set[int] = set()
        self.offers: list[tuple[Channel, Source, Folded]] = []
        self.states: list[tuple[Channel, Source, int, bytes]] = []
        self.told: list[Channel] = []
        """The channels of entries that only tell a state."""

    @property
    def empty(self) -> bool:
        """Whether readers have nothing to hear of it."""
        return not (self.changed or self.notices or self.born)

    def position(self, source: Source) -> int:
        """Where a source stood at its end; -1 before its first record."""
        index = source.index
        return self.positions[index] if index < len(self.positions) else NO_SEQ

    def commit(self, listings: dict[int, Listing], names: dict[str, Listing]) -> None:
        """Makes it visible: births, entries in the logs of their channels, turns, states to join at."""
        for channel in self.born:
            self._bear(channel, listings, names)
        for channel in self.told:
            self.uneven.add(channel.id)
            if channel.id not in self.turns:
                channel.states += 1
        self.uneven |= self.turns
        for id_, entries in self.changed.items():
            if id_ in self.turns:
                self._commit_turns(entries, listings[id_])
            else:
                appends = listings[id_].appends
                for entry in entries:
                    appends[entry[1]](entry)
        # what a source said of a channel is worth nothing once another one goes on with it
        for channel, source, seq, message in self.states:
            if channel.source is source:
                channel.state = seq, message
        for channel, source, keyframe in self.offers:
            if channel.source is source:
                channel.offer(keyframe)
        self.born, self.turns, self.offers, self.states, self.told = {}, set(), [], [], []

    def clear(self) -> None:
        """Lets go of everything that is for readers."""
        self.changed, self.notices, self.births = {}, [], []

    def _bear(self, channel: Channel, listings: dict[int, Listing], names: dict[str, Listing]) -> None:
        listing = channel.listing
        listings[listing.id] = names[listing.name] = listing
        listing.channels[channel.index] = channel
        channel.born = self.number
        listing.appends[channel.bit] = channel.log.append
        mode: Mode = "live"
        seq = NO_SEQ
        turns = False
        for entry in self.changed.get(listing.id, ()):
            if entry[1] == channel.bit:
                turns = entry[3] is not None
                if entry[3] is not None and entry[3].base is not None:
                    mode, seq = "snapshot", entry[3].base.seq
                break
        if not turns:
            listing.told.pop(channel.bit, None)
        self.births.append(Birth(channel, bare(Joined(channel.kind, listing.name, mode, channel.source.name, seq))))

    def _commit_turns(self, entries: list[Entry], listing: Listing) -> None:
        for index, entry in enumerate(entries):
            turn = entry[3]
            if turn is None:
                listing.appends[entry[1]](entry)
                if entry[2].startswith(b"state"):
                    channel = listing.channels[entry[1].bit_length() - 1]
                    assert channel is not None
                    channel.states += 1
            else:
                message = turn.take(self.number)
                self.bytes += len(message)
                entries[index] = (TURN_SEQ, entry[1], message, turn)


class Window:
    """The last flushes, bounded by bytes and by time."""

    def __init__(self, bytes_max: int, milliseconds: int) -> None:
        self._bytes_max = bytes_max
        self._ns = milliseconds * _NS_PER_MS
        self._ring: deque[Flush] = deque()
        self._seen_ns: int | None = None
        self._age_ns = 0
        self._gone = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._ring)

    def pass_time(self, now_ns: int) -> None:
        """Time as it passes, not as it is set: a clock that jumps ages nothing by more than a step."""
        if self._seen_ns is not None:
            self._age_ns += min(max(now_ns - self._seen_ns, 0), _STEP_NS_MAX)
        self._seen_ns = now_ns

    def add(self, flush: Flush) -> None:
        """Keeps a flush that was committed."""
        flush.closed_ns = self._age_ns
        entries = sum(map(len, flush.changed.values()))
        flush.bytes += _FLUSH_OVERHEAD_BYTES + 8 * len(flush.positions) + _ENTRY_OVERHEAD_BYTES * entries
        self._ring.append(flush)
        self.bytes += flush.bytes

    def reaches(self, cursor: Flush) -> bool:
        """Whether all flushes after this one are kept."""
        return cursor.number >= self._gone

    def after(self, cursor: Flush) -> Flush | None:
        """The flush that follows, None at the newest."""
        ring = self._ring
        if not ring or cursor.number >= ring[-1].number:
            return None
        return ring[cursor.number - ring[0].number + 1]

    def overfull(self) -> Flush | None:
        """The oldest flush, where it has to go."""
        if self._ring and (self.bytes > self._bytes_max or self._ring[0].closed_ns < self._age_ns - self._ns):
            return self._ring[0]
        return None

    def note_standings(self, cursor: Flush, masks: dict[int, int], listings: dict[int, Listing]) -> None:
        """The flush after a reader's cursor is about to go: notes at the cursor where the reader's channels stood.

        Readers at the same cursor share the notes.
        """
        for id_, mask in masks.items():
            for channel in listings[id_].channels:
                if channel is None or not channel.bit & mask or (id_, channel.bit) in cursor.standings:
                    continue
                if channel.switched <= cursor.number:
                    standing = channel.standing(channel.standing_at(cursor))
                else:
                    # its log is another one since: only the flushes tell how many there were
                    standing = NO_SEQ, channel.updates - self._updates_after(cursor, id_, channel.bit)
                cursor.standings[id_, channel.bit] = standing

    def _updates_after(self, cursor: Flush, id_: int, bit: int) -> int:
        """How many updates of a channel came after a flush that it still reaches; walks over all flushes since."""
        found = 0
        for flush in islice(self._ring, cursor.number - self._gone, None):
            found += sum(updates_in(entry[2]) for entry in flush.changed.get(id_, ()) if entry[1] == bit)
        return found

    def evict(self) -> None:
        """Lets go of the oldest flush."""
        flush = self._ring.popleft()
        self._gone = flush.number
        self.bytes -= flush.bytes
        flush.clear()
