"""From a pattern to its channels, and what is kept of that."""

from __future__ import annotations

from feed.channels.channel import Channel, Listing
from feed.channels.roster import Roster
from feed.channels.source import Source
from feed.wire.message import KIND_INDEX
from feed.wire.model import Kind

TRADES, QUOTES = KIND_INDEX["trades"], KIND_INDEX["quotes"]
SOURCE = Source("x/0@a", 0)


def begin(listing: Listing, kind: Kind) -> Channel:
    channel = listing.channels[KIND_INDEX[kind]] = Channel(listing, kind, SOURCE)
    return channel


def test_symbols_are_found_by_id_by_name_and_by_venue() -> None:
    roster = Roster()
    listings = [Listing(name, id_, SOURCE) for id_, name in enumerate(["X:A", "Y:A", "X:B"])]
    for listing in [*listings, listings[0]]:
        roster.add(listing)
    assert list(roster.by_id.values()) == list(roster.by_name.values()) == listings
    assert list(roster.venues) == ["X:", "Y:"]
    assert list(roster.of("X:").values()) == [listings[0], listings[2]]
    assert list(roster.of("").values()) == listings
    assert not roster.of("Z:")


def test_the_channels_of_a_pattern_are_those_that_have_begun() -> None:
    roster = Roster()
    one, other = Listing("X:A", 0, SOURCE), Listing("Y:A", 1, SOURCE)
    for listing in (one, other):
        roster.add(listing)
    trades, quotes, others = begin(one, "trades"), begin(one, "quotes"), begin(other, "trades")
    assert roster.channels("", TRADES, 1) == (trades, others)
    assert roster.channels("X:", TRADES, 1) == (trades,)
    assert roster.channels("X:", QUOTES, 1) == (quotes,)
    assert roster.channels("Z:", QUOTES, 1) == ()


def test_what_was_found_is_kept_until_a_channel_begins_or_ends() -> None:
    roster = Roster()
    listing = Listing("X:A", 0, SOURCE)
    roster.add(listing)
    assert roster.channels("X:", TRADES, 1) == ()
    trades = begin(listing, "trades")
    assert roster.channels("X:", TRADES, 1) == ()  # as of the same moves
    found = roster.channels("X:", TRADES, 2)
    assert found == (trades,)
    assert roster.channels("X:", TRADES, 2) is found
