"""What is known of a venue: its name, the prefix of its symbols, and how its frames are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from feed.venues.symbol import Machine, Symbol, Tick
from feed.wire.model import Action

if TYPE_CHECKING:
    from feed.venues.mapped.schemas import Schemas

CODE_VERSION: Final = 3
"""Raised by one with every change of this package that changes the bytes of any update."""


class Venue(NamedTuple):
    """`keys`, `venue_status` and `entries` read a frame without a symbol's state; `machine` makes what reads it with
    one."""

    name: str
    prefix: str
    machine: Callable[[Symbol], Machine]
    keys: Callable[[bytes], list[str]]
    """The venue symbols that a frame speaks of, none where it speaks of all; raises `BadTick`."""
    venue_status: Callable[[bytes], tuple[Action, str | None] | None]
    """Whether all symbols trade, where a frame without entries says so; raises `BadTick`."""
    silent_after_s: int
    entries: Callable[[Tick], Mapping[str, object]] = lambda tick: {}
    """What a tick without a key says of each symbol, as its machine's `apply_entry` takes it; none where it is of a
    kind that means nothing to a symbol; raises `BadTick`."""
    ahead: Callable[[Sequence[Tick]], Sequence[object]] | None = None
    """What can be read of many ticks at once, whatever their symbols make of it: for each tick what its machine's
    `apply_read` takes, or None where it is for `apply`."""
    by_name: bool = False
    """Whether a tick without a key is of the symbols that it names, whatever partition it lies in."""
    by_value: bool = False
    """Whether a record's key says nothing: its value alone tells of which symbols it is."""
    key_header: str = ""
    """The header that says the symbol, where that is not the record's key."""
    schemas: Schemas | None = None
    """Schemas that come from a registry, where a mapping has it so: a tick that needs another one has to wait."""
    version: str = ""
    """What of a venue is no code and changes bytes, as a hash: the mapping of a firm's own records."""
