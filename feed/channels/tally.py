"""What one subscriber was sent of all that its channels had to say: the sums that must agree.

Owns the arithmetic. An *update is a subscriber's* when it was taken in while the subscriber had its channel, from the
position on which the channel began for it. Each ends as exactly one of: delivered (handed to the socket), merged (into
a later update of a view), gapped (in a gap that told how many), left (its channel was unsubscribed or the subscriber
closed before it was sent); until then it is pending.

How many there are in all is not the sum of these: it is counted at the channels, of which each knows how many updates
it has had. So the sums can be checked against each other, and the tests do.
"""

from __future__ import annotations

from typing import NamedTuple

from feed.wire.message import JOINT

_COUNT = b',"count":'
_BRACKET = ord("]")
_DIGITS = frozenset(b"0123456789")


class Account(NamedTuple):
    """How a subscriber stands: `all` is the sum of the next five; `gaps`: how often it was told of one."""

    all: int
    delivered: int
    merged: int
    gapped: int
    left: int
    pending: int
    gaps: int


class Tally:
    """The sums of one subscriber, or of all: then `Hub.fan_out` adds to `delivered` itself, for each buffer."""

    __slots__ = ("delivered", "gapped", "gaps", "left", "merged", "settled")

    def __init__(self) -> None:
        self.delivered = 0
        self.merged = 0
        self.gapped = 0
        self.left = 0
        self.gaps = 0
        self.settled = 0
        """All updates, less what its channels have had so far: lowered when one begins, raised when one ends."""

    def deliver(self, updates: int) -> None:
        """So many were handed to the socket."""
        self.delivered += updates

    def begin(self, before: int, hidden: int) -> None:
        """A channel begins: so many of its updates were before that, or are held back as the client has them, and so
        many hidden ones were merged before."""
        self.settled -= before
        self.merged -= hidden

    def end(self, had: int, hidden: int) -> None:
        """Channels end: how many updates they have had, and how many hidden ones."""
        self.settled += had
        self.merged += hidden

    def gap(self, updates: int) -> None:
        """A gap was told of so many."""
        self.gaps += 1
        self.gapped += updates

    def leave(self, updates: int) -> None:
        """So many will never be sent."""
        self.left += updates

    def merge(self, updates: int) -> None:
        """So many were merged into later ones."""
        self.merged += updates

    def account(self, had: int, hidden: int) -> Account:
        """How it stands; `had`: how many updates its channels have had, from their beginning, besides the `hidden`."""
        every, merged = self.settled + had, self.merged + hidden
        pending = every - self.delivered - self.gapped - self.left
        return Account(every + merged, self.delivered, merged, self.gapped, self.left, pending, self.gaps)


def updates_in(message: bytes) -> int:
    """How many updates end in a bare message: of one in parts only the last part counts."""
    if JOINT in message:
        return sum(map(_ends_update, message.split(JOINT)))
    return _ends_update(message)


def hidden_in(message: bytes) -> int:
    """How many updates were merged into those that end in a bare message of a view."""
    hidden = 0
    for one in message.split(JOINT):
        at = one.rfind(_COUNT)
        if at >= 0 and _ends_update(one):
            hidden += int(one[at + len(_COUNT) :].partition(b",")[0]) - 1
    return hidden


def _ends_update(message: bytes) -> int:
    if not message.startswith(b"update"):
        return 0
    if message[-1] != _BRACKET or message[-2] not in _DIGITS:
        return 1
    part, _, parts = message[message.rfind(b"[") + 1 : -1].partition(b",")
    return int(part == parts)
