"""Flushes: what changed between two moments at which subscribers are served, and the window of them that is kept.

Owns the commit: only here what records said becomes what subscribers see, so that whoever joins between two flushes
gets the state as of the last one and the next flush on top. Leaves what a record says to `intake`, and who gets what to
`selection` and `subscriber`.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from feed.channels.log import REBASE_SEQ, Entry, Run, entries_of, in_order
from feed.channels.tally import updates_in
from feed.wire.message import JOINT
from feed.wire.model import NO_SEQ, Mode, OnLag

if TYPE_CHECKING:
    from feed.channels.channel import Channel, Listing
    from feed.channels.rebase import Rebase
    from feed.channels.roster import Roster
    from feed.channels.source import Source
    from feed.channels.state import Folded
    from feed.channels.view_spec import ViewSpec
    from feed.wire.model import StateReason

_FLUSH_OVERHEAD_BYTES: Final = 600
_ENTRY_OVERHEAD_BYTES: Final = 200
# measured: 268, the message's own bytes aside
_RUN_OVERHEAD_BYTES: Final = 280
_NS_PER_MS: Final = 1_000_000
_KEY_HEAD: Final = len("update")
_NAMES_MAX: Final = 1024
"""So many names of sources, and ways of seeing channels, are kept as JSON."""
_STEP_NS_MAX: Final = 5_000 * _NS_PER_MS


def joined(channel: Channel, mode: Mode, source: str, seq: int, on_lag: OnLag, spec: ViewSpec) -> bytes:
    """A `joined` in bare form, put together of what is alike for many: a pattern may bring thousands."""
    key, told = channel.key[_KEY_HEAD:], _parameters(on_lag, spec.of(channel.kind))
    return b'joined%b,"mode":"%b","source":%b,"seq":%d%b' % (key, mode.encode(), _json_of(source), seq, told)


@lru_cache(_NAMES_MAX)
def _json_of(source: str) -> bytes:
    return msgspec.json.encode(source)


@lru_cache(_NAMES_MAX)
def _parameters(on_lag: OnLag, spec: ViewSpec) -> bytes:
    return b',"on_lag":"%b","every_ms":%d,"depth":%d' % (on_lag.encode(), *spec)


class Notice(NamedTuple):
    """News of a source: the message, and what it says."""

    source: Source
    message: bytes
    state: str
    reason: StateReason | None


class Birth:
    """A channel that begins with this flush, and how that is told to those who asked for it by a pattern."""

    __slots__ = ("_joined", "_mode", "_seq", "_source", "_spec", "channel")

    def __init__(self, channel: Channel, mode: Mode, seq: int, spec: ViewSpec) -> None:
        self.channel = channel
        self._mode: Mode = mode
        self._seq = seq
        self._source = channel.source.name
        self._spec = spec
        self._joined: dict[str, bytes] = {}

    def joined(self, on_lag: OnLag) -> bytes:
        """The `joined` of all who chose the same for a lag: a view is a hub of its own, so the rest is alike."""
        made = self._joined.get(on_lag)
        if made is None:
            made = joined(self.channel, self._mode, self._source, self._seq, on_lag, self._spec)
            self._joined[on_lag] = made
        return made

    def resume(self, mark: int) -> None:
        """It is told as one that goes on after a mark."""
        self._mode, self._seq = "resumed", mark
        self._joined = {}


class Flush:
    """What changed, by symbol, and where the sources stood at its end.

    A subscriber's cursor is a flush: the last one that it was sent. Once evicted it keeps only its number and
    positions.
    """

    __slots__ = (
        "__weakref__",
        "births",
        "born",
        "bytes",
        "changed",
        "closed_ns",
        "following",
        "notices",
        "number",
        "offered_snapshots",
        "positions",
        "rebased_bytes",
        "rebases",
        "runs",
        "standings",
        "states",
        "told",
        "uneven",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.changed: dict[int, list[Entry]] = {}
        self.runs: dict[int, list[Run]] = {}
        """Symbols that had nothing but updates, each following on the one before: a run of each of their channels."""
        self.notices: list[Notice] = []
        self.births: list[Birth] = []
        self.positions: tuple[int, ...] = ()
        self.closed_ns = 0
        self.bytes = 0
        self.uneven: set[int] = set()
        """Symbols of which not every entry is one update: rebases, and states by themselves."""
        self.standings: dict[tuple[int, int], tuple[int, int]] = {}
        """Where channels stood at its end of which a subscriber was being sent more than a page then: last update, how
        many so far. Of all others `lost` knows."""
        # for the commit only
        self.following: dict[Channel, list[bytes]] = {}
        """What becomes runs; nothing else has happened to their symbols so far."""
        self.born: dict[Channel, None] = {}
        self.rebases: set[int] = set()
        self.rebased_bytes = 0
        """The states that rebases go on from: written as all is, but kept by their channels."""
        self.offered_snapshots: list[tuple[Channel, Source, Folded]] = []
        self.states: list[tuple[Channel, Source, int, bytes]] = []
        self.told: list[Channel] = []
        """The channels of entries that only tell a state."""

    @property
    def empty(self) -> bool:
        """Whether subscribers have nothing to hear of it."""
        return not (self.changed or self.following or self.notices or self.born)

    def position(self, source: Source) -> int:
        """Where a source stood at its end; -1 before its first record."""
        index = source.index
        return self.positions[index] if index < len(self.positions) else NO_SEQ

    def said(self, id_: int, mask: int) -> tuple[list[bytes], int]:
        """The bare messages about some kinds of a symbol, in order, and how many updates they are."""
        runs = self.runs.get(id_)
        if runs is not None:
            interest = [run for run in runs if run.bit & mask]
            if len(interest) == 1:
                return [interest[0].text], interest[0].updates
            return [entry[2] for entry in _spread(interest)], sum([run.updates for run in interest])
        messages = [entry[2] for entry in self.changed.get(id_, ()) if entry[1] & mask]
        return messages, len(messages) if id_ not in self.uneven else sum(map(updates_in, messages))

    def entries(self, id_: int) -> list[Entry]:
        """All that happened to a symbol, one by one."""
        runs = self.runs.get(id_)
        return self.changed.get(id_, []) if runs is None else _spread(runs)

    def note_standing(self, channel: Channel, standing: tuple[int, int]) -> None:
        """A subscriber was being sent more than a page of a channel, which stood so at its end."""
        self.standings[channel.id, channel.bit] = standing

    # ---- while it is open

    def begin(self, channel: Channel) -> None:
        """A channel begins."""
        self.born[channel] = None

    def add(self, channel: Channel, entry: Entry) -> None:
        """What happened to a channel; an update that follows on the one before comes by `follow` or `Channel.run`."""
        self.list_of(channel.listing).append(entry)

    def add_rebase(self, rebase: Rebase) -> None:
        """A channel is rebased."""
        channel = rebase.channel
        self.rebases.add(channel.id)
        if rebase.base is not None:
            self.rebased_bytes += sum(map(len, rebase.base.messages))
        self.add(channel, (REBASE_SEQ, channel.bit, b"", rebase))

    def add_state(self, channel: Channel, seq: int, message: bytes, *, alone: bool) -> None:
        """A `state` was told; `alone`: in an entry without an update."""
        self.states.append((channel, channel.tail_of, seq, message))
        if alone:
            self.told.append(channel)

    def add_notice(self, notice: Notice) -> None:
        """There is news of a source."""
        self.notices.append(notice)

    def offer(self, channel: Channel, source: Source, keyframe: Folded) -> None:
        """A channel has a newer state to join at, if its source is still this one at the commit."""
        self.offered_snapshots.append((channel, source, keyframe))

    def weigh(self, size: int) -> None:
        """So many bytes more are in it."""
        self.bytes += size

    def stand_at(self, positions: tuple[int, ...]) -> None:
        """Where the sources stand at its end."""
        self.positions = positions

    def follow(self, channel: Channel, message: bytes) -> None:
        """An update that follows on the one before, where its channel has no run."""
        entries = self.changed.get(channel.id)
        if entries is None:
            channel.run = self.following[channel] = [message]
        else:
            entries.append((int(channel.pos_text), channel.bit, message, None))

    def list_of(self, listing: Listing) -> list[Entry]:
        """All that happened to a symbol so far, to be changed: for what is not an update that follows another one."""
        entries = self.changed.get(listing.id)
        if entries is None:
            entries = []
            for channel in listing.heads:
                if channel is not None and channel.run is not None:
                    entries += entries_of(channel.bit, self.following.pop(channel))
                    channel.run = None
            entries = self.changed[listing.id] = in_order(entries)
        return entries

    def candidates(self, listings: dict[int, Listing]) -> list[Channel]:
        """The channels that may have a state without any update after the commit."""
        rebased = [one for id_ in self.rebases if id_ in listings for one in listings[id_].heads if one is not None]
        return [*self.born, *[channel for channel, _, _ in self.offered_snapshots], *rebased]

    def commit(self, roster: Roster, spec: ViewSpec) -> None:
        """Makes it visible: births, entries in the logs of their channels, rebases, states to join at."""
        listings = roster.by_id
        for channel in self.born:
            self._bear(channel, roster, spec)
        for channel in self.told:
            self.uneven.add(channel.id)
        self.uneven |= self.rebases
        for id_, entries in self.changed.items():
            if id_ in self.rebases:
                self._commit_rebases(entries, listings[id_])
            else:
                appends = listings[id_].appends
                for entry in entries:
                    appends[entry[1]](entry)
        for channel, messages in self.following.items():
            channel.run = None
            seq = int(channel.pos_text) if channel.pos_text else channel.chain
            run = Run(seq, channel.bit, JOINT.join(messages), len(messages))
            channel.log.add_run(run)
            self.runs.setdefault(channel.id, []).append(run)
        # what a source said of a channel is worth nothing once another one goes on with it
        for channel, source, seq, message in self.states:
            if channel.source is source:
                channel.tell_state(seq, message)
        for channel, source, keyframe in self.offered_snapshots:
            if channel.source is source:
                channel.offer(keyframe)
        self.following, self.born, self.rebases, self.offered_snapshots, self.states, self.told = (
            {},
            {},
            set(),
            [],
            [],
            [],
        )

    def close(self, age_ns: int) -> None:
        """It is kept from now on, at this age of the window."""
        self.closed_ns = age_ns
        entries, runs = sum(map(len, self.changed.values())), sum(map(len, self.runs.values()))
        self.bytes += _FLUSH_OVERHEAD_BYTES + 8 * len(self.positions)
        self.bytes += _ENTRY_OVERHEAD_BYTES * entries + _RUN_OVERHEAD_BYTES * runs

    def clear(self) -> None:
        """Lets go of everything that is for subscribers."""
        self.changed, self.runs, self.notices, self.births = {}, {}, [], []

    def _bear(self, channel: Channel, roster: Roster, spec: ViewSpec) -> None:
        listing = channel.listing
        roster.add(listing)
        channel.begin(self.number)
        mode: Mode = "live"
        seq = NO_SEQ
        rebases = False
        for entry in self.changed.get(listing.id, ()):
            if entry[1] == channel.bit:
                rebase = entry[3]
                rebases = rebase is not None
                if rebase is not None and rebase.base is not None and rebase.base.messages:
                    mode, seq = "snapshot", rebase.base.seq
                break
        if not rebases:
            listing.promised(channel.bit)
        self.births.append(Birth(channel, mode, seq, spec))

    def _commit_rebases(self, entries: list[Entry], listing: Listing) -> None:
        for index, entry in enumerate(entries):
            rebase = entry[3]
            if rebase is None:
                listing.appends[entry[1]](entry)
            else:
                message = rebase.commit(self.number)
                self.bytes += len(message)
                entries[index] = (REBASE_SEQ, entry[1], message, rebase)


NOWHERE: Final = Flush(-1)
"""What subscribers in step have as their cursor: nothing is kept for them."""


def _spread(runs: list[Run]) -> list[Entry]:
    return in_order([entry for run in runs for entry in run.entries()])


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
        flush.close(self._age_ns)
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

    def evict(self) -> None:
        """Lets go of the oldest flush."""
        flush = self._ring.popleft()
        self._gone = flush.number
        self.bytes -= flush.bytes
        flush.clear()
