"""What happens between two moments is seen at the second: records in, frames out; and how long it is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feed.channels.flush import Flush, Window
from feed.wire.model import Book
from tests.feed.channels.desk import Desk, Link
from tests.feed.channels.test_intake import sent, subscribed
from tests.truth import TrueSource, some_data

MS = 1_000_000


def window(numbers: range, *, bytes_max: int = 10_000, milliseconds: int = 100) -> Window:
    made = Window(bytes_max, milliseconds)
    for number in numbers:
        made.pass_time(number * MS)
        made.add(Flush(number))
    return made


def overfull(made: Window) -> list[int]:
    """The flushes that have to go, oldest first; they go."""
    gone = []
    while (oldest := made.overfull()) is not None:
        gone.append(oldest.number)
        made.evict()
    return gone


def everything(link: Link) -> list[dict[str, Any]]:
    return [message for payload in link.frames for message in json.loads(payload)]


class TestWindow:
    def test_flushes_follow_each_other(self) -> None:
        made = window(range(1, 4))
        first = made.after(Flush(0))
        assert first is not None
        assert first.number == 1
        second = made.after(first)
        assert second is not None
        assert second.number == 2
        assert made.after(Flush(3)) is None
        assert Window(1, 1).after(Flush(0)) is None

    def test_what_is_too_much_goes_and_who_was_before_it_is_not_reached(self) -> None:
        made = window(range(1, 30))
        assert overfull(made) == list(range(1, 30 - len(made)))
        assert 0 < made.bytes <= 10_000
        last = 29 - len(made)
        assert [made.reaches(Flush(number)) for number in (0, last - 1, last, 29)] == [False, False, True, True]

    def test_what_is_too_old_goes(self) -> None:
        made = window(range(1, 4))
        assert overfull(made) == []
        made.pass_time(103 * MS)
        assert overfull(made) == [1, 2]
        made.pass_time(50 * MS)  # a clock that is set back
        assert overfull(made) == []
        made.pass_time(10_000_000 * MS)  # one that jumps is one that has gone on by a step
        assert overfull(made) == [3]
        assert made.bytes == 0


def test_all_channels_of_a_flush_are_seen_at_one_moment() -> None:
    desk = Desk()
    desk.step("trades quotes book")
    link = subscribed(desk, "trades quotes book")
    before = link.client.messages
    for _ in range(3):
        desk.tick("trades quotes book")
        desk.tick("quotes")
        desk.read(flush=False)
    assert link.client.messages == before
    late = subscribed(desk, "trades quotes book")
    assert {late.channel(kind, "X:A").pos for kind in ("trades", "quotes", "book")} == {0}
    desk.flush()
    for client in (link, late):
        for kind in ("trades", "quotes", "book"):
            desk.agrees(client, kind)


def test_messages_of_a_symbol_are_in_order_of_their_ticks_and_of_kinds() -> None:
    desk = Desk()
    desk.step("trades quotes book")
    link = subscribed(desk, "book trades quotes")
    came = len(everything(link))
    for kinds in ("book", "quotes trades", "trades", "book quotes"):
        desk.tick(kinds)
    desk.read()
    told = [(m["seq"], m["channel"]) for m in everything(link)[came:]]
    assert told == [(1, "book"), (2, "trades"), (2, "quotes"), (3, "trades"), (4, "quotes"), (4, "book")]


@pytest.mark.parametrize("unusual", ["state", "parts", "hole", "birth"])
def test_what_is_more_than_updates_in_a_row_is_in_order_too(unusual: str) -> None:
    """Updates that follow each other are kept as one text; what comes between takes that apart."""
    desk = Desk()
    desk.step("trades book")
    link = subscribed(desk, "trades book quotes")
    for _ in range(2):
        desk.tick("trades book")
    if unusual == "state":
        desk.source.stale("X:A", "gap", skip=0)
        desk.tick("trades")
        desk.source.stale("X:A", None)
    elif unusual == "parts":
        desk.tick("trades book", parts=True)
    elif unusual == "hole":
        desk.tick("trades", hole=True)
    else:
        desk.tick("quotes")
    desk.tick("trades book")
    desk.read()
    order = [m["seq"] for m in everything(link) if m["type"] in ("update", "state")]
    assert order == sorted(order)
    for kind in ("trades", "book"):
        desk.agrees(link, kind)
    account = link.session.subscribers.account()
    assert account.delivered == account.all
    assert account.pending == 0


def test_a_channel_that_begins_is_told_to_patterns_with_how_it_begins() -> None:
    desk = Desk()
    desk.step("trades")
    link = desk.link()
    link.subscribe("trades book", "*", on_lag="close")
    late = TrueSource("y/0@a", 40)
    late.tick([("book", "Y:OLD", Book([("1", "1")], []))])
    desk.hub.opened("y/0@a", "", False)
    desk.hub.keyframe("y/0@a", "Y:OLD", late.keyframe("Y:OLD"))
    desk.tick("book", "X:NEW")
    desk.read()
    told = {m["symbol"]: m for m in everything(link) if m["type"] == "joined" and m["symbol"] != "X:A"}
    assert {symbol: (m["mode"], m["source"], m["seq"], m["on_lag"]) for symbol, m in told.items()} == {
        "Y:OLD": ("snapshot", "y/0@a", 41, "close"),
        "X:NEW": ("live", "x/0@a", -1, "close"),
    }
    assert link.channel("book", "Y:OLD").book() == ({"1": "1"}, {})
    desk.agrees(link, "book", "X:NEW")


def test_what_a_source_that_is_left_has_said_is_worth_nothing() -> None:
    """In one flush a source says something of a channel, and another one goes on with it."""
    desk = Desk()
    desk.step("book")
    link = subscribed(desk, "book")
    desk.tick("book")
    desk.source.stale("X:A", "gap", skip=0)
    desk.read(flush=False)
    desk.keyframe()
    desk.switch("x/0@b", carries=False)
    desk.tick("book")
    desk.read()
    assert link.channel("book", "X:A").source == "x/0@b"
    late = subscribed(desk, "book")
    assert "state" not in [m["type"] for m in sent(late, "book")]
    desk.agrees(late, "book")


def test_a_flush_in_which_nothing_was_said_moves_positions_only() -> None:
    desk = Desk()
    desk.step("trades")
    number, standing = desk.hub.current.number, desk.hub.sources["x/0@a"]
    desk.hub.data("x/0@a", 0, 90, b"[]", 91)
    assert not desk.hub.flush(desk.now + 1)
    assert (desk.hub.current.number, desk.hub.current.position(standing)) == (number, 90)
    other = TrueSource("z/0@a")
    other.tick([("trades", "Z:A", some_data("trades", 1))])
    desk.hub.opened("z/0@a", "", False)
    assert desk.hub.current.position(desk.hub.sources["z/0@a"]) == -1
    pos, last, value = other.record()
    desk.hub.data("z/0@a", pos, last, value, 1)
    desk.flush()
    assert desk.hub.current.number == number + 1
    assert desk.hub.current.position(desk.hub.sources["z/0@a"]) == 0


def test_one_that_lags_is_given_flushes_as_they_were() -> None:
    desk = Desk()
    desk.step("trades book quotes")
    one, other = subscribed(desk, "trades book"), subscribed(desk, "trades book")
    one.full = True
    for number in range(6):
        desk.tick("trades book quotes", parts=number == 3)
        desk.tick("trades", hole=number == 4)
        if number == 2:
            desk.source.stale("X:A", "gap", skip=0)
        desk.read()
    one.drain()
    for kind in ("trades", "book"):
        assert sent(one, kind) == sent(other, kind)
