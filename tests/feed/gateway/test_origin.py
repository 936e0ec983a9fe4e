"""Origins and subprotocols, any bytes included; the table over sockets is in `integration/test_handshake.py`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.gateway.origin import allowed, subprotocol


def headers(origin: str | None, host: str = "feed.example:8000") -> list[tuple[bytes, bytes]]:
    """Of a handshake."""
    found = [(b"host", host.encode())]
    return found if origin is None else [*found, (b"origin", origin.encode("latin-1"))]


def test_a_program_sends_no_origin() -> None:
    assert allowed(headers(None), ())


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://feed.example:8000", "feed.example:8000"),
        ("https://feed.example", "feed.example"),
        ("https://feed.example", "feed.example:443"),
        ("http://feed.example:80", "feed.example"),
        ("https://FEED.example", "feed.EXAMPLE"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_own_host(origin: str, host: str) -> None:
    assert allowed(headers(origin, host), ())


def test_the_list() -> None:
    assert allowed(headers("https://desk.example"), ("https://desk.example",))
    assert not allowed(headers("null"), ("https://desk.example",))
    assert allowed(headers("null"), ("null",))


@given(st.text(max_size=40))
def test_nobody_else(origin: str) -> None:
    try:
        found = headers(origin)
    except UnicodeEncodeError:
        return
    assert not allowed(found, ()) or origin.lower() in ("http://feed.example:8000", "https://feed.example:8000")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_have_an_answer(origin: bytes, host: bytes) -> None:
    assert allowed([(b"origin", origin), (b"host", host)], ()) in (True, False)


def test_subprotocols() -> None:
    assert subprotocol([], ["a"]) is None
    assert subprotocol([""], ["a"]) is None
    assert subprotocol(["b", "a"], ["a"]) == "a"
    assert subprotocol(["b", "a"], ["a", "b"]) == "b"
    with pytest.raises(LookupError):
        subprotocol(["b"], ["a"])
