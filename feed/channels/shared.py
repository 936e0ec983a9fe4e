"""What many who join the same are sent: made once, as long as it is true.

Owns the openings of a plan's channels, some symbols a block, for each way of beginning. A block is what the first
subscriber was sent and what that did to its sums; who comes to it while none of its channels has changed is given the
same. Leaves making it, and whether a subscriber is one of those, to `subscriber`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from feed.channels.pending import JoinPlan
    from feed.channels.source import Source

BLOCK_SYMBOLS: Final = 8
_BYTES_MAX: Final = 32 * 1024 * 1024
_IDLE_FLUSHES: Final = 200
"""After so many flushes without a subscriber nothing is kept."""


class Way(NamedTuple):
    """How all channels of a plan begin for a subscriber: what is the same for those who share."""

    live: bool
    last: int
    marks: frozenset[tuple[str, int]] | None
    on_lag: str


class OpeningBlock(NamedTuple):
    """What the channels of some symbols begin with: whole frames, what the subscriber has then, and what it changed."""

    frames: bytes
    masks: tuple[tuple[int, int], ...]
    sources: frozenset[Source]
    since: int
    """The last flush in which one of them began, or began anew."""
    delivered: int
    settled: int
    merged: int
    joins: int


class Openings:
    """The blocks of one plan. Who keeps it has to `touch` it after each flush; one that is not touched is stale."""

    def __init__(self, plan: JoinPlan, number: int) -> None:
        self.plan = plan
        self._blocks: dict[tuple[int, Way], OpeningBlock] = {}
        self._ways: dict[int, list[Way]] = {}
        self._changed: dict[int, int] = {}
        self._bytes = 0
        self._known_from = self._used_at = number

    def find(self, index: int, way: Way, number: int, asked: int) -> OpeningBlock | None:
        """The block for a subscriber that comes at the flush `number`, and has asked at the flush `asked`."""
        if number - self._used_at > _IDLE_FLUSHES:
            self._forget(number)
        self._used_at = number
        block = self._blocks.get((index, way))
        if block is None or block.since > asked or (way.live and not self.unchanged(index, asked)):
            return None
        return block

    def unchanged(self, index: int, asked: int) -> bool:
        """Whether nothing has happened to a block's channels since a flush."""
        return self._changed.get(index, self._known_from) <= asked

    def keep(self, index: int, way: Way, block: OpeningBlock) -> None:
        """Keeps a block for the next ones, where there is room."""
        if self._bytes + len(block.frames) <= _BYTES_MAX:
            self._drop(index, way)
            self._blocks[index, way] = block
            self._ways.setdefault(index, []).append(way)
            self._bytes += len(block.frames)

    def touch(self, ids: Iterable[int], number: int) -> None:
        """A flush has changed these symbols, or their logs."""
        if number - self._used_at > _IDLE_FLUSHES:
            if self._blocks:
                self._forget(number)
            return
        places = self.plan.places
        for id_ in ids:
            place = places.get(id_)
            if place is not None:
                index = place // BLOCK_SYMBOLS
                self._changed[index] = number
                for way in self._ways.pop(index, ()):
                    self._bytes -= len(self._blocks.pop((index, way)).frames)

    def _drop(self, index: int, way: Way) -> None:
        block = self._blocks.pop((index, way), None)
        if block is not None:
            self._ways[index].remove(way)
            self._bytes -= len(block.frames)

    def _forget(self, number: int) -> None:
        self._blocks, self._ways, self._changed, self._bytes = {}, {}, {}, 0
        self._known_from = number
