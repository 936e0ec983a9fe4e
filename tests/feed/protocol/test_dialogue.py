"""What sessions of every kind do alike, on one that has nothing to subscribe."""

from __future__ import annotations

import json
from typing import Any

import pytest

from feed.errors import BadRequest
from feed.protocol.dialogue import Dialogue
from feed.protocol.line import Close, SessionSettings, ack
from feed.protocol.request import List, Replay, Subscribe, Unsubscribe
from feed.wire.frames import text_frame
from feed.wire.model import Ack
from tests.feed.protocol.test_line import messages

S = 1_000_000_000
PAGE = text_frame(b'[{"type":"heartbeat","time":"1","marks":{},"lag_ms":null}]')


class Plain(Dialogue):
    """A session whose requests are acknowledged; `touched` is what each was said to cost."""

    due = beat_due = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(SessionSettings(**settings))
        self.touched: list[tuple[Any, Any]] = []
        self.page = b""
        self.ends = False

    def heartbeat(self, now_ns: int) -> bytes:
        return b""

    def pull(self, bytes_max: int, now_ns: int) -> bytes:
        if self.ends:
            raise Close(4008, "too slow", self.page)
        return self.page

    def wake(self, now_ns: int) -> bytes:
        return self._with_page(self._line.work(now_ns), now_ns)

    def close(self) -> None:
        self._line.close()

    def _marks(self) -> dict[str, int]:
        return {"x/0@a": 7}

    def _touches(self, channels: list[str] | None, symbols: list[str] | None) -> int:
        self.touched.append((channels, symbols))
        return 0

    def _subscribe(self, request: Subscribe, received_ns: int, now_ns: int) -> Ack:
        view = self._view(request)
        return ack(f"{view.every_ms} {view.depth}", "subscribe", [])

    def _unsubscribe(self, request: Unsubscribe) -> Ack:
        return ack(request.id, "unsubscribe", [])

    def _list(self, request: List) -> Ack:
        return ack(request.id, "list", [])

    def _replay(self, request: Replay) -> Ack:
        raise BadRequest("bad_replay", "this is none")

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to one request."""
        (answer,) = messages(self.receive(json.dumps({"id": 1} | request).encode(), S))
        return answer


def test_welcome_and_goaway() -> None:
    session = Plain(server="gw-7")
    (welcome,) = messages(session.open(5))
    assert (welcome["type"], welcome["server"], welcome["time"]) == ("welcome", "gw-7", "5")
    (goaway,) = messages(session.goaway("shutdown", 250, 5))
    assert (goaway["reason"], goaway["after_ms"], goaway["marks"]) == ("shutdown", 250, {"x/0@a": 7})


@pytest.mark.parametrize(
    ("request_", "kind", "touched"),
    [
        ({"op": "ping"}, "pong", []),
        ({"op": "auth", "token": "x"}, "ack", []),
        ({"op": "list"}, "ack", [(None, None)]),
        ({"op": "unsubscribe"}, "ack", [(None, None)]),
        ({"op": "unsubscribe", "channels": ["book"], "symbols": ["X:A"]}, "ack", [(["book"], ["X:A"])]),
        ({"op": "subscribe", "channels": ["book"], "symbols": ["*"]}, "ack", [(["book"], ["*"])]),
        ({"op": "replay", "do": "play"}, "error", []),
    ],
)
def test_each_request_comes_to_its_own_and_is_asked_what_it_costs(
    request_: dict[str, Any], kind: str, touched: list[Any]
) -> None:
    session = Plain()
    assert session.ask(**request_)["type"] == kind
    assert session.touched == touched


@pytest.mark.parametrize("half", [{"channels": ["book"]}, {"symbols": ["X:A"]}])
def test_half_of_an_unsubscribe_is_refused(half: dict[str, Any]) -> None:
    session = Plain()
    assert session.ask(op="unsubscribe", **half)["code"] == "bad_message"
    assert session.touched == []


@pytest.mark.parametrize("op", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    ("kinds", "symbols", "fits"), [(1, 10, True), (6, 10, True), (7, 10, False), (1, 11, False), (60, 1, True)]
)
def test_a_request_names_no_more_than_it_may(op: str, kinds: int, symbols: int, fits: bool) -> None:
    session = Plain(symbols_max=10)
    found = session.ask(op=op, channels=["book"] * kinds, symbols=["X:A"] * symbols)
    assert found.get("code") == (None if fits else "subscription_limit")
    assert bool(session.touched) == fits


@pytest.mark.parametrize(
    ("every_ms", "depth", "found"),
    [
        (None, None, "0 0"),
        (0, 0, "0 0"),
        (50, None, "50 0"),
        (None, 10, "0 10"),
        (51, None, "bad_message"),
        (None, -1, "bad_message"),
    ],
)
def test_a_view_is_one_of_those_offered(every_ms: int | None, depth: int | None, found: str) -> None:
    given = {"every_ms": every_ms, "depth": depth}
    session = Plain(every_ms=(50,), depth=(10,))
    answer = session.ask(
        op="subscribe", channels=["book"], symbols=["*"], **{k: v for k, v in given.items() if v is not None}
    )
    assert answer.get("code", answer["id"]) == found
    if found != "0 0":
        none = Plain(every_ms=(), depth=()).ask(op="subscribe", channels=["book"], symbols=["*"], every_ms=50)
        assert none["message"] == "found every_ms 50, wanted 0: this server offers no such view"


def test_answers_come_before_the_page_also_where_that_ends_the_connection() -> None:
    session = Plain()
    session.page = PAGE
    assert [one["type"] for one in messages(session.receive(b'{"op":"ping","id":1}', S))] == ["pong", "heartbeat"]
    session.ends = True
    with pytest.raises(Close) as end:
        session.receive(b'{"op":"ping","id":1}', S)
    assert [one["type"] for one in messages(end.value.frames)] == ["pong", "heartbeat"]


def test_what_waits_is_told_to_the_socket() -> None:
    session = Plain(requests_per_second=1, requests_burst=1, message_bytes_max=100)
    session.receive(b'[{"op":"list","id":1},{"op":"list","id":2}]', S)
    assert (session.wake_at, session.under_way, session.crowded) == (2 * S, False, False)
    session.receive(b'{"op":"list","id":3}', S)
    assert session.crowded
    session.close()
    assert (session.wake_at, session.crowded) == (None, False)


def test_while_others_have_their_turn_a_request_only_waits() -> None:
    session = Plain(requests_burst=10_000, message_bytes_max=1 << 20)
    long = json.dumps({"op": "ping", "id": 1, "more": "x" * 1_000_000}).encode()
    assert [one["id"] for one in messages(session.receive(b"[%b,%b]" % (long, b'{"op":"ping","id":2}'), S))] == [1]
    assert session.under_way
    assert session.receive(b'{"op":"ping","id":3}', S) == b""
    assert [one["id"] for one in messages(session.wake(S))] == [2, 3]
