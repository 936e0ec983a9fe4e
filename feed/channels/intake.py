"""Records of the feed log, taken apart into the open flush.

Owns what a message means for its channel: the next of its chain, a copy, a part, a hole, a new source. The common case,
an update that follows the one before, is decided by comparing bytes and never decodes JSON; everything else goes
through `_unusual`. Leaves the validity of records to whoever reads the log, and makes nothing visible to subscribers:
that is the commit's.

What happens to a channel, a source, a symbol or the open flush is a method of it. But for one place: `data` moves on
`Channel.pos_text` and `Channel.run` itself, for each update, and `Source.pos`, `Source.untouched` and the bytes of the
flush, for each record (many bring one update). A method call there costs a tenth of all that an update costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from feed.channels.channel import NOTHING, Channel, Listing
from feed.channels.flush import Flush
from feed.channels.log import Entry
from feed.channels.rebase import AwaitingSnapshot, Rebase
from feed.channels.source import Source
from feed.channels.state import Folded, empty
from feed.wire.message import JOINT, KIND_BIT, KIND_INDEX, PREV, SEQ, Head, bare, head_of, split
from feed.wire.model import KINDS, NO_SEQ, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_COMMA: Final = b","
_SEQ_HEAD: Final = len(b'"seq":')
_FIRST: Final = len(b'[{"type":"')
_EMPTY_BYTES_MAX: Final = 2
# a list of objects ends in `}]`, a part in `]` after a digit: the last two bytes tell them apart
_BRACKET: Final = ord("]")
_BRACE: Final = ord("}")
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
            source.begin(complete=complete, untouched=begins)
        ended = self.sources.get(ends)
        if ended is not None and ended is not source:
            source.replace(ended)
            for listing in self.listings.values():
                for channel in listing.heads:
                    if channel is not None and channel.tail_of is ended:
                        source.inherit(channel, complete)
            self._inherit(source, ended, complete)
        return source

    def _inherit(self, source: Source, ended: Source, complete: bool) -> None:
        """One that ended before its own data leaves what it was to go on with."""
        for channel, known in ended.disinherit().items():
            channel.listing.move_to(ended)
            source.inherit(channel, complete and known)

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
                messages = source.cover(messages, last)
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
        open_, size = self.open, 0
        for entry in entries:
            seq, _, message, _ = entry
            size += len(message)
            last = message[message.rfind(JOINT) + len(JOINT) :] if JOINT in message else message
            if last.startswith(b"state"):
                open_.add_state(channel, seq, last, alone=last is message)
            open_.add(channel, entry)
        open_.weigh(size)

    # ---- keyframes

    def _snapshot(self, source: Source, symbol: str, head: Head, keyframe: Folded) -> None:
        listing = self.listing(symbol, source)
        received = int(head.ts_recv or 0)
        if listing.owner is source.replaces:
            listing.move_to(source)
        if listing.owner is not source:
            # two sources know the symbol: the one whose tick moved it last; between keyframes only, the later one
            if self._ticked(listing) or received <= listing.newest:
                return
            listing.move_to(source)
            for moved in listing.heads:
                if moved is not None and moved.tail_of is not source:
                    source.inherit(moved, False)
        listing.receive(received)
        channel = listing.heads[KIND_INDEX[head.channel]]
        if channel is None:
            channel = self._open_channel(listing, source, head)
            self.rebase(Rebase(channel, source, keyframe, [], reason=None, prev=NO_SEQ))
        elif channel in source.leftover:
            complete = source.leftover.pop(channel)
            self.rebase(Rebase(channel, source, keyframe, [], reason="source", prev=channel.chain, complete=complete))
        elif channel.awaiting_snapshot is not None:
            self._end_awaiting(channel, channel.awaiting_snapshot, keyframe)
        elif keyframe.seq > channel.chain:
            self.rebase(Rebase(channel, source, keyframe, [], reason="evicted", prev=channel.chain))
        else:
            self.open.offer(channel, source, keyframe)

    def _end_awaiting(self, channel: Channel, waiting: AwaitingSnapshot, keyframe: Folded) -> None:
        if waiting.entries and keyframe.seq < waiting.floor:
            return
        tail, floor = waiting.entries, None
        if channel.loses and waiting.reason is not None and tail and waiting.last >= keyframe.seq:
            floor = waiting.floor  # all of them are told: what is missing lies before the first
        else:
            tail = [entry for entry in tail if entry[0] > keyframe.covers]
        self.rebase(
            Rebase(channel, channel.tail_of, keyframe, tail, reason=waiting.reason, prev=waiting.prev, floor=floor)
        )

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
                channel.hold(head.seq, message)
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
            self.rebase(Rebase(channel, source, NOTHING, [], reason="source", prev=NO_SEQ))
        return channel

    def _update(self, channel: Channel, head: Head, message: bytes) -> None:
        waiting = channel.awaiting_snapshot
        if waiting is not None and waiting.back and channel.kind in _EACH_TELLS:
            held = channel.held
            self._go_back(channel, channel.tail_of, head.prev, NO_SEQ, waiting.entries)
            waiting = None
            channel.hold_again(held)
        if waiting is None:
            if channel.held:
                channel.end_hold()
            if head.seq <= channel.chain:
                channel.take_held()
                return
            if head.prev != channel.chain:
                waiting = channel.await_snapshot(AwaitingSnapshot(head.prev, channel.chain, "evicted"))
        if head.part is not None:
            whole = channel.add_part(head.seq, head.part, message)
            if whole is None:
                return
            message = whole
        if channel.held:
            message = channel.take_held() + JOINT + message
        self.updates += 1
        if waiting is None:
            channel.stand_at(head.seq)
            self.open.add(channel, (head.seq, channel.bit, message, None))
        else:
            waiting.add(head.prev, (head.seq, channel.bit, message, None))

    def _state(self, channel: Channel, head: Head, message: bytes) -> None:
        if not channel.hear_state(head.seq):
            return
        waiting, open_ = channel.awaiting_snapshot, self.open
        entries = open_.list_of(channel.listing) if waiting is None else waiting.entries
        for index in range(len(entries) - 1, -1, -1):
            seq, bit, before, rebase = entries[index]
            if bit == channel.bit and rebase is None:
                if seq == head.seq:
                    entries[index] = (seq, bit, before + JOINT + message, None)
                    if waiting is None:
                        open_.add_state(channel, head.seq, message, alone=False)
                    return
                break
        entries.append((head.seq, channel.bit, message, None))
        if waiting is None:
            open_.add_state(channel, head.seq, message, alone=True)

    # ---- sources that follow each other

    def _leave_over(self, source: Source) -> None:
        """The new source goes on: without the state of the channels that no keyframe told of. The one that it ends is
        forgotten, and those before it that this one has ended before its own data."""
        for channel in source.disinherit():
            channel.listing.move_to(source)
            self.rebase(Rebase(channel, source, NOTHING, [], reason="source", prev=channel.chain))
        while (ended := source.release_ended()) is not None:
            if self.sources.get(ended.name) is ended:
                del self.sources[ended.name]
                self.gone.append(ended.name)

    def follow_openings(self, openings: int) -> None:
        """In a view: so many sources have begun for the raw channels."""
        self.openings = openings

    def forget(self, source: Source) -> None:
        """In a view: a source that the raw channels do not have any more is over."""
        source.stop()
        if not source.channels:
            del self.sources[source.name]

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
        listing.move_to(source)
        begins = head.prev == NO_SEQ
        for channel in listing.heads:
            if channel is not None and channel.tail_of is not source:
                channel.tail_of.leftover.pop(channel, None)
                source.leftover.pop(channel, None)
                if begins:
                    self.rebase(Rebase(channel, source, NOTHING, [], reason="source", prev=channel.chain))
                elif channel.kind == head.channel and channel.kind in _EACH_TELLS:
                    self._go_back(channel, source, head.prev, channel.chain, [])
                else:
                    self.rebase(Rebase(channel, source, None, [], reason="source", prev=channel.chain))
                    channel.await_snapshot(AwaitingSnapshot(NO_SEQ, NO_SEQ, None, back=True))

    def _go_back(self, channel: Channel, source: Source, at: int, prev: int, tail: list[Entry]) -> None:
        """A channel comes back to a source with an update that follows position `at`, whose state nobody has.

        Its updates tell enough by themselves: what is before them is nothing, until a keyframe tells more.
        """
        kind, symbol = channel.kind, channel.listing.name
        nothing = bare(Snapshot(kind, symbol, source.name, at, None, None, empty(kind, symbol)))
        self.rebase(Rebase(channel, source, Folded(at, [nothing], None, at), tail, reason="source", prev=prev))

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
        channel.begin_live()
        self.open.begin(channel)
        return channel

    def _expect(self, listing: Listing, source: Source, head: Head) -> Channel:
        """A channel whose state is not known yet: its updates are gathered and it is shown to nobody."""
        channel = Channel(listing, head.channel, source)
        listing.enter(channel)
        channel.go_on_from(source, None, [])
        channel.await_snapshot(AwaitingSnapshot(head.prev, NO_SEQ, None))
        return channel

    def rebase(self, rebase: Rebase) -> None:
        """A channel goes on from a state that does not follow from what it said before."""
        channel = rebase.channel
        if channel.listing.channels[channel.index] is None:
            self.open.begin(channel)
        channel.go_on_from(rebase.source, rebase.base, rebase.tail)
        self.open.add_rebase(rebase)

    def next_flush(self) -> None:
        """The open flush was committed: what comes from now on is in the one after it."""
        self.open = Flush(self.open.number + 1)


def keyframes(source: Source, value: bytes) -> Iterator[tuple[Head, Folded]]:
    """The whole snapshots that a keyframe record ends, each with its state; a part waits for those after it.

    A state belongs to the snapshot before it where both are of one channel. Else it is all that is known of its own: of
    one that has had no update yet.
    """
    messages = split(value)
    heads = [head_of(message) for message in messages]
    index = 0
    while index < len(messages):
        head, message = heads[index], messages[index]
        index += 1
        if head.type == "state":
            yield head, Folded(NO_SEQ, [], message, head.seq)
        if head.type != "snapshot":
            continue
        parts = [message] if head.part is None else source.add_part(head.part, message)
        if parts is None:
            continue
        state, covers = None, head.seq
        if index < len(messages) and heads[index].type == "state" and heads[index].channel == head.channel:
            state, covers = messages[index], max(covers, heads[index].seq)
            index += 1
        yield head, Folded(head.seq, parts, state, covers)
