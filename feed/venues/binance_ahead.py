"""Depth updates of Binance that are read many at once, before it is known what their symbols make of them.

Owns the usual case: a combined frame whose data ends with its sides. What is not usual is left to `binance`, frame by
frame. Heads are decoded all at once, sides stay text (`bulk_levels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final

from msgspec import Struct

from feed.venues.binance_frames import Heads
from feed.venues.bulk_levels import CanonicalBook, canonical_sides
from feed.venues.symbol import Tick
from feed.wire.frames import UNREADABLE

_SIDES: Final = b'"b":['
_SIDES_AT: Final = len(b'"b":')
_NO_SIDES: Final = b'"b":0}}'
_AHEAD_BYTES_MIN: Final = 2048


class ReadAhead(Struct, frozen=True, gc=False):
    """A depth update that was read together with others."""

    stream: str
    head: Any
    book: CanonicalBook


def read_ahead(ticks: Sequence[Tick], decode: Heads) -> list[ReadAhead | None]:
    """Of each tick what can be read of it now, None where it is for `apply`."""
    found: list[ReadAhead | None] = [None] * len(ticks)
    values = [tick.value for tick in ticks]
    cuts = list(map(bytes.find, values, repeat(_SIDES)))
    if max(cuts) < 0:
        return found
    heads, sides, indexes = [], [], []
    for index, (frame, cut) in enumerate(zip(values, cuts, strict=True)):
        if cut > 0 and frame.endswith(b"}}") and ticks[index].request is None:
            heads.append(frame[:cut])
            sides.append(frame[cut + _SIDES_AT : -2])
            indexes.append(index)
    if sum(map(len, sides)) < _AHEAD_BYTES_MIN:
        return found
    joined = b"[%b%b]" % ((_NO_SIDES + b",").join(heads), _NO_SIDES)
    try:
        read = decode(joined)
    except UNREADABLE:
        return found  # one of them is bad, and `apply` will say which
    # each has two objects and no more, the second one is open: what stands there are its data's own sides, to the end
    if joined.count(b"{") != 2 * len(heads):
        return found
    for index, frame, book in zip(indexes, read, canonical_sides(sides), strict=True):
        if book is not None:
            found[index] = ReadAhead(frame.stream, frame.data, book)
    return found
