"""Marks: up to which position of each source a subscriber was sent everything, on its channels in step.

Owns what holds a mark back: channels that the client has in step, and the subscriber has yet to catch up. No mark lies
beyond what was sent, also not where channels resumed ahead of this gateway. That marks never go back is the
subscriber's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from feed.channels.channel import Channel
from feed.channels.source import Source
from feed.wire.model import NO_SEQ

if TYPE_CHECKING:
    from feed.channels.flush import Flush
    from feed.channels.hub import Hub
    from feed.channels.join import Join, Rest
    from feed.channels.pending import Pending
    from feed.channels.selection import Selection

CONFIRMS_MIN: Final = 2
"""So often a log must be read to its end after a question to have been read to where it was when it was asked: what is
answered first may have been asked before."""
UNSAID: Final = -2
"""Nothing can be said of a source: no mark, and none of another subscriber of the client, stands for it."""


class Hold(NamedTuple):
    """A channel that resumed ahead of this gateway: of which source, at which mark; and how often all of the source's
    log had been read then."""

    source: Source
    mark: int
    confirms: int

    def beyond(self, read: Source) -> bool:
        """Whether the mark is of none of this log: it is still ahead though all was read that was there when it was
        told. `read`: the source as its log is read."""
        return read.confirms >= self.confirms + CONFIRMS_MIN and read.pos < self.mark


class Doubt:
    """Marks of a request that lie beyond all that was read of their sources: those of a gateway that is ahead, or of
    other logs."""

    def __init__(self, hub: Hub, marks: Mapping[str, int]) -> None:
        # where nothing comes in there is nothing to wait for
        known = {} if hub.delay_s is None else hub.sources
        found = {name: known[name] for name in marks if name in known and known[name].pos < marks[name]}
        self._ahead = [Hold(source, marks[name], source.confirms) for name, source in found.items()]

    @property
    def open(self) -> bool:
        """Whether it is not known yet."""
        return any(hold.source.pos < hold.mark and not hold.beyond(hold.source) for hold in self._ahead)

    @property
    def beyond(self) -> frozenset[str]:
        """The sources whose marks are of other logs."""
        return frozenset(hold.source.name for hold in self._ahead if hold.beyond(hold.source))


Holds = dict[tuple[int, int], Hold]
"""By channel: listing and bit."""


def marks_at(
    hub: Hub,
    cursor: Flush,
    selection: Selection,
    joins: list[Join],
    rest: Rest | None,
    followed: frozenset[Source],
) -> dict[str, int]:
    """The marks of a subscriber that was sent its selection up to a flush; `UNSAID` where nothing can be said.

    `rest`: a channel of which the first messages were sent. `followed`: sources that stand in marks also without a
    channel, for those that may begin.
    """
    own = selection.sources(hub.listings, hub.moves)
    positions = cursor.positions
    known = len(positions)
    marks: dict[str, int] = {}
    for source in followed if own <= followed else followed | own:
        index = source.index
        position = positions[index] if index < known else UNSAID
        # of a source without a tick all was sent; of one of which only states were read so far nothing is known
        marks[source.name] = UNSAID if position == NO_SEQ and source.channels else position
    for join in joins:
        if _waits_for(join):
            _lower_all(hub, marks, join)
        if join.pending:
            for source in join.anew:
                marks[source.name] = UNSAID
    if rest is not None and _waits_for(rest.join):
        _lower(marks, rest.channel, rest.join)
    elif rest is not None and rest.join.tells is None and (reached := rest.reached) is not None:
        # the snapshot ended the client's waiting, and the updates after it are still to come
        name = rest.channel.source.name
        marks[name] = min(reached, marks.get(name, reached))
    return marks


def _waits_for(join: Join) -> bool:
    """Whether the client has these channels in step, as far as it knows."""
    return join.flush is not None or (join.marks is not None and join.tells is None)


def _lower_all(hub: Hub, marks: dict[str, int], join: Join) -> None:
    """Of a source all channels of a join go on from the same place; only at its begin one has to look at each."""
    begins: set[Source] = set()
    for source in join.pending.sources(hub.listings, hub.moves) if join.pending else ():
        after = join.after(source)
        if after == NO_SEQ:
            begins.add(source)
        else:
            at = UNSAID if after is None else after
            marks[source.name] = min(at, marks.get(source.name, at))
    if begins:
        for channel in _channels(hub, join.pending):
            if channel.source in begins:
                _lower(marks, channel, join)


def _lower(marks: dict[str, int], channel: Channel, join: Join) -> None:
    after = join.after(channel.source)
    if after is None or (after == NO_SEQ and not channel.whole):
        at = UNSAID
    else:
        # of a channel that begins nothing is missing below its first update
        at = after if after > NO_SEQ else max(channel.first - 1, NO_SEQ)
    marks[channel.source.name] = min(at, marks.get(channel.source.name, at))


def _channels(hub: Hub, pending: Pending) -> Iterator[Channel]:
    for id_, mask in pending.items():
        for channel in hub.listings[id_].channels:
            if channel is not None and channel.bit & mask:
                yield channel
