"""Names that are waited for: what they count as, how they begin, and who takes them away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from feed.protocol.session import SessionSettings
from tests.feed.channels.desk import Desk, Link
from tests.truth import TrueSource, some_data

NEW = "X:NEW"


def desk(**settings: Any) -> Desk:
    made = Desk(**settings)
    made.step("trades book", "X:A")
    return made


def result(answer: dict[str, Any]) -> dict[str, Any]:
    (only,) = answer["results"]
    assert isinstance(only, dict)
    return only


def joined(link: Link) -> list[tuple[str, str, str, int]]:
    """What each `joined` said so far."""
    every = [message for payload in link.frames for message in json.loads(payload)]
    return [(m["channel"], m["symbol"], m["mode"], m["seq"]) for m in every if m["type"] == "joined"]


def settle(link: Link) -> None:
    while link.session.due:
        link.pull()


@pytest.mark.parametrize(
    ("symbol", "kind", "code"),
    [
        ("NEW", "trades", "unknown_symbol"),
        (":NEW", "trades", "unknown_symbol"),
        ("x:NEW", "trades", "unknown_symbol"),
        ("X:", "trades", "unknown_symbol"),
        ("X:N*", "trades", "unknown_symbol"),
        ("X:" + "N" * 319, "trades", "unknown_symbol"),
        (NEW, "tapes", "unknown_channel"),
        ("X:*", "tapes", "unknown_channel"),
    ],
)
def test_what_cannot_be_waited_for_is_an_error_all_the_same(symbol: str, kind: str, code: str) -> None:
    link = desk().link()
    assert result(link.subscribe(kind, symbol, wait=True))["code"] == code
    assert link.session.subscriber.interest.count == 0


def test_it_counts_as_subscribed_and_begins_live_with_its_first_update() -> None:
    made = desk()
    link = made.link()
    assert result(link.subscribe("trades", NEW))["code"] == "unknown_symbol"
    asked = link.subscribe("trades book", NEW, wait=True, on_lag="close")["results"]
    assert [one["mode"] for one in asked] == ["awaited", "awaited"]
    assert [(one["symbol"], one["mode"], one["on_lag"]) for one in link.ask("list")["results"]] == [
        (NEW, "awaited", "close")
    ] * 2
    made.step("trades", NEW)
    settle(link)
    made.step("trades", NEW)
    assert joined(link) == [("trades", NEW, "live", -1)]
    made.agrees(link, "trades", NEW)
    listed = {one["channel"]: one.get("mode") for one in link.ask("list")["results"]}
    assert listed == {"trades": None, "book": "awaited"}
    made.step("book trades", NEW)
    settle(link)
    assert joined(link)[1:] == [("book", NEW, "live", -1)]
    made.agrees(link, "book", NEW)
    made.agrees(link, "trades", NEW)
    assert [one["ok"] for one in link.ask("unsubscribe", "trades book", NEW)["results"]] == [True, True]
    made.step("book trades", NEW)
    assert link.session.subscriber.interest.count == 0


def test_it_is_unsubscribed_by_name_by_pattern_and_with_everything() -> None:
    made = desk()
    for how in ("trades X:NEW", "trades X:*", "trades *", ""):
        link = made.link()
        link.subscribe("trades", NEW, wait=True)
        assert made.hub.awaiting
        (left,) = link.ask("unsubscribe", *how.split())["results"]
        assert (left["ok"], left.get("matched", 0)) == (True, 0)
        assert link.ask("list")["results"] == []
        assert not made.hub.awaiting
        assert link.session.subscriber.interest.count == 0
    assert result(link.ask("unsubscribe", "trades", NEW))["code"] == "unknown_symbol"
    made.step("trades", NEW)
    assert not any(joined(link) for link in made.links)


def test_a_pattern_that_matches_it_too_brings_it_once() -> None:
    made = desk()
    link = made.link()
    link.subscribe("trades", "X:*")
    link.subscribe("trades", NEW, wait=True)
    made.step("trades", NEW)
    settle(link)
    assert joined(link)[1:] == [("trades", NEW, "live", -1)]
    made.agrees(link, "trades", NEW)
    link.ask("unsubscribe", "trades", "X:A")
    made.step("trades", NEW)
    made.agrees(link, "trades", NEW)


def test_unsubscribing_it_beats_an_earlier_pattern_until_it_is_asked_for_again() -> None:
    made = desk()
    link = made.link()
    link.subscribe("trades", "X:*")
    link.subscribe("trades", f"{NEW} X:OTHER X:THIRD", wait=True)
    link.ask("unsubscribe", "trades", f"{NEW} X:OTHER X:THIRD")
    assert link.session.subscriber.interest.count == 4  # exceptions count, else they would have no limit
    link.subscribe("trades", "X:OTHER", wait=True)
    for symbol in (NEW, "X:OTHER"):
        made.step("trades", symbol)
        settle(link)
    assert [name for _, name, _, _ in joined(link)] == ["X:A", "X:OTHER"]
    assert result(link.subscribe("trades", NEW))["mode"] == "snapshot"
    link.subscribe("trades", "*")
    made.step("trades", "X:THIRD")
    assert [name for _, name, _, _ in joined(link)][-1] == "X:THIRD"
    link.ask("unsubscribe")
    assert link.session.subscriber.interest.count == 0


def test_limits_count_it() -> None:
    link = desk(session=SessionSettings(subscriptions_max=2, symbols_max=3)).link()
    asked = link.subscribe("trades", "X:N1 X:N2 X:N3", wait=True)["results"]
    assert [one.get("code") for one in asked] == [None, None, "subscription_limit"]
    assert link.subscribe("trades", "X:N1", wait=True)["ok"]
    assert link.subscribe("trades", "X:N1 X:N2 X:N3 X:N4", wait=True)["code"] == "subscription_limit"
    link.ask("unsubscribe", "trades", "X:N1")
    assert link.subscribe("trades", "X:N3", wait=True)["ok"]


@pytest.mark.parametrize(
    ("start", "mode", "seq", "applied"),
    [
        (None, "snapshot", 4, 0),
        ("snapshot", "snapshot", 4, 0),
        ({"last": 1}, "snapshot", 4, 0),
        ("live", "live", 4, 0),
        ({"marks": {"x/1@a": 2}}, "gap", 2, 0),
        ({"marks": {"x/1@a": 4}}, "resumed", 4, 0),
        ({"marks": {"x/1@a": 9}}, "resumed", 9, 0),
        ({"marks": {"y/0@a": 9}}, "snapshot", 4, 0),
    ],
)
def test_a_channel_that_is_older_begins_as_from_says(start: Any, mode: str, seq: int, applied: int) -> None:
    """A gateway learns of it by its state: it begins to follow a venue, or is still reading."""
    made = desk()
    link = made.link()
    more = {} if start is None else {"start": start}
    assert result(link.subscribe("trades", NEW, wait=True, **more))["mode"] == "awaited"
    older = TrueSource("x/1@a")
    for number in range(5):
        older.tick([("trades", NEW, some_data("trades", number))])
    older.record()
    made.hub.found("x/1@a", "")
    made.hub.keyframe("x/1@a", NEW, older.keyframe(NEW))
    made.flush()
    settle(link)
    assert joined(link) == [("trades", NEW, mode, seq)]
    for number in range(5, 15):
        older.tick([("trades", NEW, some_data("trades", number))])
        pos, last, value = older.record()
        made.hub.data("x/1@a", pos, last, value, last + 1)
        made.flush()
    settle(link)
    channel = link.channel("trades", NEW)
    assert channel.pos == 14
    assert not channel.waiting
    assert not link.client.holes
    assert [gap["reason"] for gap in channel.gaps] == (["evicted"] if mode == "gap" else [])
    assert len(channel.applied) == 14 - max(seq, 4)


@pytest.mark.parametrize(("mark", "mode"), [(None, "live"), (4, "live"), (5, "resumed"), (6, "resumed")])
def test_marks_of_its_source_say_what_the_client_has(mark: int | None, mode: str) -> None:
    """On a gateway that lags behind the one before: what began before the mark goes on after it, all else is live."""
    made = desk()
    made.source.seq = made.source._pos = 4
    made.read()
    link = made.link()
    link.subscribe("trades", NEW, wait=True, start={"marks": {} if mark is None else {"x/0@a": mark}})
    for _ in range(4):
        made.step("trades", NEW)
        settle(link)
    (found,) = joined(link)
    assert found == ("trades", NEW, mode, -1 if mode == "live" else mark)
    seqs = [json.loads(update)["seq"] for update in link.channel("trades", NEW).applied]
    assert seqs == [seq for seq in (5, 6, 7, 8) if mark is None or seq > mark]


@pytest.mark.parametrize("full", [False, True])
def test_marks_wait_for_a_symbol_that_begins(full: bool) -> None:
    """Who is cut before `joined` was sent resumes from the marks, and has the symbol from its first update on."""
    made = desk()
    link = made.link()
    link.subscribe("trades", f"X:A {NEW}", wait=True)
    link.take(link.session.heartbeat(5))
    marks = dict(link.client.marks)
    link.full = full
    for _ in range(3):
        made.step("trades", NEW)  # not pulled: the client has not heard of it
    link.take(link.session.heartbeat(6))
    assert link.client.marks["x/0@a"] == marks["x/0@a"]
    link.drain()
    settle(link)
    link.take(link.session.heartbeat(7))
    assert link.client.marks["x/0@a"] == made.source.seq
    made.agrees(link, "trades", NEW)


def test_it_goes_from_one_view_to_another_before_and_after_it_begins() -> None:
    made = desk()
    link = made.link()
    link.subscribe("book", "X:*")
    link.subscribe("book", f"{NEW} X:OTHER", wait=True, every_ms=50, depth=1)
    listed = [(one["symbol"], one.get("mode"), one["every_ms"], one["depth"]) for one in link.ask("list")["results"]]
    assert listed == [(NEW, "awaited", 50, 1), ("X:OTHER", "awaited", 50, 1), ("X:*", None, 0, 0)]
    link.subscribe("book", "X:OTHER", wait=True, every_ms=250)
    for symbol in (NEW, "X:OTHER"):
        made.step("book", symbol)
        made.now += 250_000_000
        made.flush()
        settle(link)
    assert joined(link)[1:] == [("book", NEW, "live", -1), ("book", "X:OTHER", "live", -1)]
    assert link.channel("book", NEW).view == (50, 1)
    assert link.channel("book", "X:OTHER").view == (250, None)
    made.agrees(link, "book", "X:OTHER")
    link.subscribe("book", "X:*")
    settle(link)
    made.step("book", NEW)
    made.agrees(link, "book", NEW)
    assert link.channel("book", NEW).view == (None, None)
    assert len(link.ask("list")["results"]) == 1


def test_a_client_that_goes_waits_for_nothing() -> None:
    made = desk()
    link = made.link()
    link.subscribe("trades", NEW, wait=True, every_ms=50)
    link.subscribe("book", NEW, wait=True)
    link.session.close()
    made.links.remove(link)
    assert not made.hub.awaiting
    assert not any(view.hub.awaiting for view in made.distributor.views)
    made.step("trades book", NEW)


def test_a_kind_that_is_silent_of_a_known_symbol_is_not_awaited() -> None:
    made = desk()
    link = made.link()
    found = result(link.subscribe("status", "X:A", wait=True))
    assert (found["mode"], found["seq"]) == ("live", -1)
    made.step("status", "X:A")
    made.agrees(link, "status")


def test_a_name_that_is_asked_for_again_when_a_kind_of_it_is_known() -> None:
    made = desk()
    link = made.link()
    link.subscribe("trades book", NEW, wait=True)
    made.step("trades", NEW)
    settle(link)
    found = result(link.subscribe("book", NEW, wait=True))
    assert (found["mode"], found["seq"]) == ("live", -1)
    made.step("book", NEW)
    settle(link)
    assert [kind for kind, *_ in joined(link)] == ["trades"]
    made.agrees(link, "book", NEW)
    assert link.session.subscriber.interest.count == 2


class Counted(dict[str, Any]):
    """Counts who goes through it."""

    walks = 0

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return super().__iter__()


def many(names: list[str]) -> tuple[Desk, Link]:
    made = desk(session=SessionSettings(requests_burst=1_000))
    link = made.link()
    for start in range(0, len(names), 1_000):
        link.subscribe("trades", " ".join(names[start : start + 1_000]), wait=True)
    return made, link


def test_a_pattern_looks_at_names_of_its_venue_alone() -> None:
    _, link = many([f"X{number % 100}:{number}" for number in range(1_000)])
    wanted = link.session.subscriber.interest
    wanted.awaited = counted = Counted(wanted.awaited)
    venues = " ".join(f"X{number}:*" for number in range(100))
    link.subscribe("quotes", "X7:*")
    results = link.ask("unsubscribe", "quotes book", venues)["results"]
    assert [result["ok"] for result in results] == [number == 7 for number in range(100)] + [False] * 100
    assert not counted.walks
    assert link.ask("unsubscribe", "trades", venues)["ok"]
    assert not wanted.awaited


def test_many_names_of_one_venue_are_left_in_steps() -> None:
    made, link = many([f"X:{number}" for number in range(3_000)])
    wanted, session = link.session.subscriber.interest, link.session
    assert session.subscribers.touched(["trades", "book"], ["X:*"]) > 2 * 3_000 // 8
    assert session.subscribers.touched(["trades", "book"], ["Y:*"]) == 2
    left = [len(wanted.awaited)]
    link.take(session.receive(link.client.ask({"op": "unsubscribe", "channels": ["trades"], "symbols": ["X:*"]}), 1))
    while session.under_way:
        assert len(made.hub.awaiting) == len(wanted.awaited)
        left.append(len(wanted.awaited))
        made.step("trades", f"X:{2_999 - len(left)}")  # one that is waited for begins
        link.take(session.wake(1))
    assert max(before - after for before, after in pairwise(left)) <= 1_000
    assert not wanted.awaited
    assert not made.hub.awaiting
    assert not wanted.count
    settle(link)
    assert not session.subscriber.selection.masks
    said = link.client.messages
    made.step("trades", "X:1")
    made.step("trades", "X:2998")
    assert link.client.messages == said
