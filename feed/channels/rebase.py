"""A rebase: a channel goes on from a state that does not follow from what it said before.

Owns what subscribers in step are told then: a new source, a hole in the feed log, a state after waiting. Leaves to
`intake` to see that a rebase is due, and to `flush` when it takes effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feed.wire.message import JOINT
from feed.wire.model import NO_SEQ, GapReason

if TYPE_CHECKING:
    from feed.channels.channel import Channel
    from feed.channels.log import Entry
    from feed.channels.source import Source
    from feed.channels.state import Folded


class AwaitingSnapshot:
    """Updates of a channel that has no state to apply them to, until a keyframe comes.

    `floor`: the position that they follow, so that a keyframe below it is of no use; `last`: that of the last one.
    `reason`: the gap that subscribers get with the state, None where they were told already (or know nothing of the
    channel). `back`: the channel came back to this source, and subscribers wait.
    """

    __slots__ = ("back", "entries", "floor", "last", "prev", "reason")

    def __init__(self, floor: int, prev: int, reason: GapReason | None, *, back: bool = False) -> None:
        self.back = back
        self.floor = floor
        self.prev = prev
        self.reason = reason
        self.last = NO_SEQ
        self.entries: list[Entry] = []

    def add(self, prev: int, entry: Entry) -> None:
        """An update has come that follows on `prev`; one that came before counts for nothing."""
        if entry[0] <= self.last:
            return
        if prev != self.last:
            # the first one, or one more hole: what came before it leads nowhere
            self.entries, self.floor = [], prev
        self.last = entry[0]
        self.entries.append(entry)


class Rebase:
    """One rebase of one channel: it goes on in `source` from the state `base` (None: it waits for one).

    `tail`: what follows on the base. `reason`: the gap that subscribers get, None: none. `complete`: of a new source,
    it is known that nothing is missing. `floor`: of a hole, the position on which `tail` follows, if that is another
    one than the base's.
    """

    __slots__ = ("_prev", "base", "channel", "complete", "floor", "reason", "source", "tail")

    def __init__(
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
        self.channel = channel
        self.source = source
        self.base = base
        self.tail = tail
        self.reason = reason
        self.complete = complete
        self.floor = floor
        self._prev = prev

    def commit(self, flush_number: int) -> bytes:
        """It takes effect; returns what subscribers in step are sent.

        A gap goes before the snapshot also when somebody was told that a silent kind is live from its first update on,
        and the first that is known of it is this state.
        """
        channel, base = self.channel, self.base
        told = channel.listing.promised(channel.bit)
        reason = self.reason
        if reason is None and told is not None and base is not None:
            reason = "evicted" if told is self.source else "source"
        # after a rebase to a source without a state, the state that comes first is the beginning of it
        new_source = self.reason == "source" or channel.waits or self.source.untouched
        channel.restart(self.source, base, self.tail, switched=flush_number, new_source=new_source, log_from=self.floor)
        return JOINT.join(self._messages(reason))

    def _messages(self, reason: GapReason | None) -> list[bytes]:
        channel, base = self.channel, self.base
        tail = [entry[2] for entry in self.tail]
        if base is None:
            return [] if reason is None else [channel.gap(self._prev, NO_SEQ, reason, lost=False)]
        if reason is not None and channel.loses and not (reason == "source" and self.complete):
            seq = base.seq if self.floor is None else self.floor
            return [channel.gap(self._prev, seq, reason, lost=True), *tail]
        messages = [*base.messages] if base.state is None else [*base.messages, base.state]
        if reason is not None:
            # who is told of a gap waits for a snapshot, also of nothing
            messages = messages if base.messages else [channel.nothing(), *messages]
            messages.insert(0, channel.gap(self._prev, base.seq, reason, lost=False))
        return messages + tail
