"""Which channels a join has still to bring, and in which order.

Owns that equal requests share what they ask for: a `JoinPlan` is worked out once for all who ask for the same patterns,
and each of them keeps only how far it has come and what is different for it. Leaves what a channel is sent to
`subscriber`.

Of each symbol it is kept which kinds are to be brought, and which of these are announced by a `joined` first: two sets
of bits, in one number (`_ANNOUNCE_SHIFT` apart), as there may be thousands of symbols for each of thousands of
subscribers. Nobody outside sees that number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from feed.wire.message import ALL_KINDS
from feed.wire.model import KINDS

if TYPE_CHECKING:
    from feed.channels.channel import Listing
    from feed.channels.source import Source

_ANNOUNCE_SHIFT: Final = len(KINDS)


class JoinPlan:
    """Bits of kinds by the id of their symbol, in order; never changed. `announces`: each is announced."""

    __slots__ = ("_sources", "_sources_at", "announces", "kinds", "order", "places")

    def __init__(self, kinds: Mapping[int, int], *, announces: bool = False) -> None:
        self.kinds = kinds
        self.announces = announces
        self.order = tuple(kinds)
        self.places = {id_: place for place, id_ in enumerate(self.order)}
        self._sources: frozenset[Source] = frozenset()
        self._sources_at = -1

    def sources(self, listings: Mapping[int, Listing], moves: int) -> frozenset[Source]:
        """The sources of its channels; `moves` changes with every change of a channel's source."""
        if self._sources_at != moves:
            self._sources, self._sources_at = frozenset(_sources_of(self.kinds.items(), listings)), moves
        return self._sources


NOTHING: Final = JoinPlan({})


class Pending:
    """What is left of a plan, and what was added to it, by the id of a symbol."""

    __slots__ = ("_at", "_left", "_line", "_own", "_plan")

    def __init__(self, plan: JoinPlan = NOTHING) -> None:
        self._plan = plan
        self._at = 0
        """All places of the plan before this one are done."""
        self._own: dict[int, int] = {}
        """What is not as the plan has it: both sets of bits of a symbol, 0 where nothing of it is left."""
        self._left = len(plan.order)
        self._line: list[int] | None = None
        """What the plan does not bring, last first; made when its turn comes, and again after something was added."""

    def __len__(self) -> int:
        return self._left

    def __contains__(self, id_: int) -> bool:
        return bool(self.kinds(id_))

    def kinds(self, id_: int) -> int:
        """The bits of a symbol's kinds that are left."""
        own = self._own.get(id_)
        if own is not None:
            return own & ALL_KINDS
        place = self._plan.places.get(id_)
        return 0 if place is None or place < self._at else self._plan.kinds[id_]

    def announced(self, id_: int) -> int:
        """The bits of those that are announced before they are brought."""
        own = self._own.get(id_)
        if own is not None:
            return own >> _ANNOUNCE_SHIFT
        return self.kinds(id_) if self._plan.announces else 0

    def items(self) -> Iterator[tuple[int, int]]:
        """The symbols of which something is left, each with the bits of these kinds."""
        own, planned = self._own, self._plan.order[self._at :]
        for id_ in planned:
            if own.get(id_, 1):
                yield id_, self.kinds(id_)
        for id_ in self._others():
            yield id_, self.kinds(id_)

    def add(self, id_: int, kinds: int, *, announce: bool = False) -> None:
        """These kinds of a symbol are to be brought, too."""
        before = self._bits(id_)
        self._set(id_, before, before | kinds | (kinds << _ANNOUNCE_SHIFT if announce else 0))

    def remove(self, id_: int, kinds: int) -> None:
        """These kinds of a symbol are brought, or not wanted any more."""
        before = self._bits(id_)
        self._set(id_, before, before & ~(kinds | kinds << _ANNOUNCE_SHIFT))

    def silence(self, id_: int, kinds: int) -> None:
        """These kinds of a symbol need no announcement any more."""
        before = self._bits(id_)
        self._set(id_, before, before & ~(kinds << _ANNOUNCE_SHIFT))

    def _bits(self, id_: int) -> int:
        """Both sets of bits of a symbol, as `_own` has them."""
        own = self._own.get(id_)
        if own is not None:
            return own
        planned = self.kinds(id_)
        return planned | planned << _ANNOUNCE_SHIFT if self._plan.announces else planned

    def _set(self, id_: int, before: int, bits: int) -> None:
        self._left += bool(bits) - bool(before)
        if bits and not before:
            self._line = None
        if not bits and self._at < len(self._plan.order) and self._plan.order[self._at] == id_:
            # so a join that goes through its plan in order keeps nothing of what it has done
            self._at += 1
            self._own.pop(id_, None)
        elif bits or self._plan.places.get(id_, -1) >= self._at:
            self._own[id_] = bits
        else:
            self._own.pop(id_, None)

    def clear(self) -> None:
        """Nothing is left."""
        self._own.clear()
        self._at, self._left = len(self._plan.order), 0

    def sources(self, listings: Mapping[int, Listing], moves: int) -> set[Source]:
        """At least the sources of what is left: of a plan all, until it is done."""
        found = set(_sources_of(self._own.items(), listings))
        return found | self._plan.sources(listings, moves) if self._at < len(self._plan.order) else found

    def block(self, symbols: int) -> int | None:
        """The number of the next so many symbols of the plan, where nothing of the join is different for it."""
        if self._own or self._at % symbols or self._at >= len(self._plan.order):
            return None
        return self._at // symbols

    def ids(self, index: int, symbols: int) -> tuple[int, ...]:
        """The symbols of a block."""
        return self._plan.order[index * symbols : (index + 1) * symbols]

    def pass_block(self, symbols: int) -> None:
        """The next so many symbols are done."""
        done = min(symbols, len(self._plan.order) - self._at)
        self._at += done
        self._left -= done

    def next(self) -> int:
        """The symbol whose turn it is, in the order asked; there is one."""
        order, own = self._plan.order, self._own
        while self._at < len(order):
            id_ = order[self._at]
            if own.get(id_, 1):
                return id_
            del own[id_]
            self._at += 1
        # the first key of a dict from which many were deleted costs a walk over all of them
        if self._line is None:
            self._line = self._others()[::-1]
        while not own.get(self._line[-1]):
            self._line.pop()
        return self._line[-1]

    def _others(self) -> list[int]:
        """What the plan does not bring any more, or never did."""
        places, at = self._plan.places, self._at
        return [id_ for id_, bits in self._own.items() if bits and places.get(id_, -1) < at]


def _sources_of(masks: Iterable[tuple[int, int]], listings: Mapping[int, Listing]) -> Iterator[Source]:
    for id_, bits in masks:
        for channel in listings[id_].channels:
            if channel is not None and channel.bit & bits:
                yield channel.source
