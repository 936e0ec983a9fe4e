"""Joins: channels on their way into step, and the pages in which a subscriber is sent what is its alone.

Owns where the channels of a request go on from, and what is told of that. Leaves the doing to `subscriber`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from msgspec import Struct

from feed.channels.channel import Channel
from feed.channels.flush import Flush
from feed.channels.lost import stood_at
from feed.channels.pending import NOTHING, JoinPlan, Pending
from feed.channels.shared import Openings, Way
from feed.channels.source import Source, partition_of
from feed.channels.tally import updates_in
from feed.wire.frames import Frames
from feed.wire.message import JOINT, head_of
from feed.wire.model import NO_SEQ, GapReason, Mode
from feed.wire.record import PART_BYTES_MAX

_SNAPSHOT: Final = b"snapshot"
LOOKS_MAX: Final = 256
"""So many channels are joined, or flushes followed, for one page: two milliseconds of them."""


class Start(Struct, frozen=True):
    """Where channels begin; `marks` and `last` belong to the modes of that name.

    `time`: of a channel that appears later, when its history has to be told as a gap.
    """

    mode: Literal["snapshot", "live", "marks", "last", "time"]
    marks: Mapping[str, int] = {}
    last: int = 0


class Broken(NamedTuple):
    """Why a channel does not go on, and after which position nothing of it is there."""

    reason: GapReason
    prev: int = NO_SEQ


class Replaced(NamedTuple):
    """Where a client stands in a source that another one has replaced; `complete`: it had all of it, and nothing is
    missing between both."""

    prev: int
    complete: bool


class Move(NamedTuple):
    """Where a client stands in a channel that it goes on with elsewhere: everything up to a position of its source."""

    source: str
    after: int


class JoinGroup:
    """A request whose channels several joins bring: it has caught up when the last of them has."""

    __slots__ = ("_left", "id")

    def __init__(self, id_: str | int, joins: int) -> None:
        self.id = id_
        self._left = joins

    def more(self) -> None:
        """One more join brings channels of it."""
        self._left += 1

    def ended(self) -> bool:
        """One more join has ended; whether it was the last."""
        self._left -= 1
        return not self._left


class Join:
    """Channels of one request (or of one lag) that are not in step yet: those in `pending`.

    They start by snapshot, unless `marks` (the client's) or `flush` (a cursor's) say where they go on. `number`: the
    flush at which that was so. `lag`: the client has these channels in step as far as it knows, so its marks wait for
    them. `exact`: snapshots are folded to where the channel stands, not older ones and the updates since.
    """

    __slots__ = (
        "anew",
        "beyond",
        "broken",
        "emptied",
        "exact",
        "flush",
        "lag",
        "last",
        "live",
        "marks",
        "noticed",
        "number",
        "pending",
        "replaces",
        "shares",
        "tells",
    )

    def __init__(
        self,
        number: int,
        *,
        marks: Mapping[str, int] | None = None,
        flush: Flush | None = None,
        last: int = 0,
        lag: bool = False,
        live: bool = False,
        tells: str | int | JoinGroup | None = None,
        broken: Mapping[tuple[int, int], Broken] | None = None,
        beyond: frozenset[str] = frozenset(),
        replaces: bool = False,
        plan: JoinPlan = NOTHING,
    ) -> None:
        """`broken`: of a past, the channels (listing and bit) that do not go on from where the client stands.

        `beyond`: sources whose marks lie beyond all that there is of them. `replaces`: a mark of another incarnation of
        a channel's partition is one of the channel, too.
        """
        self.number = number
        self.marks = marks
        self.flush = flush
        self.last = last
        self.lag = lag
        self.live = live
        self.tells = tells
        self.broken = dict(broken or {})
        self.exact = broken is not None
        self.beyond = beyond
        self.replaces = replaces
        self.pending = Pending(plan)
        self.shares: tuple[Openings, Way, int] | None = None
        """Where its channels begin as those of others do: their openings, in which way, and up to which change of what
        the subscriber has asked for."""
        self.noticed: set[Source] = set()
        self.anew: set[Source] = set()
        """Sources of channels that the client has had, and that begin anew: marks say nothing of them until then."""
        self.emptied: set[tuple[int, int]] = set()
        """Books (listing and bit) that begin with an empty snapshot: their clients may hold a state of them."""

    # ---- what is told to it

    def share(self, openings: Openings, way: Way, changes: int) -> None:
        """Its channels begin as those of others do."""
        self.shares = openings, way, changes

    def stop_sharing(self) -> None:
        """What others are sent is not true for it any more."""
        self.shares = None

    def add_mark(self, source: str, seq: int) -> None:
        """Channels of a source go on after this position."""
        self.marks = {**(self.marks or {}), source: seq}

    def begin_anew(self, source: Source) -> None:
        """A channel of a source that the client has had begins anew."""
        self.anew.add(source)

    def begin_empty(self, channel: Channel) -> None:
        """A book begins with an empty snapshot."""
        self.emptied.add((channel.id, channel.bit))

    def notice(self, source: Source) -> bytes | None:
        """What is to be said of a channel's source, once; None: nothing, or it was said."""
        if source.notice is None or source in self.noticed:
            return None
        self.noticed.add(source)
        return source.notice

    # ---- how its channels begin

    def after(self, source: Source) -> int | None:
        """The position that the channels of a source go on from; None: by snapshot."""
        if self.flush is not None:
            return self.flush.position(source)
        after = None if self.marks is None else self.marks.get(source.name)
        # marks name a source also before its first tick: the client may not have left the one before
        return None if after == NO_SEQ and self._others(source) else after

    def beyond_of(self, channel: Channel) -> int | None:
        """The client's mark of a channel, where that is none of this log; else None."""
        if channel.source.name not in self.beyond or self.marks is None:
            return None
        return self.marks[channel.source.name]

    def replaced_of(self, channel: Channel) -> Replaced | None:
        """Where the client stands in a source that the channel's has replaced; None where it does not say."""
        source, marks = channel.source, self.marks
        if not self.replaces or not marks or channel.waits or marks.get(source.name, NO_SEQ) > NO_SEQ:
            return None
        mark = marks.get(source.ended)
        if mark is not None:
            return Replaced(mark, source.complete and source.ended_pos is not None and mark >= source.ended_pos)
        others = self._others(source)
        return Replaced(max(others), complete=False) if others else None

    def _others(self, source: Source) -> list[int]:
        """The marks of other incarnations of a source's partition."""
        marks = self.marks or {}
        return [seq for name, seq in marks.items() if partition_of(name) == source.partition and name != source.name]

    def standing(self, channel: Channel) -> tuple[int, int]:
        """Of a lag: where a channel stood at the cursor, its last update and how many it had had; at nothing before."""
        flush = self.flush
        if flush is None:
            return NO_SEQ, 0
        return flush.standings.get((channel.id, channel.bit)) or stood_at(channel, flush.number)

    def folds(self, channel: Channel) -> bool:
        """Whether a channel's state is sent."""
        return (channel.id, channel.bit) in self.broken or self.mode(channel) == "snapshot"

    def cuts(self, channel: Channel) -> bool:
        """Whether a snapshot holds the last items only, as of where the channel stands."""
        return bool(self.last) and channel.kind in ("trades", "bars")

    def goes_on_at(self, channel: Channel) -> int:
        """The position from which messages follow for a client that resumes, or gets a gap."""
        if self.beyond_of(channel) is not None:
            return channel.position
        return channel.begins_at if self.replaced_of(channel) is not None else self.prev(channel)

    def prev(self, channel: Channel) -> int:
        """Where a channel stands for the client that resumes, or gets a gap."""
        if (broken := self.broken.get((channel.id, channel.bit))) is not None:
            return broken.prev
        if (replaced := self.replaced_of(channel)) is not None:
            return replaced.prev
        after = self.after(channel.source)
        return NO_SEQ if after is None else after

    def before(self, channel: Channel) -> bool:
        """Whether a channel has begun, or has begun anew, since then: what it goes on from means nothing there."""
        return max(channel.born, channel.switched) > self.number

    def mode(self, channel: Channel) -> Mode:
        """How a channel would begin now, in the order of the table at `Subscriber._messages`."""
        after = self.after(channel.source)
        if (channel.id, channel.bit) in self.broken and not channel.waits:
            return "gap"
        if self.beyond_of(channel) is not None or self.replaced_of(channel) is not None:
            return "gap"
        if after is None or channel.waits:
            return channel.begins
        if self.live:
            return "live"
        return "gap" if channel.missed(after) else "resumed"


def arriving(channel: Channel, current: Flush, start: Start | None) -> Join:
    """The join of a channel that was asked for by name before it was known.

    Live where all its updates are there and none is at or below a mark of its source; else as the request said.
    """
    number, source = current.number, channel.source
    marks = start.marks if start is not None and start.mode == "marks" else {}
    mark = marks.get(source.name)
    replaced = mark is None and any(name.partition("@")[0] == source.partition for name in marks)
    if channel.whole and not replaced and (mark is None or channel.silent or mark < channel.first):
        return Join(number, marks={source.name: NO_SEQ}, live=True)
    join = Join(number)
    if start is not None and start.mode == "time":
        join = Join(number, broken={(channel.id, channel.bit): Broken("evicted")})
    elif start is not None and start.mode == "live":
        join = Join(number, marks={source.name: channel.position}, live=True)
    elif marks and not channel.untold:
        join = Join(number, marks=marks)
    elif start is not None:
        join = Join(number, last=start.last)
    if join.after(source) is None:
        join.begin_anew(source)  # its client has it in step until `joined` says how it begins
    return join


class Page:
    """Frames up to a size, and up to so much work: what is looked at may come to nothing that is sent."""

    __slots__ = ("_bytes_max", "_frames", "_looks", "size")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._frames: list[Frames] = []
        self._looks = LOOKS_MAX
        self.size = 0

    def look(self, channels: int) -> None:
        """So many channels, or flushes, were looked at for it."""
        self._looks -= channels

    @property
    def full(self) -> bool:
        """Whether nothing more should be added."""
        return self._looks <= 0 or self.size >= self._bytes_max

    @property
    def room(self) -> int:
        """For how many more bytes there is room."""
        return max(self._bytes_max - self.size, 0)

    def close(self) -> None:
        """Nothing more is added: what follows needs a page of its own."""
        self._bytes_max = self.size

    def over(self, more: int) -> bool:
        """Whether so many more bytes fill it."""
        return self.size + more >= self._bytes_max

    def add(self, framed: Frames) -> None:
        """Adds whole frames."""
        self._frames.append(framed)
        self.size += len(framed)

    def joined(self) -> bytes:
        """All of it."""
        return b"".join(self._frames)


class Rest:
    """A channel's messages that did not fit the page; the channel goes on after `flush` when they are sent."""

    __slots__ = ("channel", "counts", "flush", "join", "messages", "next", "standing")

    def __init__(self, channel: Channel, messages: list[bytes], flush: Flush, join: Join) -> None:
        self.channel = channel
        if any(len(message) > PART_BYTES_MAX for message in messages):
            messages = [part for message in messages for part in message.split(JOINT)]
        self.messages = messages
        self.counts = list(map(updates_in, messages))
        self.standing = channel.position, channel.updates
        self.next = 0
        self.flush = flush
        self.join = join

    def take(self, page: Page) -> list[bytes]:
        """The next messages, as far as the page has room for them."""
        messages, group, size = self.messages, list[bytes](), 0
        while self.next < len(messages) and not page.over(size):
            message = messages[self.next]
            group.append(message)
            size += len(message)
            self.next += 1
        return group

    @property
    def done(self) -> bool:
        """Whether all were sent."""
        return self.next == len(self.messages)

    @property
    def reached(self) -> int | None:
        """The `seq` of the snapshot that was sent; None where there was none yet, or not all of it."""
        if self.next < len(self.messages) and self.messages[self.next].startswith(_SNAPSHOT):
            return None
        for message in reversed(self.messages[: self.next]):
            if message.startswith(_SNAPSHOT):
                return head_of(message).seq
        return None
