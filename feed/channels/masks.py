"""Kinds as bits, by symbol, and by venue: what a subscriber has of each.

Owns that all that is kept of one venue is found without a look at any other. Leaves what it means to `interest`.
"""

from __future__ import annotations

from collections.abc import Collection, ItemsView, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", int, str)


class Masks(Generic[Key]):
    """Bits of kinds by symbol, in the order in which symbols came. Symbols are ids of listings, or names."""

    __slots__ = ("_all", "_by_venue")

    def __init__(self) -> None:
        self._all: dict[Key, int] = {}
        self._by_venue: dict[str, dict[Key, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def get(self, key: Key) -> int:
        """The bits of a symbol; 0 where there are none."""
        return self._all.get(key, 0)

    def items(self) -> ItemsView[Key, int]:
        """All symbols with their bits."""
        return self._all.items()

    @property
    def by_venue(self) -> Mapping[str, Collection[Key]]:
        """The symbols of each venue that anything is kept of, as `venue_of` says it."""
        return self._by_venue

    def of(self, prefix: str) -> Collection[Key]:
        """The symbols of a pattern, by what it starts with (empty: all)."""
        return list(self._by_venue.get(prefix, ()) if prefix else self._all)

    def set(self, key: Key, venue: str, bit: int) -> None:
        """Has this kind of a symbol."""
        before = self._all.get(key, 0)
        if not before:
            self._by_venue.setdefault(venue, {})[key] = None
        self._all[key] = before | bit

    def clear(self, key: Key, venue: str, bit: int) -> None:
        """Has it no more."""
        before = self._all.get(key, 0)
        if not before:
            return
        if left := before & ~bit:
            self._all[key] = left
            return
        del self._all[key]
        of_venue = self._by_venue[venue]
        del of_venue[key]
        if not of_venue:
            del self._by_venue[venue]
