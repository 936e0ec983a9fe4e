"""Clients that change how they see a channel, at moments that random runs seldom meet (`properties/test_views.py`)."""

from __future__ import annotations

from feed.model import Book
from tests.feed.channels.desk import Desk
from tests.feed.channels.test_intake import sent


def test_a_book_that_a_depth_has_shown_nothing_of_yet_begins_with_an_empty_snapshot() -> None:
    desk = Desk()
    desk.change("book", Book(bids=[("5", "0")], asks=[]))
    first, link = desk.link(), desk.link()
    assert first.subscribe("book", "X:A", every_ms=250, depth=10)["results"][0]["mode"] == "live"
    desk.change("book", Book(bids=[("5", "1")], asks=[("6", "2")]))
    link.subscribe("book", "X:A", depth=1)
    assert link.channel("book", "X:A").book() == ({"5": "1"}, {"6": "2"})
    result = link.subscribe("book", "X:A", every_ms=250, depth=10)["results"][0]
    assert (result["mode"], result["seq"]) == ("snapshot", -1)
    assert link.channel("book", "X:A").book() == ({}, {})
    desk.change("book", Book(bids=[("5", "0")], asks=[]))
    desk.now += 250_000_000
    desk.flush()
    assert [m["type"] for m in sent(link, "book")] == ["snapshot", "snapshot", "update"]
    desk.agrees(link, "book")
    desk.agrees(first, "book")
