"""The registry: all that is measured, in this order. One more is a module with a `Part`, and its line here."""

from __future__ import annotations

from typing import Final

from tests.bench import (
    connections,
    deflate,
    hostile,
    latencies,
    micro,
    neighbours,
    normalizing,
    recording,
    replaying,
    side_by_side,
    starting,
    views,
    yardstick,
)
from tests.bench.figures import Part

PARTS: Final[tuple[Part, ...]] = (
    yardstick.PART,
    micro.PART,
    deflate.PART,
    *normalizing.PARTS,
    *side_by_side.PARTS,
    *latencies.PARTS,
    *neighbours.PARTS,
    hostile.PART,
    *connections.PARTS,
    starting.PART,
    *recording.PARTS,
    replaying.PART,
    views.PART,
)
