"""A session: one answer for each id, in order, at a rate; what a client sends changes nothing for others."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import schemas
from feed.protocol.line import error_of
from feed.protocol.session import DOUBT_LOOKS_MAX, DOUBT_NS, Close, Session, SessionSettings
from feed.wire.times import text_of
from tests.feed.channels.desk import Desk, Link
from tests.feed.gateway.pasts import Town
from tests.feed.recorder.made_up import MadeUp, head, truth_of
from tests.reference_client import payloads
from tests.schemas.validation import check

MS = 1_000_000


def messages(frames: bytes) -> list[dict[str, Any]]:
    return [message for payload in payloads(frames) for message in json.loads(payload)]


def session(**how: Any) -> Session:
    desk = Desk()
    desk.step("trades book")
    made = Session(desk.distributor, None, SessionSettings(**how))
    made.open(1)
    return made


def done(made: Session, text: bytes, now: int) -> bytes:
    """What a request is answered when it had all the turns that it needs."""
    frames = made.receive(text, now)
    while made.under_way:
        frames += made.wake(now)
    return frames


def plain(id_: object) -> bytes:
    """A request that costs as much as any."""
    return json.dumps({"op": "list", "id": id_}).encode()


def ping(id_: object) -> bytes:
    return json.dumps({"op": "ping", "id": id_}).encode()


def test_welcome_tells_what_is_offered() -> None:
    (welcome,) = messages(Session(Desk().distributor, None, SessionSettings(server="gw-7")).open(5))
    check("welcome", welcome)
    assert (welcome["server"], welcome["time"], welcome["auth"]) == ("gw-7", "5", "none")
    assert (welcome["every_ms"], welcome["depth"]) == ([50, 100, 250, 1000], [1, 10, 50])
    assert welcome["limits"]["subscriptions_max"] == 10_000


@pytest.mark.parametrize(
    ("request_", "kind", "code"),
    [
        ({"op": "auth", "token": "x"}, "ack", None),
        ({"op": "list"}, "ack", None),
        ({"op": "ping"}, "pong", None),
        ({"op": "replay", "do": "play"}, "error", "bad_replay"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["X:A"], "every_ms": 70}, "error", "bad_message"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["X:A"], "depth": 3}, "error", "bad_message"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["X:A"], "every_ms": -1}, "error", "bad_message"),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["X:A"], "depth": "1"}, "error", "bad_message"),
        ({"op": "unsubscribe", "channels": ["book"]}, "error", "bad_message"),
        ({"op": "nonesuch"}, "error", "unknown_op"),
    ],
)
def test_answers(request_: dict[str, Any], kind: str, code: str | None) -> None:
    (answer,) = messages(session().receive(json.dumps({**request_, "id": "q"}).encode(), 7))
    check(kind, answer)
    assert (answer["type"], answer["id"], answer.get("code")) == (kind, "q", code)
    if code is not None:
        assert answer["retry"] == schemas.errors()[code].retry


@pytest.mark.parametrize(
    ("request_", "ignored"),
    [
        ({"op": "subscribe", "channels": ["book"], "symbols": ["X:A"], "evry_ms": 50}, ["evry_ms"]),
        ({"op": "unsubscribe", "chanels": ["book"]}, ["chanels"]),
        ({"op": "list", "all": True}, ["all"]),
        ({"op": "auth", "token": "x", "bearer": "y"}, ["bearer"]),
        ({"op": "ping", "now": 1}, ["now"]),
        ({"op": "ping"}, None),
    ],
)
def test_a_misspelt_field_is_seen_in_the_answer(request_: dict[str, Any], ignored: list[str] | None) -> None:
    answer = messages(session().receive(json.dumps({**request_, "id": "q"}).encode(), 7))[0]
    check(answer["type"], answer)
    assert answer.get("ignored") == ignored


def test_each_error_that_the_table_says_to_wait_after_says_how_long() -> None:
    for code, row in schemas.errors().items():
        error = json.loads(
            msgspec.json.encode(error_of(code, "why", retry_after_ms=7 if code == "rate_limited" else None))
        )
        check("error", error)
        assert error["retry"] == row.retry
        assert ("retry_after_ms" in error) == ("retry_after_ms" in row.remedy)


def test_history_is_refused_item_by_item() -> None:
    text = b'{"op":"subscribe","id":1,"channels":["book","x"],"symbols":["X:A"],"from":{"time":"2026-11-20"}}'
    (ack,) = messages(session().receive(text, 1))
    check("ack", ack)
    assert [result["code"] for result in ack["results"]] == ["no_recording"] * 2


def test_an_array_is_several_requests_and_each_is_answered_by_itself() -> None:
    text = b'[{"op":"ping","id":1},{"op":"list"},7,{"op":"ping","id":"x"}]'
    answers = messages(session().receive(text, 1))
    assert [(a["type"], a.get("id")) for a in answers] == [("pong", 1), ("error", None), ("error", None), ("pong", "x")]
    for answer in answers:
        check(answer["type"], answer)


def test_the_ack_comes_before_the_data_and_everything_keeps_to_the_schemas() -> None:
    desk = Desk()
    desk.step("trades book quotes bars status instruments")
    link = desk.link()
    link.subscribe("trades book quotes bars status instruments", "X:A * X:NOPE")
    desk.step("trades book quotes bars status instruments")
    desk.step("trades", "X:NEW")
    link.take(link.session.heartbeat(5))
    link.take(link.session.goaway("shutdown", 5, 6))
    found = [message for payload in link.frames for message in json.loads(payload)]
    assert [message["type"] for message in found[:2]] == ["welcome", "ack"]
    for message in found:
        check(message["type"], message)


class TestRate:
    def test_requests_over_the_rate_wait_in_order_and_are_then_refused_in_their_place(self) -> None:
        made = session(requests_per_second=10, requests_burst=5, requests_delayed_max=3, requests_refused_max=4)
        now = 10**18
        answered: list[tuple[str, Any]] = []

        def take(frames: bytes) -> None:
            answered.extend((a["type"], a["id"]) for a in messages(frames))

        for number in range(10):
            take(made.receive(plain(number), now))
        assert answered == [("ack", number) for number in range(5)]
        assert made.wake_at is not None
        while made.wake_at is not None:
            assert made.wake_at - now <= 100 * MS + 1
            now = made.wake_at
            take(made.wake(now))
        assert answered == [("ack", n) for n in range(8)] + [("error", 8), ("error", 9)]
        assert now - 10**18 <= 301 * MS

    def test_a_refusal_says_when_to_come_again(self) -> None:
        made = session(requests_per_second=10, requests_burst=1, requests_delayed_max=0)
        made.receive(plain(1), 1)
        (refused,) = messages(made.receive(plain(2), 1))
        check("error", refused)
        assert (refused["code"], refused["retry"]) == ("rate_limited", True)
        assert 100 <= refused["retry_after_ms"] <= 200

    def test_who_goes_on_is_closed(self) -> None:
        made = session(requests_per_second=10, requests_burst=2, requests_delayed_max=2, requests_refused_max=3)
        for number in range(7):
            made.receive(plain(number), 1)
        with pytest.raises(Close) as end:
            made.receive(plain(7), 1)
        assert end.value.code == 1008

    @pytest.mark.parametrize(
        ("text", "delayed", "most"),
        [
            ('{"op":"list","id":1,"unknown":"%s"}', 10, 4),
            ('{"op":"list","id":"%s"}', 10, 2),
            ('{"op":"list","id":"%s"}', 1, 3),  # of those over the rate only the ids wait
        ],
    )
    def test_long_requests_that_wait_make_a_crowd(self, text: str, delayed: int, most: int) -> None:
        made = session(requests_burst=1, requests_delayed_max=delayed, message_bytes_max=10_000)
        asked = (text % ("x" * 9_900)).encode()
        made.receive(b'{"op":"subscribe","id":0,"channels":["trades"],"symbols":["*"]}', 1)
        taken = 0
        while not made.crowded and taken < 100:
            made.receive(asked, 1)
            taken += 1
        assert taken == most
        now = 1
        while made.wake_at is not None:
            now = made.wake_at + MS
            made.wake(now)
        assert not made.crowded

    def test_who_pauses_is_forgiven(self) -> None:
        made = session(requests_per_second=10, requests_burst=2, requests_delayed_max=2, requests_refused_max=3)
        now = 1
        for _ in range(10):
            for number in range(7):
                made.receive(plain(number), now)
            for _ in range(2):
                now += 10**9
                made.wake(now)

    def test_a_clock_that_is_set_back_or_ahead_breaks_nothing(self) -> None:
        made = session(requests_per_second=10, requests_burst=2, requests_delayed_max=5)
        day = 86_400 * 10**9
        for number in range(4):
            made.receive(plain(number), 10 * day)
        assert made.wake_at is not None
        made.wake(9 * day)
        assert made.wake_at is not None
        assert made.wake_at <= 9 * day + 100 * MS + 1
        assert len(messages(made.wake(10 * day))) == 2

    def test_a_ping_a_second_costs_nothing(self) -> None:
        made = session(requests_per_second=1, requests_burst=5, requests_delayed_max=0)
        now = 10**18
        for number in range(30):
            assert [m["type"] for m in messages(made.receive(ping(f"p{number}"), now))] == ["pong"]
            assert [m["type"] for m in messages(made.receive(b'{"op":"list","id":1}', now))] == ["ack"]
            now += 10**9
        made = session(requests_per_second=1, requests_burst=5, requests_delayed_max=0)
        answers = [messages(made.receive(ping(number), now))[0]["type"] for number in range(8)]
        assert answers == ["pong"] * 6 + ["error"] * 2

    def test_large_requests_cost_more(self) -> None:
        desk = Desk()
        for number in range(2_000):
            desk.tick("quotes", f"X:{number}")
        desk.read()
        made = Session(desk.distributor, None, SessionSettings(requests_burst=10, requests_delayed_max=100))
        made.open(1)
        subscribe = b'{"op":"subscribe","id":1,"channels":["quotes"],"symbols":["*"]}'
        unsubscribe = b'{"op":"unsubscribe","id":1,"channels":["quotes"],"symbols":["*"]}'
        answered = 0
        for _ in range(20):
            answered += len([m for m in messages(made.receive(subscribe, 1)) if m["type"] == "ack"])
            answered += len([m for m in messages(made.receive(unsubscribe, 1)) if m["type"] == "ack"])
        assert answered <= 3

    def test_a_list_costs_what_it_walks_over(self) -> None:
        desk = Desk()
        for number in range(2_000):
            desk.tick("quotes trades" if number % 2 else "quotes", f"X:{number}")
        desk.read()
        made = Session(desk.distributor, None, SessionSettings(requests_burst=20, requests_delayed_max=100))
        made.open(1)
        for channels, symbols in (("quotes", "*"), ("trades", "*"), ("quotes", "X:*")):
            text = {"op": "subscribe", "id": 1, "channels": [channels], "symbols": [symbols], "from": "live"}
            done(made, json.dumps(text).encode(), 1)
        while made.due:
            made.pull(1 << 20, 1)
        done(made, b'{"op":"unsubscribe","id":1,"channels":["quotes"],"symbols":["X:7"]}', 1)
        while made.due:
            made.pull(1 << 20, 1)
        now = 10 * 10**9
        (told,) = [m for m in messages(done(made, b'{"op":"list","id":2}', now)) if m["type"] == "ack"]
        check("ack", told)
        matched = [(one["channel"], one["symbol"], one["matched"], one.get("without")) for one in told["results"]]
        assert matched == [
            ("trades", "*", 1_000, None), ("quotes", "*", 1_999, ["X:7"]), ("quotes", "X:*", 1_999, ["X:7"]),
        ]  # fmt: skip
        # each costs a token, and one more for 500 of its 3,000 channels: the third would be over 20
        answers = [messages(done(made, b'{"op":"list","id":3}', now)) for _ in range(3)]
        assert [len(found) for found in answers] == [1, 0, 0]


class TestPages:
    def test_a_first_page_comes_with_the_answer_and_the_rest_is_pulled(self) -> None:
        desk = Desk(session=SessionSettings(page_bytes=1, requests_burst=1_000))
        desk.step("trades book")
        link = desk.link()
        link.subscribe("trades book", "X:A")
        assert link.session.due
        assert not link.session.beat_due
        link.drain()
        assert not link.session.due
        # marks of what was just subscribed are told before the next heartbeat would be due
        assert link.session.beat_due
        link.take(link.session.heartbeat(5))
        assert not link.session.beat_due

    def test_a_client_that_lags_where_it_must_not_is_closed_after_the_answer(self) -> None:
        desk = Desk(resume_window_bytes_max=1)
        desk.step("book")
        link = desk.link()
        link.subscribe("book", "X:A", on_lag="close")
        link.full = True
        for _ in range(5):
            desk.step("book")
            desk.keyframe()
        with pytest.raises(Close) as end:
            link.pull()
        assert end.value.code == 4008
        assert messages(end.value.frames)[-1]["reason"] == "lag"

    def test_what_a_client_has_goes_on_between_the_steps_of_its_request(self) -> None:
        desk = Desk()
        for number in range(600):
            desk.tick("quotes", f"X:{number}")
        desk.step("trades")
        link = desk.link()
        link.subscribe("trades", "X:A")
        names = [f"X:{number}" for number in range(600)]
        link.take(
            link.session.receive(link.client.ask({"op": "subscribe", "channels": ["quotes"], "symbols": names}), 5)
        )
        assert link.session.under_way
        desk.step("trades")
        for _ in range(9):
            link.pull()
        assert not link.session.due
        desk.agrees(link, "trades")
        assert [message for message in link.types() if message.startswith("snapshot quotes")] == []
        while link.session.under_way:
            link.take(link.session.wake(5))
        link.drain()
        assert len([message for message in link.types() if message.startswith("snapshot quotes")]) == 600


class TestWhereItBegins:
    def test_marks_ahead_wait_until_it_is_known_whether_the_log_comes_there(self) -> None:
        desk = Desk()
        desk.hub.delay_s = lambda: 0.0
        desk.step("book")
        link = desk.link()
        link.subscribe("book", "X:A", start={"marks": {"x/0@a": 7}})
        assert link.client.answers == {}
        assert link.session.wake_at == link.now + DOUBT_NS
        for _ in range(2):
            desk.hub.confirmed("x/0@a")
        link.take(link.session.wake(link.now))
        assert [result["mode"] for result in link.client.answers[1]["results"]] == ["gap"]

    def test_a_doubt_that_nothing_resolves_ends(self) -> None:
        desk = Desk()
        desk.hub.delay_s = lambda: 0.0
        desk.step("book")
        link = desk.link()
        link.subscribe("book", "X:A", start={"marks": {"x/0@a": 7}})
        for _ in range(DOUBT_LOOKS_MAX - 1):
            link.take(link.session.wake(link.now))
            assert link.client.answers == {}
        link.take(link.session.wake(link.now))
        assert [result["mode"] for result in link.client.answers[1]["results"]] == ["resumed"]

    def test_history_has_no_views(self) -> None:
        link = Desk().link()
        refused = link.subscribe("book", "*", start={"time": "2026-11-20"}, every_ms=100)
        assert refused["code"] == "bad_position"

    @pytest.mark.anyio
    async def test_a_time_ahead_begins_now_and_has_caught_up(self) -> None:
        town = past_town()
        link = town.link()
        link.subscribe("trades", "X:A", start={"time": text_of(link.now + 1)})
        link.drain()
        assert link.types()[-1] == "caught_up"
        await town.close()

    @pytest.mark.anyio
    async def test_a_time_in_the_past_comes_into_the_present(self) -> None:
        town = past_town()
        link = town.link()
        link.subscribe("trades book", "X:A", start={"time": text_of(100)})
        await town.until(lambda: bool(link.client.answers))
        assert {one["channel"] for one in link.ask("list")["results"]} == {"trades", "book"}
        link.take(link.session.heartbeat(5))
        assert not link.session.beat_due  # marks say nothing yet of what is still in the past
        await town.until(lambda: 1 in link.client.caught_up)
        assert link.session.beat_due
        town.grow(20)
        truth = truth_of(town.made)
        for kind in ("trades", "book"):
            wanted = [one for one in truth[kind, "X:A"] if int(head(one)["ts_recv"]) > 100]
            assert link.client.channels[kind, "X:A"].applied == wanted
        for end in ({"channels": "trades", "symbols": "X:A"}, {}):
            assert all(result["ok"] for result in link.ask("unsubscribe", **end)["results"])
        assert link.ask("list")["results"] == []
        link.session.close()
        await town.close()


def past_town() -> Town:
    """A log that is longer than memory."""
    made = MadeUp("x/0", ["X:A"], random.Random(1))
    made.grow(200)
    made.record()
    return Town([made], random.Random(1))


requests = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["subscribe", "unsubscribe", "list", "ping", "auth", "replay", "x"]) | requests,
        "id": st.integers(0, 5) | requests,
        "channels": st.lists(st.sampled_from(["trades", "book", "*", "x"]), max_size=3) | requests,
        "symbols": st.lists(st.sampled_from(["X:A", "X:NOPE", "*", "X:*", ""]), max_size=3) | requests,
        "from": st.sampled_from(["live", "snapshot", {"marks": {"x/0@a": 0}}, {"last": 1}, {"time": "2026-11-20"}])
        | requests,
        "on_lag": st.sampled_from(["skip", "close"]) | requests,
        "token": requests,
    },
)


@given(st.lists(st.binary(max_size=60) | fields.map(json.dumps).map(str.encode), max_size=6))
@example([b'{"op":"ping","id":1}', b"[" * 5000])
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_answers_that_keep_to_the_schemas_and_nothing_else(texts: list[bytes]) -> None:
    desk = Desk()
    desk.step("trades book")
    victim = desk.link()
    victim.subscribe("trades", "X:A")
    made = Session(desk.distributor, Link(desk.distributor, desk.session), SessionSettings())
    made.open(1)
    for text in texts:
        for answer in messages(made.receive(text, 1)):
            check(answer["type"], answer)
    made.subscriber.close()
    desk.step("trades")
    desk.agrees(victim, "trades")
