"""A client's channels in several ways of seeing them: each has one set of parameters, and all have one mark and sum."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feed.protocol.session import Close, SessionSettings
from tests.feed.channels.desk import Desk, Link
from tests.feed.channels.test_intake import sent

MS = 1_000_000
VIEWS: list[dict[str, Any]] = [{}, {"every_ms": 50}, {"every_ms": 50, "depth": 1}, {"depth": 1}]


def market(*symbols: str, **settings: Any) -> Desk:
    desk = Desk(**settings)
    for symbol in symbols or ("X:A", "X:B", "Y:A"):
        desk.tick("trades quotes book", symbol)
    desk.read()
    return desk


def later(desk: Desk, milliseconds: int = 100) -> None:
    desk.now += milliseconds * MS
    desk.flush()


def listed(link: Link) -> dict[tuple[str, str], tuple[int, int, str]]:
    """The parameters of all that it has asked for."""
    results = link.ask("list")["results"]
    found = {(r["channel"], r["symbol"]): (r["every_ms"], r["depth"], r["on_lag"]) for r in results}
    assert len(found) == len(results)  # nothing twice
    return found


def settle(link: Link) -> None:
    while link.session.due or not link.in_step:
        link.pull()


@pytest.mark.parametrize("first", VIEWS)
@pytest.mark.parametrize("second", VIEWS)
@pytest.mark.parametrize("symbols", ["X:A", "X:*"])
def test_a_channel_has_the_parameters_of_the_last_request(
    first: dict[str, int], second: dict[str, int], symbols: str
) -> None:
    desk = market()
    link = desk.link()
    link.subscribe("book quotes", symbols, **first)
    settle(link)
    for _ in range(3):
        desk.step("book quotes", "X:A")
    link.subscribe("book quotes", symbols, **second)
    settle(link)
    every_ms, depth = second.get("every_ms", 0), second.get("depth", 0)
    assert listed(link) == {("book", symbols): (every_ms, depth, "skip"), ("quotes", symbols): (every_ms, 0, "skip")}
    for _ in range(3):
        desk.step("book quotes", "X:A")
    later(desk)
    settle(link)
    desk.agrees(link, "quotes")
    if not depth:
        desk.agrees(link, "book")
    assert not link.client.holes
    account = link.session.subscribers.account()
    assert account.pending == 0
    assert account.all == sum(account[1:6])


def test_a_name_leaves_the_view_that_a_pattern_has_it_in() -> None:
    desk = market()
    link = desk.link()
    link.subscribe("quotes", "*", every_ms=50)
    settle(link)
    link.subscribe("quotes", "X:A")
    settle(link)
    assert listed(link) == {("quotes", "X:A"): (0, 0, "skip"), ("quotes", "*"): (50, 0, "skip")}
    before = len(sent(link, "quotes"))
    desk.step("quotes", "X:A")
    assert len(sent(link, "quotes")) == before + 1
    later(desk)
    assert len(sent(link, "quotes")) == before + 1
    desk.agrees(link, "quotes")
    # the pattern takes it back
    link.subscribe("quotes", "*", every_ms=50)
    settle(link)
    desk.step("quotes", "X:A")
    later(desk)
    settle(link)
    desk.agrees(link, "quotes")


def test_a_name_that_is_not_known_goes_from_one_to_another() -> None:
    desk = market()
    link = desk.link()
    link.subscribe("quotes", "X:*", every_ms=50)
    link.subscribe("quotes", "X:NEW", wait=True)
    assert listed(link)["quotes", "X:NEW"] == (0, 0, "skip")
    desk.step("quotes", "X:NEW")
    settle(link)
    assert [m["seq"] for m in sent(link, "quotes", "X:NEW")] == [desk.source.seq]
    later(desk)
    settle(link)
    assert len(sent(link, "quotes", "X:NEW")) == 1
    desk.agrees(link, "quotes", "X:NEW")


def test_unsubscribing_takes_it_from_all_and_counts_it_once() -> None:
    desk = market()
    link = desk.link()
    link.subscribe("quotes", "X:*", every_ms=50)
    link.subscribe("quotes", "Y:*")
    settle(link)
    (result,) = link.ask("unsubscribe", "quotes", "*")["results"]
    assert (result["ok"], result["matched"]) == (True, 3)
    assert listed(link) == {}
    link.subscribe("quotes", "X:A", every_ms=50)
    link.subscribe("book", "X:A X:B", depth=1)
    link.subscribe("trades", "X:A")
    results = link.ask("unsubscribe", "quotes book", "X:A")["results"]
    assert [r["ok"] for r in results] == [True, True]
    assert len(link.ask("unsubscribe")["results"]) == 2
    settle(link)
    assert not list(link.session.subscribers.inside)
    assert link.session.subscribers.channels == 0


def test_a_request_in_two_views_has_caught_up_once() -> None:
    desk = market()
    link = desk.link()
    answer = link.subscribe("book quotes trades", "X:A X:B", every_ms=50, depth=1, start={"last": 3}, id="both")
    assert [(r["channel"], r["symbol"]) for r in answer["results"]] == [
        (kind, symbol) for kind in ("book", "quotes", "trades") for symbol in ("X:A", "X:B")
    ]
    settle(link)
    assert link.client.caught_up == ["both"]


def test_limits_are_on_all_of_them_together() -> None:
    desk = market(session=SessionSettings(subscriptions_max=3, patterns_max=1))
    link = desk.link()
    link.subscribe("quotes", "X:A X:B", every_ms=50)
    results = link.subscribe("trades", "X:A X:B")["results"]
    assert [r.get("code") for r in results] == [None, "subscription_limit"]
    other = desk.link()
    other.subscribe("quotes", "X:*", every_ms=50)
    (result,) = other.subscribe("trades", "X:*")["results"]
    assert result["code"] == "subscription_limit"
    # an exception from a pattern is one more
    wide = desk.link()
    wide.subscribe("quotes", "*", every_ms=50)
    (result,) = wide.ask("unsubscribe", "quotes", "X:*")["results"]
    assert result["code"] == "subscription_limit"


def test_pages_take_turns_and_marks_are_the_lowest_of_all() -> None:
    desk = market()
    link = desk.link()
    link.subscribe("trades", "X:A")
    link.subscribe("quotes", "X:A", every_ms=50)
    settle(link)
    link.full = True
    for _ in range(4):
        desk.step("trades quotes", "X:A")
    later(desk)
    assert link.session.subscribers.marks() == {"x/0@a": 2}
    marks = []
    while not link.in_step:
        link.pull(1)
        marks.append(link.session.subscribers.marks().get("x/0@a", 0))
    assert marks == sorted(marks)
    assert marks[-1] == desk.source.seq
    for kind in ("trades", "quotes"):
        desk.agrees(link, kind)


def test_what_a_client_has_goes_on_while_a_request_of_it_is_under_way() -> None:
    desk = market(*[f"X:{number:03}" for number in range(300)])
    link = desk.link()
    link.subscribe("quotes", "X:000", every_ms=50)
    link.subscribe("trades", "X:001")
    settle(link)
    text = link.client.ask({"op": "subscribe", "channels": ["book"], "symbols": ["X:*"]})
    link.take(link.session.receive(text, link.now))
    assert link.session.under_way
    subscribers, before = link.session.subscribers, len(sent(link, "trades", "X:001"))
    for _ in range(3):
        desk.step("trades", "X:001")
    assert subscribers.follows
    while subscribers.follows:
        link.take(subscribers.follow(1))
    assert len(sent(link, "trades", "X:001")) == before + 3
    # it may have begun channels anew that its client still has
    assert subscribers.marks() == {"x/0@a": 299}
    while link.session.under_way:
        link.take(link.session.wake(link.now))
    settle(link)
    desk.agrees(link, "trades", "X:001")
    assert len(link.client.channels) == 302


def test_a_lag_closes_where_any_of_them_asked_for_that() -> None:
    desk = market("X:A", resume_window_bytes_max=1_500)
    link = desk.link()
    link.subscribe("trades", "X:A", every_ms=50)
    link.subscribe("quotes", "X:A", on_lag="close")
    settle(link)
    link.full = True
    for _ in range(20):
        desk.step("trades quotes book")
        later(desk)
        desk.keyframe()
    assert not link.session.subscribers.too_slow
    link.session.subscribers.pull(1 << 20)
    link.session.subscribers.pull(1 << 20)
    assert link.session.subscribers.too_slow
    with pytest.raises(Close):
        link.pull()


def test_sums_hold_what_became_of_views_that_were_left() -> None:
    desk = market()
    link = desk.link()
    link.subscribe("quotes", "X:A", every_ms=50)
    for _ in range(5):
        desk.step("quotes")
    later(desk)
    before = link.session.subscribers.account()
    assert before.merged > 0
    link.subscribe("quotes", "X:A")
    settle(link)
    desk.step("quotes")
    account = link.session.subscribers.account()
    assert (account.merged, account.delivered, account.gapped) == (before.merged, before.delivered + 1, 0)
    assert link.session.subscribers.gapped == 0
    link.session.close()
    assert link.session.subscribers.account() == account


def test_a_kind_that_does_not_exist_is_named() -> None:
    link = market().link()
    text = json.dumps({"op": "unsubscribe", "channels": ["nonesuch", "quotes"], "symbols": ["X:A", "X:*"], "id": 7})
    assert link.session.subscribers.touched(["nonesuch"], ["X:*", "X:A"]) == 2
    link.take(link.session.receive(link.client.ask(json.loads(text)), 1))
    assert [r.get("code") for r in link.client.answers[7]["results"]] == [
        "unknown_channel", "unknown_channel", "not_subscribed", "not_subscribed",
    ]  # fmt: skip
