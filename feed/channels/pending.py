"""Which channels a join has still to bring, and in which order.

Owns that equal requests share what they ask for: a `JoinPlan` is worked out once for all who ask for the same patterns,
and each of them keeps only how far it has come and what is different for it. Leaves what a channel is sent to
`subscriber`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from feed.channels.channel import Listing
    from feed.channels.source import Source


class JoinPlan:
    """Bits of channels by the id of their listing, in order; never changed."""

    __slots__ = ("_sources", "_sources_at", "bits", "order", "places")

    def __init__(self, bits: Mapping[int, int]) -> None:
        self.bits = bits
        self.order = tuple(bits)
        self.places = {id_: place for place, id_ in enumerate(self.order)}
        self._sources: frozenset[Source] = frozenset()
        self._sources_at = -1

    def sources(self, listings: Mapping[int, Listing], moves: int) -> frozenset[Source]:
        """The sources of its channels; `moves` changes with every change of a channel's source."""
        if self._sources_at != moves:
            self._sources, self._sources_at = frozenset(_sources_of(self.bits.items(), listings)), moves
        return self._sources


NOTHING: Final = JoinPlan({})


class Pending(MutableMapping[int, int]):
    """What is left of a plan, and what was added to it; bits by the id of a listing, 0 where there are none."""

    __slots__ = ("_at", "_left", "_line", "_own", "_plan")

    def __init__(self, plan: JoinPlan = NOTHING) -> None:
        self._plan = plan
        self._at = 0
        """All places of the plan before this one are done."""
        self._own: dict[int, int] = {}
        """What is not as the plan has it."""
        self._left = len(plan.order)
        self._line: list[int] | None = None

    def __len__(self) -> int:
        return self._left

    def __iter__(self) -> Iterator[int]:
        own, planned = self._own, self._plan.order[self._at :]
        yield from [id_ for id_ in planned if own.get(id_, 1)]
        yield from self._others()

    def __getitem__(self, id_: int) -> int:
        own = self._own.get(id_)
        if own is not None:
            return own
        place = self._plan.places.get(id_)
        return 0 if place is None or place < self._at else self._plan.bits[id_]

    def get(self, id_: int, default: int = 0) -> int:  # type: ignore[override]  # there is no other default
        """The bits of a symbol."""
        return self[id_]

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, int) and bool(self[id_])

    def __setitem__(self, id_: int, bits: int) -> None:
        self._left += bool(bits) - bool(self[id_])
        if not bits and self._at < len(self._plan.order) and self._plan.order[self._at] == id_:
            # so a join that goes through its plan in order keeps nothing of what it has done
            self._at += 1
            self._own.pop(id_, None)
        elif bits or self._plan.places.get(id_, -1) >= self._at:
            self._own[id_] = bits
        else:
            self._own.pop(id_, None)

    def __delitem__(self, id_: int) -> None:
        self[id_] = 0

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
