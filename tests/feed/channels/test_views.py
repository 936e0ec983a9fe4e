"""Clients that change how they see a channel, at moments that random runs seldom meet (`properties/test_views.py`).

(Over 400 lines: what a view owes and who has it are told together.)
"""

from __future__ import annotations

import gc
import json
import weakref
from itertools import pairwise
from typing import Any

import pytest

from feed.channels import views
from feed.channels.channel import Channel
from feed.wire.model import Book
from tests.feed.channels.desk import Desk, Link
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
    (view,) = desk.distributor.views
    assert view.subscribers  # it has yet to say that it has caught up
    while link.session.due:
        link.pull()
    assert link.client.caught_up == ["q"]
    assert not view.subscribers
    desk.flush()
    assert not list(desk.distributor.views)


def test_what_a_client_was_sent_of_a_view_that_it_left_still_counts() -> None:
    desk = Desk()
    desk.step("quotes")
    link = desk.link()
    link.subscribe("quotes", "X:A", every_ms=50)
    for _ in range(3):
        desk.now += 50_000_000
        desk.step("quotes")
    before = link.session.subscribers.account()
    assert before.delivered == before.all == 3
    link.ask("unsubscribe", "quotes", "X:A")
    assert link.session.subscribers.account() == before
    link.subscribe("quotes", "X:A")
    desk.step("quotes")
    assert link.session.subscribers.account() == before._replace(all=4, delivered=4)
    link.session.close()
    assert link.session.subscribers.account() == before._replace(all=4, delivered=4)


def test_what_is_too_much_for_one_flush_is_told_by_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """One write to each client would be as large as all that a view has; no channel is told more often for it."""
    monkeypatch.setattr(views, "_TELL_BYTES", 1_000)
    names = [f"X:{letter}" for letter in "ABCDEFGHIJKLMNOPQRST"]
    desk = Desk()
    for name in names:
        desk.step("quotes", name)
    link = desk.link()
    link.subscribe("quotes", "*", every_ms=100)
    link.drain()
    desk.now += 100_000_000
    for name in names:
        desk.tick("quotes", name)
    desk.read(flush=False)
    sizes, told = [], []
    for turn in range(40):
        came = len(link.frames)
        desk.flush()
        sizes.append(sum(map(len, link.frames[came:])))
        told += updates_of(link)[len(told) :]
        if turn == 1:
            assert 0 < len(told) < len(names)
            desk.tick("quotes", told[0])
            desk.tick("quotes", names[-1])
            desk.read(flush=False)
    assert max(sizes) < 1_500
    assert told == names
    assert desk.distributor.due_ns is not None
    assert desk.distributor.due_ns > desk.now
    desk.now += 100_000_000
    desk.flush()
    assert updates_of(link) == [*names, names[0]]
    desk.agrees(link, "quotes")


def updates_of(link: Link) -> list[str]:
    """The symbols of all updates that it was sent, in order."""
    messages = [message for payload in link.frames for message in json.loads(payload)]
    return [m["symbol"] for m in messages if m["type"] == "update"]


Told = tuple[int, int, str]


def told(message: dict[str, Any]) -> Told:
    return message["every_ms"], message["depth"], message["on_lag"]


def joined_of(link: Link) -> dict[tuple[str, str], Told]:
    """What each `joined` has told so far, by channel."""
    every = [message for payload in link.frames for message in json.loads(payload)]
    return {(m["channel"], m["symbol"]): told(m) for m in every if m["type"] == "joined"}


@pytest.mark.parametrize("on_lag", ["skip", "close"])
@pytest.mark.parametrize("full", [False, True])
def test_results_joined_and_list_tell_the_parameters_that_hold(on_lag: str, full: bool) -> None:
    """Also to who is behind when a symbol appears, and to those who chose otherwise for the same one."""
    desk = Desk()
    desk.step("book quotes", "X:A")
    desk.step("book quotes", "X:OLD")
    link, other = desk.link(), desk.link()
    other.subscribe("book quotes", "*", on_lag="close" if on_lag == "skip" else "skip")
    asked = link.subscribe("book quotes", "X:A X:*", every_ms=50, depth=1, on_lag=on_lag)["results"]
    wanted = {"book": (50, 1, on_lag), "quotes": (50, 0, on_lag)}
    assert [told(result) for result in asked] == [wanted[result["channel"]] for result in asked]
    listed = link.ask("list")["results"]
    assert [told(result) for result in listed] == [wanted[result["channel"]] for result in listed]
    link.full = full
    desk.step("book quotes", "X:NEW")
    link.drain()
    while link.session.due:
        link.pull()
    assert joined_of(link) == {(kind, name): wanted[kind] for kind in wanted for name in ("X:OLD", "X:NEW")}
    assert {found[2] for found in joined_of(other).values()} == {"skip", "close"} - {on_lag}
    raw = link.subscribe("book quotes", "X:A X:*", every_ms=0, depth=0)["results"]
    assert {told(result) for result in raw} == {(0, 0, "skip")}
    assert {told(result) for result in link.ask("list")["results"]} == {(0, 0, "skip")}
    desk.step("book", "X:LATER")
    assert joined_of(link)["book", "X:LATER"] == (0, 0, "skip")


def test_a_view_that_nobody_reads_gives_its_memory_back_at_once() -> None:
    """Not when a full collection comes, which is rare here: three clients left 500 MB."""
    desk = Desk()
    for symbol in ("GONE:A", "GONE:B", "GONE:C"):
        desk.step("trades quotes book bars", symbol)
    gc.collect()
    gc.disable()
    try:
        for depth in (0, 10):
            link = desk.link()
            link.subscribe("trades quotes book bars", "*", every_ms=100, depth=depth)
            link.drain()
            desk.now += 100_000_000
            desk.step("trades quotes book bars", "GONE:D")
            held = [weakref.ref(view) for view in desk.distributor.views]
            held += [weakref.ref(view.hub) for view in desk.distributor.views]
            assert held
            link.session.close()
            desk.links.clear()
            del link
            desk.flush()
            assert not list(desk.distributor.views)
            assert not [one for one in held if one() is not None]
            every = [one for one in gc.get_objects() if isinstance(one, Channel)]
            kept = [one for one in every if one.listing.name.startswith("GONE:")]
            assert all(desk.hub.names[one.listing.name].channels[one.index] is one for one in kept)
            del every, kept
    finally:
        gc.enable()


def test_what_a_view_makes_counts_by_what_is_read_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request makes as much of a view in a step as a step may take, and what is pending is not looked at for each."""
    stood: list[int] = []
    honest = views.View._stand
    monkeypatch.setattr(views.View, "_stand", lambda self: (stood.append(1), honest(self)))
    desk = Desk()
    names = [f"X:{number}" for number in range(20)]
    levels = [(str(number), "1") for number in range(1, 501)]
    for name in names:
        desk.change("book", Book(bids=levels, asks=[]), name)
        desk.tick("quotes", name)
    desk.read()
    for name in names:
        desk.keyframe(name)
    desk.flush()
    link = desk.link()
    link.subscribe("quotes", names[0], every_ms=100)
    link.subscribe("book", names[0], depth=10)
    link.drain()
    for kind, fields in (("quotes", {"every_ms": 100}), ("book", {"depth": 10})):
        request = link.client.ask({"op": "subscribe", "channels": [kind], "symbols": names, **fields})
        before, steps = len(stood), 1
        link.take(link.session.receive(request, link.now))
        while link.session.under_way:
            link.take(link.session.wake(link.now))
            steps += 1
        assert len(stood) <= before + 1
        assert (steps > 2) == (kind == "book"), (kind, steps)
        link.drain()
    desk.step("book", names[3])
    assert not link.client.holes


def test_what_nobody_wants_goes_in_pieces_and_what_is_asked_for_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(views, "_SWEEP_SYMBOLS", 5)
    monkeypatch.setattr(views, "_SWEEP_NAMES", 5)
    desk = Desk()
    names = [f"{venue}:{number}" for venue in "XY" for number in range(30)]
    for name in names:
        desk.step("quotes", name)
    first, other = desk.link(), desk.link()
    other.subscribe("quotes", names[0], every_ms=50)
    first.subscribe("quotes", " ".join(names), every_ms=50)
    first.drain()
    (view,) = desk.distributor.views
    first.ask("unsubscribe")
    kept = [len(view._seen)]
    asked = {"X:29", "Y:7"}
    desk.now += 1_000_000_000
    while kept[-1] > 2 and len(kept) < 40:
        desk.now += 1_000_000
        desk.flush()
        kept.append(len(view._seen))
        if len(kept) == 4:
            other.subscribe("quotes", "X:29 Y:7", every_ms=50)
        if len(kept) == 8:
            other.subscribe("quotes", "Y:*", every_ms=50)
    assert max(before - after for before, after in pairwise(kept)) <= 5
    assert {seen.raw.listing.name for found in view._seen.values() for seen in found.values()} >= asked
    late = desk.link()
    late.subscribe("quotes", "*", every_ms=50)
    for link in (other, late):
        link.drain()
    for name in names:
        desk.now += 100_000_000
        desk.step("quotes", name)
    desk.now += 100_000_000
    desk.flush()
    for name in names:
        desk.agrees(late, "quotes", name)
        if name[0] == "Y" or name in ("X:0", "X:29"):
            desk.agrees(other, "quotes", name)


def settle(link: Link) -> None:
    """Pulls all that it has coming, in views too."""
    while link.session.due:
        link.pull()


def seen_by(*, depth: int = 0) -> tuple[Desk, Link]:
    """A client of a book, its trades and quotes in a view."""
    desk = Desk()
    desk.change("book", Book([("5", "1"), ("4", "1"), ("3", "1")], [("6", "1")]))
    desk.step("trades quotes")
    link = desk.link()
    assert link.subscribe("book trades quotes", "X:A", every_ms=100, **({"depth": depth} if depth else {}))["ok"]
    settle(link)
    return desk, link


def later(desk: Desk, milliseconds: int = 200) -> None:
    desk.now += milliseconds * 1_000_000
    desk.flush()


def test_what_stands_for_several_updates_says_how_many_and_chains() -> None:
    desk, link = seen_by()
    later(desk)
    came = len(sent(link, "quotes"))
    for _ in range(4):
        desk.step("quotes trades")
    later(desk)
    alone, merged = sent(link, "quotes")[came:]  # the first one was due at once
    assert "count" not in alone
    assert (merged["count"], merged["prev"], merged["seq"]) == (3, alone["seq"], desk.source.seq)
    assert [m["seq"] for m in sent(link, "trades") if m["type"] == "update"] == [2, 3, 4, 5]  # trades are never merged
    for kind in ("quotes", "trades"):
        desk.agrees(link, kind)


@pytest.mark.parametrize("depth", [0, 1])
def test_a_state_goes_out_with_the_update_of_its_tick_or_by_itself(depth: int) -> None:
    desk, link = seen_by(depth=depth)
    later(desk)
    came = len(sent(link, "book"))
    desk.tick("quotes")
    desk.source.tick([("book", "X:A", Book([("5", "2")], []))])
    desk.source.stale("X:A", "gap", skip=0)
    desk.read()
    later(desk)
    assert [m["type"] for m in sent(link, "book")[came:]] == ["update", "state"]
    desk.source.tick([("book", "X:A", Book([("5", "3")], []))])
    desk.source.stale("X:A", "checksum")
    desk.source.stale("X:A", None)
    desk.source.tick([("book", "X:A", Book([("5", "4")], []))])
    desk.read()
    later(desk)
    told = [(m["type"], m["seq"]) for m in sent(link, "book")[came + 2 :]]
    seq = desk.source.seq
    assert told == [("update", seq - 3), ("state", seq - 2), ("state", seq - 1), ("update", seq)]
    assert link.channel("book", "X:A").state[1] == "ok"


def test_a_venues_hole_is_told_before_what_comes_after_it() -> None:
    desk, link = seen_by()
    later(desk)
    came = len(sent(link, "trades"))
    desk.tick("trades", hole=True)
    desk.tick("trades")
    desk.read()
    later(desk)
    assert [m["type"] for m in sent(link, "trades")[came:]] == ["gap", "update", "update"]
    assert not link.client.holes


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("carries", [False, True])
def test_a_new_source_is_told_at_the_next_turn(depth: int, carries: bool) -> None:
    desk, link = seen_by(depth=depth)
    later(desk)
    desk.step("book quotes")
    desk.switch("x/0@b", carries=carries)
    desk.keyframe()
    for _ in range(2):
        desk.step("book quotes trades")
    (view, other) = list(desk.distributor.views) if depth else [*desk.distributor.views, *desk.distributor.views]
    assert view.rebasing | other.rebasing == {"x/0@b"}
    assert "x/0@b" not in link.session.subscribers.marks()  # nothing is said of a source that it was not told of
    later(desk)
    later(desk)
    assert not view.rebasing
    for kind in ("book", "quotes", "trades"):
        assert link.channel(kind, "X:A").source == "x/0@b"
        if (kind != "book" or not depth) and (carries or kind != "trades"):
            desk.agrees(link, kind)
    assert not link.client.holes
    assert link.session.subscribers.marks() == {"x/0@b": desk.source.seq}


def test_what_begins_comes_to_patterns_and_names_that_asked_for_it_in_the_view() -> None:
    desk, pattern = seen_by()
    pattern.subscribe("book quotes", "*", every_ms=100, depth=10)
    named, silent = desk.link(), desk.link()
    named.subscribe("quotes", "X:NEW", wait=True, every_ms=100)
    silent.subscribe("bars", "X:A", every_ms=100)
    for link in (pattern, named, silent):
        settle(link)
    desk.step("quotes trades book", "X:NEW")
    desk.step("bars")
    later(desk)
    for link in (pattern, named, silent):
        settle(link)
    desk.agrees(pattern, "quotes", "X:NEW")
    desk.agrees(pattern, "book", "X:NEW")
    assert ("trades", "X:NEW") not in pattern.client.channels
    desk.agrees(named, "quotes", "X:NEW")
    desk.agrees(silent, "bars")


@pytest.mark.parametrize("depth", [0, 1])
def test_a_source_of_which_nothing_is_here_any_more_ends_in_the_view_too(depth: int) -> None:
    desk, link = seen_by(depth=depth)
    later(desk)
    desk.switch("x/0@b", carries=False)
    desk.step("book trades quotes")
    later(desk)
    later(desk)
    for view in desk.distributor.views:
        assert list(view.hub.sources) == ["x/0@b"]
    desk.hub.source_state("x/0@b", "stale", "silent", 9)
    later(desk)
    assert link.client.sources["x/0@b"]["state"] == "stale"
    late = desk.link()
    late.subscribe("quotes", "X:A", every_ms=250)  # a view that is made later knows it too
    settle(late)
    assert late.client.sources["x/0@b"]["state"] == "stale"


def test_what_no_client_has_any_more_goes_and_comes_back_when_it_is_asked_for() -> None:
    desk, link = seen_by()
    keeps = desk.link()
    keeps.subscribe("quotes", "X:A", every_ms=100)
    keeps.subscribe("trades", "X:*", every_ms=100)
    link.ask("unsubscribe")
    settle(link)
    for _ in range(6):
        later(desk, 2_000)
    (view,) = desk.distributor.views
    kinds = {c.kind for one in view.hub.names.values() for c in one.channels if c is not None}
    assert kinds == {"quotes", "trades"}
    link.subscribe("book", "X:A", every_ms=100)
    settle(link)
    desk.step("book")
    later(desk)
    desk.agrees(link, "book")
