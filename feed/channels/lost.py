"""Where channels stood at the cursors of subscribers whose next flush is gone: gaps name how many updates are missing.

Owns that this costs little, however many channels such a subscriber has and however many such subscribers there are. A
channel stands at a cursor where it stood before the first flush after it that had updates of it. So it is noted at the
channel when that flush goes, once for all cursors before it; of a channel of which no such flush has gone all is there
still. Leaves what a subscriber is told of it to `subscriber`, and when a flush goes to `hub`.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING, Final
from weakref import ref

from feed.channels.log import REBASE_SEQ
from feed.channels.tally import updates_in
from feed.wire.message import PREV
from feed.wire.model import NO_SEQ

if TYPE_CHECKING:
    from feed.channels.channel import Channel, Listing
    from feed.channels.flush import Flush

Stood = tuple[int, int, int]
"""Number of a flush that is gone; of a channel, before it: the last update, and how many there had been."""
_NUMBER: Final = itemgetter(0)
_SPARE: Final = 16


class LostUpdates:
    """Cursors whose next flush is gone, each for as long as anybody refers to it."""

    def __init__(self) -> None:
        self._cursors: list[ref[Flush]] = []
        self._limit = _SPARE

    def add(self, cursor: Flush) -> None:
        """The flush after it goes. In order of their numbers."""
        if len(self._cursors) >= self._limit:
            self._cursors = [known for known in self._cursors if known() is not None]
            self._limit = 2 * len(self._cursors) + _SPARE
        self._cursors.append(ref(cursor))

    @property
    def newest(self) -> int:
        """The number of the newest; -1 where there is none."""
        cursors = self._cursors
        while cursors:
            cursor = cursors[-1]()
            if cursor is not None:
                return cursor.number
            cursors.pop()
        return -1

    def pass_by(self, flush: Flush, listings: dict[int, Listing]) -> list[Channel]:
        """A flush goes: counts what its channels had in it, and notes where they stood before; returns them."""
        number, newest = flush.number, self.newest
        passed: list[Channel] = []
        born = {birth.channel for birth in flush.births}
        for id_, runs in flush.runs.items():
            channels = listings[id_].channels
            for run in runs:
                channel = channels[run.bit.bit_length() - 1]
                # a view may have dropped a channel, and made it anew
                if channel is None or (channel.born >= number and channel not in born):
                    continue
                if newest >= 0 or channel.stood:
                    self._note(channel, number, run.text, newest)
                channel.gone += run.updates
                passed.append(channel)
        for id_, entries in flush.changed.items():
            channels, uneven = listings[id_].channels, id_ in flush.uneven
            for seq, bit, message, _ in entries:
                channel = channels[bit.bit_length() - 1]
                if channel is None or (channel.born >= number and channel not in born):
                    continue
                updates = updates_in(message) if uneven else 1
                if updates and (newest >= 0 or channel.stood):
                    self._note(channel, number, b"" if seq == REBASE_SEQ else message, newest)
                channel.gone += updates
            passed += [channel for channel in channels if channel is not None]
        return passed

    def _note(self, channel: Channel, number: int, message: bytes, newest: int) -> None:
        """`message` is its first update in this flush; nothing where positions start anew in it."""
        stood = channel.stood
        if newest < 0:
            stood.clear()
        elif not stood or stood[-1][0] <= newest:
            if len(stood) >= self._limit:
                self._forget(stood)
            at = message.find(PREV) + len(PREV)
            prev = int(message[at : message.find(b",", at)]) if message else NO_SEQ
            stood.append((number, prev, channel.gone))

    def _forget(self, stood: list[Stood]) -> None:
        """Keeps what any of the cursors may be asked for."""
        cursors = [cursor for known in self._cursors if (cursor := known()) is not None]
        needed = {bisect_right(stood, cursor.number, key=_NUMBER) for cursor in cursors}
        stood[:] = [stood[index] for index in sorted(needed) if index < len(stood)]


def stood_at(channel: Channel, number: int) -> tuple[int, int]:
    """Where a channel stood at one of these cursors: its last update, if that is known, and how many it had had."""
    stood = channel.stood
    index = bisect_right(stood, number, key=_NUMBER)
    return stood[index][1:] if index < len(stood) else (NO_SEQ, channel.gone)
