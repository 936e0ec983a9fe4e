"""The roster: all symbols of a hub, by id, by name and by venue.

Owns the way from a pattern to its channels without a look at any other: a pattern is `*` or a venue's. What there is of
a pattern is kept until a channel begins or ends (`moves`), so that equal requests look for it once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from feed.channels.channel import Channel, Listing

_KEPT_MAX: Final = 1024
"""Patterns of a kind that are kept; those of venues that are not there are not."""


class Roster:
    """Symbols as they become known; none is ever forgotten."""

    def __init__(self) -> None:
        self.by_id: dict[int, Listing] = {}
        self.by_name: dict[str, Listing] = {}
        self._by_venue: dict[str, dict[int, Listing]] = {}
        self._found: dict[tuple[str, int], tuple[Channel, ...]] = {}
        self._found_at = -1

    @property
    def venues(self) -> Collection[str]:
        """The venues that there are, as `venue_of` says them."""
        return self._by_venue.keys()

    def add(self, listing: Listing) -> None:
        """One more symbol; again changes nothing."""
        if listing.id not in self.by_id:
            self.by_id[listing.id] = self.by_name[listing.name] = listing
            self._by_venue.setdefault(listing.venue, {})[listing.id] = listing

    def of(self, prefix: str) -> Mapping[int, Listing]:
        """The symbols of a pattern, by what it starts with (empty: all)."""
        return self._by_venue.get(prefix, {}) if prefix else self.by_id

    def channels(self, prefix: str, index: int, moves: int) -> tuple[Channel, ...]:
        """The channels of a kind that a pattern matches now; `moves` changes with each that begins or ends."""
        if self._found_at != moves or len(self._found) > _KEPT_MAX:
            self._found, self._found_at = {}, moves
        listings = self.of(prefix)
        if not listings:
            return ()
        found = self._found.get((prefix, index))
        if found is None:
            every = [listing.channels[index] for listing in listings.values()]
            found = self._found[prefix, index] = tuple([channel for channel in every if channel is not None])
        return found
