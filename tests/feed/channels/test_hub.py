"""The hub as a whole: what comes in, what it knows, who it serves; and when what a flush has was received."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feed.channels.hub import Found
from feed.channels.steps import whole
from feed.wire.record import EMPTY
from tests.feed.channels.desk import Desk, Link
from tests.feed.channels.test_intake import sent, subscribed
from tests.truth import TrueSource, some_data


def test_the_newest_tick_of_what_came_in_since_the_last_look() -> None:
    desk = Desk()
    assert desk.hub.received_ns() == 0
    seen: set[int] = set()
    for _ in range(3):
        desk.tick("trades quotes")
        pos, last, value = desk.source.record()
        desk.hub.data("x/0@a", pos, last, value, last + 1)
        newest = int(json.loads(value)[-1]["ts_recv"])
        seen.add(newest)
    desk.hub.data("x/0@a", last, last, EMPTY, last + 1)
    assert desk.hub.received_ns() == newest == max(seen)
    assert len(seen) == 3
    assert desk.hub.received_ns() == 0


def test_words_that_look_like_a_time_are_none() -> None:
    hub = Desk().hub
    message = {"type": "update", "channel": "status", "symbol": "X:A", "prev": -1, "seq": 1, "ts_event": None}
    data = {"action": "halt", "reason": '"ts_recv":"9"'}
    text = json.dumps([{**message, "ts_recv": "1700000000000000005", "data": data}], separators=(",", ":"))
    hub.data("x/0@a", 0, 1, text.encode(), 2)
    assert hub.received_ns() == 1_700_000_000_000_000_005


def bring(desk: Desk, source: TrueSource, kind: str, symbol: str, number: int = 1) -> None:
    """One tick of another source, read and flushed."""
    source.tick([(kind, symbol, some_data(kind, number))])
    pos, last, value = source.record()
    desk.hub.data(source.source, pos, last, value, last + 1)
    desk.flush()


def test_symbols_are_listed_with_their_kinds_and_sources() -> None:
    desk = Desk()
    desk.tick("trades", "X:B")
    desk.tick("quotes trades", "X:A")
    desk.read()
    desk.hub.expect("X:SILENT", "x/0@a")
    desk.hub.expect("X:A", "x/0@a")
    assert desk.hub.symbols() == [
        Found("X:A", ["trades", "quotes"], "x/0@a"),
        Found("X:B", ["trades"], "x/0@a"),
        Found("X:SILENT", [], "x/0@a"),
    ]
    assert desk.hub.updates == 3
    link = desk.link()
    (result,) = link.subscribe("trades", "X:SILENT")["results"]
    assert (result["mode"], result["seq"]) == ("live", -1)
    desk.step("trades", "X:SILENT")
    desk.agrees(link, "trades", "X:SILENT")


def test_a_snapshot_is_the_state_as_of_the_last_flush() -> None:
    desk = Desk()
    desk.step("book")
    desk.source.stale("X:A", "gap")
    desk.read()
    desk.tick("book")
    truth = desk.source.snapshot("book", "X:A")
    desk.read(flush=False)
    found = whole(desk.hub.snapshot("book", "X:A"))
    assert found is not None
    assert [json.loads(one)["type"] for one in found] == ["snapshot", "state"]
    assert json.loads(found[0])["seq"] == 0
    desk.flush()
    assert whole(desk.hub.snapshot("book", "X:A"))[:1] == truth  # type: ignore[index]  # there is one
    assert whole(desk.hub.snapshot("trades", "X:A")) is None
    assert whole(desk.hub.snapshot("book", "X:NOPE")) is None


def test_how_long_the_oldest_has_waited_is_what_its_log_and_this_process_say() -> None:
    hub = Desk().hub
    assert hub.lag(["x/0@a"]) is None
    hub.delay_s = lambda: 0.25
    assert hub.lag([]) == 250
    hub.stands("x/0@a", 90, 80, 1_500)
    assert hub.lag(["x/0@a", "y/0@a"]) == 1_750
    source = hub.sources["x/0@a"]
    assert (source.end, source.position) == (90, 80)


def test_a_source_in_whose_midst_reading_begins_takes_over_from_one_before() -> None:
    desk = Desk()
    desk.step("trades")
    link = subscribed(desk, "trades")
    later = TrueSource("x/0@b", 500)
    desk.hub.found("x/0@b", "x/0@a")
    later.tick([("trades", "X:A", some_data("trades", 1))])
    desk.hub.keyframe("x/0@b", "X:A", later.keyframe("X:A"))
    bring(desk, later, "trades", "X:A", 2)
    assert list(desk.hub.sources) == ["x/0@b"]
    assert link.channel("trades", "X:A").source == "x/0@b"
    assert link.channel("trades", "X:A").pos == 502
    assert link.channel("trades", "X:A").gaps[-1]["reason"] == "source"


def test_what_is_thought_of_a_source_is_told_once_to_all_that_have_channels_in_it() -> None:
    desk = Desk()
    desk.step("quotes")
    raw, seen, none = desk.link(), desk.link(), desk.link()
    raw.subscribe("quotes", "X:A")
    seen.subscribe("quotes", "X:A", every_ms=50)
    for since in (5, 6):
        desk.hub.source_state("x/0@a", "stale", "silent", since)
        desk.flush()
    for link in (raw, seen):
        assert link.types().count("state") == 1
        assert link.client.sources["x/0@a"]["since"] == "5"
    assert none.client.sources == {}
    late = subscribed(desk, "quotes")
    assert late.client.sources["x/0@a"]["state"] == "stale"


def test_each_subscriber_is_given_a_flush_once_and_who_cannot_take_it_is_behind() -> None:
    desk = Desk()
    desk.step("trades")
    links = [subscribed(desk, "trades") for _ in range(3)]
    assert (desk.hub.subscribers, desk.hub.behind) == (3, 0)
    links[1].full = True
    for _ in range(3):
        desk.step("trades")
    assert desk.hub.behind == 1
    assert [len(sent(link, "trades")) for link in links] == [4, 1, 4]
    links[1].drain()
    assert desk.hub.behind == 0
    assert sent(links[1], "trades") == sent(links[0], "trades")
    for link in links:
        link.session.close()
    assert desk.hub.subscribers == 0


def test_who_waited_for_a_symbol_is_called_when_it_begins() -> None:
    desk = Desk()
    desk.step("trades")
    waits, other = desk.link(), desk.link()
    waits.subscribe("trades", "X:NEW", wait=True)
    other.subscribe("trades", "X:A")
    desk.step("trades")
    assert desk.distributor.called() == []
    desk.step("trades", "X:NEW")
    assert [subscriber.owner for subscriber in desk.distributor.called()] == [waits]
    assert desk.distributor.called() == []
    waits.drain()
    desk.agrees(waits, "trades", "X:NEW")
    assert desk.hub.awaiting == {}


def plan_of(desk: Desk, link: Link) -> list[dict[str, Any]]:
    link.subscribe("trades quotes", "X:* Y:*")
    link.drain()
    return [m for payload in link.frames for m in json.loads(payload) if m["type"] != "ack"]


def test_equal_requests_are_given_the_same_whatever_began_or_was_asked_for_between() -> None:
    desk = Desk()
    for number in range(30):
        desk.tick("trades quotes", f"X:{number:02}")
    desk.read()
    first = plan_of(desk, desk.link())
    assert plan_of(desk, desk.link()) == first
    for number in range(20):  # so many other plans that this one is not kept
        subscribed(desk, "trades", f"V{number}:* X:*")
    assert plan_of(desk, desk.link()) == first
    desk.source.history("X:NEW", some_data("trades", 5))
    desk.keyframe("X:NEW")
    desk.flush()
    resumed = desk.link()
    resumed.subscribe("trades", "*", start={"marks": {"x/0@a": desk.source.seq}})
    resumed.drain()
    # of a state that no update brought no mark says who has it
    assert [m["type"] for m in sent(resumed, "trades", "X:NEW")] == ["snapshot"]
    assert sent(resumed, "trades", "X:00") == []
    assert len(plan_of(desk, desk.link())) == len(first) + 2


@pytest.mark.parametrize("leaves", [False, True])
def test_a_plan_is_made_in_steps_and_anew_where_channels_begin_meanwhile(leaves: bool) -> None:
    desk = Desk()
    desk.step("trades quotes")
    bits = {"trades": 1, "quotes": 2}
    steps = desk.hub.plan((("X:", bits["trades"]), ("X:", bits["quotes"])))
    next(steps)
    if leaves:
        steps.close()
        assert not desk.hub._making
        assert not desk.hub._makers
        return
    desk.step("trades", "X:B")
    plan = whole(steps)
    assert list(plan.kinds.values()) == [3, 1]
    assert whole(desk.hub.plan((("X:", 1), ("X:", 2)))) is plan
    assert desk.hub.openings(plan) is not None


def test_a_hub_that_is_given_up_lets_go_of_all_that_it_holds() -> None:
    desk = Desk()
    desk.step("trades quotes")
    link = subscribed(desk, "trades")
    link.session.close()
    desk.hub.close()
    assert all(not source.channels for source in desk.hub.sources.values())
    assert all(not listing.channels for listing in desk.hub.names.values())


def test_the_sources_of_venues_are_those_that_have_not_ended() -> None:
    desk = Desk()
    for name in ("x/1@a", "y/0@a"):
        desk.hub.opened(name, "", False)

    def followed(*venues: str) -> set[str]:
        return {source.name for source in desk.hub.followed(frozenset(venues))}

    assert followed("X") == followed("X", "NONE") == {"x/0@a", "x/1@a"}
    assert followed("*") == {"x/0@a", "x/1@a", "y/0@a"}
    assert followed("NONE") == followed() == set()
    desk.hub.opened("x/1@b", "x/1@a", False)
    assert followed("X") == {"x/0@a", "x/1@b"}


@pytest.mark.parametrize("kind", ["trades", "book"])
def test_who_is_ahead_of_this_gateway_is_given_what_it_does_not_have(kind: str) -> None:
    desk = Desk()
    desk.step("trades book")
    link, other = desk.link(), subscribed(desk, kind)
    link.subscribe(kind, "X:A", start={"marks": {"x/0@a": 3}})
    for _ in range(5):
        desk.step("trades book")
    assert [m["seq"] for m in sent(link, kind)] == [4, 5]
    assert [m["seq"] for m in sent(other, kind)] == [0, 1, 2, 3, 4, 5]


def test_what_has_left_the_window_is_not_there_for_resumes() -> None:
    desk = Desk(resume_window_bytes_max=1_500)
    for _ in range(10):
        desk.step("trades")
        subscribed(desk, "trades", "*").session.close()
    desk.keyframe()
    desk.step("trades")
    assert len(desk.hub.window) < 3
    link = desk.link()
    (result,) = link.subscribe("trades", "X:A", start={"marks": {"x/0@a": 2}})["results"]
    assert result["mode"] == "gap"
    assert desk.hub.sources["x/0@a"].may_miss(2)
    assert not desk.hub.sources["x/0@a"].may_miss(desk.source.seq)


def test_a_flush_is_due_for_a_view_though_nothing_comes_in() -> None:
    desk = Desk()
    desk.step("quotes")
    link = desk.link()
    link.subscribe("quotes", "X:A", every_ms=50)
    assert desk.distributor.due_ns is None
    for _ in range(2):
        desk.step("quotes")
    due = desk.distributor.due_ns
    assert due is not None
    assert desk.now < due <= desk.now + 50_000_000
    desk.now = due
    desk.flush()
    assert desk.distributor.due_ns is None
    desk.agrees(link, "quotes")
