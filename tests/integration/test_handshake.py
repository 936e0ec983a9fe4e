"""The door: requests and handshakes as raw bytes against a real gateway, those it takes and those it refuses."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import psutil
import pytest

from feed.channels.steps import Steps
from feed.runtime.checks import Check
from feed.runtime.settings import LimitSettings, ServeSettings
from tests.gateways import Running
from tests.raw_client import KEY, Answer, RawClient, handshake

ALLOWED: Final = "https://desk.example"
SETTINGS: Final = ServeSettings(
    port=0,
    origins=(ALLOWED,),
    limits=LimitSettings(
        handshake_seconds=0.4, response_seconds=1.0, connections_per_address_max=50, http_per_second=0
    ),
)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Running]:
    """One gateway for all."""
    with Running(SETTINGS) as running:
        yield running


def status_of(gateway: Running, sent: bytes) -> int:
    """The status that these bytes get; somebody else is served afterwards."""
    with RawClient(gateway.port) as client:
        client.send(sent)
        status = client.answer().status
    with RawClient(gateway.port) as other:
        other.open()
    return status


def test_a_plain_handshake(gateway: Running) -> None:
    with RawClient(gateway.port) as client:
        client.send(handshake(gateway.port))
        answer = client.answer()
    assert answer.status == 101
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert "sec-websocket-protocol" not in answer.headers
    assert "sec-websocket-extensions" not in answer.headers


REFUSED: Final[list[tuple[str, dict[str, str | None], set[int]]]] = [
    ("no upgrade", {"Upgrade": None}, {426}),
    ("no connection header", {"Connection": None}, {426}),
    ("upgrade to something else", {"Upgrade": "h2c"}, {426}),
    ("no key", {"Sec_WebSocket_Key": None}, {400}),
    ("key that is no base64", {"Sec_WebSocket_Key": "***"}, {400}),
    ("key of 15 bytes", {"Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25j"}, {400}),
    ("key of nothing", {"Sec_WebSocket_Key": ""}, {400}),
    ("no version", {"Sec_WebSocket_Version": None}, {426}),
    ("version 8", {"Sec_WebSocket_Version": "8"}, {426}),
    ("version of words", {"Sec_WebSocket_Version": "thirteen"}, {426}),
    ("method POST", {"method": "POST"}, {405}),
    ("HTTP/1.0", {"version": "1.0"}, {400}),
    ("no host", {"Host": None}, {400}),
    ("a body", {"Content_Length": "5"}, {400}),
    ("a chunked body", {"Transfer_Encoding": "chunked"}, {400}),
    ("another path", {"path": "/v1/other"}, {404}),
    ("the replay's path", {"path": "/v1/replay"}, {404}),
    ("unknown subprotocol", {"Sec_WebSocket_Protocol": "mqtt"}, {400}),
    ("unknown subprotocols", {"Sec_WebSocket_Protocol": "mqtt, feed.v2.json"}, {400}),
    ("subprotocol in another case", {"Sec_WebSocket_Protocol": "FEED.V1.JSON"}, {400}),
    ("subprotocol that is no token", {"Sec_WebSocket_Protocol": "a b"}, {400}),
    ("control character in the user agent", {"User_Agent": "a\x1b[31mb"}, {400}),
    ("a line of 9 KiB", {"Cookie": "x" * 9216}, {431}),
    ("headers of 17 KiB", {f"X_{i}": "y" * 1024 for i in range(17)}, {431}),
    ("130 headers", {f"X_{i}": "y" for i in range(130)}, {431}),
]


@pytest.mark.parametrize(("changed", "statuses"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_handshakes(gateway: Running, changed: dict[str, str | None], statuses: set[int]) -> None:
    assert status_of(gateway, handshake(gateway.port, **changed)) in statuses  # type: ignore[arg-type]


def test_who_asks_for_another_version_is_told_which_is_spoken(gateway: Running) -> None:
    with RawClient(gateway.port) as client:
        client.send(handshake(gateway.port, Sec_WebSocket_Version="8"))
        assert client.answer().headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("twice", [f"Sec-WebSocket-Key: {KEY}", "Host: a", "Origin: null"])
def test_headers_that_may_stand_once(gateway: Running, twice: str) -> None:
    sent = handshake(gateway.port, Origin=ALLOWED).replace(b"\r\n\r\n", b"\r\n" + twice.encode() + b"\r\n\r\n")
    assert status_of(gateway, sent) in (400, 403)


SUBPROTOCOLS: Final = {
    "feed.v1.json": "feed.v1.json",
    "mqtt, feed.v1.json": "feed.v1.json",
    "feed.v1.json,feed.v1.arrow": "feed.v1.json",
}


@pytest.mark.parametrize(("offered", "chosen"), SUBPROTOCOLS.items())
def test_subprotocols(gateway: Running, offered: str, chosen: str) -> None:
    with RawClient(gateway.port) as client:
        client.send(handshake(gateway.port, Sec_WebSocket_Protocol=offered))
        answer = client.answer()
    assert answer.status == 101
    assert answer.headers["sec-websocket-protocol"] == chosen


ORIGINS: Final = {
    None: 101,
    ALLOWED: 101,
    "http://127.0.0.1:{port}": 101,
    "https://127.0.0.1:{port}": 101,
    "HTTP://127.0.0.1:{port}": 101,
    "https://evil.example": 403,
    "null": 403,
    "": 403,
    "http://127.0.0.1": 403,
    "http://127.0.0.1:1": 403,
    "http://127.0.0.1:{port}.evil.example": 403,
    "http://evil.example/127.0.0.1:{port}": 403,
    "http://127.0.0.1:{port}@evil.example": 403,
    "http://evil.example#127.0.0.1:{port}": 403,
    "https://desk.example.evil.example": 403,
    "https://desk.example:8443": 403,
    "http://desk.example": 403,
    "https://xdesk.example": 403,
    "file://": 403,
    "chrome-extension://abcdef": 403,
    "http://[::1]:{port}": 403,
    "caf\xe9": 403,
}

HOSTS: Final = {
    "127.0.0.1:{port}": True,
    "127.0.0.1": True,
    "localhost:{port}": True,
    "LocalHost:1": True,
    "[::1]:{port}": True,
    "[::FFFF:127.0.0.1]": True,
    "192.168.7.5:{port}": True,
    "desk.example": True,
    "DESK.example:443": True,
    "evil.example": False,
    "evil.example:{port}": False,
    "localhost.evil.example": False,
    "127.0.0.1.evil.example:{port}": False,
    "desk.example.evil.example": False,
    "localhost.": False,
    "2130706433": False,
    "[::1": False,
    "a b": False,
    "": False,
    None: False,
}
"""Whether a request with this `Host` is answered by a gateway on loopback that has `desk.example` among its hosts."""


@pytest.mark.parametrize(("origin", "status"), ORIGINS.items())
def test_origins(gateway: Running, origin: str | None, status: int) -> None:
    sent = None if origin is None else origin.format(port=gateway.port)
    assert status_of(gateway, handshake(gateway.port, Origin=sent)) == status


@pytest.fixture(scope="module")
def named() -> Iterator[Running]:
    """A gateway that is known by a name, too."""
    with Running(SETTINGS.model_copy(update={"hosts": ("localhost", "[::1]", "desk.example")})) as running:
        yield running


@pytest.mark.parametrize(("host", "ours"), HOSTS.items())
@pytest.mark.parametrize("path", ["/livez", "/v1/stream", "/nowhere"])
def test_a_name_that_is_not_ours_is_no_host_on_loopback(
    named: Running, host: str | None, ours: bool, path: str
) -> None:
    """DNS rebinding: a page of evil.example, whose name resolves to the visitor's own machine, asks for everything."""
    sent = None if host is None else host.format(port=named.port)
    with RawClient(named.port) as client:
        client.send(handshake(named.port, path=path, Host=sent, Origin=None if sent is None else f"http://{sent}"))
        answer = client.answer()
    if ours:
        assert answer.status == {"/livez": 404, "/v1/stream": 101, "/nowhere": 404}[path]
    else:
        assert answer.status == (400 if host is None else 421)
        assert host is None or b"serve.hosts" in answer.body


def test_every_request_of_a_connection_is_looked_at(named: Running) -> None:
    with RawClient(named.port) as client:
        client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.answer().status == 200
        client.send(b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert client.answer().status == 421


def test_a_probe_without_a_host_is_no_browser(named: Running) -> None:
    with RawClient(named.port) as client:
        client.send(b"GET /livez HTTP/1.0\r\n\r\n")
        assert client.answer().status == 200


LINE_BREAKS: Final = [bytes([byte]) for byte in (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0x85)]


@pytest.mark.parametrize("byte", LINE_BREAKS, ids=lambda byte: f"{byte[0]:#04x}")
@pytest.mark.parametrize("name", ["User-Agent", "Sec-WebSocket-Protocol", "Origin"])
def test_control_characters_in_headers(gateway: Running, name: str, byte: bytes) -> None:
    line = name.encode() + b": a" + byte + b"X-Injected: b"
    assert status_of(gateway, handshake(gateway.port).replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")) == 400


@pytest.mark.parametrize(
    "name",
    ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Origin", "Cookie", "Host", "Upgrade"],
)
def test_bytes_above_ascii_in_headers(gateway: Running, name: str) -> None:
    for byte in range(0x80, 0x100):
        for value in (bytes([byte]), b"feed" + bytes([byte, byte]), bytes([byte]) + b".v1"):
            sent = handshake(gateway.port, **{name.replace("-", "_"): None})
            sent = sent.replace(b"\r\n\r\n", b"\r\n" + name.encode() + b": " + value + b"\r\n\r\n")
            with RawClient(gateway.port) as client:
                client.send(sent)
                assert client.answer().status in (101, 400, 403, 421, 426)
    with RawClient(gateway.port) as other:
        other.open()


def test_names_of_other_languages_are_no_control_characters(gateway: Running) -> None:
    """Proxies add headers with names of cities; their UTF-8 has bytes that are control characters in Latin-1."""
    line = "X-City: Évora São Paulo".encode()
    assert status_of(gateway, handshake(gateway.port).replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")) == 101


GARBAGE: Final = [
    b"\r\n\r\n\r\n\r\nnot HTTP at all\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nNo colon here\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
]


@pytest.mark.parametrize("sent", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_answered_with_400_or_silence(gateway: Running, sent: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(sent)
        try:
            answer = client.answer()
        except ConnectionError:
            return
        assert answer.status in (400, 408)
        assert b"Traceback" not in answer.body


def test_a_head_of_200_mb_is_refused_at_16_kib(gateway: Running) -> None:
    before = psutil.Process().memory_info().rss
    with RawClient(gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        line = b"X-Header: " + b"x" * 1000 + b"\r\n"
        sent = 0
        try:
            while sent < 200 << 20:
                client.socket.sendall(line * 100)
                sent += len(line) * 100
        except OSError:
            pass
        assert sent < 20 << 20
        assert client.answer().status == 431
    assert psutil.Process().memory_info().rss - before < 8 << 20


def test_a_head_of_exactly_the_limit_is_taken(gateway: Running) -> None:
    limit = SETTINGS.limits.handshake_bytes_max
    bare = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: "
    for size, status in ((limit, 200), (limit + 1, 431)):
        with RawClient(gateway.port) as client:
            client.send(bare + b"x" * (size - len(bare) - 4) + b"\r\n\r\n")
            assert client.answer().status == status


def test_a_connection_that_says_nothing_is_closed_at_the_deadline(gateway: Running) -> None:
    with RawClient(gateway.port) as client:
        began = time.monotonic()
        assert client.answer().status == 408
        assert 0.3 < time.monotonic() - began < 1.5


def test_a_head_that_trickles_is_closed_at_the_deadline(gateway: Running) -> None:
    """The deadline is absolute: a byte now and then does not move it."""
    with RawClient(gateway.port) as client:
        began = time.monotonic()
        for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\n":
            client.send(bytes([byte]))
            time.sleep(0.05)
            if time.monotonic() - began > 1.0:
                break
        assert client.answer().status == 408


def test_a_second_request_that_trickles_has_a_deadline_too(gateway: Running) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.answer().status == 200
        began = time.monotonic()
        for _ in range(40):
            client.send(b"G")
            time.sleep(0.05)
            if time.monotonic() - began > 1.2:
                break
        assert client.answer().status in (400, 408)


BODIES: Final = [
    b"Content-Length: 10000000\r\n\r\n",
    b"Content-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("body", BODIES, ids=["large", "small", "chunked", "both lengths", "both, none"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_request_with_a_body_is_refused_by_its_head(gateway: Running, method: bytes, body: bytes) -> None:
    with RawClient(gateway.port) as client:
        client.send(method + b" /livez HTTP/1.1\r\nHost: localhost\r\n" + body)
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert client.ends_within(1)


def test_a_length_of_nothing_is_no_body(gateway: Running) -> None:
    with RawClient(gateway.port) as client:
        client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert client.answer().status == 200


def test_one_address_has_so_many_connections(gateway: Running) -> None:
    limit = SETTINGS.limits.connections_per_address_max
    assert gateway.wait_until(lambda: not len(gateway.gateway.doors))
    clients = [RawClient(gateway.port) for _ in range(limit - 1)]
    try:
        opened = [client.open() for client in clients[:10]]
        with RawClient(gateway.port) as last:
            last.open()
            with RawClient(gateway.port) as one_more:
                one_more.send(handshake(gateway.port))
                answer = one_more.answer()
                assert answer.status == 429
                assert str(limit).encode() in answer.body
        assert len(opened) == 10
    finally:
        for client in clients:
            client.socket.close()
    assert gateway.wait_until(lambda: not len(gateway.gateway.doors))
    with RawClient(gateway.port) as again:
        again.open()


def test_a_full_gateway_refuses_clients_and_answers_probes() -> None:
    with Running(ServeSettings(port=0, limits=LimitSettings(connections_max=2, http_connections_max=2))) as running:
        clients = [RawClient(running.port).open() for _ in range(2)]
        with RawClient(running.port) as one_more:
            one_more.send(handshake(running.port))
            answer = one_more.answer()
            assert answer.status == 503
            assert "retry-after" in answer.headers
        with RawClient(running.port) as probe:
            probe.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert probe.answer().status == 200
        clients.pop().socket.close()
        assert running.wait_until(lambda: len(running.gateway.connections) == 1)
        clients.append(RawClient(running.port).open())
        for client in clients:
            client.socket.close()


def made(snapshot: bytes) -> Steps[list[bytes]]:
    """As of a channel with such a state."""
    yield from ()
    return [snapshot]


def test_a_response_that_nobody_reads_is_cut(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.gateway.hub, "snapshot", lambda kind, symbol: made(b"x" * (32 << 20)))
    with RawClient(gateway.port, receive_buffer=4096) as client:
        client.send(b"GET /v1/snapshot/book/A:B HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began = time.monotonic()
        assert gateway.wait_until(lambda: len(gateway.gateway.doors) > 0)
        assert gateway.wait_until(lambda: not len(gateway.gateway.doors), 4)
        assert time.monotonic() - began < 3


def test_nor_is_one_that_asks_on_without_reading(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.gateway.hub, "snapshot", lambda kind, symbol: made(b"y" * (8 << 20)))
    with RawClient(gateway.port, receive_buffer=4096) as client:
        client.send(b"GET /v1/snapshot/book/A:C HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.socket.recv(100)
        client.send(b"no request\r\n\r\n")
        assert gateway.wait_until(lambda: not len(gateway.gateway.doors), 4)


def test_requests_over_one_connection(gateway: Running) -> None:
    with RawClient(gateway.port) as client:
        for _ in range(3):
            client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.answer().status == 200


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "later"])
def test_requests_before_the_answer_are_not_looked_at(
    gateway: Running, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """The connection ends with the first answer, which is whole."""
    begun, asked = threading.Event(), 0

    async def checks() -> list[Check]:
        nonlocal asked
        asked += 1
        begun.set()
        await asyncio.sleep(0.1)
        return []

    monkeypatch.setattr(gateway.gateway, "all_checks", checks)
    ask = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with RawClient(gateway.port) as client:
        client.send(ask if apart else ask * 3)
        assert begun.wait(2)
        if apart:
            client.send(ask * 20_000)
        assert client.answer().status == 200
        assert client.ends_within(1)
    assert asked == 1


def test_bytes_of_tls_end_the_connection_at_once(gateway: Running) -> None:
    """And not a line in the log for each."""
    with RawClient(gateway.port) as client:
        client.send(b"\x16\x03\x01")
        assert client.answer().status == 400
        assert client.ends_within(1)


def test_an_address_may_ask_so_often() -> None:
    limits = LimitSettings(http_per_second=1, http_burst=3)
    ask = b"GET /v1/symbols HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Running(ServeSettings(port=0, limits=limits)) as running:
        with RawClient(running.port) as client:
            for _ in range(3):
                client.send(ask)
                assert client.answer().status == 200
            client.send(ask)
            answer = client.answer()
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
            assert client.ends_within(1)
        # probes and handshakes of streams are counted by themselves
        with RawClient(running.port) as client:
            client.open()
        for _ in range(3):
            assert status_of(running, ask.replace(b"/v1/symbols", b"/livez")) == 200
        assert status_of(running, ask.replace(b"/v1/symbols", b"/readyz")) == 429
        time.sleep(1.1)
        assert status_of(running, ask) == 200
        assert status_of(running, ask) == 429


@pytest.mark.parametrize("sent", [b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"])
def test_what_is_refused_counts_too(sent: bytes) -> None:
    limits = LimitSettings(http_per_second=1, http_burst=3)
    with Running(ServeSettings(port=0, limits=limits, hosts=("a",))) as running:
        assert [status_of(running, sent) for _ in range(4)] == [400, 400, 400, 429]


def test_handshakes_count_whatever_becomes_of_them() -> None:
    limits = LimitSettings(http_per_second=1, http_burst=3, connections_per_address_max=5)
    changes: list[dict[str, Any]] = [
        {},
        {"Origin": "https://elsewhere.example"},
        {"path": "/v1/nowhere"},
        {"Sec_WebSocket_Version": "12"},
        {"Sec_WebSocket_Protocol": "other"},
    ]
    ask = b"GET /v1/symbols HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Running(ServeSettings(port=0, limits=limits)) as running:

        def answers(*sent: bytes) -> list[Answer]:
            found = []
            for one in sent:
                with RawClient(running.port) as client:
                    client.send(one)
                    found.append(client.answer())
            return found

        handshakes = [handshake(running.port, **changed) for changed in changes]
        assert [answer.status for answer in answers(*handshakes)] == [101, 403, 404, 426, 400]
        for answer in answers(*handshakes):
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert answers(ask)[0].status == 200
        time.sleep(1.1)
        assert answers(handshakes[0])[0].status == 101


def test_many_idle_sockets_do_not_keep_others_out() -> None:
    """Sockets that say nothing are gone after the deadline; meanwhile probes and clients are served."""
    limits = LimitSettings(handshake_seconds=0.5, connections_per_address_max=400)
    with Running(ServeSettings(port=0, limits=limits)) as running:
        idle = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(300)]
        with RawClient(running.port) as client:
            client.open()
        assert running.wait_until(lambda: not len(running.gateway.doors), 5)
        for one in idle:
            one.close()
