"""Which sources stand in marks, and where: all that are followed of the venues that a client has anything of."""

from __future__ import annotations

import pytest

from tests.feed.channels.desk import Desk, Link
from tests.truth import TrueSource, some_data

SOURCES = ("x/0@a", "x/1@a", "y/0@a", "z-1/0@a")


def desk() -> Desk:
    """X has a symbol in one of two partitions, Y has one, and of Z-1 nothing was said yet."""
    made = Desk()
    for name in SOURCES[1:]:
        made.hub.opened(name, "", False)
    made.step("trades", "X:A")
    other = TrueSource(SOURCES[2], 700)
    other.tick([("trades", "Y:A", some_data("trades", 1))])
    pos, last, value = other.record()
    made.hub.data(other.source, pos, last, value, last + 1)
    made.flush()
    return made


def marks_of(link: Link) -> dict[str, int]:
    """Those of a heartbeat that comes now."""
    link.drain()
    link.take(link.session.heartbeat(5))
    return link.client.marks


@pytest.mark.parametrize(
    ("channels", "symbols", "marks"),
    [
        ("trades", "X:A", {"x/0@a": 0, "x/1@a": -1}),
        ("status", "X:A", {"x/0@a": 0, "x/1@a": -1}),
        ("status", "X:*", {"x/0@a": 0, "x/1@a": -1}),
        ("trades", "Y:A", {"y/0@a": 701}),
        ("trades", "Z-1:*", {"z-1/0@a": -1}),
        ("book", "Y:* Z-1:*", {"y/0@a": 701, "z-1/0@a": -1}),
        ("bars", "*", {"x/0@a": 0, "x/1@a": -1, "y/0@a": 701, "z-1/0@a": -1}),
        ("trades", "W:*", {}),
        ("trades", "X:NOPE", {}),
    ],
)
@pytest.mark.parametrize("every_ms", [0, 250])
def test_every_source_of_a_venue_stands_in_marks_before_a_channel_of_it_was_sent(
    channels: str, symbols: str, marks: dict[str, int], every_ms: int
) -> None:
    link = desk().link()
    link.subscribe(channels, symbols, every_ms=every_ms)
    assert marks_of(link) == marks
    link.ask("unsubscribe")
    assert marks_of(link) == {}


@pytest.mark.parametrize("every_ms", [0, 250])
def test_a_partition_that_is_followed_later_stands_in_marks_and_one_that_ended_does_not(every_ms: int) -> None:
    made = desk()
    link = made.link()
    link.subscribe("trades", "X:*", every_ms=every_ms)
    assert marks_of(link) == {"x/0@a": 0, "x/1@a": -1}
    made.hub.opened("x/2@a", "", False)
    made.hub.opened("x/1@b", "x/1@a", False)
    made.step("quotes", "X:A")
    assert marks_of(link) == {"x/0@a": 1, "x/1@b": -1, "x/2@a": -1}


def test_a_source_of_which_only_states_were_read_has_no_mark_yet() -> None:
    made = Desk()
    before = TrueSource("x/1@a", 40)
    before.tick([("trades", "X:OLD", some_data("trades", 1))])
    made.hub.opened("x/1@a", "", False)
    made.hub.keyframe("x/1@a", "X:OLD", before.keyframe("X:OLD"))
    made.step("trades", "X:A")
    link = made.link()
    link.subscribe("trades", "X:*")
    assert marks_of(link) == {"x/0@a": 0}
    made.hub.data("x/1@a", 41, 41, b"[]", 42)
    made.flush()
    assert marks_of(link) == {"x/0@a": 0, "x/1@a": 41}


def test_a_symbol_that_begins_while_a_client_is_away_is_resumed_from_its_source_s_mark() -> None:
    made = desk()
    link = made.link()
    link.subscribe("trades", "X:*")
    marks = marks_of(link)
    link.session.close()
    made.links.remove(link)
    new = TrueSource("x/1@a")
    for number in range(3):
        new.tick([("trades", "X:NEW", some_data("trades", number))])
        pos, last, value = new.record()
        made.hub.data(new.source, pos, last, value, last + 1)
        made.flush()
    link.client.connect()
    back = made.link(link.client)
    back.subscribe("trades", "X:*", start={"marks": marks})
    back.drain()
    assert len(back.channel("trades", "X:NEW").applied) == 3


def test_a_heartbeat_is_due_once_for_what_is_in_step() -> None:
    made = desk()
    link = made.link()
    session = link.session
    assert not session.beat_due
    link.subscribe("trades", "X:NOPE")
    assert not session.beat_due
    link.subscribe("trades", "W:*")
    assert session.beat_due
    link.take(session.heartbeat(5))
    assert not session.beat_due
    link.subscribe("trades", "*")
    link.full = True
    made.step("trades")
    assert not session.beat_due
    link.take(session.heartbeat(5))
    link.drain()
    assert session.beat_due


@pytest.mark.parametrize(("every_ms", "mode"), [(0, "gap"), (250, "snapshot")])
def test_a_mark_of_before_the_first_tick_does_not_say_that_the_client_has_left_the_source_before(
    every_ms: int, mode: str
) -> None:
    made = Desk()
    for _ in range(5):
        made.step("trades")
    made.switch("x/0@b", carries=False)
    made.step("trades")
    link = made.link()
    answer = link.subscribe("trades", "X:A", start={"marks": {"x/0@a": 4, "x/0@b": -1}}, every_ms=every_ms)
    assert [result["mode"] for result in answer["results"]] == [mode]
    only = made.link().subscribe("trades", "X:A", start={"marks": {"x/0@b": -1}}, every_ms=every_ms)
    assert [result["mode"] for result in only["results"]] == ["resumed"]


def test_what_clients_await_is_not_remembered_beyond_them() -> None:
    made = desk()
    link = made.link()
    link.subscribe("trades", "X:A")
    for number in range(200):
        link.subscribe("trades", f"V{number}:A", wait=True)
        link.ask("unsubscribe", "trades", f"V{number - 1}:A")
        assert marks_of(link) == {"x/0@a": 0, "x/1@a": -1}
    assert len(made.hub._followed) == 1


def test_sets_of_venues_are_kept_up_to_a_number() -> None:
    made = Desk()
    for number in range(8):
        made.hub.opened(f"v{number}/0@a", "", False)
    for number in range(256):
        venues = frozenset(f"V{index}" for index in range(8) if number >> index & 1)
        assert len(made.hub.followed(venues)) == len(venues)
    assert len(made.hub._followed) <= 64
