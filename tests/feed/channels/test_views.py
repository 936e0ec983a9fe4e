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


def test_a_view_is_given_back_when_the_last_it_owed_was_sent() -> None:
    desk = Desk()
    desk.step("trades quotes")
    link = desk.link()
    link.subscribe("trades", "X:A")
    link.full = True
    desk.step("trades")
    link.subscribe("quotes", "X:A", every_ms=250, start={"last": 5}, id="q")
    link.ask("unsubscribe", "quotes", "X:A")
    (view,) = desk.hub.views
    assert view.readers  # it has yet to say that it has caught up
    while link.session.due:
        link.pull()
    assert link.client.caught_up == ["q"]
    assert not view.readers
    desk.flush()
    assert not list(desk.hub.views)


def test_what_a_client_was_sent_of_a_view_that_it_left_still_counts() -> None:
    desk = Desk()
    desk.step("quotes")
    link = desk.link()
    link.subscribe("quotes", "X:A", every_ms=50)
    for _ in range(3):
        desk.now += 50_000_000
        desk.step("quotes")
    before = link.session.readers.account()
    assert before.delivered == before.all == 3
    link.ask("unsubscribe", "quotes", "X:A")
    assert link.session.readers.account() == before
    link.subscribe("quotes", "X:A")
    desk.step("quotes")
    assert link.session.readers.account() == before._replace(all=4, delivered=4)
    link.session.close()
    assert link.session.readers.account() == before._replace(all=4, delivered=4)
