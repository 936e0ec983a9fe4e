"""What all symbols of a source share: the tick in hand, what it has led to, and what the venue has said of all of them.

Owns the forms in which a source's state is written down, and which of several words about trading counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct, field

from feed.venues.bars import NEVER, SavedBars
from feed.wire.model import NO_SEQ, Action, Gap, Snapshot, State, Status, Update

ALL: Final = "*"
"""No symbol is called this: it stands for what is known of the venue as a whole."""
Message = Update | Snapshot | Gap | State
NO_JUMP: Final = (NO_SEQ, 0)
_VENUE_STATUSES_MAX: Final = 16
_STRICTNESS: Final[tuple[Action, ...]] = ("trading", "unknown", "pre-open", "halt", "close")


def strictest(said: Sequence[tuple[Action, str | None]]) -> tuple[Action, str | None]:
    """Of several words about trading the one that allows the least; of equal ones the first that gives a reason."""
    return max(said, key=lambda words: (_STRICTNESS.index(words[0]), words[1] is not None))


class SourceCounts(Struct):
    """What a source has counted since it started, or since it was restored.

    `bad_entries`: entries that could not be used. `copies`: trades that were known. `epochs`: how often a venue's ids
    of trades, of book updates or of quotes have begun anew. `bars_untold`: bars that cannot be written; `trades_late`,
    `trades_ahead`: trades that are in no bar; `bars_of`: of which symbol the last of these three was.
    """

    bad_entries: int = 0
    changes_lost: int = 0
    copies: int = 0
    epochs: int = 0
    bars_untold: int = 0
    trades_ahead: int = 0
    trades_late: int = 0
    bars_of: str = ""


class VenueStatus(NamedTuple):
    """What the venue says of all its symbols, from tick `seq` on."""

    seq: int
    action: Action
    reason: str | None


class Last(Struct):
    """The position of a channel: its last update."""

    seq: int = NO_SEQ
    ts_event: str | None = None
    ts_recv: str | None = None


class SavedSymbol(Struct, frozen=True, omit_defaults=True):
    """A symbol's private state: all that its snapshots do not hold.

    `status` is what was said of this symbol alone; `venue_statuses` are those of `ALL`; `claimed` and `jumped` are the
    source's (`Now`).
    """

    venue_symbol: str
    clock: int
    stale: State | None
    live: bool
    hole: bool
    ids: list[tuple[int, int]]
    texts: list[str]
    bars: SavedBars
    last_trades: Last
    machine: Raw
    status: Status | None = None
    venue_statuses: list[VenueStatus] = field(default=[], name="words")
    newest: int = 0
    aggregates: list[tuple[int, int]] = []
    claimed: int = 0
    jumped: tuple[int, int] = NO_JUMP


class Now:
    """The tick in hand and what it has led to so far: shared by all symbols of a source.

    `venue_statuses` are the last ones that the venue has said of all symbols, each where it changed: a symbol whose
    first tick is run again must find the one that held then. `claimed`: a time that is not believed yet, 0 where
    there is none. `jumped`: the tick since which a claim was believed, and the clock before it.
    """

    __slots__ = ("claimed", "clock", "counts", "jumped", "out", "seq", "source", "ts_recv", "venue_statuses", "weight")

    def __init__(self, source: str) -> None:
        self.counts = SourceCounts()
        self.venue_statuses: list[VenueStatus] = []
        self.source = source
        self.seq = NO_SEQ
        self.ts_recv = "0"
        self.clock = 0
        self.claimed = 0
        self.jumped = NO_JUMP
        self.out: list[Message] = []
        self.weight = 0

    def set_venue_status(self, action: Action, reason: str | None) -> None:
        """The venue says this of all its symbols."""
        last = self.venue_statuses[-1] if self.venue_statuses else None
        if last is None or (last.seq < self.seq and last[1:] != (action, reason)):
            self.venue_statuses = [*self.venue_statuses, VenueStatus(self.seq, action, reason)][-_VENUE_STATUSES_MAX:]

    def save(self) -> bytes:
        """What is known of the venue as a whole: the private state of `ALL`."""
        nothing = SavedBars([], NEVER)
        saved = SavedSymbol(
            ALL,
            self.clock,
            None,
            False,
            False,
            [],
            [],
            nothing,
            Last(),
            Raw(b"null"),
            venue_statuses=self.venue_statuses,
            claimed=self.claimed,
            jumped=self.jumped,
        )
        return msgspec.json.encode(saved)

    @property
    def venue_status(self) -> VenueStatus | None:
        """What the venue has said last of all symbols, as of the tick in hand."""
        return next((status for status in reversed(self.venue_statuses) if status.seq <= self.seq), None)
