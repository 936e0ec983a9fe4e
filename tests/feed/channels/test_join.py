"""How channels begin, and how names that are waited for do: what they count as, and who takes them away.

(Over 400 lines: a name that arrives is a join, and begins in as many ways.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from feed.channels.join import LOOKS_MAX, Broken, Join, JoinGroup, Page, Rest
from feed.protocol.session import SessionSettings
from feed.wire.message import JOINT, KIND_INDEX
from feed.wire.model import Book
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


def begins(link: Link, kind: str, symbol: str = "X:A", **fields: Any) -> tuple[str, int]:
    """How a channel begins for a client, as its result says."""
    (only,) = link.subscribe(kind, symbol, **fields)["results"]
    return only["mode"], only["seq"]


class TestWhereAChannelGoesOn:
    """By snapshot, live, after a mark, or with a gap: each for a client that has nothing else."""

    def several(self, **settings: Any) -> Desk:
        made = Desk(**settings)
        for _ in range(5):
            made.step("trades book")
        return made

    @pytest.mark.parametrize("kind", ["trades", "book"])
    @pytest.mark.parametrize(
        ("start", "mode", "seq"),
        [
            (None, "snapshot", 4),
            ("snapshot", "snapshot", 4),
            ("live", "live", 4),
            ({"last": 2}, "snapshot", 4),
            ({"marks": {"x/0@a": 2}}, "resumed", 2),
            ({"marks": {"x/0@a": -1}}, "resumed", -1),
            ({"marks": {"x/0@a": 9}}, "resumed", 9),
            ({"marks": {"y/0@a": 2}}, "snapshot", 4),
        ],
    )
    def test_as_the_request_says(self, kind: str, start: Any, mode: str, seq: int) -> None:
        made = self.several()
        link = made.link()
        fields = {} if start is None else {"start": start}
        assert begins(link, kind, **fields) == (mode, seq)
        for _ in range(6):
            made.step("trades book")
        link.drain()
        assert link.channel(kind, "X:A").pos == made.source.seq
        assert not link.client.holes

    @pytest.mark.parametrize(
        ("marks", "complete"), [({"x/0@a": 4}, True), ({"x/0@a": 1}, False), ({"x/0@old": 70, "x/0@older": 7}, False)]
    )
    def test_with_a_gap_where_the_client_stands_in_a_source_before(self, marks: dict[str, int], complete: bool) -> None:
        made = self.several()
        made.switch("x/0@b", carries=True)
        made.keyframe()
        made.flush()
        for _ in range(2):
            made.step("trades book")
        link = made.link()
        assert begins(link, "trades", start={"marks": marks}) == ("gap", 4)
        (gap,) = link.channel("trades", "X:A").gaps
        # of several incarnations the furthest position counts
        assert (gap["reason"], gap["prev"], gap["lost"]) == ("source", max(marks.values()), not complete)
        assert begins(link, "book", start={"marks": marks}) == ("gap", 4)
        made.agrees(link, "book")
        # a mark of the source itself says where it goes on
        assert begins(made.link(), "trades", start={"marks": {**marks, "x/0@b": 5}}) == ("resumed", 5)

    @pytest.mark.parametrize("kind", ["trades", "book"])
    def test_with_a_gap_where_its_updates_are_gone(self, kind: str) -> None:
        made = self.several(resume_window_bytes_max=1_500)
        for _ in range(4):
            made.keyframe()
            made.step("trades book")
        link = made.link()
        assert begins(link, kind, start={"marks": {"x/0@a": 1}}) == ("gap", 1)
        (gap,) = link.channel(kind, "X:A").gaps
        assert (gap["reason"], gap["prev"]) == ("evicted", 1)
        assert link.channel(kind, "X:A").pos == made.source.seq

    @pytest.mark.parametrize(("kind", "lost"), [("trades", True), ("book", False)])
    def test_with_a_gap_where_the_mark_is_of_another_log(self, kind: str, lost: bool) -> None:
        made = self.several()
        made.hub.delay_s = lambda: 0.0
        link = made.link()
        link.subscribe(kind, "X:A", start={"marks": {"x/0@a": 50}})
        for _ in range(2):
            made.hub.confirmed("x/0@a")
        link.take(link.session.wake(link.now))
        assert [(r["mode"], r["seq"]) for r in link.client.answers[1]["results"]] == [("gap", 4)]
        (gap,) = [m for m in messages(link) if m["type"] == "gap"]
        assert (gap["reason"], gap["prev"], gap["seq"], gap["lost"]) == ("seek", 50, 4, lost)

    def test_live_where_nothing_was_said_of_it(self) -> None:
        made = Desk()
        made.step("status")
        link = made.link()
        assert begins(link, "trades") == ("live", -1)
        made.step("trades")
        assert len(link.channel("trades", "X:A").applied) == 1

    def test_from_where_it_stood_when_the_client_lagged(self) -> None:
        made = self.several(resume_window_bytes_max=1_500)
        link = made.link()
        link.subscribe("trades book", "X:A")
        link.full = True
        for _ in range(5):
            made.step("trades book")
            made.keyframe()
        link.drain()
        for kind in ("trades", "book"):
            (gap,) = link.channel(kind, "X:A").gaps
            assert (gap["reason"], gap["prev"], gap["count"]) == ("lag", 4, gap["seq"] - 4)

    @pytest.mark.parametrize("kind", ["trades", "book"])
    def test_a_past_that_breaks_off_says_after_which_position(self, kind: str) -> None:
        made = self.several()
        channel = made.hub.names["X:A"].channels[KIND_INDEX[kind]]
        assert channel is not None
        join = Join(made.hub.current.number, broken={(channel.id, channel.bit): Broken("recording", 2)})
        assert (join.mode(channel), join.prev(channel), join.goes_on_at(channel)) == ("gap", 2, 2)
        assert join.folds(channel)
        assert not join.before(channel)
        other = Join(0, marks={"x/0@a": 3})
        assert (other.mode(channel), other.prev(channel)) == ("resumed", 3)
        assert not other.folds(channel)
        assert other.before(channel)  # it began with a later flush
        assert Join(0).standing(channel) == (-1, 0)


def messages(link: Link) -> list[dict[str, Any]]:
    return [message for payload in link.frames for message in json.loads(payload)]


def test_a_request_that_several_joins_bring_has_caught_up_with_the_last_of_them() -> None:
    group = JoinGroup("a", 1)
    group.more()
    assert [group.ended(), group.ended()] == [False, True]
    link = desk().link()
    link.subscribe("trades book", "X:A", every_ms=50, depth=1, start={"last": 5}, id="a")
    link.drain()
    settle(link)
    assert link.client.caught_up == ["a"]


def test_a_page_is_full_by_its_bytes_and_by_what_was_looked_at() -> None:
    page = Page(10)
    page.add(b"12345")
    assert (page.room, page.full, page.over(4), page.over(5)) == (5, False, False, True)
    page.add(b"67890")
    assert (page.room, page.full, page.joined()) == (0, True, b"1234567890")
    looked = Page(10)
    looked.look(LOOKS_MAX - 1)
    assert not looked.full
    looked.look(1)
    assert looked.full
    closed = Page(10)
    closed.add(b"1")
    closed.close()
    assert closed.full


def test_what_is_too_large_for_a_page_comes_over_several_and_says_where_its_snapshot_stands() -> None:
    made = desk()
    levels = [(f"{number}.{number % 9 + 1}", f"{number}.123456789") for number in range(1, 20_000)]
    made.change("book", Book(levels, []))
    channel = made.hub.names["X:A"].channels[KIND_INDEX["book"]]
    assert channel is not None
    channel.folded(made.hub.rules)
    snapshot = channel.fresh(made.hub.rules)
    rest = Rest(channel, [*snapshot, b'update","channel":"book"'], made.hub.current, Join(0))
    assert len(rest.messages) > 2
    reached = []
    for sent in range(len(rest.messages) + 1):
        rest.next = sent
        reached.append(rest.reached)
    # all of the snapshot first
    assert reached == [None] * (len(rest.messages) - 1) + [made.source.seq] * 2
    joint = Rest(channel, [JOINT.join(snapshot)], made.hub.current, Join(0))
    assert joint.messages == rest.messages[:-1]  # each part by itself
    assert Rest(channel, [b'update","seq":5'], made.hub.current, Join(0)).reached is None
