"""The line of requests by itself: what is done is a script, and time is told."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from feed.channels.steps import STEP_CHANNELS, NotYet, Steps
from feed.errors import BadRequest
from feed.protocol.line import Close, Line, SessionSettings, ack, error_of, welcome
from feed.protocol.request import List, Ping, Request, Subscribe
from feed.wire.model import Ack, Pong, Result
from tests.reference_client import payloads
from tests.schemas.validation import check

S = 1_000_000_000
MS = 1_000_000


def messages(frames: bytes) -> list[dict[str, Any]]:
    found = [message for payload in payloads(frames) for message in json.loads(payload)]
    for message in found:
        check(message["type"], message)
    return found


def told(frames: bytes) -> list[tuple[str, Any]]:
    return [(message["type"], message.get("id")) for message in messages(frames)]


class Script:
    """Who does requests: a `ping` at once, a `list` when `ready`, a `subscribe` in as many steps as it has symbols,
    each of `step` channels; `unsubscribe` is refused."""

    def __init__(self, **settings: Any) -> None:
        self.line = Line(SessionSettings(**settings), self.do, self.touched)
        self.ready = True
        self.wake_at: int | None = 7
        self.step = 1
        self.steps = 0
        self.closed = False

    def touched(self, request: Request) -> int:
        if isinstance(request, Subscribe) and request.symbols == ["X:NO"]:
            raise BadRequest("subscription_limit", "too many")
        return len(request.symbols) * 500 if isinstance(request, Subscribe) else 0

    def do(self, request: Request, received_ns: int, now_ns: int) -> msgspec.Struct | Steps[msgspec.Struct]:
        match request:
            case Ping():
                return Pong(request.id, str(received_ns), str(now_ns))
            case List():
                if not self.ready:
                    raise NotYet(self.wake_at)
                return ack(request.id, "list", [])
            case Subscribe():
                return self._steps(request)
        raise BadRequest("not_subscribed", "there is nothing", retry_after_ms=None)

    def _steps(self, request: Subscribe) -> Steps[Ack]:
        try:
            for _ in request.symbols:
                self.steps += 1
                yield self.step
        finally:
            self.closed = True
        return ack(request.id, "subscribe", [])

    def take(self, *requests: Any, now: int = S) -> list[tuple[str, Any]]:
        for request in requests:
            self.line.receive(request if isinstance(request, bytes) else json.dumps(request).encode(), now)
        return told(self.line.work(now))


def ping(id_: Any) -> dict[str, Any]:
    return {"op": "ping", "id": id_}


def plain(id_: Any) -> dict[str, Any]:
    return {"op": "list", "id": id_}


def subscribe(id_: Any, *symbols: str) -> dict[str, Any]:
    return {"op": "subscribe", "id": id_, "channels": ["book"], "symbols": [*symbols]}


class TestOrder:
    def test_each_request_is_answered_in_its_place(self) -> None:
        script = Script()
        found = script.take([ping(1), {"op": "list"}, {"op": "unsubscribe", "id": 2}], b"{", subscribe(3, "X:A"))
        assert found == [("pong", 1), ("error", None), ("error", 2), ("error", None), ("ack", 3)]
        assert not script.line

    def test_a_pong_tells_when_it_was_asked_and_answered(self) -> None:
        script = Script()
        script.line.receive(b'{"op":"ping","id":1}', 5 * S)
        (pong,) = messages(script.line.work(6 * S))
        assert (pong["received"], pong["time"]) == (str(5 * S), str(6 * S))

    def test_what_is_not_known_of_a_request_is_named(self) -> None:
        script = Script()
        script.line.receive(b'{"op":"ping","id":1,"now":5}', S)
        script.line.receive(b'{"op":"unsubscribe","id":1,"chanels":[]}', S)
        pong, refused = messages(script.line.work(S))
        assert pong["ignored"] == ["now"]
        assert "ignored" not in refused

    def test_who_has_to_wait_holds_up_those_behind(self) -> None:
        script = Script()
        script.ready = False
        assert script.take(ping(1), plain(2), ping(3)) == [("pong", 1)]
        assert (script.line.wake_at, script.line.under_way, bool(script.line)) == (7, False, True)
        assert script.take(ping(4)) == []
        script.ready = True
        assert script.take() == [("ack", 2), ("pong", 3), ("pong", 4)]
        assert script.line.wake_at is None

    def test_what_may_not_be_asked_costs_and_is_refused(self) -> None:
        assert Script().take(subscribe(1, "X:NO")) == [("error", 1)]


class TestSteps:
    def test_a_large_request_leaves_others_a_turn_and_is_answered_once(self) -> None:
        script = Script()
        script.step = STEP_CHANNELS // 2
        assert script.take(subscribe(1, *"abcde"), ping(2)) == []
        assert (script.line.amid, script.line.under_way, script.line.wake_at) == (True, True, None)
        turns = 1
        while not (found := script.take()):
            assert script.line.amid
            turns += 1
        assert found[0] == ("ack", 1)
        assert script.steps == 5
        assert turns >= 2
        assert script.take() == ([("pong", 2)] if len(found) == 1 else [])
        assert not (script.line.amid or script.line.under_way)

    def test_small_requests_give_way_too(self) -> None:
        script = Script(requests_burst=10_000, message_bytes_max=1 << 20)
        long = {**ping(1), "more": "x" * 300 * STEP_CHANNELS}
        assert script.take(long, ping(2)) == [("pong", 1)]
        assert script.line.under_way
        assert script.take() == [("pong", 2)]

    def test_what_is_under_way_ends_when_the_client_is_gone(self) -> None:
        script = Script()
        script.step = STEP_CHANNELS
        script.take(subscribe(1, *"abc"), ping(2))
        assert script.line.amid
        script.line.close()
        assert script.closed
        assert not (script.line or script.line.amid or script.line.under_way or script.line.crowded)
        # what comes all the same is refused, and asks nothing of who is gone
        assert script.take(ping(3)) == [("error", 3)]
        assert script.take() == []


class TestRate:
    def test_requests_over_the_rate_wait_and_those_over_the_line_are_refused_in_their_place(self) -> None:
        script = Script(requests_per_second=10, requests_burst=2, requests_delayed_max=2)
        assert script.take(*map(plain, range(6))) == [("ack", 0), ("ack", 1)]
        assert script.line.wake_at == S + 100 * MS
        assert script.take(now=S + 99 * MS) == []
        assert script.take(now=S + 100 * MS) == [("ack", 2)]
        assert script.take(now=S + 200 * MS) == [("ack", 3), ("error", 4), ("error", 5)]
        assert script.line.wake_at is None

    def test_a_refusal_says_when_to_come_again(self) -> None:
        script = Script(requests_per_second=10, requests_burst=1, requests_delayed_max=0)
        script.take(plain(1))
        script.line.receive(json.dumps(plain(2)).encode(), S)
        (refused,) = messages(script.line.work(S))
        assert (refused["code"], refused["retry"], refused["retry_after_ms"]) == ("rate_limited", True, 101)

    def test_who_goes_on_is_closed_after_what_it_is_owed(self) -> None:
        script = Script(requests_per_second=10, requests_burst=1, requests_delayed_max=0, requests_refused_max=2)
        assert script.take(plain(0)) == [("ack", 0)]
        for number in range(1, 3):
            script.line.receive(json.dumps(plain(number)).encode(), S)
        with pytest.raises(Close) as end:
            script.line.receive(json.dumps(plain(3)).encode(), S)
        assert end.value.code == 1008
        assert told(end.value.frames) == [("error", 1), ("error", 2)]

    def test_a_pause_is_forgiven(self) -> None:
        script = Script(requests_per_second=10, requests_burst=1, requests_delayed_max=0, requests_refused_max=1)
        for second in range(1, 9):
            found = script.take(plain(1), plain(2), now=second * S)
            assert found == [("ack", 1), ("error", 2)]

    def test_a_large_request_costs_more_but_never_more_than_a_burst(self) -> None:
        script = Script(requests_per_second=1, requests_burst=5)
        assert script.take(subscribe(1, *"abc"), plain(2), plain(3)) == [("ack", 1), ("ack", 2)]
        assert script.line.wake_at == 2 * S
        assert script.take(now=2 * S) == [("ack", 3)]
        assert script.take(subscribe(4, *"abcdefgh"), now=10 * S) == [("ack", 4)]

    def test_a_ping_a_second_is_free(self) -> None:
        script = Script(requests_per_second=1, requests_burst=1, requests_delayed_max=0)
        for second in range(1, 9):
            assert script.take(ping("p"), now=second * S) == [("pong", "p")]
            assert script.take(plain("l"), now=second * S) == [("ack", "l")]
        assert script.take(ping("p"), now=8 * S) == [("error", "p")]

    def test_a_clock_that_is_set_back_gives_nothing(self) -> None:
        script = Script(requests_per_second=1, requests_burst=1)
        script.take(plain(1), plain(2), now=100 * S)
        assert script.take(now=50 * S) == []
        assert script.take(now=51 * S) == [("ack", 2)]


class TestCrowd:
    def test_long_texts_that_wait_make_a_crowd_until_some_are_done(self) -> None:
        script = Script(message_bytes_max=1_000)
        script.ready = False
        script.take(plain("x" * 700), plain("x" * 700))
        assert not script.line.crowded  # ids count beside their texts
        script.take(plain("x" * 700))
        assert script.line.crowded
        script.ready = True
        script.take()
        assert not script.line.crowded


def test_welcome_has_the_limits_that_are_a_clients_business() -> None:
    (found,) = messages(welcome(SessionSettings(server="gw-7", every_ms=(), depth=(5,)), S))
    assert (found["server"], found["time"], found["every_ms"], found["depth"]) == ("gw-7", str(S), [], [5])
    assert found["limits"]["requests_burst"] == 100
    assert not {"server", "page_bytes", "every_ms", "depth"} & found["limits"].keys()


def test_an_ack_is_ok_where_all_of_it_is() -> None:
    good, bad = Result("book", "X:A", ok=True), Result("book", "X:B", ok=False, code="unknown_symbol")
    assert ack(1, "subscribe", [good]).ok
    assert not ack(1, "subscribe", [good, bad]).ok


@pytest.mark.parametrize(
    ("code", "given", "retry", "after"),
    [
        ("bad_message", None, False, None),
        ("source_unavailable", None, True, 1_000),
        ("internal", None, True, 5_000),
        ("internal", 7, True, 7),
        ("rate_limited", 7, True, 7),
        ("unknown_symbol", None, True, None),
    ],
)
def test_an_error_says_whether_to_try_again_and_when(code: str, given: int | None, retry: bool, after: Any) -> None:
    error = json.loads(msgspec.json.encode(error_of(code, "why", retry_after_ms=given)))
    assert (error["retry"], error.get("retry_after_ms"), "id" in error) == (retry, after, False)
