"""Subscribers with the same channels share a buffer, and every frame is made once."""

from __future__ import annotations

import gc
import json

import pytest

from feed.channels.selection import PatternRule, closes, matched
from tests.feed.channels.desk import Desk
from tests.feed.channels.test_intake import subscribed
from tests.truth import TrueSource, some_data


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


def test_a_flush_without_anything_for_subscribers() -> None:
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


def test_subscribers_left_behind_share_what_they_missed() -> None:
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


def market(symbols: int, prefix: str = "X:") -> Desk:
    desk = Desk()
    for number in range(symbols):
        desk.tick("quotes", f"{prefix}{number:04}")
    desk.read()
    return desk


@pytest.mark.parametrize("symbols", [3, 600])
def test_a_wide_selection_gets_what_a_narrow_one_gets(symbols: int) -> None:
    desk = market(symbols)
    twins = [subscribed(desk, "quotes trades", "*") for _ in range(2)]
    names = [f"X:{number:04}" for number in range(symbols)]
    other = desk.link()
    for start in range(0, symbols, 100):
        other.subscribe("quotes trades", " ".join(names[start : start + 100]))
    other.drain()
    assert len(desk.hub.selections) == 2  # what begins later comes to those with the pattern alone
    for _ in range(2):
        desk.tick("quotes trades", names[0])
        desk.tick("quotes", names[-1])
        desk.tick("quotes trades", "X:NEW")
        desk.read()
    desk.hub.source_state("x/0@a", "stale", "silent", 5)
    desk.step("quotes", names[1])
    for link in (*twins, other):
        for kind, name in [("quotes", names[0]), ("quotes", names[-1]), ("quotes", names[1]), ("trades", names[0])]:
            desk.agrees(link, kind, name)
        assert link.client.sources["x/0@a"]["state"] == "stale"
    for link in twins:
        desk.agrees(link, "quotes", "X:NEW")
        desk.agrees(link, "trades", "X:NEW")
    assert ("quotes", "X:NEW") not in other.client.channels
    assert twins[0].types().count("joined quotes X:NEW") == 1
    other.ask("unsubscribe", "quotes", names[-1])
    other.drain()
    before = len(other.frames)
    desk.step("quotes", names[-1])
    assert len(other.frames) == before
    desk.agrees(twins[0], "quotes", names[-1])
    for link in (*twins, other):
        link.session.subscriber.close()
    assert len(desk.hub.selections) == 0


def test_one_of_many_selections_is_touched_by_what_it_has_alone() -> None:
    desk = market(40)
    links = [subscribed(desk, "quotes", f"X:{number:04}") for number in range(40)]
    many = subscribed(desk, "quotes", " ".join(f"X:{number:04}" for number in range(40)))
    came = [len(link.frames) for link in links]
    desk.tick("quotes", "X:0007")
    desk.tick("quotes", "X:0031")
    desk.read()
    assert [number for number, link in enumerate(links) if len(link.frames) > came[number]] == [7, 31]
    for name in ("X:0007", "X:0031"):
        desk.agrees(many, "quotes", name)


@pytest.mark.parametrize("how", ["skip", "close"])
def test_what_begins_is_told_to_patterns_that_want_it_with_their_parameters(how: str) -> None:
    desk = market(2)
    wide, narrow, other, without = (desk.link() for _ in range(4))
    wide.subscribe("quotes trades", "*", on_lag=how)
    narrow.subscribe("quotes", "X:*")
    other.subscribe("quotes", "Y:*")
    without.subscribe("quotes", "*")
    without.ask("unsubscribe", "quotes", "X:*")
    for link in (wide, narrow, other, without):
        link.drain()
    desk.step("quotes trades", "X:NEW")
    told = {
        link: [m for payload in link.frames for m in json.loads(payload) if m["type"] == "joined" and m["seq"] == -1]
        for link in (wide, narrow, other, without)
    }
    assert {m["channel"]: m["on_lag"] for m in told[wide]} == {"trades": how, "quotes": how}
    assert [(m["channel"], m["mode"]) for m in told[narrow]] == [("quotes", "live")]
    assert told[other] == told[without] == []
    desk.agrees(narrow, "quotes", "X:NEW")


def test_the_last_pattern_that_matches_decides() -> None:
    rules = [
        PatternRule(add=True, prefix="", mask=3, close=True),
        PatternRule(add=False, prefix="X:", mask=1, close=False),
        PatternRule(add=True, prefix="Y:", mask=1, close=False),
    ]
    assert [matched(rules, name) for name in ("X:A", "Y:A", "Z:A")] == [2, 3, 3]
    assert [closes(rules, name, 1) for name in ("Y:A", "Z:A")] == [False, True]
    assert [closes(rules, name, 2) for name in ("X:A", "Y:A")] == [True, True]
    assert not closes([], "X:A", 1)


def test_what_began_in_flushes_that_are_gone_is_told_to_who_was_away() -> None:
    desk = Desk(resume_window_bytes_max=1_500)
    desk.step("quotes")
    link = subscribed(desk, "quotes", "*")
    excepted = subscribed(desk, "quotes", "*")
    excepted.subscribe("quotes", "X:NEW", wait=True)
    excepted.ask("unsubscribe", "quotes", "X:NEW")
    for one in (link, excepted):
        one.drain()
        one.full = True
    for _ in range(10):
        desk.step("quotes", "X:NEW")
        desk.keyframe("X:NEW")
    for one in (link, excepted):
        one.drain()
    assert "joined quotes X:NEW" in link.types()
    desk.agrees(link, "quotes", "X:NEW")
    assert "joined quotes X:NEW" not in excepted.types()


def test_the_sources_of_a_selection_follow_its_channels() -> None:
    desk = market(2)
    other = TrueSource("y/0@a")
    other.tick([("quotes", "Y:A", some_data("quotes", 1))])
    pos, last, value = other.record()
    desk.hub.data("y/0@a", pos, last, value, 1)
    desk.flush()
    link = subscribed(desk, "quotes", "X:0000")

    def told(source: str, since: int) -> bool:
        desk.hub.source_state(source, "stale" if since % 2 else "ok", "silent" if since % 2 else None, since)
        desk.flush()
        return link.client.sources.get(source, {}).get("since") == str(since)

    assert told("x/0@a", 1)
    assert not told("y/0@a", 1)
    link.subscribe("quotes", "Y:A")
    link.drain()
    assert told("y/0@a", 2)
    link.ask("unsubscribe", "quotes", "X:0000")
    link.drain()
    assert told("y/0@a", 3)
    assert not told("x/0@a", 2)
    link.ask("unsubscribe")
    link.drain()
    assert not told("y/0@a", 4)
