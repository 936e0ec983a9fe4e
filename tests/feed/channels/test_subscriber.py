"""Readers that are not in step: joins in pages, resumes, lags, holds and marks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feed.channels.join import LOOKS_MAX
from feed.channels.steps import whole
from feed.channels.subscriber import Subscriber
from feed.protocol.session import DOUBT_LOOKS_MAX, Close, SessionSettings
from feed.wire.model import Book
from tests.feed.channels.desk import MEGABYTE, Desk, Link
from tests.feed.channels.test_intake import sent, subscribed
from tests.truth import some_data

MARKS = {"marks": {"x/0@a": 3}}


def small_window(**settings: Any) -> Desk:
    """A hub whose window holds about one flush."""
    return Desk(resume_window_bytes_max=1_500, **settings)


class TestJoin:
    def test_an_ack_a_snapshot_and_in_step_in_one_call(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = desk.link()
        link.subscribe("trades", "X:A")
        assert link.types() == ["welcome", "ack", "snapshot trades X:A"]
        assert link.in_step

    def test_the_snapshot_as_it_lies_and_the_updates_since(self) -> None:
        desk = Desk()
        desk.step("book")
        subscribed(desk, "book")  # folds
        desk.step("book")
        desk.step("book")
        late = subscribed(desk, "book")
        assert [m["type"] for m in sent(late, "book")] == ["snapshot", "update", "update"]
        desk.agrees(late, "book")

    def test_marks_wait_for_the_updates_after_a_snapshot_that_was_sent(self) -> None:
        desk = Desk(session=SessionSettings(page_bytes=1))
        desk.step("book trades")
        desk.keyframe()
        link = desk.link()
        link.subscribe("trades", "X:A")
        link.drain()
        for _ in range(3):
            desk.step("book")
        link.subscribe("book", "X:A")
        # the snapshot ends the waiting; three updates are still to come
        assert [m["type"] for m in sent(link, "book")] == ["snapshot"]
        assert link.session.subscriber.marks() == {"x/0@a": 0}
        link.pull(1)
        assert [m["type"] for m in sent(link, "book")] == ["snapshot", "update"]
        assert link.session.subscriber.marks() == {"x/0@a": 0}
        link.drain(1)
        assert link.session.subscriber.marks() == {"x/0@a": 3}
        desk.agrees(link, "book")

    @pytest.mark.parametrize("asked", [{}, {"start": {"last": 5}}, {"start": MARKS | {"marks": {"y/0@a": 1}}}])
    def test_a_channel_told_to_be_live_goes_on_from_its_first_update(self, asked: dict[str, Any]) -> None:
        desk = Desk()
        desk.step("trades")
        desk.source.stale("X:A", "gap")  # a book of which nothing else is known
        desk.read()
        link = subscribed(desk, "trades")
        link.full = True
        desk.step("trades")
        results = link.subscribe("book", "X:A", **asked)["results"]
        assert (results[0]["mode"], results[0]["seq"]) == ("live", -1)
        desk.step("book")  # before its turn has come
        desk.step("book")
        link.drain()
        assert [m["type"] for m in sent(link, "book")] == ["state", "update", "update"]
        assert link.channel("book", "X:A").state[1:] == ("stale", "gap")
        desk.agrees(link, "book")

    def test_a_channel_told_to_be_live_whose_first_updates_are_gone_has_a_gap(self) -> None:
        desk = small_window()
        desk.step("trades")
        desk.source.stale("X:A", "gap")
        desk.read()
        link = subscribed(desk, "trades")
        link.full = True
        desk.step("trades")
        assert link.subscribe("book", "X:A")["results"][0]["mode"] == "live"
        for _ in range(20):
            desk.step("book")
            desk.keyframe()
        link.drain()
        assert [m["type"] for m in sent(link, "book")][:2] == ["gap", "snapshot"]
        desk.agrees(link, "book")

    def test_a_log_heavier_than_the_snapshot_is_folded_once_for_all(self) -> None:
        desk = Desk()
        for _ in range(40):
            desk.step("quotes")
        first = subscribed(desk, "quotes")
        desk.step("quotes")
        second = subscribed(desk, "quotes")
        assert [m["type"] for m in sent(first, "quotes")[:1]] == ["snapshot"]
        assert [m["type"] for m in sent(second, "quotes")] == ["snapshot", "update"]
        # the log is still there for those who resume
        old = desk.link()
        answer = old.subscribe("quotes", "X:A", start={"marks": {"x/0@a": 5}})
        assert answer["results"][0]["mode"] == "resumed"
        assert len(sent(old, "quotes")) == 35

    def test_ten_thousand_symbols_come_in_pages(self) -> None:
        desk = Desk()
        for number in range(2_000):
            desk.tick("quotes", f"X:{number:05}")
        desk.read()
        link = desk.link()
        link.subscribe("quotes", "*")
        assert not link.in_step
        biggest = 0
        while not link.in_step:
            desk.step("quotes", "X:00000")
            biggest = max(biggest, len(link.pull(20_000)))
        assert biggest < 22_000
        assert len(link.client.channels) == 2_000
        for number in range(2_000):
            desk.agrees(link, "quotes", f"X:{number:05}")

    def test_a_snapshot_larger_than_a_page_comes_over_several(self) -> None:
        desk = Desk()
        levels = [(f"{number}.{number % 9 + 1}", f"{number}.123456789") for number in range(1, 50_000)]
        desk.change("book", Book(levels, []))
        link = desk.link()
        link.subscribe("book", "X:A")
        pages = 0
        while link.channel("book", "X:A").waiting:
            assert link.session.subscriber.marks().get("x/0@a", 0) <= desk.source.seq
            desk.change("book", Book([(f"{pages + 1}", "7")], []))
            link.pull(10_000)
            pages += 1
        assert pages >= 3
        link.drain()
        assert link.channel("book", "X:A").snapshots == 1
        desk.agrees(link, "book")

    def test_the_last_trades_only(self) -> None:
        desk = Desk()
        for _ in range(4):
            desk.step("trades book")
        subscribed(desk, "trades book")
        desk.step("trades book")  # so little that the book is sent as that client got it, and this after it
        link = desk.link()
        trades, book = link.subscribe("trades book", "X:A", start={"last": 2})["results"]
        assert len(sent(link, "trades")[0]["data"]) == 2
        for told, kind in ((trades, "trades"), (book, "book")):
            assert told["seq"] == sent(link, kind)[0]["seq"]
        desk.agrees(link, "book")
        assert link.client.caught_up == [1]
        desk.step("trades")
        assert link.channel("trades", "X:A").pos == 5

    def test_live_begins_after_what_was_there(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = desk.link()
        result = link.subscribe("trades status", "X:A", start="live")["results"]
        assert [(r["mode"], r["seq"]) for r in result] == [("live", 0), ("live", -1)]
        desk.step("trades status")
        assert [m["seq"] for m in sent(link, "trades")] == [1]
        assert [m["prev"] for m in sent(link, "status")] == [-1]

    def test_subscribing_again_keeps_the_place_or_starts_anew(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = subscribed(desk, "trades")
        assert link.subscribe("trades", "X:A")["results"][0]["mode"] == "resumed"
        assert len(sent(link, "trades")) == 1
        assert link.subscribe("trades", "X:A", start="snapshot")["results"][0]["mode"] == "snapshot"
        assert len(sent(link, "trades")) == 2
        desk.step("trades")
        desk.agrees(link, "trades")


class TestResume:
    def test_exactly_what_was_missed(self) -> None:
        desk = Desk()
        for _ in range(6):
            desk.step("trades book")
        link = desk.link()
        results = link.subscribe("trades book", "X:A", start=MARKS)["results"]
        assert [(r["mode"], r["seq"]) for r in results] == [("resumed", 3)] * 2
        assert [m["seq"] for m in sent(link, "trades")] == [4, 5]
        assert link.types()[-1] == "caught_up"

    def test_a_source_that_the_marks_do_not_name_starts_by_snapshot(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = desk.link()
        assert link.subscribe("trades", "X:A", start={"marks": {"y/0@a": 3}})["results"][0]["mode"] == "snapshot"
        desk.agrees(link, "trades")

    @pytest.mark.parametrize("symbols", ["X:A", "*"])
    def test_a_state_that_no_update_brought_comes_whole(self, symbols: str) -> None:
        desk = Desk()
        for _ in range(5):
            desk.step("book", "X:B")
        desk.source.history("X:A", some_data("trades", 5))
        desk.keyframe()
        desk.flush()
        link = desk.link()
        link.subscribe("trades book", symbols, start=MARKS)
        assert [(m["type"], m["seq"]) for m in sent(link, "trades") if m["type"] != "joined"] == [("snapshot", -1)]
        desk.agrees(link, "trades")
        assert link.types()[-1] == "caught_up"
        desk.step("trades")
        desk.agrees(link, "trades")

    @pytest.mark.parametrize("kind", ["trades", "book"])
    def test_what_is_gone_is_said(self, kind: str) -> None:
        desk = small_window()
        for number in range(8):
            desk.step(kind)
            if number in (0, 5):
                desk.keyframe()
        link = desk.link()
        assert link.subscribe(kind, "X:A", start={"marks": {"x/0@a": 1}})["results"][0]["mode"] == "gap"
        gap = link.channel(kind, "X:A").gaps[0]
        assert (gap["reason"], gap["prev"], gap["lost"]) == ("evicted", 1, kind == "trades")
        types = [m["type"] for m in sent(link, kind)]
        assert ("snapshot" in types) == (kind == "book")
        assert link.channel(kind, "X:A").pos == 7

    def test_nothing_is_gone_where_nothing_happened(self) -> None:
        desk = small_window()
        desk.step("book")
        for _ in range(20):
            desk.step("trades")
        link = desk.link()
        assert link.subscribe("book", "X:A", start={"marks": {"x/0@a": 2}})["results"][0]["mode"] == "resumed"
        assert sent(link, "book") == []

    def test_all_items_failed(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = desk.link()
        assert not link.subscribe("trades", "X:NOPE", start=MARKS)["ok"]
        assert link.types()[-2:] == ["ack", "caught_up"]
        assert link.in_step


class TestAhead:
    """A gateway that is behind the marks."""

    def test_nothing_comes_until_they_are_passed(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link = desk.link()
        results = link.subscribe("trades", "X:A", start=MARKS)["results"]
        assert [(r["mode"], r["seq"]) for r in results] == [("resumed", 3)]
        assert link.types()[-1] == "caught_up"
        assert link.in_step
        for _ in range(5):
            # never beyond what was sent, though the client has said that it has more
            assert link.session.subscriber.marks() == {"x/0@a": desk.source.seq}
            desk.step("trades book")
        assert [m["seq"] for m in sent(link, "trades")] == [4, 5]
        assert desk.hub.holders == {}
        assert len(desk.hub.selections) == 1

    def test_also_when_it_lags_and_the_window_moves_on(self) -> None:
        desk = small_window()
        desk.step("book")
        link = desk.link()
        link.subscribe("book", "X:A", start={"marks": {"x/0@a": 6}})
        link.full = True
        for _ in range(4):
            desk.step("book trades")
        link.drain()
        assert sent(link, "book") == []
        for _ in range(5):
            desk.step("book")
        assert [m["seq"] for m in sent(link, "book")] == [7, 8, 9]

    def test_a_channel_in_step_beside_it_keeps_the_marks_down(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link = desk.link()
        link.subscribe("trades", "X:A", start=MARKS)
        link.subscribe("book", "X:A")
        assert link.session.subscriber.marks() == {"x/0@a": 0}
        desk.step("book")
        assert [m["seq"] for m in sent(link, "book")] == [0, 1]

    def test_a_new_source_ends_the_waiting(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = desk.link()
        link.subscribe("trades", "X:A", start={"marks": {"x/0@a": 1000}})
        desk.switch("x/0@b", carries=False)
        desk.step("trades")
        desk.agrees(link, "trades")

    def test_a_new_source_in_a_flush_that_it_could_not_take(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = desk.link()
        link.subscribe("trades", "X:A", start={"marks": {"x/0@a": 1}})
        desk.tick("trades")
        desk.read(flush=False)
        desk.switch("x/0@b", carries=False)
        desk.tick("trades")
        link.full = True
        desk.read()
        link.drain()
        # not what lies at the mark, although the flush was rendered twice
        assert [(m["type"], m["seq"]) for m in sent(link, "trades")] == [("gap", -1), ("update", 0)]
        desk.agrees(link, "trades")

    def test_a_position_that_is_none_of_this_log(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link = desk.link()
        link.subscribe("trades book", "X:A", start={"marks": {"x/0@a": 1000}})
        assert link.in_step
        source = desk.hub.sources["x/0@a"]
        source.confirms += 1
        link.session.subscriber.doubt_holds()
        assert link.in_step  # what was answered first may have been asked before the client came
        source.confirms += 1
        link.session.subscriber.doubt_holds()
        link.drain()
        gaps = {
            m["channel"]: (m["reason"], m["prev"], m["seq"], m["lost"])
            for k in ("trades", "book")
            for m in sent(link, k)
            if m["type"] == "gap"
        }
        assert gaps == {"trades": ("seek", 1000, 0, True), "book": ("seek", 1000, 0, False)}
        desk.step("trades book")
        for kind in ("trades", "book"):
            assert link.channel(kind, "X:A").pos == 1
        desk.agrees(link, "book")
        assert link.session.subscriber.marks() == {"x/0@a": 1}
        assert desk.hub.holders == {}


class TestDoubt:
    """A mark lies ahead of what was read: the answer waits until it is known whether this log comes there."""

    @staticmethod
    def ahead() -> tuple[Desk, Link]:
        desk = Desk()
        desk.hub.delay_s = lambda: 0.0
        desk.step("trades book")
        link = desk.link()
        link.subscribe("trades book", "X:A", start=MARKS)
        assert link.client.answers == {}
        assert link.session.wake_at is not None
        return desk, link

    def test_a_gateway_that_lags_comes_there(self) -> None:
        desk, link = self.ahead()
        for _ in range(3):
            desk.step("trades book")
            link.take(link.session.wake(link.now))
        assert [(r["mode"], r["seq"]) for r in link.client.answers[1]["results"]] == [("resumed", 3)] * 2
        desk.step("trades book")
        assert [m["seq"] for m in sent(link, "trades")] == [4]

    def test_a_log_that_was_read_to_its_end_is_another_one(self) -> None:
        desk, link = self.ahead()
        desk.hub.confirmed("x/0@a")
        link.take(link.session.wake(link.now))
        assert link.client.answers == {}
        desk.hub.confirmed("x/0@a")
        link.take(link.session.wake(link.now))
        assert [(r["mode"], r["seq"]) for r in link.client.answers[1]["results"]] == [("gap", 0)] * 2
        for kind, lost in (("trades", True), ("book", False)):
            gaps = [(m["reason"], m["prev"], m["seq"], m["lost"]) for m in sent(link, kind) if m["type"] == "gap"]
            assert gaps == [("seek", 3, 0, lost)]
        assert link.session.subscriber.marks() == {"x/0@a": 0}
        desk.step("trades book")
        desk.agrees(link, "book")
        assert [m["seq"] for m in sent(link, "trades") if m["type"] == "update"] == [1]

    def test_where_nothing_is_read_it_is_resumed_and_told_later(self) -> None:
        desk, link = self.ahead()
        for _ in range(DOUBT_LOOKS_MAX):
            link.take(link.session.wake(link.now))
        assert [(r["mode"], r["seq"]) for r in link.client.answers[1]["results"]] == [("resumed", 3)] * 2
        for _ in range(2):
            desk.hub.confirmed("x/0@a")
        link.take(link.session.heartbeat(link.now))
        link.drain()
        assert [m["reason"] for m in sent(link, "book") if m["type"] == "gap"] == ["seek"]
        desk.step("trades book")
        desk.agrees(link, "book")

    def test_requests_behind_it_wait_for_their_turn(self) -> None:
        desk, link = self.ahead()
        link.ask("ping")
        assert link.client.answers == {}
        for _ in range(2):
            desk.hub.confirmed("x/0@a")
        link.take(link.session.wake(link.now))
        assert [answer["type"] for answer in link.client.answers.values()] == ["ack", "pong"]

    def test_also_in_a_view(self) -> None:
        desk = Desk()
        desk.hub.delay_s = lambda: 0.0
        desk.step("trades book")
        link = desk.link()
        link.subscribe("book", "X:A", start=MARKS, every_ms=100)
        for _ in range(2):
            desk.hub.confirmed("x/0@a")
        link.take(link.session.wake(link.now))
        assert [r["mode"] for r in link.client.answers[1]["results"]] == ["gap"]
        link.take(link.session.pull(MEGABYTE, link.now))
        assert link.channel("book", "X:A").pos == 0
        assert not link.channel("book", "X:A").waiting


class TestLag:
    def test_it_catches_up_from_the_window_in_pages(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link, other = subscribed(desk), subscribed(desk)
        link.full = True
        for _ in range(10):
            desk.step("trades book")
        assert not link.in_step
        assert link.session.subscriber.marks() == {"x/0@a": 0}
        assert link.drain(500) > 3
        for kind in ("trades", "book"):
            desk.agrees(link, kind)
            desk.agrees(other, kind)
        assert [m["type"] for m in sent(link, "trades")] == ["snapshot"] + ["update"] * 10
        assert len(desk.hub.selections) == 1

    def test_where_the_window_has_moved_on_the_gap_is_named_and_counted(self) -> None:
        desk = small_window()
        for _ in range(3):
            desk.step("trades book")
        link = subscribed(desk)
        link.full = True
        for _ in range(20):
            desk.step("trades book")
            desk.keyframe()
        link.drain()
        trades, book = (link.channel(kind, "X:A") for kind in ("trades", "book"))
        gap = trades.gaps[0]
        assert (gap["reason"], gap["prev"], gap["lost"]) == ("lag", 2, True)
        assert gap["count"] == gap["seq"] - 2
        assert [m["seq"] for m in sent(link, "trades")[2:]] == list(range(gap["seq"] + 1, 23))
        gap = book.gaps[0]
        assert (gap["reason"], gap["prev"], gap["lost"]) == ("lag", 2, False)
        assert gap["count"] == gap["seq"] - 2
        desk.agrees(link, "book")
        assert link.session.subscriber.marks() == {"x/0@a": 22}
        desk.step("trades book")
        desk.agrees(link, "book")

    def test_channels_that_missed_nothing_have_no_gap(self) -> None:
        desk = small_window()
        desk.step("trades book")
        link = subscribed(desk)
        link.full = True
        for _ in range(20):
            desk.step("trades", "X:B")
        link.drain()
        assert not link.channel("trades", "X:A").gaps
        assert not link.channel("book", "X:A").gaps
        desk.step("trades book")
        desk.agrees(link, "book")

    def test_marks_wait_for_what_is_still_missing(self) -> None:
        desk = small_window()
        for symbol in ("X:A", "X:B"):
            desk.step("book", symbol)
        link = subscribed(desk, "book", "X:A X:B")
        link.full = True
        for _ in range(10):
            desk.step("book", "X:A")
            desk.step("book", "X:B")
            desk.keyframe("X:A")
            desk.keyframe("X:B")
        link.full = False
        link.pull(1)
        assert not link.in_step
        assert link.session.subscriber.marks() == {"x/0@a": 1}
        link.drain(1)
        assert link.session.subscriber.marks() == {"x/0@a": 21}

    def test_close_on_lag(self) -> None:
        desk = small_window()
        desk.step("trades book")
        link = desk.link()
        link.subscribe("trades", "X:A")
        link.subscribe("book", "X:A", on_lag="close")
        link.full = True
        for _ in range(20):
            desk.step("trades book")
            desk.keyframe()
        with pytest.raises(Close) as end:
            link.pull()
        assert end.value.code == 4008
        link.take(end.value.frames)
        assert link.client.goaway == {
            "type": "goaway", "reason": "lag", "after_ms": 0, "marks": {"x/0@a": 0}
        }  # fmt: skip

    def test_close_on_lag_only_where_something_is_missing(self) -> None:
        desk = small_window()
        desk.step("trades book")
        link = desk.link()
        link.subscribe("book", "X:A", on_lag="close")
        link.subscribe("trades", "X:A")
        link.full = True
        for _ in range(20):
            desk.step("trades")
            desk.keyframe()
        link.drain()
        assert link.channel("trades", "X:A").gaps
        desk.step("book")
        desk.agrees(link, "book")

    def test_a_request_while_it_lags(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link = subscribed(desk, "trades")
        link.full = True
        for _ in range(5):
            desk.step("trades book")
        link.subscribe("book", "X:A")
        link.ask("unsubscribe", "trades", "X:A")
        link.drain()
        assert [m["seq"] for m in sent(link, "trades")] == [0]
        desk.agrees(link, "book")

    def test_a_client_that_is_gone_leaves_nothing(self) -> None:
        desk = Desk()
        desk.step("trades book")
        links = [subscribed(desk) for _ in range(3)]
        links[0].full = True
        desk.step("trades")
        assert desk.hub.behind == 1
        for link in links:
            link.session.subscriber.close()
            link.session.subscriber.close()
        assert (desk.hub.subscribers, desk.hub.behind, len(desk.hub.selections)) == (0, 0, 0)


class TestPatterns:
    def test_symbols_that_appear_later(self) -> None:
        desk = Desk()
        desk.step("quotes")
        links = [subscribed(desk, "quotes", "*") for _ in range(2)]
        links[1].full = True
        desk.step("quotes", "X:B")
        desk.step("quotes", "X:B")
        links[1].drain()
        for link in links:
            assert link.types()[-3:] == ["joined quotes X:B", "update quotes X:B", "update quotes X:B"]
            desk.agrees(link, "quotes", "X:B")
        assert len(desk.hub.selections) == 1

    def test_an_unsubscribe_beats_an_earlier_pattern(self) -> None:
        desk = Desk()
        desk.step("quotes")
        link = subscribed(desk, "quotes trades", "*")
        link.ask("unsubscribe", "quotes trades", "X:A Z:*")
        desk.step("quotes trades")
        assert link.client.messages == len(link.types())
        assert not link.channel("quotes", "X:A").open
        assert len(sent(link, "quotes")) == 1

    def test_asking_by_name_before_it_heard_that_the_channel_has_begun(self) -> None:
        desk = Desk()
        desk.step("trades", "X:A")
        links = [desk.link(), desk.link()]
        for link in links:
            link.subscribe("trades", "*")
        links[0].full = True
        desk.step("trades", "X:B")
        (result,) = links[0].subscribe("trades", "X:B")["results"]
        assert (result["mode"], result["seq"]) == ("snapshot", 1)
        links[0].drain()
        desk.step("trades", "X:B")
        for link in links:
            desk.agrees(link, "trades", "X:B")

    def test_symbols_that_appeared_in_flushes_that_are_gone(self) -> None:
        desk = small_window()
        desk.step("quotes")
        link = subscribed(desk, "quotes", "*")
        link.full = True
        for _ in range(10):
            desk.step("quotes", "X:B")
            desk.step("quotes", "X:A")
        link.drain()
        desk.agrees(link, "quotes", "X:B")
        assert link.types().count("joined quotes X:B") == 1


def test_reading_the_hub_costs_readers_nothing_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    desk.step("trades")
    link = subscribed(desk, "trades")
    assert whole(desk.hub.snapshot("trades", "X:A")) == desk.source.snapshot("trades", "X:A")
    assert whole(desk.hub.snapshot("quotes", "X:A")) is None
    assert whole(desk.hub.snapshot("trades", "X:NOPE")) is None
    assert json.loads(link.frames[0])[0]["type"] == "welcome"
    assert [tuple(found) for found in desk.hub.symbols()] == [("X:A", ["trades"], "x/0@a")]
    assert desk.hub.updates == 1


def test_a_time_that_jumps_evicts_nothing() -> None:
    desk = Desk(resume_window_ms=60_000)
    desk.step("trades")
    desk.step("trades")
    desk.now += 86_400 * 10**9
    desk.step("trades")
    desk.now -= 2 * 86_400 * 10**9
    desk.step("trades")
    assert len(desk.hub.window) == 4


def test_time_that_passes_evicts(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(resume_window_ms=10_000)
    for _ in range(20):
        desk.now += 10**9
        desk.step("trades")
    assert 9 <= len(desk.hub.window) <= 12


def test_what_has_left_the_window_leaves_the_logs() -> None:
    desk = Desk(resume_window_ms=10_000)
    for number in range(30):
        desk.now += 10**9
        desk.step("trades")
        if number == 15:
            # in the window still, and joined at from here on
            desk.keyframe()
    channel = desk.hub.names["X:A"].channels[0]
    assert channel is not None
    assert channel.base is not None
    assert channel.base.covers == 15
    assert [entry[0] for entry in channel.log] == list(range(16, 30))
    assert (channel.log_from, channel.popped, channel.updates) == (15, 16, 30)


class TestPages:
    """A page is bounded by what is looked at for it, also where nothing of that is sent."""

    @staticmethod
    def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many channels each page began."""
        counts: list[int] = []
        begin, pull = Subscriber._begin, Subscriber.pull

        def counted(self: Subscriber, *rest: Any, **more: Any) -> None:
            counts[-1] += 1
            begin(self, *rest, **more)

        def paged(self: Subscriber, bytes_max: int) -> bytes:
            counts.append(0)
            return pull(self, bytes_max)

        monkeypatch.setattr(Subscriber, "_begin", counted)
        monkeypatch.setattr(Subscriber, "pull", paged)
        return counts

    @pytest.mark.parametrize("start", ["live", {"marks": {"x/0@a": 999}}])
    def test_joins_that_send_nothing(self, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        desk = Desk()
        names = [f"X:{number}" for number in range(1_000)]
        for name in names:
            desk.tick("quotes", name)
        desk.read()
        counts = self.begun(monkeypatch)
        link = desk.link()
        link.subscribe("quotes", " ".join(names), start=start)
        while link.session.due:
            link.pull()
        assert link.in_step
        assert sum(counts) == 1_000
        assert max(counts) <= LOOKS_MAX

    def test_a_lag_in_which_nothing_was_missed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        desk = small_window()
        names = [f"X:{number}" for number in range(1_000)]
        for name in names:
            desk.tick("quotes", name)
        desk.read()
        link = subscribed(desk, "quotes", " ".join(names))
        link.full = True
        for _ in range(40):
            desk.step("quotes", "Y:A")
            desk.step("quotes", names[0])
        counts = self.begun(monkeypatch)
        link.drain()
        assert sum(counts) >= 1_000
        assert max(counts) <= LOOKS_MAX
        desk.agrees(link, "quotes", names[0])

    def test_flushes_that_say_nothing_to_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        desk = Desk()
        desk.step("quotes")
        desk.step("quotes", "Y:A")
        link = subscribed(desk, "quotes")
        link.full = True
        desk.step("quotes")
        for _ in range(1_000):
            desk.step("quotes", "Y:A")
        rendered: list[int] = []
        honest = Subscriber.render
        monkeypatch.setattr(Subscriber, "render", lambda *arguments: (rendered.append(1), honest(*arguments)))
        sizes = []
        while not link.in_step:
            before = len(rendered)
            link.pull()
            sizes.append(len(rendered) - before)
        assert sum(sizes) == 1_001
        assert max(sizes) <= LOOKS_MAX
        desk.agrees(link, "quotes")


def settle(link: Link) -> None:
    """Pulls all that it has coming, in views too."""
    while link.session.due:
        link.pull()


def accounted(link: Link) -> None:
    """Every update is accounted for, once."""
    account = link.session.subscribers.account()
    assert account.all == sum(account[1:6])
    assert account.pending == 0 or not link.in_step
    assert min(account) >= 0


class TestLeaving:
    """Channels are left wherever they are: in step, on the way, or half sent."""

    @pytest.mark.parametrize("window", [1_500, 1 << 20])
    @pytest.mark.parametrize("op", ["one", "pattern", "all"])
    def test_while_it_lags(self, window: int, op: str) -> None:
        desk = Desk(resume_window_bytes_max=window)
        for symbol in ("X:A", "X:B", "X:C"):
            desk.step("trades book", symbol)
        link = subscribed(desk, "trades book", "X:*")
        link.full = True
        for _ in range(10):
            for symbol in ("X:A", "X:B", "X:C"):
                desk.step("trades book", symbol)
                desk.keyframe(symbol)
        link.full = False
        link.pull(1)
        assert not link.in_step
        if op == "all":
            link.ask("unsubscribe")
        elif op == "pattern":
            link.ask("unsubscribe", "trades book", "X:*")
        else:
            link.ask("unsubscribe", "trades book", "X:A X:B X:C")
        link.drain()
        account = link.session.subscribers.account()
        assert account.pending == 0
        assert account.left > 0
        accounted(link)
        came = link.client.messages
        for symbol in ("X:A", "X:B", "X:C"):
            desk.step("trades book", symbol)
        assert link.client.messages == came
        link.subscribe("book", "X:B")
        link.drain()
        desk.agrees(link, "book", "X:B")

    @pytest.mark.parametrize("op", ["one", "all", "close"])
    def test_amid_a_snapshot_that_comes_over_several_pages(self, op: str) -> None:
        desk = Desk(session=SessionSettings(page_bytes=1))
        desk.step("trades")
        desk.change("book", Book([(f"{number}.5", f"{number}.123456789") for number in range(1, 20_000)], []))
        link = desk.link()
        link.subscribe("book trades", "X:A")
        while not any(b'"book"' in frame and b'"part"' in frame for frame in link.frames):
            link.pull(1)
        assert not link.in_step
        if op == "close":
            link.session.close()
        elif op == "all":
            link.ask("unsubscribe")
        else:
            link.ask("unsubscribe", "book", "X:A")
        accounted(link)
        if op == "one":
            link.drain()
            desk.step("trades book")
            assert link.channel("book", "X:A").waiting  # of the rest nothing came
            desk.agrees(link, "trades")
        elif op == "all":
            link.drain()
            assert desk.hub.behind == 0

    def test_and_asking_for_it_anew_at_once(self) -> None:
        desk = Desk()
        desk.step("trades book")
        link = subscribed(desk)
        link.full = True
        for _ in range(3):
            desk.step("trades book")
        link.ask("unsubscribe", "trades", "X:A")
        link.subscribe("trades", "X:A", start={"marks": {"x/0@a": 1}})
        link.drain()
        assert [m["seq"] for m in sent(link, "trades")] == [0, 2, 3]
        accounted(link)


class TestWhatBegins:
    @pytest.mark.parametrize("full", [False, True])
    def test_a_silent_kind_and_a_symbol_that_is_waited_for(self, full: bool) -> None:
        desk = Desk()
        desk.step("trades")
        link, other = desk.link(), desk.link()
        link.subscribe("bars", "X:A")
        link.subscribe("trades", "X:NEW X:NEVER", wait=True)
        other.subscribe("trades", "X:NEW", wait=True)
        other.session.close()
        link.full = full
        for _ in range(2):
            desk.step("bars")
            desk.step("trades quotes", "X:NEW")
        link.drain()
        settle(link)
        for kind, symbol in (("bars", "X:A"), ("trades", "X:NEW")):
            desk.agrees(link, kind, symbol)
            assert len(link.channel(kind, symbol).applied) == 2
        assert link.types().count("joined trades X:NEW") == 1
        assert list(desk.hub.awaiting) == ["X:NEVER"]
        link.ask("unsubscribe")
        assert desk.hub.awaiting == {}
        accounted(link)

    def test_what_a_pattern_and_a_name_ask_for_comes_once(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = desk.link()
        link.subscribe("trades", "X:NEW", wait=True)
        link.subscribe("trades", "*")
        link.full = True
        for _ in range(2):
            desk.step("trades", "X:NEW")
        link.drain()
        settle(link)
        assert link.types().count("joined trades X:NEW") == 1
        desk.agrees(link, "trades", "X:NEW")

    def test_who_goes_on_in_the_place_of_another_waits_for_what_that_waited_for(self) -> None:
        desk = Desk()
        desk.step("trades")
        first, second = desk.link(), desk.link()
        first.subscribe("trades", "X:NEW", wait=True)
        second.session.subscriber.take_over_awaited(first.session.subscriber)
        assert list(desk.hub.awaiting["X:NEW"]) == [second.session.subscriber]
        desk.step("trades", "X:NEW")
        assert not first.session.due
        # its client never asked: it is the first one's that goes on here
        assert b'"joined","channel":"trades","symbol":"X:NEW"' in second.session.pull(MEGABYTE, 1)


class TestPlace:
    """Where a channel goes on in a view: where its client stands, however it stands."""

    @pytest.mark.parametrize(
        "state", ["in step", "lags", "far behind", "pending", "live", "ahead", "half sent", "moved"]
    )
    def test_from_any_place(self, state: str) -> None:
        session = SessionSettings(page_bytes=1) if state == "pending" else None
        desk = Desk(session=session, resume_window_bytes_max=1_500 if state == "far behind" else 1 << 20)
        desk.step("quotes trades")
        link = desk.link()
        if state in ("in step", "lags", "far behind", "moved"):
            link.subscribe("quotes", "X:A")
            settle(link)
            link.full = state != "in step"
        elif state == "ahead":
            link.subscribe("quotes", "X:A", start={"marks": {"x/0@a": 2}})
        elif state == "live":
            link.subscribe("quotes", "X:A", start="live")
        for _ in range(8 if state == "far behind" else 1):
            desk.step("quotes trades")
            desk.keyframe()
        if state == "moved":
            desk.switch("x/0@b", carries=True)
            desk.keyframe()
            desk.flush()
        if state == "pending":
            link.subscribe("trades quotes", "X:A")
        link.full = False
        if state == "far behind":
            link.pull(1)
        link.subscribe("quotes", "X:A", every_ms=50)
        settle(link)
        for _ in range(3):
            desk.step("quotes trades")
        desk.now += 100_000_000
        desk.flush()
        settle(link)
        desk.agrees(link, "quotes")
        assert not link.client.holes
        accounted(link)


class TestNotices:
    def test_of_a_source_come_in_their_place_also_to_who_lags(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = subscribed(desk, "trades")
        link.full = True
        desk.step("trades")
        desk.hub.source_state("x/0@a", "stale", "silent", 5)
        desk.flush()
        desk.step("trades")
        link.drain()
        assert link.types()[-3:] == ["update trades X:A", "state", "update trades X:A"]

    def test_of_what_a_client_asked_for_that_lags_on_a_pattern_it_is_told_in_order(self) -> None:
        desk = Desk()
        desk.step("trades")
        link = subscribed(desk, "trades", "*")
        alone = desk.link()
        alone.subscribe("trades", "*")
        alone.subscribe("quotes", "X:A")
        settle(alone)
        for one in (link, alone):
            one.full = True
        for _ in range(2):
            desk.step("trades", "X:NEW")
        for one in (link, alone):
            one.drain()
            assert one.types()[-3:] == ["joined trades X:NEW", "update trades X:NEW", "update trades X:NEW"]
            desk.agrees(one, "trades", "X:NEW")
            accounted(one)


def test_while_a_request_is_under_way_what_it_has_goes_on() -> None:
    desk = Desk()
    for number in range(300):
        desk.tick("trades", f"X:{number:03}")
    desk.step("quotes", "Y:A")
    link = subscribed(desk, "quotes", "Y:A")
    link.take(link.session.receive(link.client.ask({"op": "subscribe", "channels": ["trades"], "symbols": ["X:*"]}), 1))
    subscriber = link.session.subscriber
    assert link.session.under_way
    assert not subscriber.follows
    assert subscriber.follow(MEGABYTE) == b""
    for _ in range(2):
        desk.step("quotes", "Y:A")
    assert subscriber.follows
    link.take(subscriber.follow(MEGABYTE))
    assert len(sent(link, "quotes", "Y:A")) == 3
    assert subscriber.having([desk.hub.names["Y:A"].id, desk.hub.names["X:299"].id]) == [desk.hub.names["Y:A"].id]
    while link.session.under_way:
        link.take(link.session.wake(link.now))
    link.drain()
    desk.agrees(link, "trades", "X:007")
    assert subscriber.channels == 301
    assert subscriber.gapped == subscriber.merged == 0
