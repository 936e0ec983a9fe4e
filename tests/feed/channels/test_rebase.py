"""What those in step are told when a channel goes on from a state that does not follow: records in, frames out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.feed.channels.desk import Desk, Link
from tests.feed.channels.test_intake import sent, subscribed

KINDS = ["trades", "quotes", "book", "bars"]
LOSES = {"trades", "bars"}
"""Kinds of which no snapshot makes up for what is missing."""


def begun(kind: str) -> tuple[Desk, Link]:
    desk = Desk()
    for _ in range(3):
        desk.step(kind)
    return desk, subscribed(desk, kind)


def types(link: Link, kind: str, after: int = 1) -> list[str]:
    return [m["type"] for m in sent(link, kind)[after:]]


def gap_of(link: Link, kind: str) -> tuple[Any, ...]:
    gap = link.channel(kind, "X:A").gaps[-1]
    return gap["reason"], gap["prev"], gap["seq"], gap["lost"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [False, True])
def test_a_new_source_that_carries_the_state(kind: str, missing: bool) -> None:
    desk, link = begun(kind)
    desk.switch("x/0@b", carries=True, missing=missing)
    desk.keyframe()
    desk.flush()
    lost = missing and kind in LOSES
    assert types(link, kind) == (["gap"] if lost else ["gap", "snapshot"])
    assert gap_of(link, kind) == ("source", 2, 2, lost)
    desk.step(kind)
    desk.agrees(link, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_source_that_begins_with_nothing(kind: str) -> None:
    desk, link = begun(kind)
    desk.switch("x/0@b", carries=False)
    desk.step(kind)
    assert types(link, kind) == (["gap", "update"] if kind in LOSES else ["gap", "snapshot", "update"])
    assert gap_of(link, kind) == ("source", 2, -1, kind in LOSES)
    assert link.channel(kind, "X:A").source == "x/0@b"
    late = subscribed(desk, kind)
    desk.step(kind)
    for client in (link, late):
        assert client.channel(kind, "X:A").pos == desk.source.seq
        assert not client.client.holes
    desk.agrees(late, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hole_in_the_log_is_told_with_the_next_state(kind: str) -> None:
    desk, link = begun(kind)
    for _ in range(2):
        desk.tick(kind)
        desk.source.record()  # nobody has read it
    desk.step(kind)
    assert types(link, kind) == []
    desk.keyframe()
    desk.flush()
    if kind in LOSES:
        # what came after the hole is told, update by update
        assert types(link, kind) == ["gap", "update"]
        assert gap_of(link, kind) == ("evicted", 2, 4, True)
    else:
        assert types(link, kind) == ["gap", "snapshot"]
        assert gap_of(link, kind) == ("evicted", 2, 5, False)
    desk.step(kind)
    assert link.channel(kind, "X:A").pos == 6
    if kind not in LOSES:
        desk.agrees(link, kind)


def test_a_state_that_is_not_ok_comes_with_the_snapshot() -> None:
    desk, link = begun("book")
    desk.source.stale("X:A", "checksum")
    desk.read()
    desk.switch("x/0@b", carries=True)
    desk.keyframe()
    desk.flush()
    assert types(link, "book") == ["state", "gap", "snapshot", "state"]
    assert link.channel("book", "X:A").state[1:] == ("stale", "checksum")
    desk.step("book")
    desk.agrees(link, "book")


@pytest.mark.parametrize("kind", ["trades", "quotes"])
@pytest.mark.parametrize("ended", [False, True])
def test_who_was_told_live_from_the_first_update_on_gets_a_gap_before_a_state(kind: str, ended: bool) -> None:
    """A silent kind: the first that is known of it is a state, of its source or of the one after."""
    desk = Desk()
    desk.step("status")
    link = desk.link()
    assert link.subscribe(kind, "X:A")["results"][0]["mode"] == "live"
    if ended:
        desk.switch("x/0@b", carries=True)
        desk.keyframe()
        desk.flush()
    for _ in range(2):
        desk.tick(kind)
    desk.source.record()  # nobody has read them
    desk.keyframe()
    desk.flush()
    gap = link.channel(kind, "X:A").gaps[-1]
    assert gap["reason"] == ("source" if ended else "evicted")
    assert gap["lost"] == (kind in LOSES)
    desk.step(kind)
    assert link.channel(kind, "X:A").pos == desk.source.seq
    assert not link.client.holes


def test_a_channel_that_comes_back_to_a_source_waits_for_its_state() -> None:
    """A book says nothing by one update: who has it is told of the gap at once, and of the state when that comes."""
    desk = Desk()
    desk.step("book quotes")
    link = subscribed(desk, "book quotes")
    first = desk.source
    desk.switch("x/1@a", carries=False)
    desk.source.seq = desk.source._pos = 10
    desk.step("book quotes")
    other, desk.source = desk.source, first
    desk.source.tick([("book", "X:A", desk.source.truths["book", "X:A"].data())], skip=100)
    desk.read()
    assert link.channel("book", "X:A").source == first.source
    assert link.channel("book", "X:A").waiting
    assert sent(link, "book")[-1]["type"] == "gap"
    desk.keyframe()
    desk.flush()
    assert sent(link, "book")[-1]["type"] == "snapshot"
    desk.agrees(link, "book")
    assert other.seq == 11
