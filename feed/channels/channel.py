"""One channel of one symbol as the gateway keeps it: a state to join at, and the log of what came after.

Owns what a subscriber gets that starts fresh or goes on after a position, and how long entries are kept. A channel has
two sides: what subscribers see, which only a commit (`flush`) or a view changes; and where its chain stands as records
say it (`tail_of` and below), which `intake` moves on. What either means for others is theirs.

(Over 400 lines: what a channel keeps, and what each kind of subscriber is given of it, are two sides of the same
fields.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from feed.channels.log import ChannelLog, Entry
from feed.channels.state import Folded, FoldRules, empty, fold, folding
from feed.channels.steps import Steps, whole
from feed.wire.message import JOINT, KIND_BIT, KIND_INDEX, PREV, bare, head_of
from feed.wire.model import KINDS, NO_SEQ, Gap, GapReason, Kind, Mode, Snapshot
from feed.wire.symbols import venue_of

if TYPE_CHECKING:
    from feed.channels.flush import Flush
    from feed.channels.lost import Stood
    from feed.channels.rebase import AwaitingSnapshot
    from feed.channels.source import Source

NOTHING: Final = Folded(NO_SEQ, [], None, NO_SEQ)
_FOLD_TAIL_BYTES_MIN: Final = 4096
_NOT_LIVE: Final = b""
LOST_KINDS: Final = frozenset({"trades", "bars"})
"""Kinds of which what is missing is gone: no snapshot makes up for it."""


class Listing:
    """One symbol and its channels, by the index of their kind; None where a kind is silent so far."""

    __slots__ = ("appends", "channels", "heads", "id", "name", "newest", "owner", "told", "venue")

    def __init__(self, name: str, id_: int, owner: Source) -> None:
        self.name = name
        self.venue = venue_of(name)
        """What patterns of its venue start with, `KRAKEN:` of `KRAKEN:BTC-USD`."""
        self.id = id_
        """By which all else refers to it: its place among all symbols of its hub."""
        self.owner = owner
        """The source whose tick moved it last: only its updates count."""
        self.channels: list[Channel | None] = [None] * len(KINDS)
        """What subscribers see: channels from the flush on with which they began."""
        self.appends: dict[int, Callable[[Entry], None]] = dict.fromkeys(KIND_BIT.values(), _nowhere)
        """By the bit of a kind, how an entry is added to its channel's log: a commit does it for each entry."""
        self.told: dict[int, Source] = {}
        """Silent kinds that somebody was told to be live from their first update on, and of which source."""
        self.heads: list[Channel | None] = [None] * len(KINDS)
        """What records speak of: channels from their first message on."""
        self.newest = 0
        """The newest `ts_recv` of its keyframes."""

    def enter(self, channel: Channel) -> None:
        """Records speak of a channel for the first time."""
        self.heads[channel.index] = channel

    def show(self, channel: Channel) -> None:
        """Subscribers see a channel from now on."""
        self.channels[channel.index] = channel
        self.relog(channel)

    def relog(self, channel: Channel) -> None:
        """A channel has a log of its own from now on."""
        self.appends[channel.bit] = channel.log.add

    def move_to(self, source: Source) -> None:
        """From now on the updates of this source count."""
        self.owner = source

    def receive(self, received_ns: int) -> None:
        """A keyframe was received then."""
        self.newest = max(self.newest, received_ns)

    def promise(self, bit: int) -> None:
        """Somebody is told that a silent kind is live from its first update on."""
        self.told.setdefault(bit, self.owner)

    def promised(self, bit: int) -> Source | None:
        """A kind begins: of which source somebody was told that it is live from its first update on, if anybody was."""
        return self.told.pop(bit, None)

    def clear(self) -> None:
        """Its hub is given up: a symbol and its channels hold each other."""
        self.channels, self.heads, self.appends, self.told = [], [], {}, {}

    def forget(self, channel: Channel) -> None:
        """As if it had never been."""
        self.channels[channel.index] = self.heads[channel.index] = None
        self.appends[channel.bit] = _nowhere


class Channel:
    """A kind of a symbol."""

    __slots__ = (
        "awaiting_snapshot",
        "base",
        "begun",
        "bit",
        "born",
        "gone",
        "held",
        "held_pos",
        "hidden",
        "id",
        "key",
        "kind",
        "listing",
        "log",
        "log_from",
        "made",
        "parts",
        "parts_seq",
        "popped",
        "pos_text",
        "run",
        "source",
        "start",
        "state",
        "state_seq",
        "stood",
        "switched",
        "tail_of",
    )

    def __init__(self, listing: Listing, kind: Kind, source: Source) -> None:
        self.listing = listing
        """Its symbol, never another one."""
        self.id = listing.id
        """That of its symbol: a channel is named by it and `bit`."""
        self.kind = kind
        self.bit = KIND_BIT[kind]
        """Its kind, where several are in one number."""
        self.key = b'update","channel":"%b","symbol":%b' % (kind.encode(), msgspec.json.encode(listing.name))
        """How each of its updates begins."""
        # what subscribers see: set at a commit, or by a view
        self.source = source
        """The source that its log and its states are of; another one with a rebase."""
        self.base: Folded | None = NOTHING
        """The state that a subscriber joins at; moved on by keyframes and folds, None while it waits for one."""
        self.log = ChannelLog()
        """What came after, and as much of what came before as the window of flushes keeps; new with each rebase."""
        self.log_from = NO_SEQ
        """Updates after this position are in the log; rises when it is trimmed."""
        self.start: Folded | None = NOTHING
        """Its state when its source began, as long as the log holds all that came since; None: not known any more."""
        self.begun = NO_SEQ
        """The position at which its source began for it, set by a rebase to a new source: what is older is of another
        one."""
        self.born = -1
        """The flush with which it began to be seen; -1 before that."""
        self.switched = -1
        """The flush of its last rebase; -1: there was none."""
        self.state: tuple[int, bytes] | None = None
        """Position and message of the last `state` that was told of it; None: none was since its last rebase."""
        self.popped = 0
        """How many updates have left its log, by a trim or a rebase."""
        self.gone = 0
        """How many updates it has had in flushes that are gone, or before it was made. `LostUpdates` alone counts it
        up, for each run that goes."""
        self.stood: list[Stood] = []
        """Where it stood before some of those flushes; kept by `LostUpdates` alone."""
        # in a view
        self.made = NO_SEQ
        """Up to where it was told when it was made or began, which may be ahead of the view."""
        self.hidden = 0
        """How many updates of the raw channel were merged into later ones; counted by the view, for each update that it
        tells."""
        # where its chain stands as records say it
        self.tail_of: Source = source
        """The source whose updates follow on it; ahead of `source` until the commit."""
        self.pos_text = b"-1"
        """The `seq` that the next update must name as its `prev`, as text; empty where none can follow by that alone.
        Moved on by `Intake.data` itself, for each update."""
        self.run: list[bytes] | None = None
        """What the open flush has of it, as long as that is one update after the other; set and ended by that flush
        alone, and filled by `Intake.data`, for each update."""
        self.state_seq = NO_SEQ
        """The position of the last `state` that came: an older one is a copy."""
        self.held = b""
        """A venue's gap that came, and goes out with the update after it; empty: none."""
        self.held_pos = b""
        """What `pos_text` was before that gap."""
        self.parts: dict[int, bytes] = {}
        """The parts of an update that have come, by number, until all are there."""
        self.parts_seq = NO_SEQ
        """The `seq` of that update."""
        self.awaiting_snapshot: AwaitingSnapshot | None = None
        """While it has no state to apply updates to: what has come meanwhile."""

    # ---- where its chain stands

    def begin_live(self) -> None:
        """It begins with nothing before it: its first update follows on -1."""
        self.awaiting_snapshot = None
        self.pos_text = b"-1"

    def await_snapshot(self, waiting: AwaitingSnapshot) -> AwaitingSnapshot:
        """Its updates are gathered until a keyframe comes."""
        self.awaiting_snapshot = waiting
        self.pos_text = _NOT_LIVE
        return waiting

    def go_on_from(self, source: Source, base: Folded | None, tail: list[Entry]) -> None:
        """Its chain goes on in a source after a state (None: waits for one) and the entries that follow it."""
        if self.tail_of is not source:
            self.tail_of.channels.pop(self.key, None)
            self.tail_of = source
        source.channels[self.key] = self
        self.awaiting_snapshot = None
        self.parts, self.held = {}, b""
        updates = [entry[0] for entry in tail if not entry[2].startswith(b"state")]
        self.pos_text = _NOT_LIVE if base is None else b"%d" % (updates[-1] if updates else base.seq)
        self.state_seq = NO_SEQ if base is None else base.covers

    def stand_at(self, seq: int) -> None:
        """The next update follows on this one."""
        self.pos_text = b"%d" % seq

    def hear_state(self, seq: int) -> bool:
        """A `state` has come; False where it is one that came before."""
        if seq <= self.state_seq:
            return False
        self.state_seq = seq
        return True

    def add_part(self, seq: int, part: tuple[int, int], message: bytes) -> bytes | None:
        """All parts of an update joined, once the last missing one is there."""
        if self.parts_seq != seq:
            self.parts_seq, self.parts = seq, {}
        self.parts[part[0]] = message
        if len(self.parts) < part[1]:
            return None
        joined = JOINT.join(self.parts[index] for index in sorted(self.parts))
        self.parts = {}
        return joined

    def hold(self, seq: int, gap: bytes) -> None:
        """A venue's gap: goes out with the update after it, as one entry."""
        if self.awaiting_snapshot is None:
            if not self.held:
                if seq < self.chain:
                    return
                self.held_pos = self.pos_text
            self.pos_text = _NOT_LIVE
        self.held = gap

    def hold_again(self, gap: bytes) -> None:
        """What was held before a rebase still goes out with the update after it."""
        self.held, self.held_pos = gap, self.pos_text

    def end_hold(self) -> None:
        """The update after a held gap has come: its chain stands where it stood before the gap."""
        self.pos_text = self.held_pos

    def take_held(self) -> bytes:
        """The gap that is held; it is not any more."""
        held, self.held = self.held, b""
        return held

    # ---- what is seen of it

    def begin(self, number: int) -> None:
        """It is seen from this flush on."""
        self.born = number
        self.listing.show(self)

    def begin_amid(self, number: int) -> None:
        """The same, of one that has had updates before."""
        self.begin(number)
        self.gone = self.updates

    def tell_state(self, seq: int, message: bytes) -> None:
        """Subscribers were told of its state."""
        self.state = seq, message

    def copy_from(self, raw: Channel, base: Folded | None, log: ChannelLog, log_from: int) -> None:
        """In a view: it stands where the raw channel does, and what is seen of that is this."""
        self.begun, self.state, self.made = raw.begun, raw.state, raw.position
        self.base, self.log, self.log_from = base, log, log_from
        self.listing.relog(self)

    def make_at(self, seq: int) -> None:
        """In a view: it was told up to here when it began; NO_SEQ: no position of its source means anything."""
        self.made = seq

    @property
    def index(self) -> int:
        """Where its kind stands in `KINDS`."""
        return KIND_INDEX[self.kind]

    @property
    def position(self) -> int:
        """The `seq` of its last update, -1 before the first."""
        last = self.log.last_update()
        return last if last != NO_SEQ or self.base is None else self.base.seq

    @property
    def chain(self) -> int:
        """Where its chain stands, as records say it."""
        if self.awaiting_snapshot is not None:
            return self.awaiting_snapshot.prev
        return int((self.held_pos if self.held else self.pos_text) or NO_SEQ)

    @property
    def updates(self) -> int:
        """How many updates it has had, over all its sources, as far as this hub has read them."""
        return self.popped + self.log.updates

    @property
    def begins_at(self) -> int:
        """About where a client begins whose position is none of its source."""
        if self.start is not None:
            return self.start.seq
        if self.base is None:
            return NO_SEQ
        return self.log_from if self.loses else self.base.seq

    @property
    def loses(self) -> bool:
        """Whether what is missing of it is gone: no snapshot makes up for it."""
        return self.kind in LOST_KINDS

    @property
    def waits(self) -> bool:
        """Whether it has no state to join at: its source is new, and nothing has come."""
        return self.base is None

    @property
    def untold(self) -> bool:
        """Whether its state came without any update (what the venue sent again): no mark tells who has it."""
        return self.base is not None and bool(self.base.messages) and self.position == NO_SEQ

    @property
    def silent(self) -> bool:
        """Whether it has had no update and no snapshot: at most a state is known of it."""
        return self.base is not None and not self.base.messages and self.position == NO_SEQ

    @property
    def begins(self) -> Mode:
        """How it begins for a subscriber that has nothing of it."""
        return "live" if self.silent else "snapshot"

    @property
    def first(self) -> int:
        """The `seq` of the oldest entry that is there, -1 where there is none."""
        return next((entry[0] for entry in self.log), NO_SEQ)

    @property
    def whole(self) -> bool:
        """Whether everything that was ever said of it is there, entry by entry."""
        return self.base is not None and not self.untold and not self.missed(NO_SEQ)

    def standing_at(self, flush: Flush) -> int:
        """Up to which position those have it that were in step with it at a flush."""
        at = flush.position(self.source)
        return max(at, self.made) if flush.number >= self.born else at

    def missed(self, after: int) -> bool:
        """Whether updates after this position are gone from the log."""
        return self.base is not None and after < self.log_from and after < self.base.seq

    def joined_at(self, rules: FoldRules) -> int:
        """The `seq` of the snapshot that `fresh` starts with; folds first where the log outweighs it."""
        base = self.base
        if base is None:
            return NO_SEQ
        tail = self.log.after(base.covers)
        weight = sum(map(len, tail))
        if tail and (base.seq == NO_SEQ or weight > max(_FOLD_TAIL_BYTES_MIN, sum(map(len, base.messages)))):
            self.base = base = fold(self.kind, self.listing.name, self.source.name, base, tail, rules)
            self.trim()
        return base.seq

    def fresh(self, rules: FoldRules) -> list[bytes]:
        """What brings a subscriber without state in step: the snapshot and all entries after it."""
        self.joined_at(rules)
        base = self.base
        if base is None:
            return []
        state = [] if base.state is None else [base.state]
        return base.messages + state + self.log.after(base.covers)

    def folded(self, rules: FoldRules, last: int = 0) -> Folded | None:
        """The whole state as of now; with `last` only so many trades or bars."""
        base = self.base
        if base is None or not last:
            return whole(self.folded_steps(rules))
        return fold(self.kind, self.listing.name, self.source.name, base, self.log.after(base.covers), rules, last)

    def folded_steps(self, rules: FoldRules) -> Steps[Folded | None]:
        """The steps to the whole state as of the first of them."""
        base = self.base
        if base is None:
            return None
        tail = self.log.after(base.covers)
        if not tail:
            return base
        result = yield from folding(self.kind, self.listing.name, self.source.name, base, tail, rules)
        if self.base is base:
            self.base = result
            self.trim()
        return result

    def after(self, position: int) -> list[bytes]:
        """The entries after a position that `missed` nothing."""
        entries = self.log.after(position)
        if position < self.log_from and self.state is not None and self.state[0] > position:
            # entries that only told a state are gone; the last one makes up for them
            entries = [self.state[1], *(entry for entry in entries if entry != self.state[1])]
        return entries

    def doubt_at(self, position: int) -> list[bytes]:
        """For who goes on from a position without having had what came before: the state there, where that is not
        `ok`."""
        if self.state is None or self.state[0] > position or head_of(self.state[1]).state == "ok":
            return []
        return [self.state[1]]

    def gap_after(
        self, position: int, reason: GapReason, rules: FoldRules, *, prev: int | None, first: int | None
    ) -> list[bytes]:
        """What a subscriber at a position gets whose updates are gone: the gap, named, and how it goes on.

        `prev`: where its channel stood, if that is known; `first`: how many entries had been before those missing.
        """
        prev = position if prev is None else prev
        base = self.base
        if base is None or not self.loses:
            fresh = self._fresh_since_start(rules) if reason == "source" else self.fresh(rules)
            seq = self._joined_seq(reason)
            return [self.gap(prev, seq, reason, lost=False, count=self._between(first, seq)), *fresh]
        if reason == "source" and self.start is not None:
            return [self.gap(prev, self.start.seq, reason, lost=True), *self.log.after(self.start.covers)]
        count = None if reason == "source" else self._between(first, self.log_from)
        return [self.gap(prev, self.log_from, reason, lost=True, count=count), *self.log.after(self.log_from)]

    def replaced(self, prev: int, rules: FoldRules, *, complete: bool) -> list[bytes]:
        """What a subscriber gets that stands at a position of the source before; `complete`: it had all of that one."""
        if complete and self.loses and self.start is not None:
            state = [] if self.start.state is None else [self.start.state]
            snapshot = self.start.messages or [self.nothing()]
            gap = self.gap(prev, self.start.seq, "source", lost=False)
            return [gap, *snapshot, *state, *self.log.after(self.start.covers)]
        return self.gap_after(prev, "source", rules, prev=None, first=None)

    def broken(self, reason: GapReason, prev: int, rules: FoldRules) -> list[bytes]:
        """What a subscriber gets of whose past nothing is left between `prev` and the state to join at."""
        fresh = self.fresh(rules)
        base = self.base
        seq = NO_SEQ if base is None else base.seq
        if base is None or not self.loses or prev == seq:
            return [self.gap(prev, seq, reason, lost=False), *fresh]
        return [self.gap(prev, seq, reason, lost=True), *self.log.after(base.covers)]

    def elsewhere(self, prev: int, rules: FoldRules) -> list[bytes]:
        """What a subscriber gets whose position is none of this log: it lies beyond all that there is.

        It is moved, as a replay is: a gap of any other reason back to an earlier position means nothing to it.
        """
        fresh = self.fresh(rules)
        if self.base is None or not self.loses:
            seq = NO_SEQ if self.base is None else self.base.seq
            return [self.gap(prev, seq, "seek", lost=False), *fresh]
        return [self.gap(prev, self.position, "seek", lost=True)]

    def _fresh_since_start(self, rules: FoldRules) -> list[bytes]:
        """A snapshot and what followed: that of the source's begin with all since, as far as the log has it."""
        start = self.start
        if start is None or self.base is None:
            return self.fresh(rules)
        state = [] if start.state is None else [start.state]
        return [*(start.messages or [self.nothing()]), *state, *self.log.after(start.covers)]

    def _joined_seq(self, reason: GapReason) -> int:
        if self.base is None:
            return NO_SEQ
        return self.start.seq if reason == "source" and self.start is not None else self.base.seq

    def gap(self, prev: int, seq: int, reason: GapReason, *, lost: bool, count: int | None = None) -> bytes:
        """A gap on this channel, in bare form."""
        return bare(Gap(self.kind, self.listing.name, self.source.name, prev, seq, count, reason, lost))

    def nothing(self) -> bytes:
        """The snapshot of a channel of which nothing is known yet, for whoever holds a state of it."""
        symbol = self.listing.name
        return bare(Snapshot(self.kind, symbol, self.source.name, NO_SEQ, None, None, empty(self.kind, symbol)))

    def offer(self, keyframe: Folded) -> None:
        """Takes a newer state to join at; the log stays as far as the window of flushes keeps it."""
        base = self.base
        if base is not None and keyframe.covers >= base.covers and keyframe.seq >= base.seq and keyframe is not base:
            self.base = keyframe
            self.trim()

    def trim(self) -> None:
        """Drops entries that are in the state to join at and have left the window of flushes."""
        evicted = self.source.evicted
        bound = evicted if self.base is None else min(self.base.covers, evicted)
        updates = self.log.updates
        last = self.log.trim(bound)
        if last is not None:
            self.log_from = last
            self.popped += updates - self.log.updates
            if self.start is not None and last > self.start.covers:
                self.start = None

    def restart(
        self,
        source: Source,
        base: Folded | None,
        tail: list[Entry],
        *,
        switched: int,
        new_source: bool,
        log_from: int | None = None,
    ) -> None:
        """Starts anew at a state (None: waits for one) that does not follow from the log so far.

        `log_from`: the position on which the tail follows, if that is another one than the state's.
        """
        if new_source:
            self.begun = NO_SEQ if base is None else base.covers
        self.start = base if new_source else None
        self.source = source
        self.base = base
        self.popped = self.updates
        self.log = ChannelLog(tail)
        self.listing.relog(self)
        self.log_from = log_from if log_from is not None else NO_SEQ if base is None else base.covers
        source.raise_floor(self.log_from)
        self.switched = switched
        told = [(seq, one) for seq, _, message, _ in tail for one in message.split(JOINT) if one.startswith(b"state")]
        if base is not None and base.state is not None:
            told.insert(0, (base.covers, base.state))
        self.state = told[-1] if told else None

    def standing(self, position: int) -> tuple[int, int]:
        """Where the channel stood at a position that the log still reaches: its last update, updates until then."""
        before = self.popped
        for seq, _, message, _ in self.log:
            if message.startswith(b"state"):
                continue
            if seq > position:
                at = message.find(PREV) + len(PREV)
                return int(message[at : message.find(b",", at)]), before
            before += 1
        return self.position, before

    def _between(self, first: int | None, until: int) -> int | None:
        """How many updates there were after the first `first` and up to a position; None where that is not known."""
        if first is None:
            return None
        return self.popped - first + self.log.updates_until(until)


def _nowhere(entry: Entry) -> None:
    raise AssertionError(f"entry of a kind that was not born: {entry[:2]}")
