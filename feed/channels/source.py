"""One source as the gateway reads it: how far, what it goes on from, and what is thought of it.

Owns what of a record waits for the next one: messages above the position, parts of a snapshot. Leaves what records mean
for a channel to `intake`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from feed.wire.message import head_of
from feed.wire.model import NO_SEQ

if TYPE_CHECKING:
    from feed.channels.channel import Channel


def partition_of(source: str) -> str:
    """`kraken/0` of `kraken/0@k7qd`."""
    return source.partition("@")[0]


class Source:
    """One source: how far it was read, and the channels that its records speak of."""

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
        """Its place in the positions of a flush."""
        # how far it was read. For each record, so without a call, `Intake.data` writes `pos` and `untouched`,
        # `Hub.data` and `Hub.stands` the three after `pos`
        self.pos = NO_SEQ
        """Everything up to here was taken in; in a view: was told, of what is not pending."""
        self.end = 0
        """Where its log ends, as its newest record says."""
        self.position = 0
        """All its ticks below it are taken."""
        self.waits_ms = 0
        """How long the oldest tick above `position` has waited, as its records say."""
        self.confirms = 0
        """How often all was read that lay in its log."""
        # what it goes on from
        self.ended = ""
        """The source that it replaces; empty: none."""
        self.ended_pos: int | None = None
        """Where that one stood at its end; None: not known."""
        self.complete = False
        """It is known that nothing is missing between both."""
        self.untouched = False
        """Its begin was read, and no tick of it yet."""
        self.over = False
        """Another source goes on in its place."""
        self.replaces: Source | None = None
        """The source that it replaces, until its first data record: then that one is forgotten."""
        self.leftover: dict[Channel, bool] = {}
        """Channels of the source that it replaces, until a keyframe tells of them; whether it is known of each that
        nothing is missing in between."""
        # its channels
        self.channels: dict[bytes, Channel] = {}
        """Those that it goes on with, by how their updates begin (`Channel.key`)."""
        self.evicted = NO_SEQ
        """Flushes up to here are gone from the window."""
        self.floor = NO_SEQ
        """Up to where logs of its channels have begun anew: below that something may be missing, as below `evicted`."""
        # what is thought of it
        self.state = "ok"
        self.reason: str | None = None
        self.notice: bytes | None = None
        """The `state` message that tells of it; None where it is `ok`."""
        # what waits for more
        self.parts: list[bytes] = []
        """Of a snapshot whose last part has not come."""
        self.uncovered: list[bytes] = []
        """Messages above the position of the record that brought them."""

    def may_miss(self, after: int) -> bool:
        """Whether updates after this position may be gone from the log of any channel."""
        return after < max(self.evicted, self.floor)

    # ---- its beginning and its end

    def begin(self, *, complete: bool, untouched: bool) -> None:
        """It is heard of for the first time."""
        self.complete, self.untouched = complete, untouched

    def begin_as(self, other: Source) -> None:
        """It is what another hub knows of the same source: its state, and what it goes on from."""
        self.state, self.reason, self.notice = other.state, other.reason, other.notice
        self.ended, self.ended_pos, self.complete = other.ended, other.ended_pos, other.complete

    def replace(self, ended: Source) -> None:
        """It goes on instead of another one."""
        self.replaces, self.ended, self.ended_pos = ended, ended.name, ended.pos
        self.over = False
        ended.stop()

    def stop(self, *, over: bool = True) -> None:
        """Another source goes on in its place; `over` False: it does itself."""
        self.over = over

    def inherit(self, channel: Channel, complete: bool) -> None:
        """A channel is its to go on with; `complete`: it is known that nothing is missing in between."""
        self.leftover[channel] = complete

    def disinherit(self) -> dict[Channel, bool]:
        """The channels that it was to go on with; it has none of them any more."""
        leftover, self.leftover = self.leftover, {}
        return leftover

    def release_ended(self) -> Source | None:
        """The source that it replaces, once; what that one replaces is next."""
        ended = self.replaces
        if ended is not None:
            self.replaces, ended.replaces = ended.replaces, None
        return ended

    def clear(self) -> None:
        """Its hub is given up: a source and its channels hold each other."""
        self.channels, self.leftover = {}, {}

    # ---- how far it is

    def stand(self, pos: int) -> None:
        """Everything up to here was taken in."""
        self.pos = max(self.pos, pos)

    def confirm(self) -> None:
        """All was read that lay in its log."""
        self.confirms += 1

    def evict(self, position: int) -> None:
        """Flushes up to here are gone from the window."""
        self.evicted = max(self.evicted, position)

    def raise_floor(self, position: int) -> None:
        """The log of a channel begins anew at a position."""
        self.floor = max(self.floor, position)

    def change_state(self, state: str, reason: str | None, notice: bytes) -> bool:
        """It is in another state now, of which `notice` tells; False where it was in this one."""
        if (self.state, self.reason) == (state, reason):
            return False
        self.state, self.reason, self.notice = state, reason, None if state == "ok" else notice
        return True

    # ---- what waits for more

    def cover(self, messages: list[bytes], last: int) -> list[bytes]:
        """Of all messages not taken yet those that its position covers; the rest waits for the next record.

        So a position says exactly what was sent: no subscriber has half a tick.
        """
        messages = self.uncovered + messages
        keep = len(messages)
        while keep and (messages[keep - 1].startswith(b"gap") or head_of(messages[keep - 1]).seq > last):
            keep -= 1
        self.uncovered = messages[keep:]
        return messages[:keep]

    def add_part(self, part: tuple[int, int], message: bytes) -> list[bytes] | None:
        """All parts of a snapshot in order, once the last one is there; None before that, and where one is missing."""
        if part[0] == 1:
            self.parts = []
        self.parts.append(message)
        if part[0] < part[1]:
            return None
        parts, self.parts = self.parts, []
        return parts if len(parts) == part[1] else None
