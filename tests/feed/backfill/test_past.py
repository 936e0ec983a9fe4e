"""Logs that are read again up to a cut: what a client is sent from there is what it would have been sent then.

(Over 400 lines: a case for each place where a log can be cut, and for each way in which it goes on.)
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from feed.backfill import past as past_module
from feed.backfill.past import LogCut, Past, Symbols
from feed.backfill.recorded import RecordedPart
from feed.channels.hub import HubSettings
from feed.channels.join import Start
from feed.channels.state import FoldRules
from feed.errors import DamagedRecord
from feed.wire.log_reader import HoleInLog
from feed.wire.record import EMPTY
from tests.feed.backfill.logs import FeedLog, ask, begin, give_rest, opened, pulled, short

TIME = LogCut(time=2)


class TestSymbols:
    def test_they_are_those_asked_for_by_name_and_those_that_patterns_match(self) -> None:
        symbols = Symbols(["X:A", "Y:*"])
        assert [symbols.has(name) for name in ("X:A", "X:AB", "Y:A", "YY:A")] == [True, False, True, False]

    def test_a_record_is_left_with_their_messages(self) -> None:
        log = FeedLog()
        for symbol in ("X:A", "X:B", "X:A"):
            log.tick("trades", symbol, recorded=False)
        log.source.stale("X:B", "gap")
        log.record()
        value = log.records[-1].value
        assert Symbols(["X:A"]).of(value).count(b'"symbol":"X:A"') == 2
        assert Symbols(["X:A"]).of(value).count(b'"symbol":"X:B"') == 0
        assert Symbols(["X:C"]).of(value) == EMPTY
        assert Symbols(["X:A", "X:B"]).of(value) is value
        assert Symbols(["*"]).of(value) is value
        assert Symbols(["X:A"]).of(EMPTY) is EMPTY

    def test_what_is_remembered_of_channels_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(past_module, "_KEYS_MAX", 1)
        log, symbols = FeedLog(), Symbols(["X:B"])
        for _ in range(3):
            for symbol in log.symbols:
                log.tick("trades", symbol, recorded=False)
        log.record()
        assert symbols.of(log.records[-1].value).count(b'"symbol":"X:B"') == 3
        assert len(symbols._keys) == 1


class TestCut:
    def test_only_one_without_a_place_is_at_the_end(self) -> None:
        assert LogCut().at_end
        assert not LogCut(time=0).at_end
        assert not LogCut(source="x/0@a", mark=-1).at_end

    @pytest.mark.parametrize("cut", [LogCut(time=2), LogCut(source="x/0@a", mark=2)])
    @pytest.mark.parametrize("one_record", [True, False])
    def test_what_lies_before_it_is_the_state_and_what_follows_comes_as_updates(
        self, cut: LogCut, one_record: bool
    ) -> None:
        log = FeedLog()
        for _ in range(6):
            log.tick(recorded=not one_record)
        log.record()
        past = opened([log], cut)
        (result,) = begin(past, ask("trades", "X:A"))
        assert (result.mode, result.seq) == ("snapshot", 2)
        give_rest(past, log)
        assert pulled(past) == [f"{'snapshot' if at == 2 else 'update'} trades X:A {at}" for at in range(2, 6)]

    def test_a_mark_between_two_ticks_is_where_it_was_asked(self) -> None:
        log = FeedLog()
        log.tick(skip=3, recorded=False)
        log.tick(skip=4)
        past = opened([log], LogCut(source="x/0@a", mark=4))
        begin(past, ask("trades", "X:A"))
        assert past.positions == {"x/0@a": 4}
        assert pulled(past) == ["snapshot trades X:A 2", "update trades X:A 6"]
        assert past.positions == {"x/0@a": 6}

    def test_a_mark_within_a_record_without_messages_is_where_it_was_asked(self) -> None:
        log = FeedLog()
        log.tick()
        log.source.seq += 5
        log.record()
        past = opened([log], LogCut(source="x/0@a", mark=3))
        begin(past, ask("trades", "X:A"))
        assert past.positions == {"x/0@a": 3}

    def test_a_mark_of_another_source_cuts_nothing(self) -> None:
        log = FeedLog()
        log.ticks(3)
        past = opened([log], LogCut(source="x/0@other", mark=0))
        begin(past, ask("trades", "X:A"))
        assert pulled(past) == ["snapshot trades X:A 2"]

    def test_a_gap_goes_with_the_update_that_it_stands_before(self) -> None:
        log = FeedLog()
        log.ticks(2)
        log.tick(recorded=False)
        log.tick(hole=True)
        past = opened([log], TIME)
        begin(past, ask("trades", "X:A"))
        assert pulled(past) == ["snapshot trades X:A 2", "gap trades X:A 2..2 venue", "update trades X:A 3"]

    def test_a_gap_alone_lies_before_it(self) -> None:
        log = FeedLog()
        log.tick()
        log.tick(hole=True, recorded=False)
        gap = log.source.record()[2].partition(b',{"type":"update"')[0] + b"]"
        log._add("data", gap, after=0, last=1)
        past = opened([log], LogCut(time=5))
        begin(past, ask("trades", "X:A"))
        assert past.positions == {"x/0@a": 1}

    def test_at_the_end_all_is_before_it(self) -> None:
        log = FeedLog()
        log.ticks(4)
        past = opened([log], LogCut())
        begin(past, ask("trades", "X:A"))
        assert pulled(past) == ["snapshot trades X:A 3"]
        assert not past.due

    def test_where_the_source_of_a_mark_has_ended_its_successor_is_read_after_it(self) -> None:
        log = FeedLog()
        log.ticks(3)
        log.new_source()
        log.ticks(2)
        past = opened([log], LogCut(source="x/0@a", mark=9))
        assert log.records[past.logs[0].next].kind == "source"
        begin(past, ask("trades", "X:A"))
        give_rest(past, log)
        assert pulled(past)[:3] == ["snapshot trades X:A 2", "gap trades X:A 2..2 source", "snapshot trades X:A 2"]
        assert set(past.positions) == {"x/0@b"}

    def test_a_tick_that_fills_several_records_counts_with_the_last_of_them(self) -> None:
        log = FeedLog()
        log.ticks(2, "trades quotes")
        log.in_parts("trades quotes")
        past = opened([log], LogCut(time=1))
        begin(past, ask("trades quotes", "X:A"))
        assert past.positions == {"x/0@a": 1}
        assert pulled(past)[2:] == ["update trades X:A 2", "update quotes X:A 2"]

    def test_messages_without_a_time_lie_where_they_stand(self) -> None:
        log = FeedLog()
        log.tick("book")
        log.source.stale("X:A", "gap")
        log.record()
        log.records[-1] = replace(log.records[-1], value=log.records[-1].value.replace(b"ts_recv", b"ts_other"))
        past = opened([log], LogCut(time=0))
        begin(past, ask("book", "X:A"))
        assert pulled(past) == ["snapshot book X:A 0", "state book X:A 1 stale"]


class TestLog:
    def test_only_keyframes_of_symbols_asked_for_are_kept(self) -> None:
        log = FeedLog()
        log.tick("trades", "X:A")
        log.tick("trades", "X:B")
        log.keyframe("X:A")
        log.keyframe("X:B")
        log.tick("trades", "X:B")
        past = opened([log], LogCut(), "X:B", start=3)
        begin(past, ask("trades", "X:B"))
        assert list(past.hub.names) == ["X:B"]

    def test_reading_may_begin_in_the_middle_of_a_source(self) -> None:
        log = FeedLog()
        log.ticks(3)
        log.keyframe("X:A")
        log.tick()
        past = opened([log], LogCut(), start=4)
        begin(past, ask("trades", "X:A"))
        assert pulled(past) == ["snapshot trades X:A 3"]
        assert past.logs[0].clock == 3

    def test_what_was_read_before_is_passed_over(self) -> None:
        log = FeedLog()
        log.ticks(3)
        past = opened([log], LogCut())
        for record in log.records:
            assert not past.logs[0].read(record)
        begin(past, ask("trades", "X:A"))
        assert pulled(past) == ["snapshot trades X:A 2"]

    @pytest.mark.parametrize("how", ["damaged", "unreadable"])
    def test_what_cannot_be_read_is_missing_and_its_channels_have_a_gap(self, how: str) -> None:
        log = FeedLog()
        log.ticks(4)
        log.keyframe("X:A")
        log.tick()
        bad = replace(log.records[3], value=b'[{"type":"state","channel":"nonsense"}]')
        past = opened([log], LogCut(time=0), "X:A")
        begin(past, ask("trades", "X:A"))
        damaged = DamagedRecord("x/0@a", 3, "planted")
        past.give(past.logs[0], [damaged if how == "damaged" else bad, *log.records[4:]])
        assert pulled(past)[1:] == [
            "update trades X:A 1",
            "gap trades X:A 1..2 evicted",
            "update trades X:A 3",
            "update trades X:A 4",
        ]


class TestPast:
    def test_nobody_is_sent_anything_before_it_begins(self) -> None:
        past = opened([log := FeedLog()], LogCut())
        assert not past.due
        log.tick()
        give_rest(past, log)
        assert past.due
        assert past.pull(1000) == b""

    def test_pages_end_after_so_many_bytes_or_records(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log = FeedLog()
        log.ticks(20)
        past = opened([log], LogCut(time=0))
        begin(past, ask("trades", "X:A"))
        give_rest(past, log)
        while not past.subscriber.in_step:
            past.pull(1)
        assert short(past.pull(1)) == ["update trades X:A 1", "update trades X:A 2"]  # the rest of a record, and one
        monkeypatch.setattr(past_module, "RECORDS_A_PAGE", 5)
        assert len(short(past.pull(1 << 20))) == 5
        monkeypatch.setattr(past_module, "RECORDS_A_PAGE", 128)
        assert len(short(past.pull(1 << 20))) == 12
        assert not past.due

    def test_damaged_records_take_no_bytes_of_a_page(self) -> None:
        log = FeedLog()
        log.ticks(2)
        past = opened([log], LogCut())
        past.give(past.logs[0], [DamagedRecord("x/0@a", 9, "planted")])
        assert past.pull(1) == b""
        assert not past.due

    @pytest.mark.parametrize("late", [{}, {"x/0@a": "evicted"}])
    def test_sources_of_which_too_little_is_left_begin_with_a_gap(self, late: dict[str, str]) -> None:
        log, other = FeedLog(), FeedLog("x/1", ["X:C"])
        log.ticks(3)
        log.tick("book")
        other.ticks(2, symbol="X:C")
        past = opened([log, other], LogCut())
        results = begin(past, ask("trades book quotes", "X:A X:C"), late=late)
        modes = {(one.channel, one.symbol): one.mode for one in results}
        assert modes["trades", "X:A"] == modes["book", "X:A"] == ("gap" if late else "snapshot")
        assert modes["trades", "X:C"] == "snapshot"
        assert modes["quotes", "X:A"] == "live"
        gaps = [one for one in pulled(past) if one.startswith("gap")]
        assert gaps == (["gap trades X:A -1..2 evicted", "gap book X:A -1..3 evicted"] if late else [])

    def test_after_marks_a_channel_that_begins_later_is_resumed_too(self) -> None:
        log = FeedLog()
        log.ticks(2)
        past = opened([log], LogCut(source="x/0@a", mark=0))
        results = begin(past, ask("trades quotes", "X:A", Start("marks", marks={"x/0@a": 0})))
        assert [(one.mode, one.seq) for one in results] == [("resumed", 0), ("resumed", 0)]
        log.tick("quotes")
        give_rest(past, log)
        assert pulled(past) == ["update trades X:A 1", "update quotes X:A 2"]

    def test_after_marks_a_symbol_that_begins_later_is_told_as_resumed(self) -> None:
        log = FeedLog()
        log.ticks(2)
        past = opened([log], LogCut(source="x/0@a", mark=0))
        begin(past, ask("trades", "X:*", Start("marks", marks={"x/0@a": 0})))
        log.tick("trades", "X:B")
        give_rest(past, log)
        assert pulled(past) == [
            "joined trades X:A resumed 0",
            "joined trades X:B resumed 0",
            "update trades X:A 1",
            "update trades X:B 2",
        ]

    def test_a_symbol_that_there_is_now_can_be_asked_for_in_its_past(self) -> None:
        log = FeedLog()
        log.ticks(2)
        past = opened([log], LogCut())
        past.expect({"X:NEW": "x/0@z", "Y:NEW": "y/0@a"})
        results = begin(past, ask("trades", "X:NEW Y:NEW"))
        # of a partition that was read its own source counts
        assert [(one.mode, one.source) for one in results] == [("live", "x/0@a"), ("live", "y/0@a")]
        assert past.named == [("trades", "X:NEW"), ("trades", "Y:NEW")]

    def test_what_a_client_wants_is_known_of_channels_that_have_not_begun_too(self) -> None:
        log = FeedLog()
        log.tick()
        past = opened([log], LogCut())
        begin(past, ask("trades", "X:A Y:*", on_lag="close"))
        assert [past.wants("trades", symbol) for symbol in ("X:A", "X:B", "Y:A")] == [True, False, True]
        assert not past.wants("book", "X:A")
        assert [past.announces("trades", symbol) for symbol in ("X:A", "Y:A")] == [False, True]
        assert [past.on_lag("trades", symbol) for symbol in ("X:A", "X:B", "Y:A")] == ["close", "skip", "close"]

    def test_a_hole_is_told_to_the_reader_and_what_was_given_after_it_dropped(self) -> None:
        log, other = FeedLog(), FeedLog("x/1", ["X:C"])
        log.ticks(5)
        other.ticks(2, symbol="X:C")
        past = opened([log, other], LogCut(time=0))
        begin(past, ask("trades", "*"))
        first = past.logs[0]
        past.give(first, log.records[4:])  # the one with tick 2 is missing
        give_rest(past, other, at=1)
        assert pulled(past) == [
            "joined trades X:A snapshot 0",
            "snapshot trades X:A 0",
            "joined trades X:C snapshot 0",
            "snapshot trades X:C 0",
            "update trades X:A 1",
            "update trades X:C 1",
        ]
        ((log_, hole),) = past.take_holes()
        assert (log_, type(hole)) == (first, HoleInLog)
        assert past.take_holes() == []
        past.give(first, log.records)  # from a floor on: what was read is passed over
        assert pulled(past) == [f"update trades X:A {at}" for at in range(2, 5)]

    def test_a_log_that_is_read_anew_has_a_gap_for_what_is_gone(self) -> None:
        log = FeedLog()
        log.ticks(5)
        log.keyframe("X:A")
        log.tick()
        past = opened([log], LogCut(time=1))
        begin(past, ask("trades", "X:A"))
        again = past.reopen_log(past.logs[0], 6)
        assert past.logs == [again]
        assert (again.clock, again.next) == (2, 6)  # how far behind it is stays known
        past.give(again, log.records[6:])
        assert pulled(past)[-2:] == ["gap trades X:A 2..4 evicted", "update trades X:A 5"]


class TestRecorded:
    """A past that goes on where a recording ends."""

    def part(self, ends: dict[tuple[str, str], tuple[str, int]], mark: int = 2) -> RecordedPart:
        part = RecordedPart({"x/0@a": mark}, ends, {}, client_marks={"x/0@a": 0}, late=None)
        part.end()
        return part

    @pytest.mark.parametrize(
        ("end", "told"),
        [
            (("x/0@a", 2), ["update trades X:A 3"]),
            (("x/0@a", 1), ["gap trades X:A 1..2 recording", "update trades X:A 3"]),
            (None, ["gap trades X:A -1..2 evicted", "update trades X:A 3"]),
        ],
    )
    def test_a_channel_goes_on_only_from_where_it_was_recorded_to(
        self, end: tuple[str, int] | None, told: list[str]
    ) -> None:
        log = FeedLog()
        log.ticks(4)
        past = opened([log], LogCut(source="x/0@a", mark=2))
        part = self.part({} if end is None else {("trades", "X:A"): end})
        begin(past, ask("trades", "X:A"), recorded=part)
        part.pull(1000)
        past.go_on_after(part)
        assert pulled(past) == told

    def test_of_partitions_that_were_not_recorded_the_log_is_all(self) -> None:
        log, other = FeedLog(), FeedLog("x/1", ["X:C"])
        log.ticks(3)
        other.ticks(2, "trades book", symbol="X:C")
        past = opened([log], LogCut(source="x/0@a", mark=2))
        late = opened([log, other], LogCut(source="x/0@a", mark=2))
        for one, reasons, mode in ((past, {}, "unknown_symbol"), (late, {"x/1@a": "evicted"}, "gap")):
            part = self.part({("trades", "X:A"): ("x/0@a", 2)})
            results = begin(one, ask("trades", "X:A X:C"), recorded=part, late=reasons)
            assert [result.mode if result.ok else result.code for result in results] == ["resumed", mode]

    def test_one_that_was_read_in_time_begins_by_snapshot(self) -> None:
        log, other = FeedLog(), FeedLog("x/1", ["X:C"])
        log.ticks(3)
        other.ticks(2, symbol="X:C")
        past = opened([log, other], LogCut(source="x/0@a", mark=2))
        part = self.part({("trades", "X:A"): ("x/0@a", 2)})
        results = begin(past, ask("trades", "X:C"), recorded=part)
        assert [result.mode for result in results] == ["snapshot"]

    @pytest.mark.parametrize("broke_off", [False, True])
    def test_channels_that_it_told_need_no_joined_and_where_it_broke_off_a_gap(self, broke_off: bool) -> None:
        log = FeedLog()
        log.ticks(3)
        log.tick("trades", "X:B")
        past = opened([log], LogCut(source="x/0@a", mark=3))
        ends = {("trades", "X:A"): ("x/0@a", 2), ("trades", "X:B"): ("x/0@a", 3)}
        part = RecordedPart({"x/0@a": 3}, ends, {}, client_marks={"x/0@a": 0}, late=None)
        begin(past, ask("trades", "X:*"), recorded=part)
        part.told.add(("trades", "X:A"))
        part.end(broke_off=broke_off)
        past.go_on_after(part)
        gap = ["gap trades X:A -1..2 recording"] if broke_off else []
        assert pulled(past) == [*gap, "joined trades X:B resumed 3"]


def test_a_past_keeps_states_and_no_window() -> None:
    log = FeedLog()
    log.ticks(50)
    past = Past(["*"], HubSettings(rules=FoldRules(trades_kept=3)))
    past_log = past.open_log(0)
    for record in log.records:
        past_log.read(record, LogCut())
    begin(past, ask("trades", "X:A"))
    told = past.pull(1 << 20)
    assert told.count(b'"price"') == 3
