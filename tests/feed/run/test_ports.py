"""Ports: one that is in use is named before anything starts, and workers share one."""

from __future__ import annotations

import socket

import pytest

from feed.errors import FeedError
from feed.run.ports import address_of, bound, refuse_used_port, reserved, say_where


def test_an_address_is_as_a_url_wants_it() -> None:
    assert address_of("127.0.0.1", 8000) == "127.0.0.1:8000"
    assert address_of("::1", 8000) == "[::1]:8000"


def test_a_person_is_told_where_the_gateway_is(capsys: pytest.CaptureFixture[str]) -> None:
    say_where("::1", 8000)
    assert capsys.readouterr().err.splitlines() == [
        "stream  ws://[::1]:8000/v1/stream",
        "board   http://[::1]:8000/",
        "docs    http://[::1]:8000/docs",
    ]


def test_a_port_in_use_is_refused_with_the_option_that_chooses_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(FeedError, match=f"port {port} of 127.0.0.1 is in use; another one with --admin-port"):
            refuse_used_port("127.0.0.1", port, "--admin-port")
    refuse_used_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(FeedError, match=r"port 0 of 192\.0\.2\.1 cannot be listened on"):
        refuse_used_port("192.0.2.1", 0)
    with pytest.raises(FeedError, match=r"port 0 of 192\.0\.2\.1 cannot be listened on"):
        bound("192.0.2.1", 0)


def test_several_listen_at_a_reserved_port_and_nobody_else() -> None:
    with reserved("127.0.0.1", 0) as port, bound("127.0.0.1", port) as one, bound("127.0.0.1", port) as other:
        one.listen()
        other.listen()
        with pytest.raises(FeedError, match="in use"):
            refuse_used_port("127.0.0.1", port)
        # the one that only holds the port gets no connections
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for server in (one, other):
            server.setblocking(False)
        taken = 0
        for server in (one, other):
            while True:
                try:
                    server.accept()[0].close()
                except BlockingIOError:
                    break
                taken += 1
        assert taken == len(clients)
        for client in clients:
            client.close()
