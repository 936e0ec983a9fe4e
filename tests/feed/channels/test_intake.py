"""Records become what readers see: copies, parts, holes, keyframes, and sources that follow each other."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from feed.channels.steps import whole
from feed.wire.model import Book, Quote
from tests.feed.channels.desk import Desk, Link
from tests.truth import TrueSource, some_data

encode = msgspec.json.encode


def sent(link: Link, kind: str, symbol: str = "X:A") -> list[dict[str, Any]]:
    """All data messages of a channel, in order."""
    messages = [message for payload in link.frames for message in json.loads(payload)]
    return [m for m in messages if m.get("channel") == kind and m.get("symbol") == symbol and m["type"] != "joined"]


def subscribed(desk: Desk, kinds: str = "trades book", symbols: str = "X:A") -> Link:
    link = desk.link()
    link.subscribe(kinds, symbols)
    link.drain()
    return link


def test_copies_of_messages_change_nothing() -> None:
    desk = Desk()
    desk.step("trades book")
    link = subscribed(desk)
    desk.tick("trades book")
    desk.tick("trades")
    pos, last, value = desk.source.record()
    for _ in range(3):
        desk.hub.data("x/0@a", pos, last, value, 0)
    desk.flush()
    assert [m["seq"] for m in sent(link, "trades")] == [0, 1, 2]
    desk.agrees(link, "trades")
    desk.agrees(link, "book")


def test_half_a_tick_is_not_seen() -> None:
    desk = Desk()
    desk.step("trades book quotes")
    link = subscribed(desk, "trades book quotes")
    desk.tick("trades book quotes", parts=True)
    records = desk.source.records()
    assert len(records) > 3
    before = link.client.messages
    for pos, last, value in records[:-1]:
        desk.hub.data("x/0@a", pos, last, value, 0)
        desk.flush()
        assert link.client.messages == before
        late = desk.link()
        late.subscribe("trades book quotes", "X:A")
        assert {channel.pos for channel in late.client.channels.values()} == {0}
    # another writer sends the same again
    for pos, last, value in records:
        desk.hub.data("x/0@a", pos, last, value, 0)
    desk.flush()
    for kind in ("trades", "book", "quotes"):
        desk.agrees(link, kind)
    assert link.session.subscriber.marks() == {"x/0@a": 1}


def test_a_venues_hole_goes_out_with_its_update_and_never_without() -> None:
    desk = Desk()
    desk.step("trades")
    link = subscribed(desk, "trades")
    desk.tick("trades", hole=True)
    (pos, _, gap), (_, last, update) = desk.source.records()
    desk.hub.data("x/0@a", pos, pos, gap, 0)
    desk.flush()
    assert len(sent(link, "trades")) == 1
    desk.hub.data("x/0@a", pos, last, update, 0)
    desk.flush()
    assert [m["type"] for m in sent(link, "trades")] == ["snapshot", "gap", "update"]
    assert [gap["reason"] for gap in link.channel("trades", "X:A").gaps] == ["venue"]
    desk.agrees(link, "trades")
    late = desk.link()
    late.subscribe("trades", "X:A", start={"marks": {"x/0@a": 0}})
    assert [m["type"] for m in sent(late, "trades")] == ["gap", "update"]


def test_a_state_belongs_to_the_update_of_its_tick_also_with_others_between() -> None:
    desk = Desk()
    desk.step("book quotes")
    link = subscribed(desk, "book quotes")
    desk.tick("book quotes")
    desk.source.stale("X:A", "checksum", skip=0)
    desk.read()
    assert link.channel("book", "X:A").state == (1, "stale", "checksum")
    late = subscribed(desk, "book")
    assert late.channel("book", "X:A").state == (1, "stale", "checksum")
    desk.source.stale("X:A", None)
    desk.read()
    assert link.channel("book", "X:A").state == (2, "ok", None)
    resumed = desk.link()
    resumed.subscribe("book", "X:A", start={"marks": {"x/0@a": 1}})
    assert resumed.channel("book", "X:A").state == (2, "ok", None)


def test_a_state_alone_is_taken_up_from_a_keyframe() -> None:
    """A book that had a change before any snapshot: there is nothing of it but that it cannot be trusted."""
    stale, ok = (
        encode(
            {"type": "state", "source": "x/0@a", "channel": "book", "symbol": "X:A", "seq": seq, **more, "since": "5"}
        )
        for seq, more in ((0, {"state": "stale", "reason": "gap"}), (1, {"state": "ok", "reason": None}))
    )
    desk = Desk()
    for _ in range(2):  # keyframes go round
        desk.hub.keyframe("x/0@a", "X:A", b"[" + stale + b"]")
    desk.hub.data("x/0@a", -1, 0, b"[]", 1)
    desk.flush()
    link = desk.link()
    answer = link.subscribe("book", "X:A")
    assert [(item["mode"], item["seq"]) for item in answer["results"]] == [("live", -1)]
    assert link.channel("book", "X:A").state == (0, "stale", "gap")
    desk.hub.keyframe("x/0@a", "X:A", b"[" + stale + b"]")
    update = {"type": "update", "channel": "book", "symbol": "X:A", "prev": -1, "seq": 1, "ts_event": None}
    whole = encode({**update, "ts_recv": "6", "data": {"bids": [["1", "1"]], "asks": []}})
    desk.hub.data("x/0@a", 0, 1, b"[" + whole + b"," + ok + b"]", 2)
    desk.flush()
    assert link.channel("book", "X:A").state == (1, "ok", None)
    assert link.channel("book", "X:A").book() == ({"1": "1"}, {})
    assert [m["type"] for m in sent(link, "book")] == ["state", "update", "state"]


@pytest.mark.parametrize("kinds", ["trades", "trades quotes status", ""])
class TestABookOfWhichOnlyAStateIsKnown:
    """A change came before any snapshot. Its symbol has other channels, or none."""

    def desk(self, kinds: str) -> Desk:
        desk = Desk()
        if kinds:
            desk.tick(kinds)
        desk.source.stale("X:A", "gap")
        desk.read()
        return desk

    def goes_on(self, desk: Desk) -> None:
        desk.switch("x/0@b", carries=True)
        desk.keyframe()
        desk.read()

    def test_who_has_it_is_told_in_the_new_source(self, kinds: str) -> None:
        desk = self.desk(kinds)
        link = subscribed(desk, f"{kinds} book")
        self.goes_on(desk)
        assert [(m["type"], m["source"]) for m in sent(link, "book")[-3:]] == [
            ("gap", "x/0@b"),
            ("snapshot", "x/0@b"),
            ("state", "x/0@b"),
        ]
        assert link.channel("book", "X:A").state[1:] == ("stale", "gap")

    @pytest.mark.parametrize("symbols", ["X:A", "X:*"])
    @pytest.mark.parametrize("start", [None, "live", {"last": 3}])
    def test_who_joins_is_told(self, kinds: str, symbols: str, start: Any) -> None:
        desk = self.desk(kinds)
        self.goes_on(desk)
        link = desk.link()
        link.subscribe(f"{kinds} book", symbols, **({} if start is None else {"start": start}))
        link.drain()
        assert [m["type"] for m in sent(link, "book")] == ["state"]
        assert link.channel("book", "X:A").state[1:] == ("stale", "gap")
        told = [message for payload in link.frames for message in json.loads(payload)]
        if symbols != "X:A":
            of_book = [m["type"] for m in told if m.get("channel") == "book"]
            assert of_book == ["joined", "state"]

    def test_snapshots_tell_it(self, kinds: str) -> None:
        desk = self.desk(kinds)
        self.goes_on(desk)
        (state,) = whole(desk.hub.snapshot("book", "X:A")) or []
        assert json.loads(state)["state"] == "stale"
        for kind in kinds.split():
            assert [json.loads(m)["type"] for m in whole(desk.hub.snapshot(kind, "X:A")) or []] == ["snapshot"]


def test_who_joins_a_stale_book_live_is_told() -> None:
    desk = Desk()
    desk.step("book")
    desk.source.stale("X:A", "checksum")
    desk.read()
    link = desk.link()
    link.subscribe("book", "X:A", start="live")
    assert [m["type"] for m in sent(link, "book")] == ["state"]
    desk.tick("book")
    desk.source.stale("X:A", None, skip=0)
    desk.read()
    assert link.channel("book", "X:A").state[1:] == ("ok", None)
    late = desk.link()
    late.subscribe("book", "X:A", start="live")
    assert sent(late, "book") == []


def test_a_snapshot_in_parts_is_taken_up_from_records_that_follow_each_other() -> None:
    desk = Desk()
    levels = [(f"{number}.{number % 9 + 1}", f"{number}.123456789") for number in range(1, 20_000)]
    desk.source.tick([("book", "X:A", Book(levels, []))])
    desk.source.record()
    parts = desk.source.snapshot("book", "X:A")
    assert len(parts) > 1
    for part in parts:
        desk.hub.keyframe("x/0@a", "X:A", b"[" + part + b"]")
    desk.flush()
    assert whole(desk.hub.snapshot("book", "X:A")) == parts
    link = subscribed(desk, "book")
    desk.agrees(link, "book")
    # torn: the last part of another snapshot comes alone
    desk.hub.keyframe("x/0@a", "X:A", b"[" + parts[-1] + b"]")
    desk.flush()
    assert whole(desk.hub.snapshot("book", "X:A")) == parts


class TestStart:
    """A gateway that starts in the middle of a log."""

    def late(self, desk: Desk) -> Desk:
        late = Desk()
        late.source = desk.source
        return late

    def test_updates_wait_for_the_keyframe_that_they_follow(self) -> None:
        first = Desk()
        first.step("trades")
        old = first.source.keyframe("X:A")
        first.step("trades")
        first.step("trades")
        keyframe = first.source.keyframe("X:A")
        desk = self.late(first)
        desk.step("trades")
        assert desk.hub.symbols() == []
        # a paused writer's keyframe: the updates since are not there
        desk.hub.keyframe("x/0@a", "X:A", old)
        desk.flush()
        assert desk.hub.symbols() == []
        desk.hub.keyframe("x/0@a", "X:A", keyframe)
        desk.flush()
        desk.agrees(subscribed(desk, "trades"), "trades")

    def test_who_was_told_live_gets_a_gap_with_the_state(self) -> None:
        first = Desk()
        first.step("trades quotes status")
        desk = self.late(first)
        keyframe = first.source.keyframe("X:A")
        desk.hub.keyframe("x/0@a", "X:A", b"[" + first.source.snapshot("quotes", "X:A")[0] + b"]")
        desk.flush()
        link = desk.link()
        answer = link.subscribe("trades status", "X:A")
        assert [(result["mode"], result["seq"]) for result in answer["results"]] == [("live", -1), ("live", -1)]
        desk.hub.keyframe("x/0@a", "X:A", keyframe)
        desk.flush()
        assert [m["type"] for m in sent(link, "status")] == ["gap", "snapshot"]
        desk.agrees(link, "status")
        # no snapshot makes up for trades
        assert [(m["type"], m["reason"], m["seq"], m["lost"]) for m in sent(link, "trades")] == [
            ("gap", "evicted", 0, True)
        ]
        desk.step("trades")
        assert link.channel("trades", "X:A").pos == 1


class TestHole:
    """The feed log lost records."""

    @pytest.mark.parametrize("kind", ["trades", "book"])
    def test_all_are_told_when_the_next_keyframe_comes(self, kind: str) -> None:
        desk = Desk()
        desk.step(kind)
        link = subscribed(desk, kind)
        desk.tick(kind)
        desk.source.record()  # lost
        desk.step(kind)
        assert len(sent(link, kind)) == 1
        desk.keyframe()
        desk.step(kind)
        gap = link.channel(kind, "X:A").gaps[0]
        if kind == "trades":
            # what came after the hole is told: only what is in it is lost
            assert [m["type"] for m in sent(link, kind)] == ["snapshot", "gap", "update", "update"]
            assert (gap["reason"], gap["prev"], gap["seq"], gap["lost"]) == ("evicted", 0, 1, True)
        else:
            assert [m["type"] for m in sent(link, kind)] == ["snapshot", "gap", "snapshot", "update"]
            assert (gap["reason"], gap["prev"], gap["seq"], gap["lost"]) == ("evicted", 0, 2, False)
            desk.agrees(link, kind)
        desk.agrees(subscribed(desk, kind), kind)
        resumed = desk.link()
        answer = resumed.subscribe(kind, "X:A", start={"marks": {"x/0@a": 1}})
        assert answer["results"][0]["mode"] == ("resumed" if kind == "trades" else "gap")

    @pytest.mark.parametrize("kind", ["trades", "book"])
    @pytest.mark.parametrize("between", [1, 0])
    def test_two_holes_before_a_keyframe_are_one(self, kind: str, between: int) -> None:
        """`between`: updates after the second one."""
        desk = Desk()
        desk.step(kind)
        link = subscribed(desk, kind)
        for updates in (1, between):
            desk.tick(kind)
            desk.source.record()  # lost
            for _ in range(updates):
                desk.step(kind)
        desk.keyframe()
        desk.flush()
        (gap,) = link.channel(kind, "X:A").gaps
        last = 3 + between
        # what is known to be in it is lost with it
        told = (0, last - 1 if between else last) if kind == "trades" else (0, last)
        assert (gap["prev"], gap["seq"], gap["lost"]) == (*told, kind == "trades")
        desk.step(kind)
        assert link.channel(kind, "X:A").pos == last + 1
        assert not link.client.holes
        desk.agrees(subscribed(desk, kind), kind)

    def test_a_keyframe_ahead_of_the_updates_read_is_a_hole_too(self) -> None:
        desk = Desk()
        desk.step("quotes")
        link = subscribed(desk, "quotes")
        desk.tick("quotes")
        desk.source.record()  # lost
        desk.keyframe()
        desk.flush()
        assert [m["type"] for m in sent(link, "quotes")] == ["snapshot", "gap", "snapshot"]
        desk.agrees(link, "quotes")


class TestIncarnations:
    """A source ends, another one goes on."""

    def test_with_its_state(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link = subscribed(desk)
        desk.switch("x/0@b", carries=True)
        desk.keyframe()
        desk.flush()
        gap = link.channel("book", "X:A").gaps[-1]
        assert gap == {
            "type": "gap", "channel": "book", "symbol": "X:A", "source": "x/0@b", "prev": 0, "seq": 0, "count": None,
            "reason": "source", "lost": False,
        }  # fmt: skip
        desk.agrees(link, "book")
        desk.step("trades book")
        desk.agrees(link, "trades")
        assert link.session.subscriber.marks() == {"x/0@b": 1}

    def test_with_its_state_though_something_may_be_missing(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link = subscribed(desk)
        desk.switch("x/0@b", carries=True, missing=True)
        desk.keyframe()
        desk.flush()
        assert link.channel("trades", "X:A").gaps[-1]["lost"]
        assert [m["type"] for m in sent(link, "trades")][1:] == ["gap"]
        desk.agrees(link, "book")
        desk.step("trades book")
        for kind in ("trades", "book"):
            desk.agrees(link, kind)

    def test_without_a_state_every_update_comes_as_an_update(self) -> None:
        desk = Desk()
        desk.step("trades book quotes")
        link = subscribed(desk, "trades book quotes")
        desk.switch("x/0@b", carries=False)
        desk.read()
        for kind in ("book", "quotes"):
            assert [m["type"] for m in sent(link, kind)] == ["snapshot", "gap", "snapshot"]
            gap = link.channel(kind, "X:A").gaps[-1]
            assert (gap["seq"], gap["lost"], link.channel(kind, "X:A").waiting) == (-1, False, False)
        assert link.channel("book", "X:A").holds() == ({}, {})
        assert sent(link, "quotes")[-1]["data"]["bid_price"] is None
        gap = link.channel("trades", "X:A").gaps[-1]
        assert (gap["reason"], gap["prev"], gap["seq"], gap["lost"]) == ("source", 0, -1, True)
        late = desk.link()
        answer = late.subscribe("book", "X:A")
        assert (answer["results"][0]["mode"], answer["results"][0]["seq"]) == ("live", -1)
        assert whole(desk.hub.snapshot("book", "X:A")) == []
        desk.step("trades book")
        for client, kind in ((link, "book"), (late, "book"), (link, "trades")):
            assert sent(client, kind)[-1]["type"] == "update"
            assert client.channel(kind, "X:A").pos == 0
            assert not client.client.holes
        desk.agrees(late, "book")
        assert list(desk.hub.sources) == ["x/0@b"]

    def test_a_new_kind_of_a_symbol_in_the_new_source(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = desk.link()
        link.subscribe("trades quotes", "X:A")
        desk.switch("x/0@b", carries=False)
        desk.step("quotes trades")
        for kind in ("quotes", "trades"):
            desk.agrees(link, kind)
            assert link.channel(kind, "X:A").source == "x/0@b"

    def test_a_resume_over_the_end_says_so(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link = subscribed(desk)
        desk.switch("x/0@b", carries=False)
        desk.step("trades book")
        desk.step("trades book")
        for marks in ({"x/0@a": 0}, {"x/0@forgotten": 7}):
            old = desk.link()
            results = old.subscribe("trades book", "X:A", start={"marks": marks})["results"]
            assert [(result["mode"], result["seq"]) for result in results] == [("gap", -1)] * 2
            for kind in ("trades", "book"):
                gap = old.channel(kind, "X:A").gaps[0]
                assert (gap["reason"], gap["lost"], gap["seq"]) == ("source", kind == "trades", -1)
                assert [m["seq"] for m in sent(old, kind) if m["type"] == "update"] == [0, 1]
                desk.agrees(old, kind)
                desk.agrees(link, kind)
        # marks of the new source from before the channel had come there
        late = desk.link()
        results = late.subscribe("trades book", "X:A", start={"marks": {"x/0@b": -1}})["results"]
        assert [result["mode"] for result in results] == ["resumed", "resumed"]

    def test_a_resume_over_an_end_at_which_nothing_is_missing_is_whole(self) -> None:
        desk = Desk()
        desk.step("trades book")
        desk.switch("x/0@b", carries=True)
        desk.keyframe()
        desk.flush()
        desk.step("trades book")
        had_all, had_less = desk.link(), desk.link()
        had_all.subscribe("trades book", "X:A", start={"marks": {"x/0@a": 0}})
        assert [m["type"] for m in sent(had_all, "trades")] == ["gap", "snapshot", "update"]
        assert not had_all.channel("trades", "X:A").gaps[0]["lost"]
        had_less.subscribe("trades", "X:A", start={"marks": {"x/0@a": -1}})
        assert [m["type"] for m in sent(had_less, "trades")] == ["gap", "update"]
        assert had_less.channel("trades", "X:A").gaps[0]["lost"]
        for kind in ("trades", "book"):
            desk.agrees(had_all, kind)


class TestMoves:
    """Partitions were added: a symbol's ticks come in another source."""

    def other(self, desk: Desk, value: Any = None) -> tuple[TrueSource, tuple[int, int, bytes]]:
        other = TrueSource("x/1@a", 1000)
        other.tick([("quotes", "X:A", value or Quote("9", "1", None, None))])
        return other, other.record()

    def test_the_source_whose_tick_came_last_has_the_symbol(self) -> None:
        desk = Desk()
        desk.step("quotes book")
        link = subscribed(desk, "quotes book")
        _, (pos, last, value) = self.other(desk)
        desk.hub.data("x/1@a", pos, last, value, 0)
        desk.flush()
        for kind in ("quotes", "book"):
            assert link.channel(kind, "X:A").source == "x/1@a"
            assert link.channel(kind, "X:A").gaps[-1]["reason"] == "source"
        assert [m["type"] for m in sent(link, "quotes")][-3:] == ["gap", "snapshot", "update"]
        assert link.channel("quotes", "X:A").data["bid_price"] == "9"
        nothing = ({}, {})
        assert link.channel("book", "X:A").holds() == nothing
        assert [found.source for found in desk.hub.symbols()] == ["x/1@a"]
        # the old source's keyframes go on for ever, and mean nothing
        desk.keyframe()
        desk.flush()
        assert link.channel("book", "X:A").holds() == nothing
        # nor do its updates that are older
        desk.step("book")
        assert link.channel("book", "X:A").holds() == nothing
        assert link.session.subscriber.marks() == {"x/0@a": 1, "x/1@a": 1001}

    def test_of_one_that_comes_back_every_trade_is_an_update(self) -> None:
        desk = Desk()
        desk.step("trades quotes")
        link = subscribed(desk, "trades quotes")
        other = TrueSource("x/1@a", 1000)
        other.tick([("trades", "X:A", some_data("trades", 1)), ("quotes", "X:A", some_data("quotes", 1))])
        pos, last, value = other.record()
        desk.hub.data("x/1@a", pos, last, value, 0)
        desk.flush()
        for skip in (2000, 1, 1):
            desk.source.tick([("trades", "X:A", some_data("trades", skip))], skip=skip)
            desk.read()
            desk.flush()
        desk.source.tick([("quotes", "X:A", some_data("quotes", 1))])
        desk.read()
        desk.flush()
        desk.keyframe()
        desk.flush()
        desk.step("trades quotes")
        updates = [m["seq"] for m in sent(link, "trades") if m["type"] == "update"]
        assert updates == [1001, 2000, 2001, 2002, 2004]
        gap = link.channel("trades", "X:A").gaps[-1]
        assert (gap["reason"], gap["prev"], gap["seq"], gap["lost"]) == ("source", 1001, 0, True)
        assert not link.client.holes
        late = subscribed(desk, "trades quotes")
        for client in (link, late):
            for kind in ("trades", "quotes"):
                assert client.channel(kind, "X:A").source == "x/0@a"
                assert client.channel(kind, "X:A").pos == 2004
        desk.agrees(late, "trades")
        desk.agrees(link, "quotes")

    def test_between_keyframes_only_the_later_one_wins(self) -> None:
        desk = Desk()
        desk.tick("quotes")
        desk.source.record()
        other, _ = self.other(desk)
        later = encode(json.loads(other.keyframe("X:A")))
        for first in (True, False):
            hub = Desk().hub
            keyframes = [("x/0@a", desk.source.keyframe("X:A")), ("x/1@a", later)]
            for source, value in keyframes if first else reversed(keyframes):
                hub.keyframe(source, "X:A", value)
            hub.flush(1)
            list(hub.fan_out())
            snapshot = whole(hub.snapshot("quotes", "X:A"))
            assert snapshot is not None
            assert json.loads(snapshot[0])["source"] == "x/1@a"


def test_a_source_that_is_silent_or_gone_is_told_to_those_who_have_channels_of_it() -> None:
    desk = Desk()
    desk.step("trades")
    other = TrueSource("y/0@a")
    other.tick([("trades", "Y:A", [])])
    pos, last, value = other.record()
    desk.hub.data("y/0@a", pos, last, value, 0)
    desk.flush()
    x, y = subscribed(desk, "trades"), subscribed(desk, "trades", "Y:A")
    desk.hub.source_state("x/0@a", "stale", "silent", 5)
    desk.flush()
    assert x.client.sources["x/0@a"]["reason"] == "silent"
    assert y.client.sources == {}
    late = subscribed(desk, "trades book", "X:A Y:A")
    assert late.client.sources["x/0@a"]["state"] == "stale"
    desk.hub.source_state("x/0@a", "ok", None, 6)
    desk.hub.source_state("x/0@a", "ok", None, 7)
    desk.flush()
    assert [link.client.sources["x/0@a"]["state"] for link in (x, late)] == ["ok", "ok"]
    assert x.types().count("state") == 2


def test_the_states_of_a_new_source_count_as_what_is_to_be_written() -> None:
    """A source that replaces one of thousands of books would else be one write to everybody, whoever reads."""
    desk = Desk()
    desk.step("book quotes")
    desk.switch("x/0@b", carries=True)
    before = desk.hub.waiting_bytes
    keyframe = desk.source.keyframe("X:A")
    desk.hub.keyframe(desk.source.source, "X:A", keyframe)
    assert desk.hub.waiting_bytes - before > len(keyframe) / 2
    desk.flush()
    assert desk.hub.waiting_bytes == 0


@pytest.mark.parametrize("awaited", [False, True])
def test_copies_of_what_is_unusual_change_nothing_either(awaited: bool) -> None:
    """Holes of the venue, states and parts; also while the channel waits for a keyframe, since a record is missing."""
    desk = Desk()
    desk.step("trades book")
    link = subscribed(desk)
    if awaited:
        desk.tick("trades book")
        desk.source.record()  # nobody has read it
    for number in range(4):
        desk.tick("trades book", hole=number % 2 == 0, parts=number == 3)
        if number in (1, 3):
            desk.source.stale("X:A", "gap" if number == 1 else "checksum", skip=number - 1)
        pos, last, value = desk.source.record()
        for _ in range(3):
            desk.hub.data("x/0@a", pos, last, value, last + 1)
        desk.flush()
    if awaited:
        desk.keyframe()
        desk.flush()
    assert link.types().count("state book X:A") == (1 if awaited else 2)
    assert link.channel("book", "X:A").state[1:] == ("stale", "checksum")
    assert link.channel("trades", "X:A").pos == desk.source.truths["trades", "X:A"].seq
    desk.agrees(link, "book")
    holes = [m for m in sent(link, "trades") if m["type"] == "gap" and m["reason"] == "venue"]
    assert len(holes) == 2
    late = subscribed(desk)
    for kind in ("trades", "book"):
        assert late.channel(kind, "X:A").pos == link.channel(kind, "X:A").pos
    assert late.channel("book", "X:A").state[1] == "stale"


def test_a_state_in_a_view_is_the_views_own() -> None:
    desk = Desk()
    desk.step("book")
    link = desk.link()
    link.subscribe("book", "X:A", every_ms=50)
    for reason in ("gap", None, "checksum"):
        desk.source.stale("X:A", reason)
        desk.read()
        desk.now += 100_000_000
        desk.flush()
    desk.tick("book")
    desk.source.stale("X:A", "gap", skip=0)
    desk.read()
    desk.now += 100_000_000
    desk.flush()
    assert link.types().count("state book X:A") == 4
    late = desk.link()
    late.subscribe("book", "X:A", every_ms=50)
    while late.session.due:
        late.pull()
    for client in (link, late):
        assert client.channel("book", "X:A").state[1:] == ("stale", "gap")
        desk.agrees(client, "book")
