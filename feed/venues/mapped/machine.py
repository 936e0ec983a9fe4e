"""The machine of a venue whose records are read by a mapping: records to canonical ticks, and those to the canonical
machine, which does the rest.

Owns whose a record is (its key's, or of the symbols that its value names) and what is in doubt when one cannot be
read. All of its state is the symbol's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from msgspec.structs import replace

from feed.errors import BadEntry, BadTick
from feed.venues.canonical import Canonical
from feed.venues.mapped.mapping import Mapped, Told, mapping
from feed.venues.symbol import Symbol, Tick
from feed.venues.venue import Venue

_SILENT_AFTER_S = 60


def mapped_venue(name: str, text: str, files: Mapping[str, bytes]) -> Venue:
    """A venue of this name, by a mapping's text and the schemas that it names.

    Raises:
        ConfigError: the mapping says what none can say, or its library is not there.
    """
    mapped = mapping(text, files)
    return Venue(
        name,
        name.upper(),
        partial(_Machine, mapped),
        partial(_keys, mapped),
        lambda frame: None,
        _SILENT_AFTER_S,
        lambda tick: mapped.told(tick.value, tick.key),
        by_name=True,
        by_value=not mapped.by_key,
        key_header=mapped.key_header,
        schemas=mapped.schemas,
        version=mapped.version,
    )


class _Machine:
    """What reads the records of one symbol."""

    def __init__(self, mapped: Mapped, symbol: Symbol) -> None:
        self._mapped = mapped
        self._symbol = symbol
        self._canonical = Canonical(symbol)

    def apply(self, tick: Tick) -> None:
        """Tells the symbol what its record meant; raises as `Machine.apply` says."""
        for told in self._mapped.told(tick.value, tick.key).values():
            self.apply_entry(tick, told)

    def apply_entry(self, tick: Tick, entry: Told) -> None:
        """As `apply`, of what a record says of this symbol."""
        errors: list[BadTick] = [self._symbol.spoiled(channel, error) for channel, error in entry.odd]
        for value in entry.ticks:
            try:
                self._canonical.apply(replace(tick, value=value))
            except BadEntry as error:
                errors.append(error)
        if errors:
            raise errors[0] if len(errors) == 1 else BadEntry("; ".join(map(str, errors[:3])))

    def refused(self, tick: Tick) -> None:
        """Puts all in doubt of which records may say something: what cannot be read does not tell its kind."""
        self._symbol.in_doubt(*self._mapped.channels)

    def save(self) -> bytes:
        """No private state."""
        return b"null"

    def load(self, saved: bytes) -> None:
        """No private state."""


def _keys(mapped: Mapped, frame: bytes) -> list[str]:
    if mapped.by_key:
        raise BadTick("record without a key, wanted the symbol there, as its mapping says")
    return list(mapped.told(frame, ""))
