"""What channels said, in order: entries, and runs of updates that are kept as the text that they came as.

Owns both forms and the way from one to the other. Nearly everything that comes is one update after the other, and most
of it is sent as it came and never looked at again. So the updates of one channel in one flush are one text, a *run*:
nothing is made of each of them, neither when they come nor when they go. Who needs one of them takes the run apart.
Leaves what is kept for how long to `channel` and `flush`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from feed.wire.message import JOINT, SEQ
from feed.wire.model import NO_SEQ

if TYPE_CHECKING:
    from feed.channels.rebase import Rebase

Entry = tuple[int, int, bytes, "Rebase | None"]
"""What one tick did to one channel: `seq`, bit of the kind, bare messages, and the rebase that it takes, if any."""
REBASE_SEQ: Final = 2**62
"""The `seq` of an entry that is not in a channel's log: above all positions, so that no subscriber holds it back."""
_COMMA: Final = b","
_PLACE: Final = itemgetter(0, 1)
_STATE: Final = b"state"
_seqs_of: Final = msgspec.json.Decoder(list[int]).decode


class Run(Struct, frozen=True, gc=False):
    """Updates of one channel, each all that its tick did to it: the last one's `seq`, the bit of their kind, their bare
    messages, and how many they are."""

    seq: int
    bit: int
    text: bytes
    updates: int

    def entries(self) -> list[Entry]:
        """Each by itself."""
        return entries_of(self.bit, self.text.split(JOINT))


def entries_of(bit: int, messages: list[bytes]) -> list[Entry]:
    """An entry for each update of a channel."""
    # read at once: 35 ns a seq, by `int` 100
    seqs = _seqs_of(b"[%b]" % _COMMA.join(map(_seq_text, messages)))
    return [(seq, bit, message, None) for seq, message in zip(seqs, messages, strict=True)]


def in_order(entries: list[Entry]) -> list[Entry]:
    """Those of several channels of a symbol by `seq`, those of one tick in the order of kinds."""
    return sorted(entries, key=_PLACE)


class ChannelLog:
    """Some channel's entries, oldest first; `updates` of them are updates, the others only tell a state."""

    __slots__ = ("_items", "updates")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._items: deque[Entry | Run] = deque()
        self.updates = 0
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """What came last."""
        self._items.append(entry)
        self.updates += not entry[2].startswith(_STATE)

    def add_run(self, run: Run) -> None:
        """Updates that came last."""
        self._items.append(run)
        self.updates += run.updates

    def copy(self) -> ChannelLog:
        """One that goes its own way from here."""
        log = ChannelLog()
        log._items, log.updates = self._items.copy(), self.updates
        return log

    def __bool__(self) -> bool:
        return bool(self._items)

    def __iter__(self) -> Iterator[Entry]:
        for item in self._items:
            if isinstance(item, Run):
                yield from item.entries()
            else:
                yield item

    def __reversed__(self) -> Iterator[Entry]:
        for item in reversed(self._items):
            if isinstance(item, Run):
                yield from reversed(item.entries())
            else:
                yield item

    @property
    def last(self) -> bytes:
        """The newest entry's messages; nothing where there is none."""
        return next((entry[2] for entry in reversed(self)), b"")

    def last_update(self) -> int:
        """The `seq` of the newest update, -1 where there is none."""
        for item in reversed(self._items):
            if isinstance(item, Run):
                return item.seq
            if not item[2].startswith(_STATE):
                return item[0]
        return NO_SEQ

    def updates_until(self, seq: int) -> int:
        """How many updates there are up to this one."""
        found = 0
        for item in self._items:
            if isinstance(item, Run):
                found += item.updates if item.seq <= seq else sum(entry[0] <= seq for entry in item.entries())
            else:
                found += item[0] <= seq and not item[2].startswith(_STATE)
        return found

    def after(self, seq: int) -> list[bytes]:
        """The messages of the entries after this one."""
        tail: list[bytes] = []
        for entry in reversed(self):
            if entry[0] <= seq:
                break
            tail.append(entry[2])
        tail.reverse()
        return tail

    def trim(self, bound: int) -> int | None:
        """Drops what lies up to here, a run when all of it does; returns the last `seq` that went, if any did."""
        items = self._items
        last = None
        while items:
            item = items[0]
            if isinstance(item, Run):
                seq, updates = item.seq, item.updates
            else:
                seq, updates = item[0], int(not item[2].startswith(_STATE))
            if seq > bound:
                break
            items.popleft()
            last = seq
            self.updates -= updates
        return last


def _seq_text(message: bytes) -> bytes:
    at = message.find(SEQ) + len(SEQ)
    return message[at : message.find(_COMMA, at)]
