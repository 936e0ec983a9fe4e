"""One channel of one symbol as the gateway keeps it: a state to join at, and the log of what came after.

Owns what a subscriber gets that starts fresh or goes on after a position, and how long entries are kept. Subscribers
see only what `flush` has committed; what records say before that is `intake`'s, which keeps its own notes here
(`pos_text` and below).

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

NOTHING: Final = Folded(NO_SEQ, [], None, NO_SEQ)
_FOLD_TAIL_BYTES_MIN: Final = 4096
LOST_KINDS: Final = frozenset({"trades", "bars"})
"""Kinds of which what is missing is gone: no snapshot makes up for it."""


def partition_of(source: str) -> str:
    """`kraken/0` of `kraken/0@k7qd`."""
    return source.partition("@")[0]


class Source:
    """One source: how far it was read, and the channels that its records speak of.

    `ended` and `ended_pos`: the source that it replaces, and where that stood at its end, if that is known.
    `complete`: it is known that nothing is missing between both. `untouched`: its begin was read, and no tick of it
    yet. `position`: all its ticks below it are taken; `waits_ms`: how long the oldest above it has waited, as its
    records say.
    """

    __slots__ = (
        "channels",
        "complete",
        "confirms",
        "end",
        "ended",
        "ended_pos",
        "evicted",
        "floor",
        "index",
        "leftover",
        "name",
        "notice",
        "over",
        "partition",
        "parts",
        "pos",
        "position",
        "reason",
        "replaces",
        "state",
        "uncovered",
        "untouched",
        "venue",
        "waits_ms",
    )

    def __init__(self, name: str, index: int) -> None:
        self.name = name
        self.venue = name.partition("/")[0]
        self.partition = partition_of(name)
        self.index = index
        self.pos = NO_SEQ
        self.end = 0
        self.position = 0
        self.waits_ms = 0
        self.confirms = 0
        """How often all was read that lay in its log."""
        self.ended = ""
        self.ended_pos: int | None = None
        self.over = False
        """Another source goes on in its place."""
        self.complete = False
        self.untouched = False
        self.evicted = NO_SEQ
        self.channels: dict[bytes, Channel] = {}
        self.floor = NO_SEQ
        """Up to where logs of its channels have begun anew: below that something may be missing, as below `evicted`."""
        self.replaces: Source | None = None
        self.leftover: dict[Channel, bool] = {}
        """Channels of the source that it replaces, until a keyframe tells of them; whether it is known of each that
        nothing is missing in between."""
        self.state = "ok"
        self.reason: str | None = None
        self.notice: bytes | None = None
        self.parts: list[bytes] = []
        self.uncovered: list[bytes] = []

    def may_miss(self, after: int) -> bool:
        """Whether updates after this position may be gone from the log of any channel."""
        return after < max(self.evicted, self.floor)

    def turn(self, state: str, reason: str | None, notice: bytes) -> bool:
        """It is in another state now, of which `notice` tells; False where it was in this one."""
        if (self.state, self.reason) == (state, reason):
            return False
        self.state, self.reason, self.notice = state, reason, None if state == "ok" else notice
        return True

    def begin_as(self, other: Source) -> None:
        """It is what another hub knows of the same source: its state, and what it goes on from."""
        self.state, self.reason, self.notice = other.state, other.reason, other.notice
        self.ended, self.ended_pos, self.complete = other.ended, other.ended_pos, other.complete

    def clear(self) -> None:
        """Its hub is given up: a source and its channels hold each other."""
        self.channels, self.leftover = {}, {}


class Listing:
    """One symbol and its channels, by the index of their kind; None where a kind is silent so far.

    `told`: silent kinds that somebody was told to be live from their first update on, and of which source.
    """

    __slots__ = ("appends", "channels", "heads", "id", "name", "newest", "owner", "told", "venue")

    def __init__(self, name: str, id_: int, owner: Source) -> None:
        self.name = name
        self.venue = venue_of(name)
        self.id = id_
        self.owner = owner
        self.channels: list[Channel | None] = [None] * len(KINDS)
        self.appends: dict[int, Callable[[Entry], None]] = dict.fromkeys(KIND_BIT.values(), _nowhere)
        self.told: dict[int, Source] = {}
        self.heads: list[Channel | None] = [None] * len(KINDS)
        self.newest = 0

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
        self.id = listing.id
        self.kind = kind
        self.bit = KIND_BIT[kind]
        self.key = b'update","channel":"%b","symbol":%b' % (kind.encode(), msgspec.json.encode(listing.name))
        # committed: what subscribers see
        self.source = source
        self.base: Folded | None = NOTHING
        self.log = ChannelLog()
        self.log_from = NO_SEQ
        self.start: Folded | None = NOTHING
        """Its state when its source began, as long as the log holds all that came since; None: not known any more."""
        self.made = NO_SEQ
        """In a view: up to where it was told when it was made or began, which may be ahead of the view."""
        self.hidden = 0
        """In a view: how many updates of the raw channel were merged into later ones."""
        self.popped = 0
        self.gone = 0
        """How many updates it has had in flushes that are gone, or before it was made."""
        self.stood: list[Stood] = []
        """Where it stood before some of them."""
        self.switched = -1
        self.begun = NO_SEQ
        self.born = -1
        self.state: tuple[int, bytes] | None = None
        # intake's notes
        self.tail_of: Source = source
        self.pos_text = b"-1"
        self.run: list[bytes] | None = None
        """What the open flush has of it, as long as that is one update after the other."""
        self.state_seq = NO_SEQ
        self.held = b""
        self.held_pos = b""
        self.parts: dict[int, bytes] = {}
        self.parts_seq = NO_SEQ
        self.awaiting_snapshot: AwaitingSnapshot | None = None

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
        self.listing.appends[self.bit] = self.log.add
        self.log_from = log_from if log_from is not None else NO_SEQ if base is None else base.covers
        source.floor = max(source.floor, self.log_from)
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
