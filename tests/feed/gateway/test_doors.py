"""Who may come in, as a table of numbers."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feed.gateway.doors import Doors, Visits
from feed.runtime.settings import LimitSettings


def doors(**limits: int) -> Doors:
    """Doors with these limits."""
    return Doors(LimitSettings(**limits))


def test_one_address_up_to_its_limit() -> None:
    found = doors(connections_per_address_max=2)
    transports = [asyncio.BaseTransport() for _ in range(4)]
    assert found.enter(transports[0], ("a", 1)) is None
    assert found.enter(transports[1], ("a", 2)) is None
    refused = found.enter(transports[2], ("a", 3))
    assert refused is not None
    assert refused[0] == 429
    assert found.enter(transports[3], ("b", 1)) is None
    found.leave(transports[2])
    assert found.enter(transports[2], ("a", 3)) is not None
    found.leave(transports[0])
    assert found.enter(transports[2], ("a", 3)) is None


def test_all_together_up_to_their_limit() -> None:
    found = doors(connections_max=1, http_connections_max=1, connections_per_address_max=0)
    transports = [asyncio.BaseTransport() for _ in range(3)]
    assert found.enter(transports[0], ("a", 1)) is None
    assert found.enter(transports[1], ("a", 2)) is None
    refused = found.enter(transports[2], ("a", 3))
    assert refused is not None
    assert refused[0] == 503


def test_too_many_refused_are_a_crowd() -> None:
    found = doors(connections_per_address_max=1)
    transports = [asyncio.BaseTransport() for _ in range(300)]
    for transport in transports:
        found.enter(transport, ("a", 1))
    assert found.crowded
    for transport in transports:
        found.leave(transport)
    assert not found.crowded
    assert len(found) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.booleans()), max_size=60))
def test_counts_never_drift(steps: list[tuple[int, str, bool]]) -> None:
    found = doors(connections_per_address_max=2)
    transports = [asyncio.BaseTransport() for _ in range(10)]
    inside: dict[int, str] = {}
    for index, address, comes in steps:
        if comes and index not in inside:
            refused = found.enter(transports[index], (address, 1))
            assert (refused is None) == (list(inside.values()).count(address) < 2)
            if refused is None:
                inside[index] = address
        elif not comes:
            found.leave(transports[index])
            inside.pop(index, None)
        assert len(found) == len(inside)


def test_an_address_gets_back_what_it_used() -> None:
    found = Visits(LimitSettings(http_per_second=2, http_burst=3))
    assert [found.owed_seconds("a", 10.0) for _ in range(5)] == [0, 0, 0, 0.5, 0.5]
    assert found.owed_seconds("b", 10.0) == 0
    assert found.owed_seconds("a", 10.25) == 0.25
    assert [found.owed_seconds("a", 10.5), found.owed_seconds("a", 10.5)] == [0, 0.5]
    assert [found.owed_seconds("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_no_limit() -> None:
    found = Visits(LimitSettings(http_per_second=0))
    assert not any(found.owed_seconds("a", 1.0) for _ in range(1000))
    assert len(found) == 0


@pytest.mark.parametrize(("of_address", "at_once"), [(2, 3), (5, 5), (2_000, 2_000), (0, 10_000)])
def test_as_many_handshakes_at_once_as_an_address_may_have_connections(of_address: int, at_once: int) -> None:
    """0: it is no one's address, as behind a proxy."""
    found = doors(http_per_second=2, http_burst=3, connections_per_address_max=of_address).handshakes
    assert not any(found.owed_seconds("a", 1.0) for _ in range(at_once))
    assert bool(found.owed_seconds("a", 1.0)) == bool(of_address)


def test_addresses_are_forgotten() -> None:
    found = Visits(LimitSettings(http_per_second=10, http_burst=20))
    for number in range(20_000):
        found.owed_seconds(str(number), number / 1000)
    assert len(found) <= 4096
