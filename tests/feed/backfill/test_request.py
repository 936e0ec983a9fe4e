"""The stages of one request: which follows which, and what each side may do in it."""

from __future__ import annotations

from typing import Any

import pytest

from feed.backfill import request as request_module
from feed.backfill.past import LogCut
from feed.backfill.recorded import RecordedMessage, RecordedPart, RecordedState
from feed.backfill.request import ATTEMPTS_MAX, BackfillRequest, Stage
from feed.channels.hub import Hub, HubSettings
from feed.channels.steps import whole
from feed.channels.subscriber import Subscriber
from feed.channels.subscription import Limits
from feed.errors import Unreachable
from tests.feed.backfill.by_hand import REFUSAL, ByHand
from tests.feed.backfill.logs import FeedLog, ask, short

BYTES = 1 << 20


class Made(ByHand):
    """One request over one log with ten trades, from after the third on; its client has nothing else."""

    def __init__(self, channels: str = "trades", symbols: str = "X:A", **settings: Any) -> None:
        self.log = FeedLog()
        self.log.ticks(10)
        super().__init__(self.log, **settings)
        self.subscriber = Subscriber(self.hub, "owner")
        cuts = {"x/0": LogCut(time=2)}
        self.request = BackfillRequest(ask(channels, symbols), cuts, self.hub, self.subscriber)
        self.start(self.request)

    def begun(self, recorded: RecordedPart | None = None) -> BackfillRequest:
        """It was answered."""
        self.ready(self.request, recorded)
        self.results = whole(self.request.begin(Limits(subscriptions_max=10_000, patterns_max=64)))
        return self.request

    def to_end(self) -> BackfillRequest:
        """All that its log has was sent."""
        request = self.begun()
        self.give_rest(request)
        while request.due:
            request.pull(BYTES)
        return request

    @property
    def more(self) -> int:
        """How many pages it has asked for."""
        return self.asked_for[self.request]


def recorded_part() -> RecordedPart:
    states = {("trades", "X:A"): RecordedState("x/0@a", 0, [trade(0, "snapshot").message])}
    return RecordedPart({"x/0@a": 2}, {("trades", "X:A"): ("x/0@a", 2)}, states, client_marks={}, late=None)


def trade(seq: int, what: str = "update") -> RecordedMessage:
    text = f'{{"type":"{what}","channel":"trades","symbol":"X:A","prev":{seq - 1},"seq":{seq}}}'
    return RecordedMessage("trades", "X:A", "x/0@a", text.encode())


def test_it_is_looked_for_first() -> None:
    request = Made().request
    assert request.stage is Stage.FINDING
    assert request.owner == "owner"
    assert not (request.answerable or request.due or request.over or request.wants_recorded)


def test_what_cannot_be_found_is_refused() -> None:
    request = Made().request
    request.fail(Unreachable("planted"), REFUSAL)
    assert (request.stage, request.refusal) == (Stage.REFUSED, REFUSAL)
    assert request.answerable and request.over and not request.due


def test_what_fails_before_its_answer_is_refused_too() -> None:
    made = Made()
    made.ready(made.request)
    made.request.fail(Unreachable("planted"), REFUSAL)
    assert (made.request.stage, made.request.refusal) == (Stage.REFUSED, REFUSAL)


def test_it_is_answered_as_of_its_cuts() -> None:
    made = Made()
    made.ready(made.request)
    assert (made.request.stage, made.request.answerable) == (Stage.READY, True)
    assert not made.request.due
    made.begun()
    assert [(one.mode, one.seq) for one in made.results] == [("snapshot", 2)]
    assert (made.request.stage, made.request.answerable, made.request.due) == (Stage.LOGS, False, True)


def test_a_source_that_begins_late_begins_with_a_gap() -> None:
    made = Made()
    made.request.begin_late("x/0@a", "evicted")
    made.begun()
    assert [one.mode for one in made.results] == ["gap"]


def test_the_next_page_is_asked_for_when_the_one_before_was_sent() -> None:
    made = Made()
    request = made.begun()
    assert made.more == 0
    told = []
    while not made.more:
        told += short(request.pull(1))
    assert told == ["snapshot trades X:A 2", "update trades X:A 3"]
    request.past.give(request.past.logs[0], made.log.records[5:7])
    assert request.due
    assert short(request.pull(1)) == ["update trades X:A 4"]
    assert made.more == 1  # there is one more record
    assert short(request.pull(1)) == ["update trades X:A 5"]
    assert made.more == 2


def test_at_the_end_of_the_logs_it_becomes_live() -> None:
    made = Made()
    request = made.to_end()
    request.at_end()
    assert (request.stage, request.due) == (Stage.AT_END, True)
    more = made.more
    assert request.pull(BYTES) == b""
    assert (request.stage, request.over, request.due) == (Stage.LIVE, True, False)
    assert (made.stopped, made.more) == ([request], more)
    assert short(made.subscriber.pull(BYTES)) == ["caught_up t"]
    assert made.subscriber.in_step


def test_what_came_meanwhile_is_sent_before_it_is_compared() -> None:
    made = Made()
    request = made.to_end()
    made.log.tick()
    made.give_rest(request)
    request.at_end()
    assert short(request.pull(1)) == ["update trades X:A 10"]
    # memory is behind: they do not meet, and the logs are read on
    assert (request.stage, request.due) == (Stage.LOGS, False)
    more = made.more
    made.follow()
    request.at_end()
    request.pull(BYTES)
    assert (request.stage, made.more) == (Stage.LIVE, more)


def test_pages_that_are_due_are_sent_before_it_is_compared() -> None:
    made = Made()
    request = made.begun()
    made.give_rest(request)
    request.at_end()
    more = made.more
    request.pull(1)
    assert request.past.due
    assert (request.stage, made.more) == (Stage.AT_END, more)


def test_it_is_compared_some_steps_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feed.backfill.cutover.STRIDE", 1)
    monkeypatch.setattr(request_module, "STEP_CHANNELS", 1)
    made = Made()
    request = made.to_end()
    request.at_end()
    pages = 0
    while request.stage is Stage.AT_END:
        request.pull(BYTES)
        pages += 1
    assert request.stage is Stage.LIVE
    assert pages > 1


def test_where_memory_and_log_never_meet_it_becomes_live_with_a_gap() -> None:
    made = Made()
    request = made.to_end()
    made.log.tick(recorded=False)  # the log has lost what memory goes on with
    made.log.record()
    made.follow()
    made.forget()
    for attempt in range(ATTEMPTS_MAX):
        request.at_end()
        request.pull(BYTES)
        assert request.stage is Stage.LOGS, attempt
    request.at_end()
    request.pull(BYTES)
    assert request.stage is Stage.LIVE
    assert short(made.subscriber.pull(BYTES)) == ["gap trades X:A 9..10 evicted", "caught_up t"]


def test_what_was_recorded_is_sent_first_then_the_logs_go_on() -> None:
    made = Made()
    request = made.begun(recorded_part())
    assert [(one.mode, one.seq) for one in made.results] == [("snapshot", 0)]
    assert (request.stage, request.wants_recorded, request.due) == (Stage.RECORDED, True, True)
    assert short(request.pull(BYTES)) == ["snapshot trades X:A 0"]
    assert (made.more, request.due) == (1, False)
    request.give_recorded([trade(1), trade(2)])
    assert request.due
    assert short(request.pull(1)) == ["update trades X:A 1"]
    assert made.more == 1
    assert short(request.pull(1)) == ["update trades X:A 2"]
    assert made.more == 2
    request.end_recorded()
    assert not request.wants_recorded
    assert (request.stage, request.due) == (Stage.RECORDED, True)
    assert short(request.pull(BYTES)) == []
    assert request.stage is Stage.LOGS
    made.give_rest(request)
    told: list[str] = []
    while request.due:
        told += short(request.pull(BYTES))
    assert told == [f"update trades X:A {seq}" for seq in range(3, 10)]


def test_where_a_recording_breaks_off_the_logs_go_on_with_a_gap() -> None:
    made = Made()
    request = made.begun(recorded_part())
    request.give_recorded([trade(1)])
    request.end_recorded(broke_off=True)
    made.give_rest(request)
    told: list[str] = []
    while request.due:
        told += short(request.pull(BYTES))
    assert told[:4] == [
        "snapshot trades X:A 0",
        "update trades X:A 1",
        "gap trades X:A 1..2 recording",
        "update trades X:A 3",
    ]


@pytest.mark.parametrize("recorded", [None, recorded_part()])
def test_what_fails_after_its_answer_ends_its_connection(recorded: RecordedPart | None) -> None:
    made = Made()
    request = made.begun(recorded)
    request.fail(Unreachable("planted"), REFUSAL)
    assert (request.stage, request.refusal, request.due) == (Stage.FAILED, None, True)
    with pytest.raises(Unreachable, match="planted"):
        request.pull(BYTES)


def test_what_fails_while_it_is_answered_ends_its_connection() -> None:
    made = Made("trades", " ".join(f"X:{number}" for number in range(200)))
    made.ready(made.request)
    steps = made.request.begin(Limits(subscriptions_max=10_000, patterns_max=64))
    next(steps)
    made.request.fail(Unreachable("planted"), REFUSAL)
    whole(steps)
    with pytest.raises(Unreachable):
        made.request.pull(BYTES)


def test_one_that_nobody_wants_any_more_is_told_to_have_caught_up() -> None:
    made = Made()
    request = made.begun()
    request.leave()
    assert (request.stage, request.over, request.due) == (Stage.LEFT, True, False)
    assert made.stopped == [request]
    assert short(made.subscriber.pull(BYTES)) == ["caught_up t"]


def test_one_whose_client_is_gone_is_not_read_for_any_more() -> None:
    made = Made()
    made.request.close()
    assert (made.request.stage, made.stopped) == (Stage.LEFT, [made.request])
    assert made.subscriber.in_step  # nothing is to be told


def test_one_that_no_reader_has_can_be_closed() -> None:
    hub = Hub(HubSettings())
    request = BackfillRequest(ask("trades", "X:A"), {}, hub, Subscriber(hub, None))
    request.close()
    assert request.over
