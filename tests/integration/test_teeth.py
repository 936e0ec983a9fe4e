"""Tests of the tests: with a bound of the gateway taken away, the test of that bound fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import pytest

from feed.gateway import app, http, ws
from feed.gateway.doors import Doors
from feed.gateway.parser import FrameParser
from feed.gateway.rates import Rates
from feed.runtime.settings import LimitSettings, ServeSettings
from tests.gateways import Running
from tests.raw_client import BINARY, CONT, PING, TEXT, RawClient, frame, handshake, text

LIMITS: Final = LimitSettings(
    message_bytes_max=1000,
    message_frames_max=8,
    bytes_per_second=20_000,
    frames_per_second=100,
    burst_seconds=1.0,
    overload_seconds=0.2,
    handshake_seconds=0.3,
    connections_per_address_max=3,
    close_seconds=0.3,
)
SETTINGS: Final = ServeSettings(port=0, heartbeat_ms=100, ping_interval_ms=200, limits=LIMITS)


def closes_with(code: int, *sent: bytes) -> Callable[[int], None]:
    """A check: these frames end the connection with this code."""

    def check(port: int) -> None:
        with RawClient(port, timeout=0.6).open() as client:
            for data in sent:
                client.send(data)
            found = [one.code for one in client.frames()]
            assert found[-1] == code

    return check


def answers(status: int, sent: Callable[[int], bytes]) -> Callable[[int], None]:
    """A check: these bytes have an answer of this status."""

    def check(port: int) -> None:
        with RawClient(port, timeout=0.6) as client:
            client.send(sent(port))
            assert client.answer().status == status

    return check


def silent_clients_are_dropped(port: int) -> None:
    """A check: who answers no ping is gone soon."""
    with RawClient(port).open() as client:
        assert client.ends_within(0.8)


def addresses_have_a_limit(port: int) -> None:
    """A check: the fourth connection is refused."""
    clients = [RawClient(port) for _ in range(3)]
    time.sleep(0.05)
    try:
        answers(429, handshake)(port)
    finally:
        for client in clients:
            client.socket.close()


def ignored(*_: object, **__: object) -> None:
    """Does nothing, in the place of what a bound does."""


CHECKS: Final[dict[str, tuple[Callable[[int], None], tuple[object, str, object]]]] = {
    "fragments are counted": (
        closes_with(1009, frame(TEXT, fin=False), *[frame(CONT, fin=False)] * 8),
        (ws.StreamProtocol, "_take", lambda self, frame: None),
    ),
    "sizes are bounded": (
        closes_with(1009, text(b" " * 1001)),
        (FrameParser, "max_message_size", property(lambda self: None, ignored)),
    ),
    "a high bit is a broken frame": (
        closes_with(1002, frame(TEXT, length=1 << 63)),
        (FrameParser, "fail", FrameParser.__mro__[1].fail),  # type: ignore[attr-defined]  # the parent's
    ),
    "binary is refused": (
        closes_with(1003, frame(BINARY, b"a")),
        (ws.StreamProtocol, "_take", lambda self, frame: None),
    ),
    "floods are closed": (
        closes_with(1008, *[frame(PING, b"x" * 100) * 100] * 4),
        (Rates, "owed_seconds", lambda self, now: 0.0),
    ),
    "origins are checked": (
        answers(403, lambda port: handshake(port, Origin="https://evil.example")),
        (app, "allowed", lambda headers, origins, hosts: True),
    ),
    "hosts are checked": (
        answers(421, lambda port: b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        (http, "known", lambda host, hosts: True),
    ),
    "subprotocols are checked": (
        answers(400, lambda port: handshake(port, Sec_WebSocket_Protocol="mqtt")),
        (app, "subprotocol", lambda offered, known: None),
    ),
    "heads have a deadline": (
        answers(408, lambda port: b"GET / HTTP/1.1\r\n"),
        (http.HttpProtocol, "_request_late", ignored),
    ),
    "headers are clean": (
        answers(400, lambda port: b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\x1cb\r\n\r\n"),
        (http, "clean", lambda value: True),
    ),
    "addresses have a limit": (addresses_have_a_limit, (Doors, "enter", ignored)),
    "silent clients are dropped": (silent_clients_are_dropped, (ws.StreamProtocol, "check", ignored)),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_holds(name: str) -> None:
    with Running(SETTINGS) as running:
        CHECKS[name][0](running.port)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_a_check_sees_the_fault(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check, (place, attribute, fault) = CHECKS[name]
    monkeypatch.setattr(place, attribute, fault, raising=False)
    with Running(SETTINGS) as running, pytest.raises((AssertionError, TimeoutError, ConnectionError)):
        check(running.port)
