"""The venues whose formats are understood: a name, a prefix of symbols and a machine each.

Owns the table. What a venue's frames mean stands in the venue's own file; how to add one in this folder's README.md.
"""

from __future__ import annotations

from typing import Final

from feed.venues import binance, binance_futures, binance_spot, canonical, coinbase, kraken
from feed.venues.venue import Venue

_BINANCE: Final = (binance.keys, binance.venue_status, 10, binance.entries)
_VENUES: Final = {
    venue.name: venue
    for venue in (
        Venue("binance", "BINANCE", binance_spot.spot, *_BINANCE, binance_spot.spot_ahead),
        Venue("binance-usdm", "BINANCE-USDM", binance_futures.futures, *_BINANCE, binance_futures.futures_ahead),
        Venue("binance-coinm", "BINANCE-COINM", binance_futures.futures, *_BINANCE, binance_futures.futures_ahead),
        Venue("coinbase", "COINBASE", coinbase.Coinbase, coinbase.keys, coinbase.venue_status, 10, coinbase.entries),
        Venue("kraken", "KRAKEN", kraken.Kraken, kraken.keys, kraken.venue_status, 10, kraken.entries),
    )
}
NAMES: Final = tuple(_VENUES)
CANONICAL: Final = "canonical"
"""Our own JSON tick, as a format."""
MAPPED: Final = "mapped"
"""A firm's own records, by a mapping."""


def venue(name: str, form: str | None = None) -> Venue:
    """The venue of that name, whose records are of this format: a name of the table, or `CANONICAL`.

    Left out: a name that is not in the table speaks our own JSON tick.
    """
    known = _VENUES.get(form or name)
    if known is not None:
        return known if known.name == name else known._replace(name=name, prefix=name.upper())
    return Venue(
        name,
        name.upper(),
        canonical.Canonical,
        canonical.keys,
        canonical.venue_status,
        60,
        canonical.entries,
        by_name=True,
    )
