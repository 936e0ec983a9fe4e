"""A turn: a channel goes on from a state that does not follow from what it said before.

Owns what readers in step are told then: a new source, a hole in the feed log, a state after waiting. Leaves to
`intake` to see that a turn is due, and to `flush` when it takes effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feed.channels.channel import Channel, Source
from feed.channels.log import Entry
from feed.channels.message import JOINT
from feed.model import GapReason

if TYPE_CHECKING:
    from feed.channels.state import Folded


class Gathering:
    """Updates of a channel that has no state to apply them to, until a keyframe comes.

    `floor`: the position that they follow, so that a keyframe below it is of no use. `reason`: the gap that readers get
    with the state, None where they were told already (or know nothing of the channel).
    """

    __slots__ = ("entries", "floor", "prev", "reason", "told")

    def __init__(self, floor: int, prev: int, reason: GapReason | None, *, told: bool) -> None:
        self.floor = floor
        self.prev = prev
        self.reason = reason
        self.told = told
        self.entries: list[Entry] = []


class Turn:
    """One turn of one channel."""

    __slots__ = ("_prev", "base", "channel", "reason", "source", "tail")

    def __init__(
        self,
        channel: Channel,
        source: Source,
        base: Folded | None,
        tail: list[Entry],
        *,
        reason: GapReason | None,
        prev: int,
    ) -> None:
        self.channel = channel
        self.source = source
        self.base = base
        self.tail = tail
        self.reason = reason
        self._prev = prev

    def take(self, flush_number: int) -> bytes:
        """Does it; returns what readers in step are sent.

        A gap goes before the snapshot also when somebody was told that a silent kind is live from its first update on,
        and the first that is known of it is this state.
        """
        channel, base = self.channel, self.base
        told = channel.listing.told.pop(channel.bit, None)
        reason = self.reason
        if reason is None and told is not None and base is not None:
            reason = "evicted" if told is self.source else "source"
        # after a turn to a source without a state, the state that comes first is the beginning of it
        new_source = self.reason == "source" or channel.waits
        channel.restart(self.source, base, self.tail, switched=flush_number, new_source=new_source)
        messages: list[bytes] = []
        if reason is not None:
            seq = -1 if base is None else base.seq
            messages.append(channel.gap(self._prev, seq, reason, lost=False))
        if base is not None:
            messages += base.messages
            if base.state is not None:
                messages.append(base.state)
            messages += [entry[2] for entry in self.tail]
        return JOINT.join(messages)
