"""What subscribing and leaving do, what a request costs, and that it is done in steps: the ack after them, in order.

(Over 400 lines: a request by name, by pattern and from another view are the same steps.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from feed.channels.channel import Channel, Listing
from feed.channels.roster import Roster
from feed.channels.steps import STEP_CHANNELS, whole
from feed.channels.subscriber import Subscriber
from feed.channels.subscription import Limits, unsubscribe
from feed.protocol.session import Session, SessionSettings
from tests.feed.channels.desk import Desk, Link
from tests.reference_client import payloads
from tests.truth import some_data

KINDS = ["trades", "quotes"]


def market(symbols: int = 600, **settings: Any) -> Desk:
    """Two venues, the first with nearly all symbols."""
    made = Desk(session=SessionSettings(**settings) if settings else None)
    for number in range(symbols):
        made.tick("trades quotes", f"X:{number:04}")
    for number in range(3):
        made.tick("trades quotes", f"Y:{number:04}")
    made.read()
    return made


def text(op: str, id_: int = 1, **fields: Any) -> bytes:
    return json.dumps({"op": op, "id": id_, **fields}).encode()


def said(frames: bytes) -> list[dict[str, Any]]:
    return [message for payload in payloads(frames) for message in json.loads(payload)]


def test_a_pattern_looks_at_no_other_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = market()
    looked: list[int] = []
    honest = Roster.of

    def of(self: Roster, prefix: str) -> Mapping[int, Listing]:
        looked.append(len(honest(self, prefix)))
        return honest(self, prefix)

    monkeypatch.setattr(Roster, "of", of)
    link = desk.link()
    link.subscribe("trades quotes", "Y:*")
    link.drain()
    link.ask("unsubscribe", "trades quotes", "Y:* " + " ".join(f"V{number}:*" for number in range(100)))
    assert max(looked) == 3


def test_the_cost_is_known_and_taken_before_any_of_it_is_done() -> None:
    desk = market(requests_burst=4, requests_per_second=1)
    made = Session(desk.distributor, None, desk.session)
    patterns = [f"V{number}:*" for number in range(1_000)]
    assert [m["type"] for m in said(made.receive(text("list"), 1))] == ["ack"]
    frames = made.receive(text("unsubscribe", 2, channels=["trades"], symbols=patterns), 1)
    while made.under_way:
        frames += made.wake(1)
    assert [m["type"] for m in said(frames)] == ["ack"]
    # three tokens for a thousand patterns: none are left for a fourth request
    assert made.receive(text("subscribe", 3, channels=["trades"], symbols=["X:*"]), 1) == b""
    assert not made.under_way
    assert not made.subscriber.interest.count
    assert made.wake_at is not None
    assert [m["type"] for m in said(made.wake(made.wake_at))][:1] == ["ack"]
    assert made.subscriber.interest.count == 1


def test_everything_fits_the_burst() -> None:
    settings = SessionSettings()
    assert settings.requests_burst >= 1 + 12_004 / 500


def test_a_large_request_is_done_in_steps_and_answered_in_its_place() -> None:
    desk = market()
    made = Session(desk.distributor, None, SessionSettings())
    names = [f"X:{number:04}" for number in range(600)]
    frames = made.receive(text("subscribe", 1, channels=KINDS, symbols=names), 1)
    assert frames == b""
    steps = 0
    assert made.receive(text("ping", 2), 1) == b""
    while made.under_way:
        assert not said(frames)
        assert made.pull(1 << 20, 1) == b""
        assert not made.due
        desk.step("trades", "X:0001")  # others go on meanwhile
        frames += made.wake(1)
        steps += 1
    assert steps >= 1_200 // STEP_CHANNELS
    answers = [message for message in said(frames) if message["type"] in ("ack", "pong")]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert len(answers[0]["results"]) == 1_200
    assert said(frames)[0]["type"] == "ack"


def test_a_heartbeat_does_nothing_of_a_request() -> None:
    desk = market()
    made = Session(desk.distributor, None, SessionSettings(requests_burst=10))
    names = [f"X:{number:04}" for number in range(600)]
    made.receive(text("subscribe", 1, channels=KINDS, symbols=names), 1)
    begun = made.subscriber.interest.count
    assert made.under_way
    for second in range(1, 20):
        assert [m["type"] for m in said(made.heartbeat(second * 10**9))] == ["heartbeat"]
    assert made.subscriber.interest.count == begun < 1_200
    while made.under_way:
        made.wake(1)
    for id_ in range(2, 20):
        made.receive(text("ping", id_), 1)  # of which some wait for the rate
    assert made.wake_at is not None
    assert [m["type"] for m in said(made.heartbeat(made.wake_at))] == ["heartbeat"]
    assert said(made.wake(made.wake_at + 10**6))


def test_what_a_client_that_has_gone_has_asked_for_is_not_done() -> None:
    desk = market()
    made = Session(desk.distributor, None, SessionSettings())
    made.receive(text("subscribe", 1, channels=KINDS, symbols=[f"X:{number:04}" for number in range(600)]), 1)
    assert made.under_way
    done = made.subscriber.interest.count
    made.close()
    assert not made.under_way
    assert made.wake(1) == b""
    assert done < 1_200
    assert not desk.hub.behind


def joined(desk: Desk, **fields: Any) -> tuple[Link, list[bytes]]:
    link = desk.link()
    link.subscribe("trades quotes", "*", **fields)
    link.drain(32 * 1024)
    return link, link.frames[2:]


@pytest.mark.parametrize("start", [None, "live", {"marks": {"x/0@a": 10}}, {"last": 1}])
def test_equal_joins_get_equal_messages_however_many_there_were_before(start: Any) -> None:
    desk = market(40)
    fields = {} if start is None else {"start": start}
    first, came = joined(desk, **fields)
    second, same = joined(desk, **fields)
    assert [json.loads(frame) for frame in same] == [json.loads(frame) for frame in came]
    assert second.session.subscriber.selection is first.session.subscriber.selection
    assert second.session.subscribers.account() == first.session.subscribers.account()
    # one that comes after a change gets what is true then
    desk.step("trades quotes", "X:0007")
    third, _ = joined(desk, **fields)
    desk.step("trades quotes", "X:0007")
    if start is None:
        for link in (first, second, third):
            desk.agrees(link, "trades", "X:0007")
            desk.agrees(link, "quotes", "X:0007")


def begun_of(monkeypatch: pytest.MonkeyPatch) -> list[Channel]:
    """The channels that are worked out for a join, from now on."""
    begun: list[Channel] = []
    honest = Subscriber._begin

    def begin(self: Subscriber, channel: Channel, *rest: Any, **more: Any) -> None:
        begun.append(channel)
        honest(self, channel, *rest, **more)

    monkeypatch.setattr(Subscriber, "_begin", begin)
    return begun


def test_equal_joins_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = market(200)
    begun = begun_of(monkeypatch)
    joined(desk)
    assert len(begun) == 406
    joined(desk)
    joined(desk)
    once = len(begun)
    assert once < 430  # but for the symbols at the end of a page
    desk.step("trades", "X:0001")
    joined(desk)
    assert once < len(begun) < once + 40


def test_patterns_that_are_left_count_for_the_limit_too() -> None:
    desk = market(3, patterns_max=2)
    link = desk.link()
    link.subscribe("trades", "*")
    results = link.ask("unsubscribe", "trades", "X:* Y:*")["results"]
    assert [result.get("code") for result in results] == [None, "subscription_limit"]
    listed = link.ask("list")["results"]
    assert [(one["symbol"], one["matched"], one["without"]) for one in listed] == [("*", 3, ["X:*"])]


def test_a_list_names_what_was_taken_out_of_a_pattern() -> None:
    desk = market(3)
    link = desk.link()
    link.subscribe("trades quotes", "*")
    link.ask("unsubscribe", "trades", "X:0001 Y:*")
    listed = {one["channel"]: one for one in link.ask("list")["results"]}
    assert listed["trades"]["without"] == ["Y:*", "X:0001"]
    assert listed["trades"]["matched"] == 2
    assert "without" not in listed["quotes"]


def test_parameters_can_be_given_back_as_results_tell_them() -> None:
    desk = market(3)
    link = desk.link()
    told = link.subscribe("quotes", "X:0001")["results"][0]
    again = link.subscribe("quotes", "X:0001", every_ms=told["every_ms"], depth=told["depth"], on_lag=told["on_lag"])
    assert again["ok"]


def ask_slowly(desk: Desk, link: Link, between: Callable[[], None], **request: Any) -> dict[str, Any]:
    """Asks, with something happening between any two steps; the answer."""
    link.take(link.session.receive(link.client.ask(request), link.now))
    assert link.session.under_way
    while link.session.under_way:
        between()
        link.take(link.session.wake(link.now))
    link.drain()
    return link.client.answers[list(link.client.answers)[-1]]


def test_what_a_channel_goes_on_from_is_what_its_client_has_had() -> None:
    desk = market()
    names = [f"X:{number:04}" for number in range(600)]
    link = desk.link()
    ask_slowly(desk, link, lambda: None, op="subscribe", channels=KINDS, symbols=names)
    had = link.channel("quotes", names[-1]).pos
    again = {"op": "subscribe", "channels": KINDS, "symbols": names, "on_lag": "close"}
    answer = ask_slowly(desk, link, lambda: desk.step("quotes", names[-1]), **again)
    assert (answer["results"][-1]["mode"], answer["results"][-1]["seq"]) == ("resumed", had)
    desk.agrees(link, "quotes", names[-1])


def test_a_step_joins_as_of_the_flush_that_it_finds() -> None:
    desk = market()
    names = [f"X:{number:04}" for number in range(600)]
    turns = iter([True])

    def turn() -> None:
        if next(turns, False):
            desk.switch("x/0@b", carries=True)
            for name in names:
                desk.keyframe(name)
            desk.step("quotes", names[-1])

    link = desk.link()
    answer = ask_slowly(desk, link, turn, op="subscribe", channels=KINDS, symbols=names)
    last = answer["results"][-1]
    assert (last["mode"], last["source"]) == ("snapshot", "x/0@b")
    # what it was told is so: nothing has to be taken back
    assert f"gap quotes {names[-1]}" not in link.types()
    assert f"gap trades {names[0]}" in link.types()
    desk.agrees(link, "quotes", names[-1])


@pytest.mark.parametrize("start", [None, "live", {"marks": {"x/0@a": 0}}, {"last": 1}])
@pytest.mark.parametrize("meanwhile", ["a channel begins", "many ask for others"])
def test_who_joins_slowly_is_not_given_what_is_not_true_any_more(start: Any, meanwhile: str) -> None:
    desk = market(40, page_bytes=500, requests_burst=1000)
    fields = {} if start is None else {"start": start}
    slow, quick = desk.link(), desk.link()
    for link in (slow, quick):
        link.full = True
        link.subscribe("trades quotes", "*", **fields)
    slow.pull(1)
    quick.drain(32 * 1024)
    if meanwhile == "a channel begins":
        desk.step("trades", "Z:NEW")
    for number in range(20):
        other = desk.link()
        other.subscribe("trades", f"* U{number}:*")
        other.session.close()
    for _ in range(3):
        for number in range(40):
            desk.tick("trades quotes", f"X:{number:04}")
        desk.read()
    slow.drain(32 * 1024)
    desk.step("trades quotes", "X:0039")
    for link in (slow, quick):
        for number in range(40):
            for kind in KINDS:
                channel = link.channel(kind, f"X:{number:04}")
                assert channel.pos == desk.source.truths[kind, f"X:{number:04}"].seq
        assert not link.client.holes


def test_plans_that_are_asked_for_again_and_again_stay_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = market(200)
    begun = begun_of(monkeypatch)
    joined(desk)
    once = len(begun)
    for number in range(40):
        other = desk.link()
        other.subscribe("trades", f"U{number}:*")
        other.session.close()
        if number % 10 == 0:
            joined(desk)
    assert len(begun) < once + 5 * 10  # but for the symbols at the end of a page


def test_a_plan_that_nobody_waits_for_any_more_is_not_kept() -> None:
    desk = market(40)
    steps = [desk.hub.plan((("X:", 1), ("Y:", 1), ("", 1))) for _ in range(2)]
    for one in steps:
        next(one)
    assert len(desk.hub._making) == 1
    steps[0].close()
    assert len(desk.hub._making) == 1  # the other one goes on with what was made
    steps[1].close()
    assert not desk.hub._making
    assert not desk.hub._makers


def test_what_was_not_asked_for_is_left_without_a_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = market(10)
    link = desk.link()
    for every_ms in (0, 50, 100, 250):
        link.subscribe("trades", f"X:000{every_ms % 7}", every_ms=every_ms)
        link.drain()
    changed: list[Subscriber] = []
    honest = Subscriber.own
    monkeypatch.setattr(Subscriber, "own", lambda self: changed.append(self) or honest(self))
    results = link.ask("unsubscribe", "quotes", "X:0009 X:NOPE Y:* V:*")["results"]
    assert [result["code"] for result in results] == ["not_subscribed", "unknown_symbol"] + ["not_subscribed"] * 2
    assert not changed


def test_a_channel_in_step_is_left_without_a_look_at_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = market(10)
    link = desk.link()
    link.subscribe("trades quotes", "X:* Y:*")
    link.drain()
    desk.step("trades", "X:0001")
    honest, sums = Subscriber._sums, list[Subscriber]()
    with monkeypatch.context() as patch:
        patch.setattr(Subscriber, "_sums", lambda self: sums.append(self) or honest(self))
        link.ask("unsubscribe", "trades", "X:0001")
        link.drain()
    assert not sums
    desk.step("trades", "X:0001")
    account = link.session.subscribers.account()
    assert (account.left, account.pending) == (0, 0)


def test_what_is_left_of_a_channel_whose_updates_are_still_to_be_sent_is_counted() -> None:
    desk = market(10)
    link = desk.link()
    link.subscribe("trades quotes", "X:* Y:*")
    link.drain()
    link.full = True
    desk.step("trades", "X:0002")
    desk.step("trades", "X:0002")
    link.ask("unsubscribe", "trades", "X:0002")
    link.drain()
    account = link.session.subscribers.account()
    assert (account.left, account.pending) == (2, 0)


def test_what_a_client_has_goes_on_while_its_request_is_under_way() -> None:
    desk = market(600, requests_burst=1_000)
    names = [f"X:{number:04}" for number in range(600)]
    link = desk.link()
    link.subscribe("trades", "X:0001 Y:0001")
    link.subscribe("status", "X:0001")
    link.drain()
    went_on = 0

    def others_ask() -> None:
        nonlocal went_on
        for _ in range(4):
            desk.step("trades", "X:0001")
        while link.session.due:
            link.pull(200)
        went_on += link.channel("trades", "X:0001").pos == desk.source.seq

    ask_slowly(desk, link, others_ask, op="subscribe", channels=["quotes"], symbols=names)
    assert went_on >= 2
    ask_slowly(desk, link, others_ask, op="unsubscribe", channels=["quotes"], symbols=names)
    desk.agrees(link, "trades", "X:0001")
    before = len(link.frames)
    request = {"op": "subscribe", "channels": ["status", "book"], "symbols": names, "wait": True}
    link.take(link.session.receive(link.client.ask(request), link.now))
    # what begins, and may have been asked for, is told after the answer, with all that follows
    desk.step("status", "X:0001")
    desk.step("trades", "X:0001")
    while link.session.due:
        link.pull()
    assert len(link.frames) == before
    while link.session.under_way:
        link.take(link.session.wake(link.now))
    link.drain()
    desk.agrees(link, "trades", "X:0001")
    assert link.channel("status", "X:0001").pos == desk.source.truths["status", "X:0001"].seq


def test_what_was_taken_out_of_a_pattern_counts_for_a_list() -> None:
    desk = market(600)
    link = desk.link()
    link.subscribe("trades", "*")
    link.ask("unsubscribe", "trades", " ".join(f"X:{number:04}" for number in range(600)))
    assert link.session.subscribers.touched(None, None) >= 600


def test_marks_speak_of_what_a_request_begins_anew_only_when_it_is_answered() -> None:
    desk = market(600, requests_burst=1_000)
    names = [f"X:{number:04}" for number in range(600)]
    link = desk.link()
    link.subscribe("trades", " ".join(names))
    link.drain()
    request = {"op": "subscribe", "channels": ["trades"], "symbols": names, "from": "snapshot"}
    link.take(link.session.receive(link.client.ask(request), link.now))
    desk.step("trades", names[0])  # it is to begin anew
    desk.step("trades", names[-1])  # it goes on
    while link.session.due:
        link.pull()
    link.take(link.session.heartbeat(link.now))
    assert link.session.under_way
    desk.step("trades", names[0])
    link.session.close()
    link.client.connect()
    again = desk.link(link.client)
    for text in link.client.resume():
        again.take(again.session.receive(text, again.now))
        while again.session.under_way:
            again.take(again.session.wake(again.now))
    again.drain()
    desk.agrees(again, "trades", names[0])
    desk.agrees(again, "trades", names[-1])


def result_of(link: Link, op: str, kind: str, symbol: str, **fields: Any) -> dict[str, Any]:
    (only,) = link.ask(op, kind, symbol, **fields)["results"]
    assert isinstance(only, dict)
    return only


def settle(link: Link) -> None:
    """Pulls all that it has coming, in views too."""
    while link.session.due:
        link.pull()


def small() -> Desk:
    """Three symbols, of which bars are silent."""
    desk = Desk()
    for symbol in ("X:A", "X:B", "Y:A"):
        for _ in range(2):
            desk.step("trades quotes book", symbol)
    return desk


class TestByName:
    def test_a_channel_that_is_there_keeps_its_place(self) -> None:
        desk = small()
        link = desk.link()
        first = result_of(link, "subscribe", "trades", "X:A")
        assert (first["mode"], first["source"], first["seq"]) == ("snapshot", "x/0@a", 1)
        desk.step("trades")
        again = result_of(link, "subscribe", "trades", "X:A")
        assert (again["mode"], again["seq"]) == ("resumed", desk.source.seq)
        anew = result_of(link, "subscribe", "trades", "X:A", start="snapshot")
        assert (anew["mode"], anew["seq"]) == ("snapshot", 1)  # as it lies, and what came since
        desk.step("trades")
        settle(link)
        desk.agrees(link, "trades")

    def test_a_silent_kind_is_live_from_its_first_update_on(self) -> None:
        desk = small()
        link = desk.link()
        told = result_of(link, "subscribe", "bars", "X:A")
        assert (told["mode"], told["source"], told["seq"]) == ("live", "x/0@a", -1)
        assert result_of(link, "subscribe", "bars", "X:A")["mode"] == "live"
        desk.step("bars")
        desk.agrees(link, "bars")
        assert "joined bars X:A" not in link.types()

    def test_a_channel_of_which_only_a_state_is_known_is_live(self) -> None:
        desk = Desk()
        desk.step("trades")
        desk.source.stale("X:A", "gap")
        desk.read()
        link = desk.link()
        assert result_of(link, "subscribe", "book", "X:A")["seq"] == -1
        settle(link)
        assert link.channel("book", "X:A").state[1] == "stale"
        desk.step("book")
        desk.agrees(link, "book")

    def test_one_that_waits_is_told_as_it_will_begin(self) -> None:
        desk = small()
        link = desk.link()
        for _ in range(2):
            assert result_of(link, "subscribe", "trades", "X:NEW", wait=True)["mode"] == "awaited"
        assert result_of(link, "subscribe", "trades", "X:NEW")["code"] == "unknown_symbol"
        listed = [(r["symbol"], r["mode"]) for r in link.ask("list")["results"]]
        assert listed == [("X:NEW", "awaited")]
        # one that it waits for is known by another kind of it meanwhile
        desk.step("quotes", "X:NEW")
        assert result_of(link, "subscribe", "trades", "X:NEW")["mode"] == "live"
        desk.step("trades", "X:NEW")
        settle(link)
        desk.agrees(link, "trades", "X:NEW")

    def test_what_is_asked_for_twice_in_a_request_is_done_once(self) -> None:
        link = small().link()
        results = link.subscribe("trades trades", "X:A X:A X:NOPE", start={"last": 1})["results"]
        assert [r.get("code") for r in results] == [None, "unknown_symbol"]
        settle(link)
        assert link.types().count("snapshot trades X:A") == 1
        assert link.client.caught_up == [1]

    def test_leaving_what_is_waited_for_what_a_pattern_has_and_what_is_not_there(self) -> None:
        desk = small()
        link = desk.link()
        link.subscribe("trades", "X:NEW", wait=True)
        assert result_of(link, "unsubscribe", "trades", "X:NEW")["ok"]
        assert result_of(link, "unsubscribe", "trades", "X:NEW")["code"] == "unknown_symbol"
        link.subscribe("trades", "X:*")
        assert result_of(link, "unsubscribe", "trades", "X:A")["ok"]
        assert result_of(link, "unsubscribe", "trades", "X:A")["code"] == "not_subscribed"
        assert result_of(link, "unsubscribe", "tapes", "X:A")["code"] == "unknown_channel"
        assert result_of(link, "subscribe", "tapes", "X:*")["code"] == "unknown_channel"
        settle(link)
        came = len(link.frames)
        desk.step("trades", "X:A")
        assert len(link.frames) == came
        (pattern,) = link.ask("list")["results"]
        assert (pattern["symbol"], pattern["matched"], pattern["without"]) == ("X:*", 1, ["X:A"])


class TestByPattern:
    def test_what_is_there_keeps_its_place_and_the_rest_begins(self) -> None:
        desk = small()
        link = desk.link()
        link.subscribe("trades", "X:A")
        assert result_of(link, "subscribe", "trades", "X:*")["matched"] == 2
        settle(link)
        assert link.types().count("snapshot trades X:A") == 1
        assert link.types().count("joined trades X:B") == 1
        assert result_of(link, "subscribe", "trades", "X:*", start="snapshot")["matched"] == 2
        settle(link)
        assert link.types().count("snapshot trades X:A") == 2
        for symbol in ("X:A", "X:B"):
            desk.step("trades", symbol)
            desk.agrees(link, "trades", symbol)

    def test_leaving_a_part_of_one_leaves_the_rest(self) -> None:
        desk = small()
        link = desk.link()
        link.subscribe("trades quotes", "*")
        assert result_of(link, "unsubscribe", "trades", "X:*")["matched"] == 2
        settle(link)
        desk.tick("trades quotes", "X:A")
        desk.tick("trades", "Y:A")
        desk.tick("trades", "X:NEW")
        desk.read()
        assert link.channel("quotes", "X:A").pos == desk.source.seq - 2
        assert link.channel("trades", "X:A").pos < desk.source.seq - 2
        assert ("trades", "X:NEW") not in link.client.channels
        desk.agrees(link, "trades", "Y:A")
        found = {r["channel"]: (r["matched"], r.get("without")) for r in link.ask("list")["results"]}
        assert found == {"trades": (1, ["X:*"]), "quotes": (3, None)}

    def test_limits_are_on_patterns_and_on_all(self) -> None:
        desk = small()
        desk.session = SessionSettings(subscriptions_max=2, patterns_max=2)
        link = desk.link()
        results = link.subscribe("trades quotes book", "X:*")["results"]
        assert [r.get("code") for r in results] == [None, None, "subscription_limit"]
        assert result_of(link, "subscribe", "trades", "Y:*")["code"] == "subscription_limit"
        assert result_of(link, "subscribe", "trades", "Y:A")["code"] == "subscription_limit"
        assert result_of(link, "subscribe", "trades", "Y:NEW", wait=True)["code"] == "subscription_limit"
        link.ask("unsubscribe")
        link.subscribe("trades quotes", "*")
        assert result_of(link, "unsubscribe", "trades", "X:*")["code"] == "subscription_limit"

    @pytest.mark.parametrize("start", ["snapshot", "live", {"last": 1}, {"marks": {"x/0@a": 3}}])
    def test_each_begins_as_the_request_says(self, start: Any) -> None:
        desk = small()
        link = desk.link()
        link.subscribe("trades book", "X:* Y:*", start=start)
        settle(link)
        for symbol in ("X:A", "X:B", "Y:A"):
            desk.step("trades book", symbol)
            assert link.channel("trades", symbol).pos == link.channel("book", symbol).pos == desk.source.seq
        assert not link.client.holes


class TestFromAnotherView:
    """A channel goes on where it stood, as far as what is told there can be said to follow."""

    @pytest.mark.parametrize("symbols", ["X:A", "X:*", "X:A X:B"])
    @pytest.mark.parametrize("depth", [0, 1])
    @pytest.mark.parametrize("back", [False, True])
    def test_by_name_and_by_pattern(self, symbols: str, depth: int, back: bool) -> None:
        desk = small()
        link = desk.link()
        ways: list[dict[str, int]] = [{"every_ms": 50, "depth": depth} if depth else {"every_ms": 50}, {}]
        for turn, way in enumerate(reversed(ways) if back else ways):
            link.subscribe("book quotes", symbols, **way)
            settle(link)
            for _ in range(2):
                desk.step("book quotes")
            desk.now += 100_000_000
            desk.flush()
            settle(link)
            if "depth" not in way:
                desk.agrees(link, "book")
            desk.agrees(link, "quotes")
            # what goes on needs no second snapshot
            assert link.types().count("snapshot quotes X:A") == 1, turn
        assert not link.client.holes

    def test_a_resume_in_a_view_of_what_it_has_let_go_is_by_snapshot(self) -> None:
        desk = Desk(resume_window_bytes_max=1_500)
        for _ in range(10):
            desk.step("quotes book")
            desk.keyframe()
        link = desk.link()
        told = link.subscribe("quotes book", "X:A", every_ms=50, depth=1, start={"marks": {"x/0@a": 1}})
        assert {r["mode"] for r in told["results"]} == {"snapshot"}
        settle(link)
        assert link.client.caught_up == [1]
        desk.agrees(link, "quotes")

    def test_what_it_waits_for_is_waited_for_there(self) -> None:
        desk = small()
        link = desk.link()
        link.subscribe("quotes", "X:NEW", wait=True)
        result_of(link, "subscribe", "quotes", "X:NEW", wait=True, every_ms=50)
        assert [r["every_ms"] for r in link.ask("list")["results"]] == [50]
        desk.step("quotes", "X:NEW")
        settle(link)
        desk.agrees(link, "quotes", "X:NEW")


def test_channels_begin_while_a_pattern_is_joined_or_left_in_steps() -> None:
    desk = market(400)
    link, other = desk.link(), desk.link()
    link.subscribe("trades", "Y:0000")
    other.subscribe("trades", "*")
    settle(other)
    for client, op in ((link, "subscribe"), (other, "unsubscribe")):
        client.take(client.session.receive(client.client.ask({"op": op, "channels": KINDS, "symbols": ["X:*"]}), 1))
        assert client.session.under_way
    number = 0
    while link.session.under_way or other.session.under_way:
        desk.step("trades quotes", f"X:LATE{number}")
        number += 1
        for client in (link, other):
            client.take(client.session.wake(client.now))
    assert number > 2
    for client in (link, other):
        settle(client)
        desk.step("trades quotes", "X:0003")
        settle(client)
    for late in range(number):
        for kind in KINDS:
            desk.agrees(link, kind, f"X:LATE{late}")
    desk.agrees(link, "trades", "X:0003")
    assert other.channel("trades", "X:0003").pos < desk.source.seq - 1
    (listed,) = other.ask("list")["results"]
    assert (listed["symbol"], listed["matched"], listed["without"]) == ("*", 3, ["X:*"])


@pytest.mark.parametrize("every_ms", [0, 50])
def test_of_a_state_that_no_update_brought_no_mark_says_who_has_it(every_ms: int) -> None:
    desk = small()
    desk.source.history("X:OLD", some_data("trades", 5))
    desk.keyframe("X:OLD")
    desk.flush()
    link = desk.link()
    link.subscribe("trades", "*", start={"marks": {"x/0@a": desk.source.seq}}, every_ms=every_ms)
    settle(link)
    assert link.types().count("snapshot trades X:OLD") == 1
    assert link.types()[-1] == "caught_up"
    desk.step("trades", "X:OLD")
    desk.now += 100_000_000
    desk.flush()
    settle(link)
    desk.agrees(link, "trades", "X:OLD")


def test_many_patterns_are_answered_in_the_order_asked() -> None:
    link = small().link()
    patterns = " ".join(["X:*", *[f"V{number}:*" for number in range(30)]])
    results = link.subscribe("trades tapes", patterns)["results"]
    assert [r["symbol"] for r in results] == patterns.split() * 2
    assert [r.get("matched") for r in results] == [2] + [0] * 30 + [None] * 31
    assert {r.get("code") for r in results[31:]} == {"unknown_channel"}


def test_many_names_are_left_in_steps_and_answered_in_the_order_asked() -> None:
    desk = market(40)
    link = desk.link()
    names = [f"X:{number:04}" for number in range(40)]
    link.subscribe("trades", " ".join(names))
    subscriber = link.session.subscriber
    steps = unsubscribe(
        desk.hub,
        subscriber,
        ["trades", "quotes"],
        [*names, names[0]],
        Limits(subscriptions_max=10_000, patterns_max=64),
    )
    assert next(steps) > 0
    assert subscriber.interest.count == 15
    results = whole(steps)
    assert [(r.channel, r.symbol) for r in results] == [(kind, name) for kind in KINDS for name in names]
    assert [r.code for r in results[40:]] == ["not_subscribed"] * 40
    assert subscriber.interest.empty
