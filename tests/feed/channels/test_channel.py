"""What a channel gives those who join, resume, lagged or were elsewhere, as its log and its states have it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feed.channels.channel import Channel
from feed.channels.source import partition_of
from feed.channels.state import FoldRules
from feed.wire.message import JOINT, KIND_INDEX, whole
from tests.feed.channels.desk import Desk

RULES = FoldRules()
LOSES = ["trades", "bars"]
"""Kinds of which what is missing is gone."""
SHOWN = ["quotes", "book"]
"""Kinds of which a snapshot makes up for what is missing."""


def channel_of(desk: Desk, kind: str, symbol: str = "X:A") -> Channel:
    found = desk.hub.names[symbol].channels[KIND_INDEX[kind]]
    assert found is not None
    return found


def begun(kind: str, count: int = 3, **settings: Any) -> tuple[Desk, Channel]:
    """A channel with so many updates, the first at 0."""
    desk = Desk(**settings)
    for _ in range(count):
        desk.step(kind)
    return desk, channel_of(desk, kind)


def replaced(kind: str) -> tuple[Desk, Channel]:
    """One whose source was replaced by one that carries its state of 2; an update of that followed."""
    desk, channel = begun(kind)
    desk.switch("x/0@b", carries=True)
    desk.keyframe()
    desk.flush()
    desk.step(kind)
    return desk, channel


def waiting() -> tuple[Desk, Channel]:
    """A book that came back to a source of which nobody has the state."""
    desk, channel = begun("book", 1)
    first = desk.source
    desk.switch("x/1@a", carries=False)
    desk.source.seq = desk.source._pos = 10
    desk.step("book")
    desk.source = first
    desk.source.tick([("book", "X:A", desk.source.truths["book", "X:A"].data())], skip=100)
    desk.read()
    return desk, channel


def told(messages: list[bytes]) -> list[tuple[str, int]]:
    """The type and position of each message."""
    every = [json.loads(one) for message in messages for one in whole(message)]
    return [(message["type"], message["seq"]) for message in every]


def gap_in(messages: list[bytes]) -> dict[str, Any]:
    found = json.loads(whole(messages[0])[0])
    assert found["type"] == "gap"
    return {key: found[key] for key in ("reason", "prev", "seq", "lost", "count")}


class TestWhatItIs:
    def test_one_of_which_all_is_there(self) -> None:
        desk, channel = begun("trades")
        assert (channel.position, channel.first, channel.updates, channel.begins) == (2, 0, 3, "snapshot")
        assert channel.whole
        assert not (channel.untold or channel.silent or channel.waits)
        assert channel.begins_at == -1
        assert not channel.missed(-1)
        assert not channel.source.may_miss(-1)
        assert channel.chain == 2
        desk.keyframe()
        desk.flush()
        assert channel.whole

    def test_one_whose_state_no_update_brought(self) -> None:
        desk = Desk()
        desk.source.history("X:A", [])
        desk.keyframe()
        desk.flush()
        channel = channel_of(desk, "trades")
        assert channel.untold
        assert not (channel.whole or channel.silent)
        assert (channel.begins, channel.position, channel.first) == ("snapshot", -1, -1)

    def test_one_of_which_only_a_state_is_known(self) -> None:
        desk = Desk()
        desk.source.stale("X:A", "gap")
        desk.source.record()
        desk.keyframe()
        desk.flush()
        channel = channel_of(desk, "book")
        assert channel.silent
        assert not channel.untold
        assert channel.begins == "live"
        assert told(channel.fresh(RULES)) == [("state", 0)]
        assert told([channel.nothing()]) == [("snapshot", -1)]

    def test_one_that_waits_for_its_state(self) -> None:
        _, channel = waiting()
        assert channel.waits
        assert not (channel.whole or channel.untold or channel.silent)
        assert (channel.begins_at, channel.joined_at(RULES), channel.fresh(RULES)) == (-1, -1, [])
        assert channel.folded(RULES) is None
        assert channel.folded(RULES, last=5) is None
        for messages in (
            channel.broken("evicted", 5, RULES),
            channel.elsewhere(5, RULES),
            channel.replaced(5, RULES, complete=True),
        ):
            assert told(messages) == [("gap", -1)]
            assert not gap_in(messages)["lost"]

    def test_one_that_went_over_to_another_source(self) -> None:
        desk, channel = replaced("trades")
        assert (channel.position, channel.begins_at) == (3, 2)
        assert channel.source.may_miss(1)
        assert partition_of(channel.source.name) == channel.source.partition == "x/0"
        assert desk.hub.sources["x/0@b"] is channel.source

    @pytest.mark.parametrize("kind", ["trades", "book"])
    def test_where_it_begins_is_told_also_when_its_beginning_is_gone(self, kind: str) -> None:
        desk, channel = begun(kind, 8, resume_window_bytes_max=1_500)
        for _ in range(3):
            desk.keyframe()
            desk.step(kind)
        assert channel.start is None
        assert channel.base is not None
        assert channel.begins_at == (channel.log_from if kind == "trades" else channel.base.seq) > 0
        assert channel.missed(0)
        assert not channel.whole


class TestWhoJoins:
    @pytest.mark.parametrize("kind", [*LOSES, *SHOWN, "status", "instruments"])
    def test_is_given_a_state_and_what_followed(self, kind: str) -> None:
        desk, channel = begun(kind)
        assert channel.joined_at(RULES) == 2
        assert told(channel.fresh(RULES)) == [("snapshot", 2)]
        desk.step(kind)
        assert told(channel.fresh(RULES)) == [("snapshot", 2), ("update", 3)]
        folded = channel.folded(RULES)
        assert folded is not None
        assert folded.seq == 3
        assert told(channel.fresh(RULES)) == [("snapshot", 3)]  # the work is done once for all
        assert channel.folded(RULES) is folded

    def test_is_given_the_last_items_only_where_he_asked_so(self) -> None:
        _, channel = begun("trades", 8)
        folded = channel.folded(RULES, last=2)
        assert folded is not None
        assert len(json.loads(whole(folded.messages[0])[0])["data"]) == 2
        assert channel.updates == 8

    def test_is_given_a_newer_keyframe_and_no_older_one(self) -> None:
        desk, channel = begun("book")
        old = desk.source.keyframe("X:A")
        desk.step("book")
        desk.keyframe()
        desk.flush()
        assert told(channel.fresh(RULES)) == [("snapshot", 3)]
        desk.hub.keyframe("x/0@a", "X:A", old)
        desk.flush()
        assert told(channel.fresh(RULES)) == [("snapshot", 3)]

    def test_is_given_the_state_that_is_not_ok(self) -> None:
        desk, channel = begun("book")
        desk.source.stale("X:A", "checksum")
        desk.read()
        folded = channel.folded(RULES)
        assert folded is not None
        assert folded.state is not None
        assert told(channel.fresh(RULES)) == [("snapshot", 2), ("state", 3)]
        assert told(channel.doubt_at(3)) == [("state", 3)]
        assert channel.doubt_at(2) == []
        desk.source.stale("X:A", None)
        desk.read()
        assert channel.doubt_at(9) == []


class TestWhoResumes:
    def test_is_given_what_came_after(self) -> None:
        _, channel = begun("trades", 5)
        assert told(channel.after(2)) == [("update", 3), ("update", 4)]
        assert channel.after(4) == []
        assert [channel.standing(position) for position in (-1, 0, 3, 9)] == [(-1, 0), (0, 1), (3, 4), (4, 5)]

    def test_is_given_a_state_of_which_the_entry_is_gone(self) -> None:
        desk = Desk(resume_window_bytes_max=1_500)
        desk.step("book")
        desk.source.stale("X:A", "gap")
        desk.read()
        for _ in range(10):
            desk.step("trades", "X:B")
            desk.keyframe()
        channel = channel_of(desk, "book")
        assert not channel.missed(0)
        assert told(channel.after(0)) == [("state", 1)]
        assert channel.after(1) == []

    def test_states_are_no_updates(self) -> None:
        desk, channel = begun("book", 1)
        desk.source.stale("X:A", "gap")
        desk.read()
        desk.step("book")
        assert channel.standing(1) == (0, 1)
        assert channel.updates == 2


class TestWhoLacksSomething:
    @pytest.mark.parametrize("kind", [*LOSES, *SHOWN])
    def test_is_told_how_much_is_gone(self, kind: str) -> None:
        desk, channel = begun(kind, 8, resume_window_bytes_max=1_500)
        for _ in range(3):
            desk.keyframe()
            desk.step(kind)
        messages = channel.gap_after(1, "lag", RULES, prev=1, first=2)
        gap = gap_in(messages)
        assert (gap["reason"], gap["prev"], gap["lost"]) == ("lag", 1, kind in LOSES)
        assert gap["count"] == gap["seq"] - 1
        assert ("snapshot" in dict(told(messages))) == (kind in SHOWN)
        unknown = gap_in(channel.gap_after(1, "evicted", RULES, prev=None, first=None))
        assert (unknown["prev"], unknown["count"]) == (1, None)

    @pytest.mark.parametrize("kind", [*LOSES, *SHOWN])
    def test_of_a_source_that_was_replaced(self, kind: str) -> None:
        _, channel = replaced(kind)
        messages = channel.replaced(1, RULES, complete=False)
        assert gap_in(messages) == {
            "reason": "source", "prev": 1, "seq": 2, "lost": kind in LOSES, "count": None
        }  # fmt: skip
        snapshot = [] if kind in LOSES else [("snapshot", 2)]
        assert told(messages) == [("gap", 2), *snapshot, ("update", 3)]
        had_all = channel.replaced(2, RULES, complete=True)
        assert told(had_all) == [("gap", 2), ("snapshot", 2), ("update", 3)]
        assert not gap_in(had_all)["lost"]

    @pytest.mark.parametrize("kind", ["trades", "book"])
    def test_of_a_source_whose_beginning_is_gone_too(self, kind: str) -> None:
        desk, channel = begun(kind, 2, resume_window_bytes_max=1_500)
        desk.switch("x/0@b", carries=True)
        desk.keyframe()
        desk.flush()
        for _ in range(8):
            desk.step(kind)
            desk.keyframe()
        assert channel.start is None
        messages = channel.replaced(1, RULES, complete=True)
        assert gap_in(messages)["reason"] == "source"
        assert told(messages)[-1][1] == desk.source.seq
        assert gap_in(messages)["count"] is None

    @pytest.mark.parametrize("kind", [*LOSES, *SHOWN])
    def test_of_its_past(self, kind: str) -> None:
        _, channel = begun(kind)
        messages = channel.broken("recording", 1, RULES)
        assert (gap_in(messages)["seq"], gap_in(messages)["lost"]) == (2, kind in LOSES)
        assert told(messages) == [("gap", 2)] + ([] if kind in LOSES else [("snapshot", 2)])
        assert not gap_in(channel.broken("recording", 2, RULES))["lost"]  # he has all of it

    @pytest.mark.parametrize("kind", [*LOSES, *SHOWN])
    def test_who_stands_in_another_log_is_moved(self, kind: str) -> None:
        _, channel = begun(kind)
        messages = channel.elsewhere(50, RULES)
        assert gap_in(messages) == {"reason": "seek", "prev": 50, "seq": 2, "lost": kind in LOSES, "count": None}
        assert len(messages) == (1 if kind in LOSES else 2)


def test_what_is_let_go_leaves_the_log_and_stays_counted() -> None:
    desk, channel = begun("quotes", 20, resume_window_bytes_max=1_500)
    assert channel.updates == 20
    desk.keyframe()
    desk.step("quotes")
    desk.step("quotes")
    assert channel.first > 10
    assert channel.updates == 22
    assert channel.position == 21


def test_a_listing_that_is_given_up_holds_nothing() -> None:
    _, channel = begun("trades")
    listing = channel.listing
    listing.forget(channel)
    assert listing.channels[channel.index] is None
    listing.clear()
    assert listing.channels == []
    assert JOINT.join(channel.fresh(RULES))  # who has it still can go on


def test_an_update_in_parts_is_one_when_the_last_of_them_is_there() -> None:
    _, channel = begun("book", 1)
    assert channel.add_part(7, (2, 3), b"b") is None
    assert channel.add_part(7, (1, 3), b"a") is None
    assert channel.add_part(7, (3, 3), b"c") == JOINT.join([b"a", b"b", b"c"])
    assert channel.add_part(8, (1, 2), b"a") is None
    assert channel.add_part(9, (2, 2), b"b") is None  # of another update
    assert channel.add_part(9, (1, 2), b"a") == JOINT.join([b"a", b"b"])


def test_a_venues_gap_is_held_until_its_update_comes_and_an_old_one_is_not() -> None:
    _, channel = begun("trades", 3)
    stood = channel.pos_text
    channel.hold(1, b"old")
    assert channel.take_held() == b""
    channel.hold(5, b"gap")
    assert channel.pos_text != stood  # no update follows by its bytes alone now
    channel.hold(6, b"another")
    channel.end_hold()
    assert (channel.take_held(), channel.take_held(), channel.pos_text) == (b"another", b"", stood)
    channel.hold_again(b"gap")
    assert channel.take_held() == b"gap"


def test_a_state_counts_once() -> None:
    _, channel = begun("book", 1)
    assert [channel.hear_state(seq) for seq in (4, 4, 3, 5)] == [True, False, False, True]
