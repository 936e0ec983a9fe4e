"""Origins, hosts and subprotocols, any bytes included; the table over sockets is in `integration/test_handshake.py`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.gateway.origin import allowed, is_loopback, known, subprotocol
from feed.runtime.settings import ServeSettings

HOSTS = ("feed.example", *ServeSettings().hosts)


def headers(origin: str | None, host: str = "feed.example:8000") -> list[tuple[bytes, bytes]]:
    """Of a handshake."""
    found = [(b"host", host.encode())]
    return found if origin is None else [*found, (b"origin", origin.encode("latin-1"))]


def test_a_program_sends_no_origin() -> None:
    assert allowed(headers(None), (), HOSTS)


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
    assert allowed(headers(origin, host), (), HOSTS)


@pytest.mark.parametrize(
    ("origin", "host"), [("http://evil.example:8000", "evil.example:8000"), ("https://feed.example.", "feed.example.")]
)
def test_a_host_that_is_not_ours_is_no_own_host(origin: str, host: str) -> None:
    """The owner of a name may have it resolve to any server, and his pages then have its host."""
    assert not allowed(headers(origin, host), (), HOSTS)
    assert allowed(headers(origin, host), (origin,), HOSTS)


def test_an_address_in_digits_is_the_own_host() -> None:
    for host in ("10.1.2.3:8000", "[fd00::7]:8000"):
        assert allowed(headers(f"http://{host}", host), (), ())


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("fe80::1%eth0", False),
        ("", False),
        ("/run/socket", False),
    ],
)
def test_loopback_addresses(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


@given(st.text(max_size=40))
def test_any_host_is_known_or_not(host: str) -> None:
    assert known(host, ()) in (True, False)
    assert known(host, (host.lower(),)) or ":" in host or not known(host, HOSTS) or host.lower() in HOSTS


def test_the_list() -> None:
    assert allowed(headers("https://desk.example"), ("https://desk.example",), HOSTS)
    assert not allowed(headers("null"), ("https://desk.example",), HOSTS)
    assert allowed(headers("null"), ("null",), HOSTS)


@given(st.text(max_size=40))
def test_nobody_else(origin: str) -> None:
    try:
        found = headers(origin)
    except UnicodeEncodeError:
        return
    assert not allowed(found, (), HOSTS) or origin.lower() in ("http://feed.example:8000", "https://feed.example:8000")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_have_an_answer(origin: bytes, host: bytes) -> None:
    assert allowed([(b"origin", origin), (b"host", host)], (), HOSTS) in (True, False)


def test_subprotocols() -> None:
    assert subprotocol([], ["a"]) is None
    assert subprotocol([""], ["a"]) is None
    assert subprotocol(["b", "a"], ["a"]) == "a"
    assert subprotocol(["b", "a"], ["a", "b"]) == "b"
    with pytest.raises(LookupError):
        subprotocol(["b"], ["a"])
