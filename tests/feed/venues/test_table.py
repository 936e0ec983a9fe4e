"""Which venues there are, and what any other name means."""

from __future__ import annotations

import pytest

from feed.venues.canonical import Canonical
from feed.venues.table import NAMES, venue


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("binance", "BINANCE"),
        ("binance-usdm", "BINANCE-USDM"),
        ("binance-coinm", "BINANCE-COINM"),
        ("coinbase", "COINBASE"),
        ("kraken", "KRAKEN"),
    ],
)
def test_names_and_prefixes_are_promises(name: str, prefix: str) -> None:
    assert name in NAMES
    assert (venue(name).name, venue(name).prefix) == (name, prefix)


def test_any_other_name_speaks_our_own_tick() -> None:
    other = venue("my-desk")
    assert (other.name, other.prefix, other.machine) == ("my-desk", "MY-DESK", Canonical)
    assert "my-desk" not in NAMES


def test_only_binance_is_read_ahead() -> None:
    assert [name for name in NAMES if venue(name).ahead is not None] == ["binance", "binance-usdm", "binance-coinm"]
