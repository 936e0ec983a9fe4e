"""Records of the feed log, taken apart into the open flush.

Owns what a message means for its channel: the next of its chain, a copy, a part, a hole, a new source. The common case,
an update that follows the one before, is decided by comparing bytes and never decodes JSON; everything else goes
through `_unusual`. Leaves the validity of records to the log's subscriber, and makes nothing visible to subscribers:
that is the commit's.

(Over 400 lines: each kind of message changes the same open flush, and only together do they keep its chains.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from feed.channels.assembly import covered, keyframes, with_part
from feed.channels.channel import NOTHING, Channel, Listing, Source
from feed.channels.flush import Flush
from feed.channels.log import REBASE_SEQ, Entry
from feed.channels.rebase import AwaitingSnapshot, Rebase
from feed.channels.state import Folded, empty
from feed.wire.message import JOINT, KIND_BIT, KIND_INDEX, PREV, SEQ, Head, bare, head_of
from feed.wire.model import KINDS, NO_SEQ, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from feed.wire.model import GapReason

_COMMA: Final = b","
_SEQ_HEAD: Final = len(b'"seq":')
_FIRST: Final = len(b'[{"type":"')
_EMPTY_BYTES_MAX: Final = 2
# a list of objects ends in `}]`, a part in `]` after a digit: the last two bytes tell them apart
_BRACKET: Final = ord("]")
_BRACE: Final = ord("}")
_NOT_LIVE: Final = b""
_EACH_TELLS: Final = frozenset(KINDS) - {"book"}
"""Kinds of which an update says something without a state before it."""


class Intake:
    """What records say, before the commit."""

    def __init__(self) -> None:
        self.open = Flush(1)
        self.sources: dict[str, Source] = {}
        self.by_index: list[Source] = []
        self.listings: dict[str, Listing] = {}
        self.updates = 0
        self.openings = 0
        """How many sources began so far."""
        self.gone: list[str] = []
        """Sources that are gone, for whoever keeps something by their names."""

    def opened(self, name: str, ends: str, *, complete: bool = False, begins: bool = True) -> Source:
        """A source goes on instead of another; the channels of that one are its to go on with.

        `complete`: it is known that nothing is missing between both. `begins`: its first tick is still to come.
        """
        self.openings += 1
        known = name in self.sources
        source = self.source(name)
        if not known:
            source.untouched, source.complete = begins, complete
        ended = self.sources.get(ends)
        if ended is not None and ended is not source:
            source.replaces, source.ended, source.ended_pos = ended, ended.name, ended.pos
            ended.over, source.over = True, False
            for listing in self.listings.values():
                for channel in listing.heads:
                    if channel is not None and channel.tail_of is ended:
                        source.leftover[channel] = complete
            self._inherit(source, ended, complete)
        return source

    def _inherit(self, source: Source, ended: Source, complete: bool) -> None:
        """One that ended before its own data leaves what it was to go on with."""
        for channel, known in ended.leftover.items():
            channel.listing.owner = ended
            source.leftover[channel] = complete and known
        ended.leftover = {}

    def source(self, name: str) -> Source:
        """The source with this name."""
        found = self.sources.get(name)
        if found is None:
            found = self.sources[name] = Source(name, len(self.by_index))
            self.by_index.append(found)
        return found

    def data(self, source: Source, pos: int, last: int, value: bytes) -> None:
        """A data record: its messages, of which those above `pos` are new, and that the source stands at `last`."""
        if source.replaces is not None:
            self._leave_over(source)
        source.untouched = False
        if len(value) > _EMPTY_BYTES_MAX:
            self.open.bytes += len(value)
            find = source.channels.get
            messages = value[_FIRST:-2].split(JOINT)
            newest = messages[-1]
            to = newest.find(SEQ) + len(SEQ)
            if source.uncovered or newest.startswith(b"gap") or int(newest[to : newest.find(_COMMA, to)]) > last:
                messages = covered(source, messages, last)
            follow = self.open.follow
            unusual = 0
            for message in messages:
                key, _, rest = message.partition(PREV)
                channel = find(key)
                if channel is not None:
                    prev, seq_field, _ = rest.split(_COMMA, 2)
                    if prev == channel.pos_text and (message[-1] != _BRACKET or message[-2] == _BRACE):
                        channel.pos_text = seq_field[_SEQ_HEAD:]
                        run = channel.run
                        if run is None:
                            follow(channel, message)
                        else:
                            run.append(message)
                        continue
                unusual += 1
                self._unusual(source, pos, message)
            self.updates += len(messages) - unusual
        source.pos = max(source.pos, last)

    def keyframe(self, source: Source, symbol: str, value: bytes) -> None:
        """A keyframe record of one symbol: snapshots, whole or a part of one, with their states."""
        for head, keyframe in keyframes(source, value):
            self._snapshot(source, symbol, head, keyframe)

    def give(self, channel: Channel, entries: Iterable[Entry]) -> None:
        """Entries that no record brought: those of a view. They follow on what the channel was given before."""
        open_ = self.open
        for entry in entries:
            seq, _, message, _ = entry
            open_.bytes += len(message)
            last = message[message.rfind(JOINT) + len(JOINT) :] if JOINT in message else message
            if last.startswith(b"state"):
                open_.states.append((channel, channel.tail_of, seq, last))
                if last is message:
                    open_.told.append(channel)
            self._add(channel, entry)

    # ---- keyframes

    def _snapshot(self, source: Source, symbol: str, head: Head, keyframe: Folded) -> None:
        listing = self.listing(symbol, source)
        received = int(head.ts_recv or 0)
        if listing.owner is source.replaces:
            listing.owner = source
        if listing.owner is not source:
            # two sources know the symbol: the one whose tick moved it last; between keyframes only, the later one
            if self._ticked(listing) or received <= listing.newest:
                return
            listing.owner = source
            for moved in listing.heads:
                if moved is not None and moved.tail_of is not source:
                    source.leftover[moved] = False
        listing.newest = max(listing.newest, received)
        channel = listing.heads[KIND_INDEX[head.channel]]
        if channel is None:
            channel = self._open_channel(listing, source, head)
            self.rebase(channel, source, keyframe, [], reason=None, prev=NO_SEQ)
        elif channel in source.leftover:
            complete = source.leftover.pop(channel)
            self.rebase(channel, source, keyframe, [], reason="source", prev=channel.chain, complete=complete)
        elif channel.awaiting_snapshot is not None:
            self._end_awaiting(channel, channel.awaiting_snapshot, keyframe)
        elif keyframe.seq > channel.chain:
            self.rebase(channel, source, keyframe, [], reason="evicted", prev=channel.chain)
        else:
            self.open.offered_snapshots.append((channel, source, keyframe))

    def _end_awaiting(self, channel: Channel, waiting: AwaitingSnapshot, keyframe: Folded) -> None:
        if waiting.entries and keyframe.seq < waiting.floor:
            return
        tail, floor = waiting.entries, None
        if channel.loses and waiting.reason is not None and tail and waiting.last >= keyframe.seq:
            floor = waiting.floor  # all of them are told: what is missing lies before the first
        else:
            tail = [entry for entry in tail if entry[0] > keyframe.covers]
        self.rebase(channel, channel.tail_of, keyframe, tail, reason=waiting.reason, prev=waiting.prev, floor=floor)

    # ---- messages

    def _unusual(self, source: Source, pos: int, message: bytes) -> None:
        head = head_of(message)
        listing = self.listing(head.symbol, source)
        if head.type == "update":
            if listing.owner is not source and not self._moves(listing, source, head):
                return
            channel = listing.heads[KIND_INDEX[head.channel]]
            if channel is None:
                channel = self._first(listing, source, head)
            self._update(channel, head, message)
            return
        channel = listing.heads[KIND_INDEX[head.channel]]
        if channel is None:
            if head.type == "state" and listing.owner is source:
                self._state(self._open_channel(listing, source, head), head, message)
        elif channel.tail_of is source:
            if head.type == "gap":
                self._hold(channel, head, message)
            elif head.type == "state" and head.seq > pos:
                self._state(channel, head, message)

    def _first(self, listing: Listing, source: Source, head: Head) -> Channel:
        """A channel that begins with an update, or whose beginning was not read."""
        told = listing.told.get(KIND_BIT[head.channel], source)
        if head.prev == NO_SEQ and told is source:
            return self._open_channel(listing, source, head)
        channel = self._expect(listing, source, head)
        if head.prev == NO_SEQ:
            # somebody was told that it would be live from its first update on, but of another source
            self.rebase(channel, source, NOTHING, [], reason="source", prev=NO_SEQ)
        return channel

    def _update(self, channel: Channel, head: Head, message: bytes) -> None:
        waiting = channel.awaiting_snapshot
        if waiting is not None and waiting.back and channel.kind in _EACH_TELLS:
            held = channel.held
            self._go_back(channel, channel.tail_of, head.prev, NO_SEQ, waiting.entries)
            waiting, channel.held, channel.held_pos = None, held, channel.pos_text
        if waiting is None:
            if channel.held:
                channel.pos_text = channel.held_pos
            if head.seq <= channel.chain:
                channel.held = b""
                return
            if head.prev != channel.chain:
                waiting = self._gather(channel, head.prev, channel.chain, "evicted")
        if head.part is not None:
            whole = with_part(channel, head, head.part, message)
            if whole is None:
                return
            message = whole
        if channel.held:
            message, channel.held = channel.held + JOINT + message, b""
        self.updates += 1
        if waiting is None:
            channel.pos_text = b"%d" % head.seq
            self._add(channel, (head.seq, channel.bit, message, None))
        else:
            self._add_awaiting(channel, waiting, head, message)

    def _add_awaiting(self, channel: Channel, waiting: AwaitingSnapshot, head: Head, message: bytes) -> None:
        if head.seq <= waiting.last:
            return
        if head.prev != waiting.last:
            # the first one, or one more hole: what came before it leads nowhere
            waiting.entries, waiting.floor = [], head.prev
        waiting.last = head.seq
        waiting.entries.append((head.seq, channel.bit, message, None))

    def _hold(self, channel: Channel, head: Head, message: bytes) -> None:
        """A venue's hole: goes out with the update after it, as one entry."""
        if channel.awaiting_snapshot is None:
            if not channel.held:
                if head.seq < channel.chain:
                    return
                channel.held_pos = channel.pos_text
            channel.pos_text = _NOT_LIVE
        channel.held = message

    def _state(self, channel: Channel, head: Head, message: bytes) -> None:
        if head.seq <= channel.state_seq:
            return
        channel.state_seq = head.seq
        if channel.awaiting_snapshot is not None:
            entries = channel.awaiting_snapshot.entries
        else:
            entries = self.open.list_of(channel.listing)
            self.open.states.append((channel, channel.tail_of, head.seq, message))
        for index in range(len(entries) - 1, -1, -1):
            seq, bit, before, rebase = entries[index]
            if bit == channel.bit and rebase is None:
                if seq == head.seq:
                    entries[index] = (seq, bit, before + JOINT + message, None)
                    return
                break
        entry: Entry = (head.seq, channel.bit, message, None)
        if channel.awaiting_snapshot is not None:
            entries.append(entry)
        else:
            self.open.told.append(channel)
            self._add(channel, entry)

    # ---- sources that follow each other

    def _leave_over(self, source: Source) -> None:
        """The new source goes on: without the state of the channels that no keyframe told of. The one that it ends is
        forgotten, and those before it that this one has ended before its own data."""
        for channel in source.leftover:
            channel.listing.owner = source
            self.rebase(channel, source, NOTHING, [], reason="source", prev=channel.chain)
        source.leftover = {}
        while (ended := source.replaces) is not None:
            source.replaces, ended.replaces = ended.replaces, None
            if self.sources.get(ended.name) is ended:
                del self.sources[ended.name]
                self.gone.append(ended.name)

    def _moves(self, listing: Listing, source: Source, head: Head) -> bool:
        """Takes the symbol over to the source whose tick moved it last; False where this tick is the older one."""
        newest = max((self._received(channel) for channel in listing.heads if channel is not None), default=0)
        if int(head.ts_recv or 0) < max(newest, listing.newest):
            return False
        self._move(listing, source, head)
        return True

    def _ticked(self, listing: Listing) -> bool:
        """Whether any update came since the keyframes."""
        if any(channel.popped or channel.log for channel in listing.channels if channel is not None):
            return True
        return any(channel.run for channel in listing.heads if channel is not None) or any(
            entry[3] is None for entry in self.open.changed.get(listing.id, ())
        )

    def _move(self, listing: Listing, source: Source, head: Head) -> None:
        """`head`: of the update that moves it; the first of its chain where the source is new to the symbol."""
        listing.owner = source
        begins = head.prev == NO_SEQ
        for channel in listing.heads:
            if channel is not None and channel.tail_of is not source:
                channel.tail_of.leftover.pop(channel, None)
                source.leftover.pop(channel, None)
                if begins:
                    self.rebase(channel, source, NOTHING, [], reason="source", prev=channel.chain)
                elif channel.kind == head.channel and channel.kind in _EACH_TELLS:
                    self._go_back(channel, source, head.prev, channel.chain, [])
                else:
                    self.rebase(channel, source, None, [], reason="source", prev=channel.chain)
                    channel.awaiting_snapshot = AwaitingSnapshot(NO_SEQ, NO_SEQ, None, back=True)

    def _go_back(self, channel: Channel, source: Source, at: int, prev: int, tail: list[Entry]) -> None:
        """A channel comes back to a source with an update that follows position `at`, whose state nobody has.

        Its updates tell enough by themselves: what is before them is nothing, until a keyframe tells more.
        """
        kind, symbol = channel.kind, channel.listing.name
        nothing = bare(Snapshot(kind, symbol, source.name, at, None, None, empty(kind, symbol)))
        self.rebase(channel, source, Folded(at, [nothing], None, at), tail, reason="source", prev=prev)

    def _received(self, channel: Channel) -> int:
        """The newest `ts_recv` that is known of a channel."""
        entries = [entry for entry in self.open.changed.get(channel.id, ()) if entry[1] == channel.bit and entry[2]]
        last = channel.run[-1] if channel.run else entries[-1][2] if entries else channel.log.last
        if not last and channel.base is not None and channel.base.messages:
            last = channel.base.messages[-1]
        return max((int(head_of(message).ts_recv or 0) for message in last.split(JOINT) if message), default=0)

    # ---- what all of them come to

    def listing(self, symbol: str, source: Source) -> Listing:
        """A symbol's; new ones belong to this source."""
        listing = self.listings.get(symbol)
        if listing is None:
            listing = self.listings[symbol] = Listing(symbol, len(self.listings), source)
        return listing

    def _open_channel(self, listing: Listing, source: Source, head: Head) -> Channel:
        channel = self._expect(listing, source, head)
        channel.awaiting_snapshot = None
        channel.pos_text = b"-1"
        self.open.born[channel] = None
        return channel

    def _expect(self, listing: Listing, source: Source, head: Head) -> Channel:
        """A channel whose state is not known yet: its updates are gathered and it is shown to nobody."""
        channel = listing.heads[KIND_INDEX[head.channel]] = Channel(listing, head.channel, source)
        source.channels[channel.key] = channel
        channel.pos_text = _NOT_LIVE
        channel.awaiting_snapshot = AwaitingSnapshot(head.prev, NO_SEQ, None)
        return channel

    def _gather(self, channel: Channel, floor: int, prev: int, reason: GapReason) -> AwaitingSnapshot:
        channel.awaiting_snapshot = AwaitingSnapshot(floor, prev, reason)
        channel.pos_text = _NOT_LIVE
        return channel.awaiting_snapshot

    def rebase(
        self,
        channel: Channel,
        source: Source,
        base: Folded | None,
        tail: list[Entry],
        *,
        reason: GapReason | None,
        prev: int,
        complete: bool = False,
        floor: int | None = None,
    ) -> None:
        """A channel goes on from a state that does not follow from what it said before; see `Rebase`."""
        if channel.listing.channels[channel.index] is None:
            self.open.born[channel] = None
        if channel.tail_of is not source:
            channel.tail_of.channels.pop(channel.key, None)
            channel.tail_of = source
        source.channels[channel.key] = channel
        channel.awaiting_snapshot = None
        channel.parts, channel.held = {}, b""
        updates = [entry[0] for entry in tail if not entry[2].startswith(b"state")]
        channel.pos_text = _NOT_LIVE if base is None else b"%d" % (updates[-1] if updates else base.seq)
        channel.state_seq = NO_SEQ if base is None else base.covers
        rebase = Rebase(channel, source, base, tail, reason=reason, prev=prev, complete=complete, floor=floor)
        self.open.rebases.add(channel.id)
        if base is not None:
            self.open.rebased_bytes += sum(map(len, base.messages))
        self._add(channel, (REBASE_SEQ, channel.bit, b"", rebase))

    def _add(self, channel: Channel, entry: Entry) -> None:
        self.open.list_of(channel.listing).append(entry)
