"""Which sources stand in marks, and where: all that are followed of the venues that a client has anything of."""

from __future__ import annotations

import pytest

from feed.channels.marks import Doubt
from feed.wire.model import Book
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


def small_window(symbols: int) -> Desk:
    """A hub whose window holds about one flush, with so many books."""
    made = Desk(resume_window_bytes_max=1_500)
    for number in range(symbols):
        made.step("book", f"X:{number}")
    return made


def lagging(made: Desk, symbols: int, *, window: bool) -> Link:
    """A client that missed so much that the window has moved on, or (`window`) that can follow."""
    link = made.link()
    link.subscribe("book", "*")
    link.drain()
    link.full = True
    for _ in range(1 if window else 20):
        for number in range(symbols):
            made.tick("book", f"X:{number}")
        made.read()
    return link


def test_marks_stay_where_a_client_was_until_it_has_all_that_it_missed() -> None:
    made = small_window(6)
    link = lagging(made, 6, window=False)
    for number in range(6):
        made.keyframe(f"X:{number}")
    pages = 0
    while not link.in_step:
        link.pull(1)
        pages += 1
        behind = [number for number in range(6) if link.channel("book", f"X:{number}").pos < 120]
        assert marks_of_now(link) == {"x/0@a": 5 if behind else made.source.seq}
    assert pages > 3


def test_marks_follow_the_flushes_that_a_client_is_sent() -> None:
    made = Desk()
    made.step("book", "X:0")
    link = lagging(made, 1, window=True)
    for _ in range(3):
        made.step("book", "X:0")
    marks = []
    while not link.in_step:
        link.pull(1)
        marks.append(marks_of_now(link)["x/0@a"])
    assert list(dict.fromkeys(marks)) == [1, 2, 3, 4]


def marks_of_now(link: Link) -> dict[str, int]:
    """Those of a heartbeat, without a pull."""
    link.take(link.session.heartbeat(5))
    return dict(link.client.marks)


def test_of_a_source_in_which_a_channel_begins_anew_marks_say_nothing_until_it_has() -> None:
    made = Desk()
    made.step("book trades")
    made.step("quotes", "X:B")
    link = made.link()
    link.subscribe("book trades", "X:A")
    assert marks_of(link) == {"x/0@a": 1}
    before = link.session.subscriber.marks()
    made.step("book trades")
    link.subscribe("book", "*", start="snapshot", on_lag="skip")
    assert marks_of(link) == {"x/0@a": made.source.seq}
    assert before["x/0@a"] < made.source.seq


def test_a_symbol_that_was_waited_for_holds_marks_before_its_first_update() -> None:
    made = desk()
    link = made.link()
    link.subscribe("trades", "X:A X:NEW X:OTHER", wait=True)
    assert marks_of_now(link) == {"x/0@a": 0, "x/1@a": -1}
    link.full = True
    made.step("trades", "X:A")
    for _ in range(3):
        made.tick("trades", "X:NEW")
        made.tick("trades", "X:OTHER")
        made.read()
    held = marks_of_now(link)["x/0@a"]
    assert held <= 1  # nothing of the symbols that begin was sent
    link.full = False
    while link.session.due or not link.in_step:
        link.pull(1)
        assert held <= marks_of_now(link)["x/0@a"] <= made.source.seq
    assert marks_of_now(link) == {"x/0@a": made.source.seq, "x/1@a": -1}
    for symbol in ("X:NEW", "X:OTHER"):
        made.agrees(link, "trades", symbol)


def test_a_snapshot_of_which_a_part_was_sent_holds_no_mark_and_the_updates_after_it_do() -> None:
    made = Desk()
    made.step("trades")
    levels = [(f"{number}.{number % 9 + 1}", f"{number}.123456789") for number in range(1, 20_000)]
    made.change("book", Book(levels, []))
    made.keyframe()
    made.change("book", Book([("7", "7")], []))
    link = made.link()
    link.subscribe("trades", "X:A")
    assert marks_of(link) == {"x/0@a": 2}
    made.step("trades")
    link.subscribe("book", "X:A")
    marks: list[int | None] = []
    while not link.in_step:
        marks.append(marks_of_now(link).get("x/0@a"))
        link.pull(1)
    # between the snapshot and the update after it nothing can be said: the client was told of more
    assert list(dict.fromkeys(marks)) == [3, None]
    assert marks_of_now(link) == {"x/0@a": 3}
    made.agrees(link, "book")


def test_marks_ahead_of_what_was_read_are_in_doubt_until_the_log_was_read_to_its_end() -> None:
    made = Desk()
    made.step("trades")
    assert not Doubt(made.hub, {"x/0@a": 9}).open  # nothing comes in: there is nothing to wait for
    made.hub.delay_s = lambda: 0.0
    assert not Doubt(made.hub, {"x/0@a": 0, "y/0@a": 9}).open
    doubt, passed = Doubt(made.hub, {"x/0@a": 9}), Doubt(made.hub, {"x/0@a": 1})
    assert doubt.open
    assert passed.open
    made.step("trades")
    assert not passed.open
    assert passed.beyond == frozenset()
    for _ in range(2):
        assert doubt.open
        made.hub.confirmed("x/0@a")
    assert not doubt.open
    assert doubt.beyond == {"x/0@a"}
