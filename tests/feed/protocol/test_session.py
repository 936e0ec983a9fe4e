"""A session: one answer for each id, in order, at a rate; what a client sends changes nothing for others."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import schemas
from feed.protocol.line import error_of
from feed.protocol.session import Close, Session, SessionSettings
from tests.feed.channels.desk import Desk, Link
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


def test_retry_is_what_the_table_says() -> None:
    from feed.protocol.line import RETRY

    assert {code for code, row in schemas.errors().items() if row.retry} == set(RETRY)


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
