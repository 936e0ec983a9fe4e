"""Readers with the same channels share a buffer, and every frame is made once."""

from __future__ import annotations

import gc

from tests.feed.channels.desk import Desk
from tests.feed.channels.test_intake import subscribed


def test_equal_selections_share_one_buffer_however_they_came_about() -> None:
    desk = Desk()
    for symbol in ("X:A", "X:B", "X:C"):
        desk.tick("quotes trades", symbol)
    desk.read()
    first = subscribed(desk, "quotes trades", "X:A X:B")
    second = subscribed(desk, "trades", "X:B X:C")
    second.subscribe("quotes", "X:B X:A")
    second.subscribe("trades", "X:A")
    second.ask("unsubscribe", "trades", "X:C")
    third = subscribed(desk, "quotes", "*")
    assert len(desk.hub.selections) == 2
    desk.tick("quotes", "X:A")
    desk.tick("trades", "X:B")
    pos, last, value = desk.source.record()
    desk.hub.data("x/0@a", pos, last, value, 0)
    assert desk.distributor.flush(5)
    sent = [(buffer, {reader.owner for reader in readers}) for buffer, readers in desk.distributor.fan_out()]
    assert [owners for _, owners in sent] == [{first, second}, {third}]
    assert desk.hub.counts.delivered >= 5


def test_a_flush_without_anything_for_readers() -> None:
    desk = Desk()
    assert not desk.distributor.flush(1)
    desk.step("trades")
    link = subscribed(desk, "trades")
    desk.hub.data("x/0@a", 0, 500, b"[]", 501)
    assert not desk.distributor.flush(2)
    assert link.session.subscriber.marks() == {"x/0@a": 500}
    assert desk.hub.sources["x/0@a"].end == 501


def test_marks_told_during_a_fan_out_are_those_of_the_flush_before() -> None:
    desk = Desk()
    desk.step("trades")
    links = [subscribed(desk, "trades"), subscribed(desk, "trades")]
    desk.tick("trades")
    pos, last, value = desk.source.record()
    desk.hub.data("x/0@a", pos, last, value, 0)
    assert desk.distributor.flush(5)
    for _, readers in desk.distributor.fan_out():
        assert len(readers) == 2
        assert links[0].session.subscriber.marks() == {"x/0@a": 0}
        links[1].session.subscriber.close()
    assert links[0].session.subscriber.marks() == {"x/0@a": 1}


def test_clients_that_come_and_go_leave_no_selections() -> None:
    desk = Desk()
    for number in range(50):
        desk.tick("quotes", f"X:{number}")
    desk.read()
    links = [subscribed(desk, "quotes", f"X:{number} *" if number % 3 else f"X:{number}") for number in range(50)]
    desk.step("quotes", "X:NEW")
    for link in links:
        link.session.subscriber.close()
    assert len(desk.hub.selections) == 0
    assert desk.hub.selections._by_symbol == {}
    assert desk.hub.selections._by_digest == {}
    gc.collect()


def test_readers_left_behind_share_what_they_missed() -> None:
    desk = Desk()
    desk.step("trades")
    links = [subscribed(desk, "trades") for _ in range(3)]
    links[0].full = links[1].full = True
    for _ in range(3):
        desk.step("trades")
    kept = links[0].session.subscriber.selection.kept
    assert len(kept) == 3
    buffers = dict(kept)
    for link in links[:2]:
        link.drain()
        desk.agrees(link, "trades")
    assert all(kept[number] is buffers[number] for number in buffers)
    for _ in range(2):
        desk.step("trades")
    assert len(kept) == 1
