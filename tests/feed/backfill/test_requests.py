"""The requests of one connection into the past, beside each other and beside its live stream."""

from __future__ import annotations

from typing import Any

import pytest

from feed.backfill.past import LogCut
from feed.backfill.request import BackfillRequest, Stage
from feed.backfill.requests import REQUESTS_MAX
from feed.errors import Unreachable
from feed.protocol.session import Session, SessionSettings
from feed.wire.times import text_of
from tests.feed.backfill.by_hand import REFUSAL, ByHand, pulled
from tests.feed.backfill.logs import FeedLog
from tests.feed.channels.desk import Link

TIME = {"time": text_of(2)}


def place(kinds: str = "trades quotes", **settings: Any) -> ByHand:
    """Two partitions of a venue, with ten ticks of X:A, X:B and X:C each."""
    log, other = FeedLog(), FeedLog("x/1", ["X:C"])
    for _ in range(10):
        for symbol in log.symbols:
            log.tick(kinds, symbol)
        other.tick(kinds, "X:C")
    return ByHand(log, other, **settings)


def answer(made: ByHand, link: Link, number: int = -1) -> BackfillRequest:
    """A request into the past is found and answered."""
    request = made.reads[number]
    made.ready(request)
    while request.answerable:
        link.pull()
    return request


def modes(link: Link, id_: str) -> list[Any]:
    """How the channels of a request begin, or why they do not."""
    return [one.get("mode", one.get("code", one.get("matched"))) for one in link.client.answers[id_]["results"]]


def at(link: Link, kind: str = "trades", symbol: str = "X:A") -> list[int]:
    """The positions of the updates that a client has had of a channel."""
    import json

    return [json.loads(raw)["seq"] for raw in link.channel(kind, symbol).applied]


class TestWhichNeedThePast:
    @pytest.mark.parametrize(
        ("symbols", "partitions"),
        [
            ("X:A", {"x/0"}),
            ("X:A X:C", {"x/0", "x/1"}),
            ("X:*", {"x/0", "x/1"}),
            ("*", {"x/0", "x/1"}),
            ("X:NOPE", set()),
            ("X:NOPE Y:*", set()),
        ],
    )
    def test_from_a_time_all_partitions_of_the_symbols_are_read(self, symbols: str, partitions: set[str]) -> None:
        made = place()
        made.link().subscribe("trades", symbols, start=TIME)
        assert made.reads[0].cuts == {name: LogCut(time=2) for name in partitions}

    def test_a_partition_in_which_no_symbol_has_begun_is_read_for_patterns(self) -> None:
        made = ByHand(FeedLog())
        made.link().subscribe("trades", "X:*", start=TIME)
        assert set(made.reads[0].cuts) == {"x/0"}

    def test_marks_that_memory_reaches_do_not(self) -> None:
        made = place()
        link = made.link()
        link.subscribe("trades", "X:A", id="m", start={"marks": {"x/0@a": 17}})
        assert modes(link, "m") == ["resumed"]
        assert made.reads == []

    def test_marks_older_than_memory_cut_their_own_partition_and_others_at_their_ends(self) -> None:
        made = place()
        made.forget()
        made.link().subscribe("trades", "X:*", start={"marks": {"x/0@a": 3}})
        assert made.reads[0].cuts == {"x/0": LogCut(source="x/0@a", mark=3), "x/1": LogCut()}

    def test_marks_of_channels_that_memory_has_whole_do_not(self) -> None:
        made = place()
        made.forget()
        link = made.link()
        newest = made.made["x/0"].source.seq
        link.subscribe("trades quotes", "X:A X:C", id="m", start={"marks": {"x/0@a": newest, "x/9@a": 0}})
        assert set(modes(link, "m")) == {"resumed", "snapshot"}
        assert made.reads == []

    def test_marks_of_before_a_channel_began_do_not(self) -> None:
        made = place("trades")
        made.made["x/0"].tick("trades", "X:NEW")
        made.follow()
        made.forget()
        link = made.link()
        link.subscribe("trades book", "X:NEW", id="m", start={"marks": {"x/0@a": 3}})
        assert modes(link, "m") == ["resumed", "live"]
        assert made.reads == []

    def test_without_a_reader_a_time_cannot_be_asked_for_and_old_marks_have_a_gap(self) -> None:
        made = place()
        made.forget()
        link = made.link()
        link.session = Session(made.distributor, link, SessionSettings())
        link.take(link.session.open(1)) if link.client.welcome is None else link.session.open(1)
        link.subscribe("trades", "X:A", id="t", start=TIME)
        assert modes(link, "t") == ["no_recording"]
        link.subscribe("trades", "X:A", id="m", start={"marks": {"x/0@a": 3}})
        assert modes(link, "m") == ["gap"]


class TestAnswer:
    def test_it_waits_until_it_is_known_and_those_behind_it_wait_too(self) -> None:
        made = place()
        link = made.link()
        link.subscribe("trades", "X:A X:NOPE", id="t", start=TIME)
        link.ask("ping", id="p")
        link.pull()
        assert not link.session.due
        assert link.client.answers == {}
        request = answer(made, link)
        assert list(link.client.answers) == ["t", "p"]
        assert modes(link, "t") == ["snapshot", "unknown_symbol"]
        assert request.stage is Stage.LOGS

    def test_what_cannot_be_found_is_refused(self) -> None:
        made = place()
        link = made.link()
        link.subscribe("trades", "X:A", id="t", start=TIME)
        made.reads[0].fail(Unreachable("planted"), REFUSAL)
        assert link.session.due
        link.pull()
        assert link.client.answers["t"]["code"] == "source_unavailable"
        assert not link.session.due
        link.subscribe("trades", "X:A", id="again", start=TIME)
        assert len(made.reads) == 2

    def test_a_pattern_tells_how_many_there_are_now(self) -> None:
        made = place()
        made.made["x/0"].tick("trades", "X:D")
        made.follow()
        link = made.link()
        link.subscribe("trades", "X:*", id="t", start=TIME)
        request = made.reads[0]
        made.read_to_cuts(request)
        request.ready()
        link.pull()
        assert request.past.hub.names.keys() == {"X:A", "X:B", "X:C"}
        assert modes(link, "t") == [4]

    def test_it_comes_with_all_updates_since_its_time(self) -> None:
        made = place()
        link = made.link()
        link.subscribe("trades", "X:A", id="t", start=TIME)
        request = answer(made, link)
        made.catch_up(link, request)
        assert link.client.caught_up == ["t"]
        assert at(link) == list(range(4, 20, 2))
        made.made["x/0"].tick()
        made.follow()
        assert at(link)[-1] == 20

    def test_it_replaces_what_its_client_has_of_those_channels(self) -> None:
        made = place()
        link = made.link()
        link.subscribe("trades quotes", "X:A", id="live")
        link.subscribe("trades", "X:A", id="view", every_ms=250)
        link.subscribe("trades", "X:A", id="t", start=TIME)
        request = answer(made, link)
        # the client is strict: an update beside the past would have raised
        made.made["x/0"].tick("trades quotes")
        made.follow()
        made.catch_up(link, request)
        assert at(link) == list(range(4, 21, 2))
        assert at(link, "quotes") == [20]

    def test_what_its_client_has_live_of_them_is_sent_by_the_past_alone(self) -> None:
        made = place()
        link = made.link()
        link.subscribe("trades", "X:A X:C", id="live")
        link.subscribe("trades", "X:A X:B", id="t", start=TIME)
        request = answer(made, link)
        for symbol in ("X:A", "X:B"):
            made.made["x/0"].tick("trades", symbol)
        made.follow()
        assert at(link) == []
        assert link.client.channel("trades", "X:A").pos == 2
        made.catch_up(link, request)
        assert at(link) == list(range(4, 21, 2))

    def test_one_without_a_channel_has_caught_up(self) -> None:
        made = place()
        link = made.link()
        link.subscribe("trades", "X:NOPE", id="t", start=TIME)
        answer(made, link)
        link.drain()
        assert link.client.caught_up == ["t"]
        assert made.stopped == made.reads

    def test_limits_count_what_is_running(self) -> None:
        made = place()
        link = made.link(subscriptions_max=3, patterns_max=1)
        link.subscribe("trades", "X:A X:B", id="t", start=TIME)
        answer(made, link)
        link.subscribe("quotes", "X:A X:B", id="live")
        assert modes(link, "live") == ["snapshot", "subscription_limit"]
        link.subscribe("trades quotes", "X:C", id="u", start=TIME)
        answer(made, link)
        assert modes(link, "u") == ["subscription_limit"] * 2

    def test_names_that_are_waited_for_begin_live(self) -> None:
        made = place()
        link = made.link()
        link.subscribe("trades", "X:A X:NEW", id="t", start=TIME, wait=True)
        request = answer(made, link)
        assert modes(link, "t") == ["snapshot", "awaited"]
        made.made["x/1"].tick("trades", "X:NEW")
        made.follow()
        made.catch_up(link, request)
        assert len(link.channel("trades", "X:NEW").applied) == 1

    def test_so_many_are_running_at_once_and_the_next_waits(self) -> None:
        made = place("trades quotes book status")
        link = made.link()
        asked = [(kind, symbol) for symbol in ("X:A", "X:B", "X:C") for kind in ("trades", "quotes", "book")]
        for number, (kind, symbol) in enumerate(asked[: REQUESTS_MAX + 1]):
            link.subscribe(kind, symbol, id=f"t{number}", start=TIME)
            if number < REQUESTS_MAX:
                answer(made, link)
        assert len(made.reads) == REQUESTS_MAX
        assert f"t{REQUESTS_MAX}" not in link.client.answers
        made.catch_up(link, made.reads[0])
        assert len(made.reads) == REQUESTS_MAX + 1
        answer(made, link)
        assert f"t{REQUESTS_MAX}" in link.client.answers


class TestWhileItIsRunning:
    def running(
        self, channels: str = "trades quotes", symbols: str = "X:A X:B"
    ) -> tuple[ByHand, Link, BackfillRequest]:
        made = place()
        link = made.link()
        link.subscribe(channels, symbols, id="t", start=TIME)
        return made, link, answer(made, link)

    def test_it_is_listed_beside_the_live_stream(self) -> None:
        _, link, _ = self.running("quotes", "X:A X:*")
        link.subscribe("trades", "X:B")
        listed = link.ask("list", id="l")["results"]
        assert [(one["channel"], one["symbol"]) for one in listed] == [
            ("trades", "X:B"),
            ("quotes", "X:A"),
            ("quotes", "X:*"),
        ]

    def test_a_channel_that_is_taken_away_says_nothing_more(self) -> None:
        made, link, request = self.running()
        result, missing = link.ask("unsubscribe", "trades", "X:A X:NOPE")["results"]
        assert (result["ok"], missing["code"]) == (True, "unknown_symbol")
        told = made.catch_up(link, request)
        assert not [one for one in told if "trades X:A" in one]
        assert at(link, "quotes") == list(range(4, 20, 2))

    def test_a_pattern_counts_what_it_took_away_everywhere(self) -> None:
        _, link, _ = self.running("trades", "X:A X:B")
        link.subscribe("trades", "X:C")
        (result,) = link.ask("unsubscribe", "trades", "X:*")["results"]
        assert (result["ok"], result["matched"]) == (True, 3)
        (result,) = link.ask("unsubscribe", "trades", "X:A")["results"]
        assert result["code"] == "not_subscribed"

    @pytest.mark.parametrize("how", ["by name", "all"])
    def test_when_nothing_is_left_it_ends_and_says_so(self, how: str) -> None:
        made, link, request = self.running()
        if how == "all":
            gone = link.ask("unsubscribe")["results"]
            assert [(one["channel"], one["symbol"]) for one in gone] == [
                (kind, symbol) for kind in ("trades", "quotes") for symbol in ("X:A", "X:B")
            ]
        else:
            link.ask("unsubscribe", "trades quotes", "X:A X:B")
        link.drain()
        assert (request.stage, made.stopped) == (Stage.LEFT, [request])
        assert link.client.caught_up == ["t"]
        assert link.ask("list")["results"] == []

    def test_a_channel_that_is_asked_for_anew_is_live(self) -> None:
        made, link, request = self.running()
        assert link.subscribe("trades", "X:A", start="snapshot")["results"][0]["mode"] == "snapshot"
        link.drain()
        assert link.channel("trades", "X:A").pos == 18
        made.catch_up(link, request)
        assert at(link) == []

    def test_one_that_is_taken_into_a_view_is_live(self) -> None:
        made, link, request = self.running()
        link.subscribe("trades", "X:A", every_ms=250)
        made.catch_up(link, request)
        assert at(link) == []
        assert at(link, "quotes") == list(range(4, 20, 2))

    def test_one_whose_parameters_are_changed_stays_where_it_is(self) -> None:
        made, link, request = self.running()
        link.pull()
        results = link.subscribe("trades quotes nonsense", "X:A X:C", on_lag="close")["results"]
        found = {(one["channel"], one["symbol"]): one.get("mode", one.get("code")) for one in results}
        assert found["trades", "X:A"] in ("resumed", "snapshot")
        assert found["trades", "X:C"] == "snapshot"
        assert found["nonsense", "X:A"] == "unknown_channel"
        made.catch_up(link, request)
        assert at(link) == list(range(4, 20, 2))
        listed = {(one["channel"], one["symbol"]): one["on_lag"] for one in link.ask("list")["results"]}
        assert (listed["trades", "X:A"], listed["trades", "X:B"]) == ("close", "skip")

    def test_many_whose_parameters_are_changed_are_done_in_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("feed.backfill.requests.STRIDE", 1)
        _, link, _ = self.running()
        results = link.subscribe("trades quotes", "X:A X:B", on_lag="close")["results"]
        assert [one["on_lag"] for one in results] == ["close"] * 4

    def test_a_pattern_that_is_asked_for_is_live(self) -> None:
        made, link, request = self.running("trades", "X:A X:B")
        link.subscribe("trades", "X:*")
        link.drain()
        assert request.stage is Stage.LEFT
        made.made["x/0"].tick()
        made.follow()
        assert at(link) == [20]

    def test_another_one_replaces_its_channels(self) -> None:
        made, link, request = self.running()
        link.subscribe("trades", "X:A", id="again", start={"time": text_of(9)})
        again = answer(made, link)
        made.catch_up(link, request)
        made.catch_up(link, again)
        assert at(link) == list(range(10, 20, 2))
        assert at(link, "trades", "X:B") == list(range(3, 20, 2))
        assert link.client.caught_up == ["t", "again"]

    def test_those_that_are_running_have_their_pages_in_turn(self) -> None:
        made = place()
        link = made.link()
        for kind in ("trades", "quotes"):
            link.subscribe(kind, "X:A", id=kind, start=TIME)
            answer(made, link)
        for request in made.reads:
            made.give_rest(request)
        sent = [pulled(link, 1) for _ in range(12)]
        kinds = [one.split()[1] for page in sent for one in page]
        assert kinds.count("trades") > 3
        assert kinds.count("quotes") > 3

    def test_a_client_that_goes_ends_all_of_them(self) -> None:
        made, link, request = self.running()
        link.subscribe("trades", "X:C", id="u", start=TIME)
        link.session.close()
        assert made.stopped == [request, made.reads[1]]
        assert [one.stage for one in made.reads] == [Stage.LEFT] * 2

    def test_one_that_fails_ends_its_connection(self) -> None:
        _, link, request = self.running()
        request.fail(Unreachable("planted"), REFUSAL)
        assert link.session.due
        with pytest.raises(Unreachable):
            link.pull()
