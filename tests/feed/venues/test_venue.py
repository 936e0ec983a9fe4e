"""What has to be known of a venue, and what need not be said."""

from __future__ import annotations

from feed.venues.canonical import Canonical
from feed.venues.source import Source
from feed.venues.tick import Rules, Tick
from feed.venues.venue import Venue
from feed.wire.model import Update
from tests.feed.venues.playing import T0


def test_a_venue_whose_frames_always_have_a_key_needs_no_entries_and_no_reading_ahead() -> None:
    venue = Venue("v", "V", Canonical, lambda frame: [], lambda frame: ("halt", "all"), 1)
    source = Source(venue, "v/0@a", Rules())
    tick = Tick(0, "X", b'{"channel":"status","data":{"action":"trading","reason":null}}', T0, T0)
    assert list(source.ahead([tick])) == [None]
    assert source.apply(tick) == ()
    source.apply(Tick(1, "", b"whatever", T0, T0))
    updates = [message for message in source.take() if isinstance(message, Update)]
    assert [(update.symbol, update.data.action) for update in updates] == [("V:X", "trading"), ("V:X", "halt")]  # type: ignore[union-attr]
